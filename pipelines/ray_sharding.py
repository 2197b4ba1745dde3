"""Shards of a plan made by Ray tasks, one a shard."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.sharding import PlannedShard, ShardReceipt
from pipelines.storage import Store

__all__ = ["write_shards"]

_WAITING_PER_CPU = 2


def _write(
    import_path: tuple[str, ...], source: Store, dest: Store, shard: PlannedShard, max_pixels: int
) -> ShardReceipt:
    sys.path.extend(path for path in import_path if path not in sys.path)
    import torch

    from pipelines.shard_writer import write_shard

    torch.set_num_threads(1)
    return write_shard(source, dest, shard, max_pixels, threads=1)


def write_shards(source: Store, dest: Store, shards: Sequence[PlannedShard], max_pixels: int) -> Iterator[ShardReceipt]:
    """Make shards on the cluster that is connected, and yield their receipts as they are done, in any order.

    A task that is lost with its worker runs again: it writes the same bytes to the same name.

    Raises:
        AccessError, StorageError: see ``pipelines.shard_writer.write_shard``.
        ray.exceptions.RayError: the cluster failed beyond what Ray itself retries.
    """
    import ray

    from condgen.errors import CondgenError

    import_path = (str(Path(__file__).resolve().parent.parent),)
    task = ray.remote(num_cpus=1, max_retries=3)(_write)
    cpus = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    limit = max(1, int(cpus)) * _WAITING_PER_CPU
    waiting = list(shards)[::-1]
    running: list[ray.ObjectRef[ShardReceipt]] = []
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                running.append(task.remote(import_path, source, dest, waiting.pop(), max_pixels))
            done, running = ray.wait(running, num_returns=1)
            yield ray.get(done[0])
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, CondgenError):
            raise cause from error
        raise
    finally:
        for reference in running:
            ray.cancel(reference)
