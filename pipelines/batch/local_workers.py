"""A batch job's workers without Ray: processes of this machine, for archives that are done before Ray has started.

    driver ── fork server: has imported what a worker needs, once ──┬── worker: a fork of it
       └────────────────────────────────────────────────────────────┴── a pipe to each worker: calls, answers

It does the same chunks by the same `ChunkWorker`, on one thread a model as on Ray: the same plan, bytes and commits.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from condgen.errors import JobError
from pipelines.batch.pool_shape import Resources, local_shape
from pipelines.batch.worker import ChunkWorker, LostWorkerError, WorkerSpec
from pipelines.cluster.imports import python_command
from pipelines.cluster.starting import usable_cpus
from pipelines.datasets.chunk import Chunk, iter_chunks
from pipelines.results.commits import PendingChunks
from pipelines.results.files import Receipt

__all__ = ["LocalWorkers", "serve"]

T = TypeVar("T")

_DEATHS = 3


class LocalWorkers:
    """Processes of this machine, which end with the block. See `pipelines.batch.worker.Workers`.

    Args:
        resources: what the job may take of the machine.
    """

    engine = "local"

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._shape = local_shape(1, resources)
        self._fleet: _Fleet | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    @property
    def cpus(self) -> float:
        """CPUs of this machine that the process may use."""
        return float(usable_cpus())

    @property
    def gpus(self) -> float:
        """GPUs that are used: one or none."""
        return self._shape.num_gpus

    @contextmanager
    def metrics(self, results: str) -> Iterator[Callable[..., None]]:  # noqa: ARG002 - there is nobody to tell
        """Tell nobody what is left: Prometheus asks Ray's agents."""
        yield lambda **_: None

    def begin(self, num_chunks: int) -> None:
        """Start processes for some chunks."""
        self._shape = local_shape(num_chunks, self._resources)
        self._started()

    def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in one of the processes.

        Raises:
            JobError: they end before they answer.
            CondgenError: whatever the function raised.
        """
        for _ in range(_DEATHS):
            fleet = self._started()
            fleet.send(fleet.pipes[0], "call", function, *arguments)
            answer = fleet.receive(fleet.pipes[0])
            if answer is not None:
                return cast("T", answer.value())
            lost = fleet.last_words()
            self._end()
        raise JobError(f"workers can't start: {lost}")

    def round(self, pending: PendingChunks, spec: WorkerSpec) -> Iterator[Receipt]:
        """Do chunks, see `Workers.round`.

        Raises:
            LostWorkerError: a process ended; the others have done what was in their hands.
            CondgenError: whatever a worker raised.
        """
        fleet, is_whole = self._started(), False
        try:
            data = spec.pickled(spec)
            for pipe in fleet.pipes:
                fleet.send(pipe, "begin", spec.import_path, data)
            yield from fleet.results(iter_chunks(pending))
            is_whole = True
        finally:
            if not is_whole:
                self._end()

    def _started(self) -> _Fleet:
        if self._fleet is None:
            self._fleet = _Fleet(self._shape.side_by_side, self._shape.at_once)
        return self._fleet

    def _end(self) -> None:
        if self._fleet is not None:
            self._fleet.end()
            self._fleet = None


class _Answer:
    """What a call returned or raised, as it travels."""

    def __init__(self, value: Any = None, error: Exception | None = None, at: str = "") -> None:
        self._value, self._error, self._at = value, error, at

    def value(self) -> Any:
        """Return what was returned, or raise what was raised."""
        if self._error is None:
            return self._value
        self._error.add_note(f"in a worker:\n{self._at}")
        raise self._error


class _Fleet:
    """The fork server and its workers, as the driver sees them."""

    def __init__(self, size: int, at_once: int) -> None:
        self._at_once = at_once
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        ends = [Pipe() for _ in range(size)]
        self.pipes = [ours for ours, _ in ends]
        descriptors = [theirs.fileno() for _, theirs in ends]
        self._server = subprocess.Popen(
            python_command(f"from pipelines.batch.local_workers import serve; serve({descriptors}, {at_once})"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            pass_fds=descriptors,
            process_group=0,
            env={"OMP_NUM_THREADS": "1", **os.environ},  # as Ray has it for its workers
        )
        for _, theirs in ends:
            theirs.close()

    def send(self, pipe: Connection, method: str, *arguments: Any) -> None:
        """Have a worker call one of its methods; one that is gone is met when its answer is read."""
        with suppress(OSError):
            pipe.send((method, arguments))

    def receive(self, pipe: Connection) -> _Answer | None:
        """Return the next answer of a worker, or None if it has ended."""
        try:
            return cast("_Answer", pickle.loads(pipe.recv_bytes()))  # noqa: S301 - from our own process
        except (EOFError, OSError):
            return None

    def results(self, chunks: Iterator[Chunk]) -> Iterator[Receipt]:
        """Hand out chunks, evenly, to workers that were asked to begin, and yield receipts as they come."""
        in_hand, begun, lost = dict.fromkeys(self.pipes, 1), list[Connection](), False
        while in_hand:
            for pipe in cast("list[Connection]", wait(list(in_hand))):
                answer = self.receive(pipe)
                if answer is None:
                    lost = True
                    del in_hand[pipe]
                    continue
                value = answer.value()
                in_hand[pipe] -= 1
                if pipe in begun:
                    yield value
                else:
                    begun.append(pipe)
            for depth in range(self._at_once):
                for pipe in begun:
                    if in_hand.get(pipe) == depth and not lost and (chunk := next(chunks, None)) is not None:
                        self.send(pipe, "run", chunk)
                        in_hand[pipe] += 1
            in_hand = {pipe: count for pipe, count in in_hand.items() if count}
        if lost:
            raise LostWorkerError(f"a worker has ended: {self.last_words()}")

    def last_words(self) -> str:
        """Return the last line that the processes wrote, which may say why one ended."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it was killed, or memory ran out?")

    def end(self) -> None:
        """Kill all processes."""
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        for pipe in self.pipes:
            pipe.close()
        self._log.close()


