"""A chunk that has cost workers is done in processes of their own: only what kills its own process twice is an error.

A child process has the worker's engine and does the samples one after another. When it dies, the sample that it was at
is tried alone, in a fresh process, at most twice; the others go on in another. What a random kill hits is done again,
what an image itself does to its process becomes that image's error, and the worker that looks on is never in danger.

    worker ── fork server: has imported what an engine needs, and has no engine ── child: a fork of it, with an engine

Imports are most of what a fresh process costs, and the fork server pays them once. It is a process of its own too: the
worker has threads, and perhaps a GPU, and such a process can't be forked.

It is not the one of `multiprocessing` ("forkserver"), which keeps its 700 MB until the worker ends, has every child
import Ray's worker program as its `__main__`, and before Python 3.12.5 imports what is preloaded from another path than
the worker's (gh-117378): a user's folder `pipelines` in the working directory then keeps every child from starting.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

from condgen.errors import CondgenError, JobError
from pipelines.batch.engine import ChunkEngine, Outcome
from pipelines.cluster.imports import python_command
from pipelines.datasets.chunk import Sample
from pipelines.results.files import Failure

__all__ = ["LATE_IMPORTS", "IsolatedEngine", "serve"]

_DEATHS = 2
_START_DEATHS = 3
_SAMPLE_SECONDS = 900.0
_START_SECONDS = 900.0
_GRACE_SECONDS = 60.0
LATE_IMPORTS = (
    "pipelines.models.source",
    "pipelines.models.colorization",
    "pipelines.models.translation",
    "condgen.families",
    "condgen.color._paint",
)
_DIED = b""
"""Answer in place of a child that died, or took too long and was killed."""


class IsolatedEngine:
    """Does samples in child processes.

    Args:
        make_engine: function of no arguments that a child calls to get its engine, pickled.
        sample_seconds: time after which a child that is still at one sample is killed, which counts as its death (s;
            default: 900).
    """

    def __init__(self, make_engine: bytes, *, sample_seconds: float = _SAMPLE_SECONDS) -> None:
        self._make_engine = make_engine
        self._sample_seconds = sample_seconds
        self._server: _ForkServer | None = None
        self._has_child = False

    def outcomes(self, placed: Sequence[tuple[int, Sample]]) -> dict[int, Outcome]:
        """Return what becomes of each sample, by its place.

        Raises:
            JobError: children die before they are at any sample.
            CondgenError: whatever the engine raised.
        """
        try:
            return {place: self._outcome(place, sample) for place, sample in placed}
        finally:
            self._end()

    def _outcome(self, place: int, sample: Sample) -> Outcome:
        outcome = self._ask(place, sample)
        for _ in range(_DEATHS):
            if outcome is not None:
                return outcome
            outcome = self._ask(place, sample)  # in a fresh process, which does nothing else
            self._has_child = False
        return outcome if outcome is not None else _killed(place, sample)

    def _ask(self, place: int, sample: Sample) -> Outcome | None:
        """Return one sample's outcome; None where the child died at it."""
        answer = self._begin().ask((place, sample), self._sample_seconds)
        self._has_child = answer is not None
        return answer  # type: ignore[no-any-return]

    def _begin(self) -> _ForkServer:
        """Return the fork server, with a child that has its engine."""
        for _ in range(_START_DEATHS):
            if self._server is None:
                self._server = _ForkServer(self._make_engine)
            if not self._has_child:
                self._has_child = self._server.ask(None, _START_SECONDS) is not None
            if self._has_child:
                return self._server
            if not self._server.lives:
                self._end()
        raise JobError("processes for single images die before they begin: too little memory? see the worker's log")

    def _end(self) -> None:
        self._has_child = False
        if self._server is not None:
            self._server.end()
            self._server = None


def _killed(place: int, sample: Sample) -> Failure:
    message = "the image ends the process that works on it: tried twice, alone in a process of its own"
    return Failure(source=sample.source, key=sample.key, stage="process", error="Killed", message=message, place=place)


