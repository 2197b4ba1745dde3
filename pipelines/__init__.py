"""The data: storage, datasets, training and batch jobs, on Ray.

gallery/      results in a browser
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

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
