"""Ray is started, kept quiet and ended here, with our own packages in its workers."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import FrameType
from typing import Any, NoReturn

from condgen.errors import CondgenError, ConfigError, JobError
from pipelines.cluster.imports import check_packages, working_in_root

__all__ = ["LEAST_CPUS", "configure_data", "keep_statistics_here", "ray_cluster", "stops_by_signal", "usable_cpus"]

_REACH_S = 20.0
_PID_DIGITS = 2
"""Digits by which the number of the next process, which is in the paths of its sockets, may be longer."""
_TOO_SLOW = "timed out during startup"
"""Part of what Ray says, in an exception of no kind of its own."""
LEAST_CPUS = 2
"""CPUs of a local cluster that trains: with one, Ray ends a decoding task's process and starts another for the next."""


def usable_cpus() -> int:
    """Return the number of CPUs that this process may run on: those of its container or affinity."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@contextmanager
def ray_cluster(*, verbose: bool = False, num_cpus: int | None = None) -> Iterator[None]:
    """Connect to a Ray cluster for the time of the block.

    It is the cluster that is initialized already, or the one at RAY_ADDRESS, or a local one that ends with the block.
    While the block runs, SIGINT and SIGTERM raise KeyboardInterrupt.

    Args:
        verbose: whether Ray's own lines reach the terminal (default: they don't).
        num_cpus: CPUs of a local cluster (default: those that this process may use).

    Raises:
        ConfigError: RAY_ADDRESS is no address, or another package has the name of one of ours.
        JobError: no cluster answers at RAY_ADDRESS, or a local one doesn't start.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    check_packages()
    _quieten(verbose)
    _start(os.environ.get("RAY_ADDRESS") or "local", verbose, num_cpus)  # an empty one is none
    with ExitStack() as aside:  # left when Ray has ended
        try:
            with stops_by_signal(None if verbose else aside):
                yield
        finally:
            if not verbose:
                aside.enter_context(_streams_aside())
            ray.shutdown()


def _start(address: str, verbose: bool, num_cpus: int | None) -> None:
    import ray

    local: dict[str, Any] = {"num_cpus": num_cpus or usable_cpus(), "include_dashboard": False}
    try:
        with working_in_root():
            _reach(address)
            with nullcontext() if verbose else _streams_aside(), _fewer_processes(log_to_driver=verbose):
                ray.init(
                    address=address,
                    log_to_driver=verbose,
                    logging_level=logging.INFO if verbose else logging.ERROR,
                    configure_logging=True,
                    **(local if address == "local" else {}),
                )
            if address == "local" and ray.is_initialized():
                _tell_of_no_dashboard()
    except OSError as error:
        if address == "local":
            raise _local_error(error) from error
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


@contextmanager
def _fewer_processes(*, log_to_driver: bool) -> Iterator[None]:
    """Have a local Ray start neither a dashboard, of which it wants nothing, nor an autoscaler for its one node.

    Nor does it start what brings logs to the driver, where none are to come. The dashboard alone takes 1.4 s of its
    start. There is no public setting; where Ray has other names for them, it starts them.
    """
    from ray._private import node, services

    replaced = [
        (services, "start_api_server", lambda *_, **__: (None, None)),  # as where it fails to start
        (node.Node, "start_monitor", lambda _: None),
        *([] if log_to_driver else [(node.Node, "start_log_monitor", lambda _: None)]),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced if hasattr(owner, name)]
    for owner, name, function in replaced:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _tell_of_no_dashboard() -> None:
    """Answer with nothing who looks for the address of Ray's dashboard: without an answer, it is looked for for 40 s.

    Ray Train asks it for the state of its controller, and waits for that at the end of each attempt (12 s).
    """
    from ray._private import ray_constants
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(
        ray_constants.DASHBOARD_ADDRESS, b"", overwrite=True, namespace=ray_constants.KV_NAMESPACE_DASHBOARD
    )


def _local_error(error: OSError) -> CondgenError:
    """Return what an error of the operating system means when Ray starts on this machine."""
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(name, "/tmp")  # noqa: S108 - Ray's own
    socket_path = re.search(r"cannot exceed (\d+) bytes: (.+)", str(error))
    if socket_path:
        excess = len(os.fsencode(socket_path[2])) - int(socket_path[1]) + _PID_DIGITS
        longest = len(os.fsencode(folder)) - excess
        allowed = (
            f"a folder whose path has at most {longest} bytes: Ray makes sockets in it, whose paths end at "
            f"{socket_path[1]} (RAY_TMPDIR=/tmp sets it for Ray alone)"
        )
        return ConfigError(name, folder, allowed)
    return JobError(f"Ray can't start on this machine, where it writes to {folder}/ray ({name} names another): {error}")


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
    originals = os.dup(1), os.dup(2)
    aside = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(aside, descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in zip((1, 2), originals, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(aside)


@contextmanager
def stops_by_signal(aside: ExitStack | None = None) -> Iterator[None]:
    """Have SIGTERM stop as Ctrl-C does, while the block runs: both raise KeyboardInterrupt.

    Args:
        aside: stack on which, from then on, the streams are set aside: Ray, whose actors are being ended, is not heard
            any more (default: they stay).
    """

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
    """Set Ray Data's context as our pipelines need it. Its import takes seconds: only for commands that use it.

    Args:
        verbose: whether Ray Data shows its progress and its log.
    """
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


def keep_statistics_here() -> None:
    """Have Ray Data's actor of statistics on this node, for as long as the cluster lives.

    It lives on the node of whoever first reads a dataset. Where that is a training worker, its machine could not leave
    before its time was over: Ray ends a machine that is drained only when nothing runs on it any more.
    """
    from ray.data._internal.stats import get_or_create_stats_actor  # no public name

    get_or_create_stats_actor()