def serve(descriptors: Sequence[int], at_once: int) -> None:
    """Be the fork server: import what a worker needs, then be the parent of one worker for each pipe.

    Args:
        descriptors: file descriptors of the pipes to the driver.
        at_once: calls that a worker answers at a time.
    """
    from pipelines.batch.isolation import LATE_IMPORTS  # it imports torch, as the driver does not

    for module in LATE_IMPORTS:
        importlib.import_module(module)
    worker = ChunkWorker(tells_metrics=False)
    for descriptor in descriptors:
        if os.fork() == 0:
            for other in descriptors:
                if other != descriptor:
                    os.close(other)
            _live(worker, Connection(descriptor), at_once)
    for descriptor in descriptors:
        os.close(descriptor)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _live(worker: ChunkWorker, driver: Connection, at_once: int) -> None:
    """Be a worker: answer calls, and end at once when the driver does."""
    lock = Lock()

    def answer(method: str, arguments: Sequence[Any]) -> None:
        try:
            told = _Answer(getattr(worker, method)(*arguments))
        except Exception as error:  # noqa: BLE001 - it is raised in the driver
            told = _Answer(None, error, traceback.format_exc())
        try:
            data = pickle.dumps(told)
        except Exception as error:  # noqa: BLE001 - what was raised can't travel
            data = pickle.dumps(_Answer(None, JobError(f"a worker failed: {error}"), traceback.format_exc()))
        with lock, suppress(OSError):
            driver.send_bytes(data)

    threads = ThreadPoolExecutor(at_once)
    with suppress(EOFError, OSError):
        while True:
            method, arguments = driver.recv()
            threads.submit(answer, method, arguments)
    os._exit(0)
