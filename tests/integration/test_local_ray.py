"""A Ray that a command starts for itself: what it leaves out is missed by nobody."""

import sys
from collections.abc import Callable
from typing import Any

SCRIPT = """
import time
from ray.util.state import get_actor
from pipelines.cluster.starting import ray_cluster

with ray_cluster(num_cpus=1):
    begin = time.monotonic()
    try:
        get_actor("00" * 16)
    except Exception as error:
        print(type(error).__name__, time.monotonic() - begin < 5)
"""


def test_who_asks_for_the_dashboard_is_told_at_once_that_there_is_none(condgen_process: Callable[..., Any]) -> None:
    """Ray Train does, and waits for the answer at the end of each attempt."""
    process = condgen_process(program=(sys.executable, "-c", SCRIPT))
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "ConnectionError True\n"), errors
