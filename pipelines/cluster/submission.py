"""Commands of condgen that run on a cluster, as jobs of Ray's Jobs API.

    condgen-train-3f2a9c51d07e-1      the command's name, a digest of its words, and its number

The name of a job is made of its command, so that the same command finds the job that runs it already. One that has
ended is followed by the next number: every command of condgen goes on where it was, or finds that nothing is left.
Two clients that submit at once ask for the same name, and Ray gives it to one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from condgen.errors import ConfigError, Interrupted, JobError

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

__all__ = ["Cluster", "Submission", "base_name", "shell_command"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

_PREFIX = "condgen"
_NAME = re.compile(rf"^{_PREFIX}-[a-z]+-[0-9a-f]{{12}}-(\d+)$")
_COMMAND = "condgen.command"
_ADDRESS = "RAY_API_SERVER_ADDRESS"
_DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_TAKEN = "already exists"  # what Ray says of a job's name
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job as the cluster tells of it.

    Attributes:
        name: name of the job (Ray's submission id).
        command: words of the command, without ``condgen``.
        state: ``PENDING``, ``RUNNING``, ``STOPPED``, ``SUCCEEDED`` or ``FAILED``.
        started: when it was submitted (UTC), or None.
        code: exit code of its driver, where Ray knows one.
        message: what Ray says about the state.
    """

    name: str
    command: tuple[str, ...]
    state: str
    started: datetime | None
    code: int | None
    message: str

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.state in _ENDED

    @property
    def number(self) -> int:
        """Number of the job among those of its command."""
        match = _NAME.match(self.name)
        return int(match[1]) if match else 0

    @classmethod
    def of(cls, details: JobDetails) -> Submission:
        """Return it from Ray's record."""
        started = details.start_time
        return cls(
            name=details.submission_id or "",
            command=tuple(json.loads((details.metadata or {}).get(_COMMAND, "[]"))),
            state=str(details.status.value),
            started=datetime.fromtimestamp(started / 1000, UTC) if started else None,
            code=details.driver_exit_code,
            message=(details.message or "").strip(),
        )


def base_name(command: Sequence[str]) -> str:
    """Return the name of a command's jobs without their number."""
    kind = re.sub(r"[^a-z]", "", command[0].lower()) or "job"
    return f"{_PREFIX}-{kind}-{hashlib.sha256(json.dumps(list(command)).encode()).hexdigest()[:12]}"


