"""How training divides the cluster's CPUs and GPUs between its workers and decoding. Free of torch and of Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from condgen.errors import ConfigError
from pipelines.cluster.capacity import Demand
from pipelines.cluster.nodes import Node, usable_nodes

__all__ = ["Shares", "allowed_counts", "choose_count", "default_gpus", "share_nodes"]

_MOST_THREADS = 8


@dataclass(frozen=True)
class Shares:
    """How a cluster is divided.

    Attributes:
        worker_cpus, worker_gpus: CPUs and GPUs of a training worker.
        threads: number of torch's threads in a worker.
        task_cpus: CPUs that Ray reserves for a decoding task.
    """

    worker_cpus: float
    worker_gpus: float
    threads: int
    task_cpus: float


def share_nodes(nodes: Sequence[Node], demand: Demand, workers: int) -> Shares:
    """Divide the CPUs of the usable nodes between training and decoding, so that decoding always has some.

    With GPUs, each worker has its GPUs and one CPU, and decoding has all other CPUs. On CPUs alone, an elastic run's
    workers have a CPU each; a fixed number of workers shares all but a quarter, which is for decoding and at least one
    CPU, in fractions where they outnumber the CPUs.
    """
    usable = usable_nodes(nodes)
    cpus = sum(node.cpus for node in usable) or 1.0
    if demand.gpus:
        ratios = [node.cpus * demand.gpus / node.gpus for node in usable if node.gpus >= demand.gpus and node.cpus]
        worker_cpus = min(1.0, min(ratios, default=cpus / workers) / 2)
        spare = max(cpus - workers * worker_cpus, cpus / 2)
        # No more threads than CPUs of its own: a worker that waits for a core that decodes holds up all others.
        threads = max(1, min(_MOST_THREADS, int(cpus / workers)))
    elif demand.is_elastic and cpus > workers:
        worker_cpus, spare, threads = 1.0, cpus - workers, 1
    else:
        spare = max(1.0, cpus // 4) if cpus > 1 else 0.5 * cpus
        worker_cpus = _largest_share([node.cpus for node in usable], (cpus - spare) / workers, workers)
        threads = max(1, int(worker_cpus))
    return Shares(
        worker_cpus=_floor(worker_cpus),
        worker_gpus=demand.gpus,
        threads=threads,
        task_cpus=_floor(min(1.0, spare / workers)),
    )


def _largest_share(cpus: Sequence[float], share: float, workers: int) -> float:
    """Return the largest number of CPUs for each of the workers, at most ``share``, of which all fit on the nodes."""
    candidates = {share, *(one / count for one in cpus for count in range(1, workers + 1) if one / count < share)}
    for candidate in sorted(candidates, reverse=True):
        if candidate > 0 and sum(int(one / candidate + 1e-9) for one in cpus) >= workers:
            return candidate
    return share


def _floor(cpus: float) -> float:
    return max(0.01, int(cpus * 100 + 1e-6) / 100)


def default_gpus(nodes: Sequence[Node], *, own_cluster: bool) -> float:
    """Return the GPUs of each worker where none were asked for.

    On this machine alone it is one, if there is one; on a cluster that others run it is one always: training on its
    CPUs, perhaps only because no machine with a GPU is up yet, would be a surprise.
    """
    return 1.0 if not own_cluster or any(node.gpus >= 1 for node in usable_nodes(nodes)) else 0.0


def allowed_counts(least: int, most: int, check: Callable[[int], None]) -> list[int]:
    """Return the numbers of workers, ascending, that the data can be shared among.

    Args:
        least, most: smallest and largest number that was asked for.
        check: function that raises ConfigError for a number that the data can't be shared among.

    Raises:
        ConfigError: there is none; the error is that of the largest number.
    """
    counts: list[int] = []
    for count in range(least, most + 1):
        try:
            check(count)
        except ConfigError:
            if count == most and not counts:
                raise
        else:
            counts.append(count)
    return counts


def choose_count(counts: Sequence[int], room: int) -> int:
    """Return the largest of the allowed numbers of workers for which there is room; 0 where there is none."""
    return max((count for count in counts if count <= room), default=0)
