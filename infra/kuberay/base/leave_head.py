"""The head's hook before its end (preStop): SIGTERM to the commands that run here, and a wait until they have ended.

`condgen train` saves a checkpoint then and ends with exit code 75, so that KubeRay counts the job as failed and tries
it again. `ray job stop` would have it STOPPED, which KubeRay takes for its end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

__all__ = ["end", "find_commands"]

DASHBOARD = "http://127.0.0.1:8265"
POLL_S = 0.5


def find_commands(jobs: Iterable[Any], address: str) -> list[int]:
    """Return the process ids of the submitted commands that run on the machine with this address.

    Args:
        jobs: jobs as ``JobSubmissionClient.list_jobs`` returns them; others than submitted ones are left out.
        address: IP address of this machine, as Ray knows it.
    """
    return [
        int(job.driver_info.pid)
        for job in jobs
        if job.type == "SUBMISSION"
        and job.status == "RUNNING"
        and job.driver_info is not None
        and job.driver_info.node_ip_address == address
    ]


def end(processes: Sequence[int], wait_s: float) -> list[int]:
    """Send SIGTERM to processes, wait for their ends, and return those that still run after ``wait_s`` seconds."""
    running = set(processes)
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + wait_s
    while True:
        for process in list(running):
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                running.discard(process)
        if not running or time.monotonic() > deadline:
            return sorted(running)
        time.sleep(POLL_S)


def main() -> None:
    """End the commands of this head, within CONDGEN_DRAIN_S seconds."""
    from ray.job_submission import JobSubmissionClient
    from ray.util import get_node_ip_address

    jobs = JobSubmissionClient(DASHBOARD).list_jobs()
    end(find_commands(jobs, get_node_ip_address()), float(os.environ["CONDGEN_DRAIN_S"]))


if __name__ == "__main__":
    main()
