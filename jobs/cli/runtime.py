"""What every command needs around its work: logging, a progress bar, and Ray with our own packages in its workers."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from condgen.errors import ConfigError, JobError

__all__ = [
    "LEAST_CPUS",
    "Progress",
    "check_packages",
    "configure_data",
    "configure_logging",
    "ray_cluster",
    "usable_cpus",
]

PACKAGES = ("condgen", "pipelines", "jobs")
ROOT = Path(__file__).resolve().parents[2]
_REACH_S = 20.0
logger = logging.getLogger(__name__)


def configure_logging(*, verbose: bool) -> None:
    """Log to stderr: warnings of ours by default, everything (Ray's lines too) with `verbose`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.WARNING)
    if not verbose:
        warnings.simplefilter("ignore")


def check_packages() -> None:
    """Make sure that `pipelines` and `jobs` are ours: their names are common, and a user's own folder can shadow them.

    Raises:
        ConfigError: names the folder that is imported in place of ours.
    """
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        where = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if where != ROOT / name:
            raise ConfigError(
                "PYTHONPATH",
                f"a package {name!r} from {where or 'nowhere'}, which shadows condgen's own",
                f"the one in {ROOT}: run condgen from another folder, or rename that one",
            )


_TOO_SLOW = "timed out during startup"
"""Part of what Ray says, in an exception of no kind of its own."""
LEAST_CPUS = 2
"""Of a local cluster that trains: with one, Ray ends a decoding task's process, and starts another for the next."""


def usable_cpus() -> int:
    """The CPUs that this process may run on: those of its container or affinity, not of the machine."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@contextmanager
def ray_cluster(*, verbose: bool = False, num_cpus: int | None = None) -> Iterator[None]:
    """A Ray cluster for the time of the block: the one that is initialised already, RAY_ADDRESS's, or a local one.

    Ray puts the working directory of the driver at the head of its workers' import path. It is made ours while Ray
    starts, so that the workers import our `pipelines` and `jobs`, and not a user's folder of that name.

    Raises:
        ConfigError: see `check_packages`.
        JobError: no cluster answers at RAY_ADDRESS, or a local one doesn't start.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    check_packages()
    _quieten(verbose)
    working_directory = Path.cwd()
    os.chdir(ROOT)
    try:
        address = os.environ.get("RAY_ADDRESS") or "local"  # an empty one is none
        local: dict[str, Any] = (
            {} if address != "local" else {"num_cpus": num_cpus or usable_cpus(), "include_dashboard": False}
        )
        _reach(address)
        with nullcontext() if verbose else _streams_aside():
            ray.init(
                address=address,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                configure_logging=True,
                **local,
            )
    except OSError as error:
        mode = os.environ.get("RAY_AUTH_MODE", "disabled")
        raise JobError(
            f"no Ray cluster answers at RAY_ADDRESS={address} with RAY_AUTH_MODE={mode}: is it running, is that its "
            "GCS address (`ray status` shows it), and does it want a token (RAY_AUTH_MODE=token)?"
        ) from error
    except ValueError as error:
        if "Invalid address format" not in str(error):
            raise
        allowed = "HOST:PORT of a cluster's GCS, ray://HOST:PORT, auto, or nothing for a cluster of this machine alone"
        raise ConfigError("RAY_ADDRESS", address, allowed) from error
    except Exception as error:
        if _TOO_SLOW not in str(error):
            raise
        ray.shutdown()
        raise JobError(
            "Ray did not start within its 30 s: the machine is busy with other things, or its disk or memory is full "
            "(logs in /tmp/ray/session_latest/logs); run the same command again"
        ) from error
    finally:
        os.chdir(working_directory)
    with ExitStack() as aside:  # left when Ray has ended
        try:
            with _stops_by_signal(None if verbose else aside):
                yield
        finally:
            if not verbose:
                aside.enter_context(_streams_aside())
            ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at `host:port`: Ray itself would wait for it for many minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()


@contextmanager
def _streams_aside() -> Iterator[None]:
    """Keep away what Ray writes to the terminal by itself while it starts and ends; its log files have it too."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    aside = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(aside, descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in zip((1, 2), kept, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(aside)


@contextmanager
def _stops_by_signal(aside: ExitStack | None) -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does; from then on Ray, whose actors are being ended, is not heard any more."""

    def stop(_signum: int, _frame: FrameType | None) -> NoReturn:
        if aside:
            aside.enter_context(_streams_aside())
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _quieten(verbose: bool) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not verbose:
        os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ part logs to stderr by itself
        for name in ("ray", "ray.data", "ray.train", "ray._private.authentication"):
            logging.getLogger(name).setLevel(logging.ERROR)
        # What a lost worker or node makes Ray print as "(raylet) ..." on stdout, whatever log_to_driver says.
        import ray._private.worker as ray_worker

        if hasattr(ray_worker, "_worker_logs_enabled"):
            ray_worker._worker_logs_enabled = False  # noqa: SLF001 - there is no public switch


def configure_data(*, verbose: bool) -> None:
    """Ray Data's context as our pipelines want it. Its import takes seconds: only for commands that use it."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.print_on_execution_start = verbose
    context.enable_auto_log_stats = verbose
    context.max_errored_blocks = 0  # a block that is dropped is data lost without a word
    context.raise_original_map_exception = True
    context.log_internal_stack_trace = verbose
    context.memory_usage_poll_interval_s = None  # else a thread for each task looks at it every second
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)


class Progress:
    """A progress bar on stderr, shown only on a terminal.

    >>> with Progress("colorizing", total=100, unit="images") as progress:
    ...     progress.advance(10, errors=1)
    """

    def __init__(self, description: str, *, total: int | None, unit: str) -> None:
        self._description = description
        self._total = total
        self._unit = unit
        self._bar: Any = None
        self._task: Any = None

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

    def set_total(self, total: int) -> None:
        """Say how many there are, where that is known only now."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def advance(self, count: int, **notes: object) -> None:
        """Count `count` more; `notes` are shown beside the bar as `name value`."""
        if self._bar is not None:
            note = "  ".join(f"{name} {value}" for name, value in notes.items())
            self._bar.update(self._task, advance=count, note=note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
