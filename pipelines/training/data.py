"""Which presets can be trained, and the plan of a run's stream: a dataset's split, chunks, order and members."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from condgen.errors import ConfigError, DatasetError
from condgen.families import find_family
from condgen.presets import Preset
from condgen.statistics import DatasetStatistics
from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.manifest import Dataset
from pipelines.datasets.opening import open_dataset
from pipelines.storage.cache import ChunkCache, cached
from pipelines.streaming.aging import Aging
from pipelines.streaming.augmentation import Augmentation
from pipelines.streaming.epoch_order import OrderConfig, choose_lanes
from pipelines.streaming.labels import LabelReader
from pipelines.streaming.stream import StreamConfig
from pipelines.training.options import TrainOptions

__all__ = ["TrainingData", "check_trainable", "plan_training_data"]

_CHUNK_SAMPLES = 16
_IMAGE, _PAIR = "image", ("input", "target")
_CHANNELS = {
    "color": "model.condition_channels 1 (L) and 2 of y (ab)",
    "pairs": "model.condition_channels and target_channels of 1 (luma) or 3 (RGB)",
    "domains": "a cyclic family, and channels of 1 (luma) or 3 (RGB)",
    "pictures": "model.condition_channels 0 and target_channels of 1 or 3, and a data.label or data.caption",
}


def check_trainable(preset: Preset) -> None:
    """Refuse a model that does not fit what the stream of its ``data.task`` gives.

    Raises:
        ConfigError: the model does not fit; the error says what the task asks of it.
    """
    task = preset.data.task
    x, y = getattr(preset.model, "condition_channels", 1), getattr(preset.model, "target_channels", 2)
    cyclic = find_family(preset.family).task == "translate"
    fits = {
        "color": (x, y) == (1, 2) and not cyclic,
        "pairs": x in (1, 3) and y in (1, 3) and not cyclic,
        "domains": x in (1, 3) and y in (1, 3) and cyclic and not (preset.data.label or preset.data.caption),
        "pictures": x == 0 and y in (1, 3) and bool(preset.data.label or preset.data.caption),
    }
    if not fits[task]:
        got = f"{task} with {preset.family}, {x} and {y} channels"
        raise ConfigError("data.task", got, f"for {task}: {_CHANNELS[task]}")


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A dataset as it will be trained on.

    Attributes:
        plan: plan of its stream.
        split: split that is trained on; None is all of a dataset without splits.
        statistics: statistics of the training set, where its manifest has them.
        held_out: plan whose chunks are the fixed sample of the validation split; None where nothing is validated.
    """

    plan: StreamConfig
    split: str | None
    statistics: DatasetStatistics | None
    held_out: StreamConfig | None = None


def plan_training_data(uri: str, options: TrainOptions) -> TrainingData:
    """Plan a run's stream of one of its datasets; this reads the dataset's manifest and index.

    Raises:
        ConfigError: the workers don't fit, or the model does not take a label or caption.
        DatasetError, StorageError: the dataset can't be used.
    """
    dataset = open_dataset(uri, checksums=True)
    split = _training_split(dataset)
    table = chunk_table(dataset.table(split), ChunkLimits(samples=_CHUNK_SAMPLES))
    if table.num_rows == 0:
        raise DatasetError(f"{dataset.uri} has no samples to train on")
    data, train = options.preset.data, options.preset.train
    lanes = data.lanes or choose_lanes(table.num_rows, data.window_chunks, train.batch_size)
    order = OrderConfig(seed=train.seed, lanes=lanes, window_chunks=data.window_chunks, batch_size=train.batch_size)
    names = _member_names(options.member_names, dataset)
    asked = dict(options.member_names)
    decisive = [dataset.manifest.digest, split, _CHUNK_SAMPLES, *([asked] if asked else [])]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    # By its absolute path: workers run in folders of their own.
    folder = Path(options.cache).expanduser().absolute() if options.cache else None
    cache = ChunkCache(str(folder), options.cache_bytes) if folder else None
    plan = StreamConfig(
        store=cached(dataset.store, cache, dataset.manifest.digest),
        chunks=table,
        digest=digest,
        order=order,
        augmentation=Augmentation(size_px=data.size_px, crop_scale_min=data.crop_scale_min, flip=data.flip),
        members=_members(dataset, data.task, names),
        member_names=names,
        words=_words(options.preset),
        aging=Aging(share=data.aging_share) if data.aging_share else None,
    )
    return TrainingData(
        plan=plan,
        split=split,
        statistics=dataset.manifest.train_statistics(),
        held_out=_held_out(dataset, split, plan, options.preset) if train.validates else None,
    )


