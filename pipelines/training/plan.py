"""From a dataset to the plan of a training run's stream: its split, chunks, order, members and words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from condgen.errors import ConfigError, DatasetError
from condgen.presets import Preset
from condgen.statistics import DatasetStatistics
from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.chunk_plan import chunk_table
from pipelines.datasets.manifest import Dataset
from pipelines.datasets.opening import load_dataset
from pipelines.storage.cache import ChunkCache, cached
from pipelines.streaming.aging import Aging
from pipelines.streaming.augmentation import Augmentation
from pipelines.streaming.epoch_order import OrderConfig, check_workers, choose_lanes
from pipelines.streaming.labels import Words
from pipelines.streaming.stream import TrainingPlan

__all__ = ["PlannedDataset", "Sources", "plan_dataset"]

_CHUNK_SAMPLES = 16
_IMAGE, _PAIR = "image", ("input", "target")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a run's datasets have in common, of `jobs.train.TrainOptions`; `cache` is an absolute path or empty."""

    workers: int
    member_names: Mapping[str, str]
    cache: str
    cache_bytes: int


@dataclass(frozen=True, kw_only=True)
class PlannedDataset:
    """A dataset as it will be trained on.

    Attributes:
        plan: of its stream.
        split: the one that is trained on; None is all of a dataset without splits.
        statistics: of the training set, where its manifest has them.
    """

    plan: TrainingPlan
    split: str | None
    statistics: DatasetStatistics | None


def plan_dataset(uri: str, preset: Preset, sources: Sources) -> PlannedDataset:
    """Plan a run's stream of one dataset; reads its manifest and index.

    Raises:
        ConfigError: workers that don't fit, or a label or caption that the model does not take.
        DatasetError, StorageError: the dataset can't be used.
    """
    dataset = load_dataset(uri)
    split = _training_split(dataset)
    table = chunk_table(dataset.table(split), ChunkLimits(samples=_CHUNK_SAMPLES))
    if table.num_rows == 0:
        raise DatasetError(f"{dataset.uri} has no samples to train on")
    data, train = preset.data, preset.train
    lanes = data.lanes or choose_lanes(table.num_rows, data.window_chunks, train.batch_size)
    order = OrderConfig(seed=train.seed, lanes=lanes, window_chunks=data.window_chunks, batch_size=train.batch_size)
    check_workers(sources.workers, lanes, train.batch_size)
    names = _member_names(sources, dataset)
    asked = dict(sources.member_names)
    decisive = [dataset.manifest.digest, split, _CHUNK_SAMPLES, *([asked] if asked else [])]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    cache = ChunkCache(sources.cache, sources.cache_bytes) if sources.cache else None
    plan = TrainingPlan(
        store=cached(dataset.store, cache, dataset.manifest.digest),
        chunks=table,
        digest=digest,
        order=order,
        augmentation=Augmentation(size_px=data.size_px, crop_scale_min=data.crop_scale_min, flip=data.flip),
        members=_members(dataset, data.task, names),
        member_names=names,
        words=_words(preset),
        aging=Aging(share=data.aging_share) if data.aging_share else None,
    )
    return PlannedDataset(plan=plan, split=split, statistics=dataset.manifest.train_statistics())


def _members(dataset: Dataset, task: str, names: Mapping[str, str]) -> tuple[str | None, ...]:
    """The pictures of a sample that are read.

    Raises:
        DatasetError: samples have two pictures, and none is named, or pairs are asked for where there are none.
    """
    paired = dataset.manifest.kind == "paired"
    if task == "pairs":
        if not paired and not all(member in names for member in _PAIR):
            raise DatasetError(f"{dataset.uri} holds no pairs: name both pictures, such as --member input=edges")
        return _PAIR
    if paired and _IMAGE not in names:
        raise DatasetError(f"{dataset.uri} holds pairs: name the picture to train on, such as --member image=target")
    return (_IMAGE if _IMAGE in names else None,)


def _member_names(sources: Sources, dataset: Dataset) -> dict[str, str]:
    """What members are called, and how in the shards: the options' names of the dataset's names of them."""
    theirs = dataset.manifest.member_names
    asked = {name: theirs.get(member, member) for name, member in sources.member_names.items()}
    return asked | {name: member for name, member in theirs.items() if member not in asked.values()}


def _words(preset: Preset) -> Words:
    data, model = preset.data, preset.model
    vocabulary = getattr(model, "text_vocabulary", 0)
    if data.label and not getattr(model, "num_labels", 0):
        raise ConfigError("data.label", data.label, "empty: model.num_labels is 0, or the family takes no labels")
    if data.caption and not vocabulary:
        raise ConfigError("data.caption", data.caption, "empty: model.text_vocabulary is 0, or it takes no texts")
    length = getattr(model, "text_length", 0) if data.caption else 0
    return Words(label=data.label, caption=data.caption, vocabulary=vocabulary, length=length)


def _training_split(dataset: Dataset) -> str | None:
    """`train` where there are splits; a dataset without splits is trained on as a whole."""
    splits = dataset.manifest.splits
    if "train" in splits or len(splits) > 1:
        return "train"
    return None
