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
    from pipelines.batch import BatchJob, run_batch
    from pipelines.datasets import open_dataset
    from pipelines.models import Functions
    from pipelines.ray_data import Decode, Tally, keep, mix, read_paired, read_single, read_unpaired, transform
    from pipelines.results import BatchSettings
    from pipelines.training import TrainOptions, train
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "batch": ["BatchJob", "run_batch"],
            "datasets": ["open_dataset"],
            "models": ["Functions"],
            "ray_data": ["Decode", "Tally", "keep", "mix", "read_paired", "read_single", "read_unpaired", "transform"],
            "results": ["BatchSettings"],
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
    "open_dataset",
    "read_paired",
    "read_single",
    "read_unpaired",
    "run_batch",
    "train",
    "transform",
]
