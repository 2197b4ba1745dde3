"""Run a command of condgen on a Ray cluster as a task of Airflow: `condgen submit`, and what its exit code means.

The cluster is a connection of Airflow: its host and port are those of the dashboard, its password is Ray's token. The
token reaches `condgen` by its environment, and stands in no command, file or log.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["CondgenOperator"]

INTERRUPTED = 75
_NAME = re.compile(r"^(?:submitted|runs already): (\S+)$")


class CondgenOperator(BaseOperator):
    """Submits a command, follows its log, and ends as it did.

    A command that was interrupted, or whose cluster could not be reached (both 75), is tried again as often as
    ``retries`` says, and follows its job if that still runs. All other codes but 0 fail at once. A task that is ended
    from outside stops its job, which saves a checkpoint.

    Args:
        command: the command and its words, without ``condgen``, as a shell has them.
        cluster: name of the connection (default: ``condgen_cluster``).
        program: the command line of condgen (default: the environment variable ``CONDGEN``, or ``condgen``).
    """

    template_fields = ("command",)

    def __init__(self, *, command: str, cluster: str = "condgen_cluster", program: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.cluster = cluster
        self.program = program
        self._job = ""

    def execute(self, context: Context) -> None:  # noqa: ARG002  # Airflow calls it so
        """Submit the command and wait for its end.

        Raises:
            AirflowException: it was interrupted.
            AirflowFailException: it has failed, or can't be submitted so.
        """
        # A session of its own: signals that end the task leave it alone.
        env = self._env()
        process = subprocess.Popen(
            self._words("submit", "--", *shlex.split(self.command)),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101  # for type checkers
        for line in process.stdout:
            self.log.info("%s", line.rstrip().replace(env["RAY_AUTH_TOKEN"] or "\n", "***"))
            if found := _NAME.match(line.strip()):
                self._job = found[1]
        code = process.wait()
        if code == INTERRUPTED:
            raise AirflowException(f"condgen was interrupted (exit code {code}): the same command goes on")
        if code:
            raise AirflowFailException(f"condgen has failed (exit code {code})")

    def on_kill(self) -> None:
        """Stop the job. Airflow leaves a task five seconds; the stop has a session of its own, and takes its time."""
        if self._job:
            self.log.info("stopping %s", self._job)
            subprocess.Popen(
                self._words("stop", self._job),
                env=self._env(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _words(self, *words: str) -> list[str]:
        return [*shlex.split(self.program or os.environ.get("CONDGEN", "condgen")), *words]

    def _env(self) -> dict[str, str]:
        """Return the environment of condgen: the cluster's address and its token."""
        cluster = Connection.get(self.cluster)
        address = f"{cluster.schema or 'http'}://{cluster.host}:{cluster.port or 8265}"
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": cluster.password or ""}
        return {**os.environ, "RAY_API_SERVER_ADDRESS": address, **auth}
