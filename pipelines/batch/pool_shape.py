"""How many actors a job has, and what each takes of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from condgen.errors import ConfigError

__all__ = ["PoolShape", "cluster_shape", "pool_shape"]

# Chunks in an actor's hands: one is read and written while the other computes. A GPU is fed by more: its actor decodes
# and encodes a chunk on each of its cores, up to what memory is sure to hold.
_AT_ONCE = 2
_AT_ONCE_GPU = 16


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
        actors: smallest and largest number (default: as many as the cluster has room for). The smallest must fit the
            cluster as it is (cores are shared, GPUs are not); actors beyond it wait until there is room.
        num_gpus: GPUs of each actor (default: one, or none where the cluster has none).

    Raises:
        ConfigError: the cluster does not have that much.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    if cpus < 1:
        raise ConfigError("cluster", f"{cpus:g} CPUs", "a cluster of at least one CPU: it has no worker yet?")
    each = num_gpus if num_gpus is not None else (1.0 if gpus >= 1 else 0.0)
    if each > gpus:
        raise ConfigError("num_gpus", f"{each:g}", f"at most the cluster's {gpus:g} GPUs")
    fit = int(gpus / each) if each else int(cpus)
    least, most = actors if actors is not None else (fit, fit)
    if each and least > fit:
        raise ConfigError("actors", least, f"at most {fit}: {each:g} of the cluster's {gpus:g} GPUs for each")
    most = max(1, min(max(least, most), num_chunks))
    side_by_side = min(most, fit if each else max(least, fit))
    share = cpus / side_by_side
    at_once = max(_AT_ONCE, min(_AT_ONCE_GPU, int(share))) if each else _AT_ONCE
    return PoolShape(most, side_by_side, min(1.0, share), each, at_once)


def cluster_shape(
    num_chunks: int, *, actors: tuple[int, int] | None = None, num_gpus: float | None = None
) -> PoolShape:
    """Size the pool for the cluster that is connected, see `pool_shape`."""
    import ray

    cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return pool_shape(cluster, num_chunks=num_chunks, actors=actors, num_gpus=num_gpus)
