"""A chunk that has cost workers, done in processes of their own: only what kills its own process twice is an error.

A child process has the worker's engine and does the samples one after another. When it dies, the sample that it was at
is tried alone, in a fresh process, at most twice; the others go on in another. What a random kill hits is done again,
what an image itself does to its process becomes that image's error, and the worker that looks on is never in danger.
"""

from __future__ import annotations

import os
import pickle
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, Any

from condgen.errors import CondgenError, JobError
from pipelines.batch import ChunkEngine, Outcome
from pipelines.chunks import Sample
from pipelines.results import Failure

__all__ = ["IsolatedEngine", "serve"]

_DEATHS = 2
_START_DEATHS = 3
_SAMPLE_SECONDS = 900.0
_LENGTH = struct.Struct("<Q")
_COMMAND = "import sys; sys.path[:0] = {path!r}; from pipelines.isolation import serve; serve()"


class IsolatedEngine:
    """Does samples in child processes.

    Args:
        make_engine: what a child calls to get its engine: a function of no arguments, pickled.
        sample_seconds: a child that is at one sample for longer is killed, and that counts as its death.
    """

    def __init__(self, make_engine: bytes, *, sample_seconds: float = _SAMPLE_SECONDS) -> None:
        self._make_engine = make_engine
        self._sample_seconds = sample_seconds
        self._child: _Child | None = None

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
            outcome = self._ask(place, sample)
            self._end()
            if outcome is not None:
                return outcome
        return _killed(place, sample)

    def _ask(self, place: int, sample: Sample) -> Outcome | None:
        """One sample's outcome; None where the child died at it."""
        if self._child is None:
            self._child = _start(self._make_engine)
        answer = self._child.ask((place, sample), self._sample_seconds)
        if answer is None:
            self._end()
            return None
        if isinstance(answer, CondgenError):
            raise answer
        return answer  # type: ignore[no-any-return]

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


def _killed(place: int, sample: Sample) -> Failure:
    message = "the image ends the process that works on it: tried twice, alone in a process of its own"
    return Failure(source=sample.source, key=sample.key, stage="process", error="Killed", message=message, place=place)


class _Child:
    """A child process and the two pipes to it."""

    def __init__(self) -> None:
        # It ends with its input: a child whose parent is gone reads no more.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND.format(path=[path for path in sys.path if path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, message: Any, seconds: float) -> Any:
        """Send a message and return the answer; None where the child died, or took too long and was killed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError
        try:
            _send(stdin, message)
            return _receive(stdout, time.monotonic() + seconds)
        except (OSError, EOFError, pickle.UnpicklingError):
            return None

    def end(self) -> None:
        """Kill the child."""
        self._process.kill()
        with self._process:  # closes the pipes and waits
            pass


def _start(make_engine: bytes) -> _Child:
    for _ in range(_START_DEATHS):
        child = _Child()
        ready = child.ask(make_engine, _SAMPLE_SECONDS)
        if isinstance(ready, CondgenError):
            child.end()
            raise ready
        if ready:
            return child
        child.end()
    raise JobError("processes for single images die before they begin: too little memory? see the worker's log")


def _send(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes], deadline: float | None = None) -> Any:
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size, deadline))
    return pickle.loads(_read(pipe, length, deadline))  # noqa: S301 - from our own child


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
    """The child: make the engine, then answer each sample with its outcome, until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints is no answer
    questions = sys.stdin.buffer
    try:
        make_engine = pickle.loads(_receive(questions))  # noqa: S301 - from our own parent
        engine: ChunkEngine[Any] = make_engine()
        _send(answers, True)
        while True:
            place, sample = _receive(questions)
            try:
                answer: Any = engine.outcomes([(place, sample)])[place]
            except CondgenError as error:
                answer = error
            _send(answers, answer)
    except CondgenError as error:
        _send(answers, error)
    except (EOFError, BrokenPipeError):
        return
