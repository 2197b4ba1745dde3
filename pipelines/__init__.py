"""The data: storage, datasets, training and batch jobs, on Ray.

storage/      one store for a folder, a prefix or a bucket
images/       encoded images to sRGB arrays and back
cluster/      Ray itself: its start, tasks, pools of actors, errors
datasets/     the formats on disk: shards, manifest, index; opening them and cutting them into chunks
models/       models of any origin, and how images go through them
sharding/     how datasets are made
streaming/    the order of training, and its stream
results/      the Parquet files of a batch job, and their proofs
ray_data/     datasets as ``ray.data.Dataset``, with transforms
training/     the training engine: ``train``
batch/        the batch engine: ``run_batch``
evaluation/   how good results and models are

Each room imports those above it alone. What most pipelines need is here; the rooms have the rest.

    from pipelines import BatchJob, BatchSettings, run_batch

    report = run_batch(BatchJob(archive="photos/", results="results/", model="runs/first",
                                settings=BatchSettings(draws=5)))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.batch.job import BatchJob, run_batch
    from pipelines.models.hooks import Functions
    from pipelines.ray_data.counters import Tally
    from pipelines.ray_data.operator import Decode
    from pipelines.ray_data.reading import read_paired, read_single, read_unpaired
    from pipelines.ray_data.transforms import keep, mix, transform
    from pipelines.results.settings import BatchSettings
    from pipelines.training import TrainOptions, train
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "batch.job": ["BatchJob", "run_batch"],
            "models.hooks": ["Functions"],
            "ray_data.counters": ["Tally"],
            "ray_data.operator": ["Decode"],
            "ray_data.reading": ["read_paired", "read_single", "read_unpaired"],
            "ray_data.transforms": ["keep", "mix", "transform"],
            "results.settings": ["BatchSettings"],
            "training": ["TrainOptions", "train"],
        },
    )

__all__ = [
    "BatchJob",
    "BatchSettings",
    "Decode",
    "Functions",
    "Tally",
    "TrainOptions",
    "keep",
    "mix",
    "read_paired",
    "read_single",
    "read_unpaired",
    "run_batch",
    "train",
    "transform",
]