class _ForkServer:
    """The worker's side of the fork server."""

    def __init__(self, make_engine: bytes) -> None:
        self._pipe, its_pipe = Pipe()
        with its_pipe:
            self._process = subprocess.Popen(
                python_command(f"from pipelines.batch.isolation import serve; serve({its_pipe.fileno()})"),
                stdin=subprocess.DEVNULL,
                pass_fds=(its_pipe.fileno(),),
                process_group=0,
            )
        self.lives = True
        self._send(make_engine)

    def _send(self, question: Any) -> None:
        try:
            self._pipe.send(question)
        except OSError:
            self.lives = False

    def ask(self, question: Any, seconds: float) -> Any:
        """Send a question for a child and return its answer.

        Args:
            question: a sample and its place, or None: begin a fresh child.
            seconds: time after which the child is killed (s).

        Returns:
            The answer, or None where the child died, or took too long and was killed.

        Raises:
            CondgenError: whatever the engine raised.
        """
        self._send((question, seconds))
        try:
            # Past the grace the fork server itself is given up.
            data = self._pipe.recv_bytes() if self.lives and self._pipe.poll(seconds + _GRACE_SECONDS) else None
        except (EOFError, OSError):
            data = None
        self.lives = data is not None
        answer = pickle.loads(data) if data else None  # noqa: S301 - from our own child
        if isinstance(answer, CondgenError):
            raise answer
        return answer

    def end(self) -> None:
        """Kill the fork server and its child."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()


def serve(descriptor: int) -> None:
    """Be the fork server: import what engines need, then begin children and pass questions on, until the worker ends.

    Args:
        descriptor: file descriptor of the pipe to the worker.
    """
    worker = Connection(descriptor)
    child: _Child | None = None
    try:
        make_engine = worker.recv()
        _import_for(make_engine)
        while True:
            question, seconds = worker.recv()
            if question is None:
                if child is not None:
                    child.end()
                child = _Child(make_engine, worker)
            answer = child.answer(question, seconds) if child is not None else _DIED
            if answer == _DIED and child is not None:
                child.end()
                child = None
            worker.send_bytes(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        if child is not None:
            child.end()


def _import_for(make_engine: bytes) -> None:
    """Import what a pickled function refers to, and what engines import late: torch, and numba for color."""
    for module in LATE_IMPORTS:
        importlib.import_module(module)
    with suppress(Exception):  # the child meets it again, and tells
        pickle.loads(make_engine)  # noqa: S301 - from our own parent


class _Child:
    """The fork server's side of a child."""

    def __init__(self, make_engine: bytes, worker: Connection) -> None:
        self._worker = worker
        self._pipe, its_pipe = Pipe()
        with its_pipe:
            self._process: ForkProcess = get_context("fork").Process(
                target=_live, args=(make_engine, its_pipe, (self._pipe, worker))
            )
            self._process.start()

    def answer(self, question: Any, seconds: float) -> bytes:
        """Return the child's pickled answer, or `_DIED`.

        Raises:
            EOFError: the worker is gone, for whom the answer was.
        """
        try:
            if question is not None:
                self._pipe.send(question)
            ready = wait([self._pipe, self._worker], seconds)
            if self._worker not in ready:
                return self._pipe.recv_bytes() if ready else _DIED
        except (EOFError, OSError):
            return _DIED
        raise EOFError

    def end(self) -> None:
        """Kill the child."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _live(make_engine: bytes, questions: Connection, inherited: Sequence[Connection]) -> None:
    """Be the child: make the engine, then answer each sample with its outcome, until the fork server ends."""
    for pipe in inherited:
        pipe.close()
    try:
        engine: ChunkEngine[Any] = pickle.loads(make_engine)()  # noqa: S301 - from our own parent
        questions.send(True)
        while True:
            place, sample = questions.recv()
            try:
                answer: Any = engine.outcomes([(place, sample)])[place]
            except CondgenError as error:
                answer = error
            questions.send(answer)
    except CondgenError as error:
        questions.send(error)
    except (EOFError, BrokenPipeError):
        return
