"""Ray itself: how it starts, what its processes import, tasks and pools of actors on it, and its errors unwrapped.

starting.py     ``ray_cluster``: the cluster for a block of code; Ray Data's context
imports.py      our own packages in every process, whatever lies in the working directory
tasks.py        independent calls, on the cluster or in threads
actor_pool.py   a pool of actors that outlive each other
errors.py       ``unwrap``: the error of ours that Ray's wrappers carry
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.cluster.actor_pool import run_on_actors
    from pipelines.cluster.errors import unwrap
    from pipelines.cluster.imports import extend_import_path, python_command, spare_pandas
    from pipelines.cluster.starting import LEAST_CPUS, configure_data, ray_cluster, usable_cpus
    from pipelines.cluster.tasks import ray_tasks, run_tasks, thread_tasks
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "actor_pool": ["run_on_actors"],
            "errors": ["unwrap"],
            "imports": ["extend_import_path", "python_command", "spare_pandas"],
            "starting": ["LEAST_CPUS", "configure_data", "ray_cluster", "usable_cpus"],
            "tasks": ["ray_tasks", "run_tasks", "thread_tasks"],
        },
    )

__all__ = [
    "LEAST_CPUS",
    "configure_data",
    "extend_import_path",
    "python_command",
    "ray_cluster",
    "ray_tasks",
    "run_on_actors",
    "run_tasks",
    "spare_pandas",
    "thread_tasks",
    "unwrap",
    "usable_cpus",
]
