"""Signals that ask training for a checkpoint: SIGTERM saves one and stops, SIGUSR2 saves one and goes on.

The driver gets them from its scheduler, a worker from its machine. A worker's main thread is in Ray's own code, where
Python runs no handler: a pipe that C writes to (``signal.set_wakeup_fd``) tells a thread of it at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from condgen.errors import Interrupted

__all__ = ["Received", "interrupted_by_sigterm", "received_here", "signals_noted", "watch_signals"]


class Received:
    """The signals that this process has received."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._save = threading.Event()

    def note(self, number: int) -> None:
        """Note a signal, by its number."""
        if number == signal.SIGTERM:
            self.stop.set()
        elif number == signal.SIGUSR2:
            self._save.set()

    def take_save(self) -> bool:
        """Return whether a checkpoint was asked for since the last call."""
        was_set = self._save.is_set()
        if was_set:
            self._save.clear()
        return was_set


_here = Received()
_watched = False


def received_here() -> Received:
    """Return what ``watch_signals`` has noted in this process."""
    return _here


def watch_signals() -> None:
    """Note SIGTERM and SIGUSR2 from now on, in place of what they did; to be called in a worker's main thread."""
    global _watched
    if _watched:
        return
    _watched = True
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_read, args=(reader,), name="signals", daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, _leave_to_thread)


def _leave_to_thread(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a handler of Python's has to be there, so that the pipe is written to."""


def _read(reader: int) -> None:
    while numbers := os.read(reader, 64):
        for number in numbers:
            _here.note(number)


@contextmanager
def signals_noted() -> Iterator[Received]:
    """Note SIGTERM and SIGUSR2 of this process for the time of the block; only in the main thread."""
    received = Received()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: FrameType | None) -> None:
        received.note(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the block where it is not noted, before workers train and after it; only in the main thread.

    From ``ray.init`` on, Ray has a handler of its own that raises ``SystemExit`` with the signal's number. A scheduler
    would not know that code.

    Raises:
        Interrupted: SIGTERM came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        raise Interrupted("stopped by SIGTERM while nothing trained: run the same command again to go on") from error
    finally:
        signal.signal(signal.SIGTERM, before)
