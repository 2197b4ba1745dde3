"""The batch engine's pool: Ray or not, the number of workers, what each takes, and the wait for nodes to come."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from condgen.checks import check_choice
from condgen.errors import ConfigError
from pipelines.cluster.capacity import Demand, default_wait, wait_for_room
from pipelines.cluster.nodes import is_own_cluster, look_at_nodes, request_bundles, usable_nodes
from pipelines.cluster.starting import usable_cpus

__all__ = ["PoolShape", "Resources", "await_room", "cluster_shape", "local_shape", "pool_shape", "runs_here"]

logger = logging.getLogger(__name__)

# Chunks in an actor's hands: one is read and written while the other computes. A GPU is fed by more: its actor decodes
# and encodes a chunk on each of its cores, up to what memory is sure to hold.
_AT_ONCE = 2
_AT_ONCE_GPU = 16
# Ray takes some 8 seconds to start; its workers are no faster on this machine than processes without it.
_SMALL = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job runs on, and what it takes of it.

    Attributes:
        engine: `ray`; `local`, which is processes of this machine without Ray; or `auto`, which is `local` for some
            hundreds of images where there is neither a cluster nor a GPU.
        actors: numbers of actors, at least and at most (None leaves it to the cluster's resources).
        num_gpus: GPUs for each actor (None is one where the cluster has any).
        wait_for_s: longest time to wait for nodes that are still to come (seconds; None is 0 on this machine alone, and
            1800 on a cluster that others run).
    """

    engine: Literal["auto", "local", "ray"] = "auto"
    actors: tuple[int, int] | None = None
    num_gpus: float | None = None
    wait_for_s: float | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ("auto", "local", "ray"))


@dataclass(frozen=True, slots=True)
class PoolShape:
    """Number of actors, and what each takes of the cluster.

    Attributes:
        most: largest number of actors.
        side_by_side: number of actors that the cluster has room for now.
        num_cpus: CPUs of each actor, or a share of one.
        num_gpus: GPUs of each actor, or a share of one.
        at_once: chunks that an actor works on at a time.
    """

    most: int
    side_by_side: int
    num_cpus: float
    num_gpus: float
    at_once: int = _AT_ONCE

    @property
    def of_each(self) -> tuple[float, float, int]:
        """The resources that an actor is started with; actors of equal ones can take each other's place."""
        return self.num_cpus, self.num_gpus, self.at_once


def pool_shape(
    resources: Mapping[str, float],
    *,
    num_chunks: int,
    actors: tuple[int, int] | None = None,
    num_gpus: float | None = None,
) -> PoolShape:
    """Size the pool from the cluster's resources: an actor a GPU, or an actor a core where there is no GPU.

    An actor does all stages of a chunk, so that nothing else needs a CPU: the pool may take them all. With a GPU it
    asks for a CPU alone, which every node with a GPU has, and uses its share of them all.

    Args:
        resources: the cluster's resources, from `ray.cluster_resources()`.
        num_chunks: chunks that are left to do; more actors than chunks would only start.
        actors: smallest and largest number (default: as many as the cluster has room for). Cores are shared, GPUs are
            not: actors that there is no GPU for wait until there is one.
        num_gpus: GPUs of each actor (default: one, or none where the cluster has none).

    Raises:
        ConfigError: the cluster has no CPU.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    if cpus < 1:
        raise ConfigError("cluster", f"{cpus:g} CPUs", "a cluster of at least one CPU: it has no worker yet?")
    each = num_gpus if num_gpus is not None else (1.0 if gpus >= 1 else 0.0)
    fit = int(gpus / each) if each else int(cpus)
    least, most = actors if actors is not None else (fit, fit)
    most = max(1, min(max(least, most), num_chunks))
    side_by_side = max(1, min(most, fit if each else max(least, fit)))
    share = cpus / side_by_side
    at_once = max(_AT_ONCE, min(_AT_ONCE_GPU, int(share))) if each else _AT_ONCE
    return PoolShape(most, side_by_side, min(1.0, share), each, at_once)


def runs_here(resources: Resources, images: int) -> bool:
    """Return whether a job runs without Ray.

    Args:
        resources: what the job may take.
        images: the largest number of images that it may have to do.
    """
    if resources.engine != "auto":
        return resources.engine == "local"
    if images > _SMALL or resources.num_gpus or resources.wait_for_s is not None or _count_gpus():
        return False
    ray = sys.modules.get("ray")
    return not os.environ.get("RAY_ADDRESS") and (ray is None or not ray.is_initialized())


def _count_gpus() -> int:
    """Return the number of GPUs that torch may see, without torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return 0
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def local_shape(num_chunks: int, resources: Resources) -> PoolShape:
    """Size the pool for this machine alone, see `pool_shape`; of its GPUs one is used."""
    machine = {"CPU": float(usable_cpus()), "GPU": float(min(1, _count_gpus()))}
    return pool_shape(machine, num_chunks=num_chunks, actors=resources.actors, num_gpus=resources.num_gpus)


def cluster_shape(num_chunks: int, resources: Resources | None = None) -> PoolShape:
    """Size the pool for the cluster that is connected, see `pool_shape`."""
    import ray

    resources = resources or Resources()
    cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return pool_shape(cluster, num_chunks=num_chunks, actors=resources.actors, num_gpus=resources.num_gpus)


def await_room(resources: Resources) -> None:
    """Wait until the cluster has room for the smallest number of actors, and say so.

    The cluster's autoscaler is asked for them meanwhile; once they are started, they ask by themselves.

    Raises:
        ConfigError: the nodes did not come in time; it says what is there.
    """
    own_cluster = is_own_cluster()
    least, most = resources.actors or (1, 1)
    demand = Demand(least=least, most=most, gpus=resources.num_gpus or 0.0, field="actors")
    wait_s = default_wait(own_cluster=own_cluster) if resources.wait_for_s is None else resources.wait_for_s
    nodes = look_at_nodes()
    if not demand.has_room(nodes):
        request_bundles(demand.bundles())
        try:
            nodes = list(wait_for_room(look_at_nodes, demand, wait_s=wait_s, tell=logger.warning))
        finally:
            request_bundles([])
    if resources.num_gpus is None and not own_cluster and not any(node.gpus for node in usable_nodes(nodes)):
        logger.warning("the cluster has no GPU yet: images are computed on its CPUs; --num-gpus 1 waits for GPUs")
