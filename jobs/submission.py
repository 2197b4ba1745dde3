"""How a command that ran on a cluster has ended, for `condgen submit` and its like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from condgen.errors import CondgenError, Interrupted
from pipelines.cluster.submission import Submission
from pipelines.storage.store import open_store

__all__ = ["exit_code", "run_status"]

_STATUS_FILE = "status.json"
_CODES = {"done": 0, "failed": 1}


def exit_code(job: Submission) -> int:
    """Return the exit code of a job that has ended: its driver's, or what it left behind where Ray knows none.

    Ray keeps no exit code of a job that was stopped. A training's ``status.json`` tells then how it ended; any other
    command was interrupted, and goes on when it is submitted again.
    """
    if job.state == "SUCCEEDED":
        return 0
    if job.state == "FAILED":
        return job.code if job.code and job.code > 0 else 1
    return _CODES.get(run_status(job.command).get("state", ""), Interrupted.exit_code)


def run_status(command: Sequence[str]) -> dict[str, Any]:
    """Return the content of the ``status.json`` of the run that a ``train`` command writes.

    It is empty where there is none, or where this machine can't read it.
    """
    if not command or command[0] != "train":
        return {}
    given = [word.split("=", 1) for word in command]
    outs = [pair[1] for pair in given if pair[0] == "--out" and len(pair) == 2]
    outs += [command[place + 1] for place, word in enumerate(command[:-1]) if word == "--out"]
    if not outs:
        return {}
    try:
        status: dict[str, Any] = json.loads(open_store(outs[-1]).read(_STATUS_FILE))
    except (CondgenError, ValueError):
        return {}
    return status