def _held_out(dataset: Dataset, training_split: str | None, plan: StreamConfig, preset: Preset) -> StreamConfig:
    """Return the plan of the fixed sample: some chunks of the validation split, as a model that draws sees them.

    Which ones depends on the dataset alone, so that all runs on it are measured on the same images.

    Raises:
        ConfigError: there is no such split, or it is the one that is trained on.
    """
    train, splits = preset.train, dataset.manifest.splits
    if training_split is None or train.validation_split not in splits or train.validation_split == training_split:
        others = [split for split in splits if split != training_split] if training_split is not None else []
        known = f"one of {', '.join(others)}" if others else "a split besides the one that is trained on: it has none"
        raise ConfigError("train.validation_split", train.validation_split, f"of {dataset.uri}, {known}")
    table = chunk_table(dataset.table(train.validation_split), ChunkLimits(samples=_CHUNK_SAMPLES))
    # By raw words of Philox, which its specification fixes, where a library's own shuffle may change.
    order = np.argsort(np.random.Philox(key=0).random_raw(table.num_rows), kind="stable")
    enough = int(np.searchsorted(np.cumsum(table["samples"].to_numpy()[order]), train.validation_images)) + 1
    size_px = preset.data.sample_px or preset.data.size_px
    return replace(
        plan,
        chunks=table.take(pa.array(order[:enough])),
        augmentation=Augmentation(size_px=size_px, is_middle=True),
        aging=None,
    )


def _members(dataset: Dataset, task: str, names: Mapping[str, str]) -> tuple[str | None, ...]:
    """Return the members of a sample whose images are read.

    Raises:
        DatasetError: samples have two images, and none is named, or pairs are asked for where there are none.
    """
    paired = dataset.manifest.kind == "paired"
    if task == "pairs":
        if not paired and not all(member in names for member in _PAIR):
            raise DatasetError(f"{dataset.uri} holds no pairs: name both images, such as --member input=edges")
        return _PAIR
    if paired and _IMAGE not in names:
        raise DatasetError(f"{dataset.uri} holds pairs: name the image to train on, such as --member image=target")
    return (_IMAGE if _IMAGE in names else None,)


def _member_names(names: Mapping[str, str], dataset: Dataset) -> dict[str, str]:
    """Return the names of members in the shards by the options' names, which rename the dataset's own names."""
    theirs = dataset.manifest.member_names
    renamed = {name: theirs.get(member, member) for name, member in names.items()}
    return renamed | {name: member for name, member in theirs.items() if member not in renamed.values()}


def _words(preset: Preset) -> LabelReader:
    data, model = preset.data, preset.model
    vocabulary = getattr(model, "text_vocabulary", 0)
    if data.label and not getattr(model, "num_labels", 0):
        raise ConfigError("data.label", data.label, "empty: model.num_labels is 0, or the family takes no labels")
    if data.caption and not vocabulary:
        raise ConfigError("data.caption", data.caption, "empty: model.text_vocabulary is 0, or it takes no texts")
    length = getattr(model, "text_length", 0) if data.caption else 0
    return LabelReader(label=data.label, caption=data.caption, vocabulary=vocabulary, length=length)


def _training_split(dataset: Dataset) -> str | None:
    """Return ``train`` where there are splits; a dataset without splits is trained on as a whole."""
    splits = dataset.manifest.splits
    return "train" if "train" in splits or len(splits) > 1 else None
