"""A chunk that has cost workers, done in processes of their own: only what kills its own process twice is an error.

A child process has the worker's engine and does the samples one after another. When it dies, the sample that it was at
is tried alone, in a fresh process, at most twice; the others go on in another. What a random kill hits is done again,
what an image itself does to its process becomes that image's error, and the worker that looks on is never in danger.

    worker ── nursery: has imported what an engine needs, and has no engine ── child: a fork of it, with an engine

Imports are most of what a fresh process costs, and the nursery pays them once. It is a process of its own too: the
worker has threads, and perhaps a GPU, and such a process can't be forked.
"""

from __future__ import annotations

import importlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

from condgen.errors import CondgenError, JobError
from pipelines.batch.engine import ChunkEngine, Outcome
from pipelines.datasets.chunk import Sample
from pipelines.results.files import Failure

__all__ = ["IsolatedEngine", "serve"]

_DEATHS = 2
_START_DEATHS = 3
_SAMPLE_SECONDS = 900.0
_START_SECONDS = 900.0
_GRACE_SECONDS = 60.0
_LATE_IMPORTS = (
    "pipelines.models.source",
    "pipelines.models.colorization",
    "pipelines.models.translation",
    "condgen.families",
    "condgen.color._paint",
)
_NOTHING = pickle.dumps(None)
_LENGTH = struct.Struct("<Q")
_COMMAND = "import sys; sys.path[:0] = {path!r}; from pipelines.batch.isolation import serve; serve()"


class IsolatedEngine:
    """Does samples in child processes.

    Args:
        make_engine: what a child calls to get its engine: a function of no arguments, pickled.
        sample_seconds: a child that is at one sample for longer is killed, and that counts as its death.
    """

    def __init__(self, make_engine: bytes, *, sample_seconds: float = _SAMPLE_SECONDS) -> None:
        self._make_engine = make_engine
        self._sample_seconds = sample_seconds
        self._nursery: _Nursery | None = None
        self._has_child = False

    def outcomes(self, placed: Sequence[tuple[int, Sample]]) -> dict[int, Outcome]:
        """What becomes of each sample, by its place.

        Raises:
            JobError: children die before they are at any sample.
            CondgenError: what the engine raises.
        """
        found: dict[int, Outcome] = {}
        try:
            for place, sample in placed:
                outcome = self._ask(place, sample)
                found[place] = outcome if outcome is not None else self._alone(place, sample)
        finally:
            self._end()
        return found

    def _alone(self, place: int, sample: Sample) -> Outcome:
        """A sample at which a process died, in processes that do nothing else."""
        for _ in range(_DEATHS):
            self._end_child()
            outcome = self._ask(place, sample)
            self._end_child()
            if outcome is not None:
                return outcome
        return _killed(place, sample)

    def _ask(self, place: int, sample: Sample) -> Outcome | None:
        """One sample's outcome; None where the child died at it."""
        nursery = self._begin()
        answer = nursery.ask("do", (place, sample), self._sample_seconds)
        if isinstance(answer, CondgenError):
            raise answer
        self._has_child = answer is not None
        return answer  # type: ignore[no-any-return]

    def _begin(self) -> _Nursery:
        """The nursery, with a child that has its engine."""
        for _ in range(_START_DEATHS):
            if self._nursery is None:
                self._nursery = _Nursery(self._make_engine)
            if self._has_child:
                return self._nursery
            ready = self._nursery.ask("begin", None, _START_SECONDS)
            if isinstance(ready, CondgenError):
                raise ready
            if ready:
                self._has_child = True
            elif not self._nursery.lives:
                self._nursery.end()
                self._nursery = None
        if self._nursery is not None and self._has_child:
            return self._nursery
        raise JobError("processes for single images die before they begin: too little memory? see the worker's log")

    def _end_child(self) -> None:
        """Have the next sample begin in a fresh process."""
        self._has_child = False

    def _end(self) -> None:
        self._has_child = False
        if self._nursery is not None:
            self._nursery.end()
            self._nursery = None


def _killed(place: int, sample: Sample) -> Failure:
    message = "the image ends the process that works on it: tried twice, alone in a process of its own"
    return Failure(source=sample.source, key=sample.key, stage="process", error="Killed", message=message, place=place)


