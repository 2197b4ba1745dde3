"""The batch engine's outer part: the plan's chunks as a Ray Dataset, an actor pool that does them, and their receipts.

Only rows of the plan and receipts travel through Ray: an actor reads a chunk from the archive and writes its draws
file itself. A block is one chunk, so that a retry of Ray's costs one chunk, and writes the same object again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import pyarrow as pa

from pipelines.chunks import iter_chunks
from pipelines.plans import BatchSettings
from pipelines.results import Receipt
from pipelines.storage import Store

__all__ = ["PoolShape", "WorkerSpec", "pool_shape", "run_chunks"]

_RECEIPT_SCHEMA = pa.schema(
    [
        ("chunk", pa.string()),
        ("samples", pa.int64()),
        ("draws", pa.int64()),
        ("errors", pa.int64()),
        ("bytes_out", pa.int64()),
        ("seconds", pa.map_(pa.string(), pa.float64())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What an actor needs to make its engine; plain data."""

    archive: Store
    results: Store
    model: Store
    model_digest: str
    settings: BatchSettings
    footer: Mapping[str, Any]
    import_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolShape:
    """How many actors, and what each takes of the cluster."""

    actors: int
    num_cpus: float
    num_gpus: float


def pool_shape(resources: Mapping[str, float], *, num_chunks: int, workers: int = 0) -> PoolShape:
    """Size the pool from the cluster's resources: an actor a GPU, or an actor a core where there is no GPU.

    An actor does all stages of a chunk, so that nothing else needs a CPU: the pool may take them all.

    Args:
        resources: as `ray.cluster_resources()` gives them.
        num_chunks: left to do; more actors than chunks would only start.
        workers: asked for; 0 leaves it to the cluster.
    """
    cpus, gpus = max(1.0, resources.get("CPU", 1.0)), int(resources.get("GPU", 0))
    wanted = workers or gpus or int(cpus)
    actors = max(1, min(wanted, num_chunks))
    return PoolShape(actors, min(1.0, cpus / actors) if not gpus else cpus / actors, min(1.0, gpus / actors))


class ChunkWorker:
    """The actor: it holds the model and does chunks, two at a time so that one's reading overlaps the other's model."""

    def __init__(self, spec: WorkerSpec) -> None:
        sys.path.extend(path for path in spec.import_path if path not in sys.path)
        import torch

        from pipelines.batch import ChunkEngine
        from pipelines.models import load_model, picture_task

        # One thread a model: outputs of a convolution differ in their last bits between thread counts.
        torch.set_num_threads(1)
        loaded = load_model(spec.model, expect_digest=spec.model_digest)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._engine: ChunkEngine[Any] = ChunkEngine(
            archive=spec.archive,
            results=spec.results,
            model=loaded.model.eval().to(device),
            task=picture_task(loaded),
            settings=spec.settings,
            footer=spec.footer,
        )

    def __call__(self, block: pa.Table) -> pa.Table:
        import torch

        torch.set_num_threads(1)  # a setting of the calling thread, of which Ray has several for an actor
        receipts = [self._engine.run(chunk) for chunk in iter_chunks(block)]
        return pa.Table.from_pylist([_row(receipt) for receipt in receipts], schema=_RECEIPT_SCHEMA)


def _row(receipt: Receipt) -> dict[str, Any]:
    return {**asdict(receipt), "seconds": list(receipt.seconds.items())}


def run_chunks(pending: pa.Table, spec: WorkerSpec, shape: PoolShape) -> Iterator[Receipt]:
    """Do the chunks of `pending` (`pipelines.chunks.CHUNK_SCHEMA`) and yield a receipt for each as it is committed.

    Raises:
        StorageError: an archive or results that can't be reached, after retries.
        ray.exceptions.RayError: the cluster failed beyond what Ray itself retries.
    """
    import ray.data

    blocks = [pending.slice(row, 1).combine_chunks() for row in range(pending.num_rows)]
    dataset = ray.data.from_arrow(blocks).map_batches(
        ChunkWorker,
        fn_constructor_args=(spec,),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(
            size=shape.actors,
            max_concurrent_calls_per_actor=2,
            max_tasks_in_flight_per_actor=4,
            enable_true_multi_threading=True,
        ),
        num_cpus=shape.num_cpus,
        num_gpus=shape.num_gpus,
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for row in cast("pa.Table", batch).to_pylist():
            yield Receipt(**{**row, "seconds": dict(row["seconds"])})