class Cluster:
    """A cluster's Jobs API.

    Args:
        address: URL of the head's dashboard, such as ``http://127.0.0.1:8265`` (default: ``RAY_API_SERVER_ADDRESS``,
            or that URL).
        patience_s: time for which a cluster that gives no answer is asked again (seconds).
        say: function that takes a line for the user.

    Raises:
        Interrupted: no cluster answers at the address.
        ConfigError: it refuses the token.
    """

    def __init__(
        self, address: str | None = None, *, patience_s: float = 600.0, say: Callable[[str], None] = logger.info
    ) -> None:
        self._patience_s = patience_s
        self._say = say
        self._address = address
        self._client = self._connect()

    def jobs(self) -> list[Submission]:
        """Return the jobs that condgen submitted, the newest first."""
        found = self._ask(lambda: self._client.list_jobs())
        ours = [Submission.of(one) for one in found if _NAME.match(one.submission_id or "")]
        oldest = datetime.fromtimestamp(0, UTC)
        return sorted(ours, key=lambda job: (job.started or oldest, job.name), reverse=True)

    def job(self, name: str) -> Submission:
        """Return a job.

        Raises:
            ConfigError: there is none of that name.
        """
        found = next((job for job in self.jobs() if job.name == name), None)
        if found is None:
            raise ConfigError("job", name, "a job that condgen status lists")
        return found

    def submit(
        self, command: Sequence[str], *, entrypoint: str, runtime_env: Mapping[str, Any]
    ) -> tuple[Submission, bool]:
        """Run a command as a job, unless one runs it already.

        Args:
            command: words of the command, without ``condgen``.
            entrypoint: the shell command that the head runs.
            runtime_env: Ray's runtime environment of the job.

        Returns:
            The job, and whether it is a new one.
        """
        base = base_name(command)
        earlier = [job for job in self.jobs() if job.name.rpartition("-")[0] == base]
        live = next((job for job in earlier if not job.has_ended), None)
        if live is not None:
            return live, False
        name = f"{base}-{max((job.number for job in earlier), default=0) + 1}"
        metadata = {_COMMAND: json.dumps(list(command))}
        try:
            self._ask(
                lambda: self._client.submit_job(
                    entrypoint=entrypoint, submission_id=name, runtime_env=dict(runtime_env), metadata=metadata
                )
            )
        except RuntimeError as error:
            # Another client was quicker, or an earlier try whose answer was lost.
            if _TAKEN not in str(error):
                raise JobError(f"the cluster did not take the job: {_first_line(error)}") from error
            return self.job(name), False
        return self.job(name), True

    def stop(self, name: str) -> Submission:
        """Ask a job to stop, and wait until it has ended."""
        if not self.job(name).has_ended:
            self._ask(lambda: self._client.stop_job(name))
        while not (job := self.job(name)).has_ended:
            time.sleep(_PAUSE_S)
        return job

    def follow(self, name: str, write: Callable[[str], object]) -> Submission:
        """Write a job's log as it comes, from its beginning, until the job has ended; connections are renewed."""
        written = 0
        while True:
            try:
                for text in self._tail(name, skip=written):
                    write(text)
                    written += len(text)
            except (OSError, RuntimeError) as error:  # aiohttp's errors of connections are OSErrors
                logger.info("the log of %s was cut: %s", name, error)
            job = self.job(name)
            if job.has_ended:
                write(self._ask(lambda: self._client.get_job_logs(name))[written:])
                return self.job(name)
            time.sleep(_PAUSE_S)

    def log(self, name: str) -> str:
        """Return what a job has written so far."""
        return self._ask(lambda: self._client.get_job_logs(name))

    def _tail(self, name: str, *, skip: int) -> Iterator[str]:
        """Yield the log as it comes, without its first ``skip`` characters."""
        loop = asyncio.new_event_loop()
        chunks = self._client.tail_job_logs(name)
        try:
            while True:
                try:
                    text = loop.run_until_complete(anext(chunks))
                except StopAsyncIteration:
                    return
                if text and len(text) > skip:
                    yield text[skip:]
                skip = max(0, skip - len(text or ""))
        finally:
            loop.run_until_complete(chunks.aclose())  # type: ignore[attr-defined]
            loop.close()

    def _connect(self) -> JobSubmissionClient:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
        # The client takes the variable's address before the one that it is given.
        address = os.environ[_ADDRESS] = self._address or os.environ.get(_ADDRESS) or _DEFAULT_ADDRESS
        try:
            return JobSubmissionClient(address)
        except ConnectionError as error:
            raise Interrupted(f"no cluster answers at {address}: check the address, or try again later") from error
        except AuthenticationError as error:
            wanted = "a cluster that takes the token of RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN, with RAY_AUTH_MODE=token"
            raise ConfigError("address", address, f"{wanted} ({_first_line(error)})") from error

    def _ask(self, question: Callable[[], T]) -> T:
        """Return the cluster's answer, asked again for a while where none comes, as while its head is restarted."""
        deadline, pause_s = time.monotonic() + self._patience_s, _PAUSE_S
        while True:
            try:
                return question()
            except (OSError, RuntimeError) as error:  # requests' errors of connections are OSErrors
                # A name that is taken comes as an error of the dashboard's own (500), too, and stays.
                if isinstance(error, RuntimeError) and ("status code 5" not in str(error) or _TAKEN in str(error)):
                    raise
                if time.monotonic() + pause_s > deadline:
                    raise Interrupted(f"the cluster gives no answer: {_first_line(error)}") from error
                if pause_s == _PAUSE_S:
                    self._say("the cluster gives no answer: waiting for it")
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def shell_command(command: Sequence[str], *, program: str) -> str:
    """Return a command as the head's shell runs it: in place of the shell, so that signals reach it alone."""
    return f"exec {program} {shlex.join(command)}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
