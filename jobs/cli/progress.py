"""What a command writes to stderr while it works: its log, and a progress bar."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from types import TracebackType
from typing import Any

from pipelines.cluster.imports import PACKAGES

__all__ = ["Progress", "configure_logging"]

_LINE_EVERY_S = 60.0
"""Time between two lines where stderr is no terminal (seconds)."""


def configure_logging(*, verbose: bool) -> None:
    """Log to stderr: our own warnings by default, everything (Ray's lines too) with `verbose`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.WARNING)
    if not verbose:
        warnings.simplefilter("ignore")


class Progress:
    """Shows a progress bar on stderr, where that is a terminal; elsewhere, as in a log, a line a minute.

    Args:
        description: what is being done, shown before the bar.
        total: number of units in all; None where it is not known yet.
        unit: word for what is counted.

    >>> with Progress("colorizing", total=100, unit="images") as progress:
    ...     progress.advance(10, errors=1)
    """

    def __init__(self, description: str, *, total: int | None, unit: str) -> None:
        self._description = description
        self._total = total
        self._unit = unit
        self._bar: Any = None
        self._task: Any = None
        self._done = 0
        self._told_at = time.monotonic()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self._unit, markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._description, total=self._total, note="")
        return self

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            sys.stderr.write(f"{line}\n")

    def show(self, done: int, total: int | None, **notes: object) -> None:
        """Show how many units are done, and of how many; `notes` are shown beside the bar as `name value`."""
        self._done, self._total = done, total
        note = "  ".join(f"{name} {value}" for name, value in notes.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif time.monotonic() >= self._told_at + _LINE_EVERY_S:
            self._told_at = time.monotonic()
            of = f" of {total:,}" if total else ""
            self.say(f"{self._description}: {done:,}{of} {self._unit}{',  ' * bool(note)}{note}")

    def advance(self, count: int, **notes: object) -> None:
        """Advance by `count` units; `notes` are shown beside the bar as `name value`."""
        self.show(self._done + count, self._total, **notes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