class _Nursery:
    """The nursery's process and the two pipes to it."""

    def __init__(self, make_engine: bytes) -> None:
        # It ends with its input: a nursery whose parent is gone reads no more.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND.format(path=[path for path in sys.path if path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.lives = True
        self.ask("load", make_engine, _START_SECONDS)

    def ask(self, what: str, content: Any, seconds: float) -> Any:
        """Send a question and return the answer; None where the child died, or took too long and was killed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError
        try:
            _send(stdin, pickle.dumps((what, content, seconds), protocol=pickle.HIGHEST_PROTOCOL))
            return pickle.loads(_receive(stdout, time.monotonic() + seconds + _GRACE_SECONDS))  # noqa: S301 - our own
        except (OSError, EOFError, pickle.UnpicklingError):
            self.lives = False
            return None

    def end(self) -> None:
        """Kill the nursery; a child of it ends when it would answer."""
        self._process.kill()
        with self._process:  # closes the pipes and waits
            pass


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes], deadline: float | None = None) -> bytes:
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size, deadline))
    return _read(pipe, length, deadline)


def _read(pipe: IO[bytes], size: int, deadline: float | None) -> bytes:
    parts = []
    descriptor = pipe.fileno()
    while size:
        if deadline is not None and not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise EOFError
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve() -> None:
    """The nursery: import what engines need, then begin children and pass questions on, until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints is no answer
    questions = sys.stdin.buffer
    make_engine = b""
    child: _Child | None = None
    try:
        while True:
            what, content, seconds = pickle.loads(_receive(questions))  # noqa: S301 - from our own parent
            if what == "load":
                make_engine = content
                _import_for(content)
                _send(answers, _NOTHING)
                continue
            if what == "begin":
                if child is not None:
                    child.end()
                child = _Child(make_engine, (answers.fileno(), questions.fileno()))
                answer = child.ready(seconds)
            else:
                answer = child.ask(content, seconds) if child is not None else None
            if answer is None and child is not None:
                child.end()
                child = None
            _send(answers, answer if answer is not None else _NOTHING)
    except (EOFError, BrokenPipeError):
        return
    finally:
        if child is not None:
            child.end()


def _import_for(make_engine: bytes) -> None:
    """Import what a pickled function refers to, and what engines import late: torch, and numba for colour."""
    for module in _LATE_IMPORTS:
        importlib.import_module(module)
    with suppress(Exception):  # the child meets it again, and tells
        pickle.loads(make_engine)  # noqa: S301 - from our own parent


class _Child:
    """A fork of the nursery, and two pipes to it."""

    def __init__(self, make_engine: bytes, inherited: tuple[int, ...]) -> None:
        its_questions, questions = os.pipe()
        answers, its_answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                for descriptor in (questions, answers, *inherited):
                    os.close(descriptor)
                _live(make_engine, os.fdopen(its_questions, "rb"), os.fdopen(its_answers, "wb"))
                code = 0
            finally:
                os._exit(code)  # never up the nursery's own stack
        os.close(its_questions)
        os.close(its_answers)
        self._questions, self._answers = os.fdopen(questions, "wb"), os.fdopen(answers, "rb")

    def ready(self, seconds: float) -> bytes | None:
        """Its first answer: True, or the error that its engine's making raised; None where it died."""
        try:
            return _receive(self._answers, time.monotonic() + seconds)
        except (OSError, EOFError):
            return None

    def ask(self, content: Any, seconds: float) -> bytes | None:
        """Pass a question on; None where it died, or took too long."""
        try:
            _send(self._questions, pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))
        except OSError:
            return None
        return self.ready(seconds)

    def end(self) -> None:
        """Kill it."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        with suppress(OSError):
            self._questions.close()
        self._answers.close()


def _live(make_engine: bytes, questions: IO[bytes], answers: IO[bytes]) -> None:
    """The child: make the engine, then answer each sample with its outcome, until the input ends."""
    try:
        engine: ChunkEngine[Any] = pickle.loads(make_engine)()  # noqa: S301 - from our own parent
        _send(answers, pickle.dumps(True))
        while True:
            place, sample = pickle.loads(_receive(questions))  # noqa: S301 - from our own parent
            try:
                answer: Any = engine.outcomes([(place, sample)])[place]
            except CondgenError as error:
                answer = error
            _send(answers, pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL))
    except CondgenError as error:
        _send(answers, pickle.dumps(error))
    except (EOFError, BrokenPipeError):
        return
    except Exception:  # a bug, or a model that fails: for the worker's log
        traceback.print_exc()
        raise
