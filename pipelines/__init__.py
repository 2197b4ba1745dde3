"""The data: storage, datasets, training and batch jobs, on Ray.

evaluation/   how good results and models are
batch/        the batch engine: ``run_batch``
training/     the training engine: ``train``
ray_data/     datasets as ``ray.data.Dataset``, with transforms
streaming/    the order of training, and its stream
sharding/     how datasets are made
results/      the Parquet files of a batch job, and their proofs
datasets/     the formats on disk: shards, manifest, index; opening them and cutting them into chunks
models/       models of any origin, and how images go through them
images/       encoded images to sRGB arrays and back
storage/      one store for a folder, a prefix or a bucket
cluster/      Ray itself: its start, tasks, pools of actors, errors

A room is a package with one topic, and imports only rooms that stand below it in this list. This package exports what
most pipelines need; the rooms export the rest.

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
