"""Validation measures a checkpoint's averaged weights on the fixed sample of a held-out split. It knows nothing of Ray.

    job.held_out ─ read_held_out ─ batches of 16 ─┬─ terms of the loss, in eval() mode ─┐
                                                  ├─ measures of the point prediction  ─┴─ ValidationRow
                                                  └─ the first ones ─ sample_sheet ─ PNG

The images, their batches and the random numbers are the same each time, so that two rows differ by the weights alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from condgen import checkpoint
from condgen.base import Batch, ConditionalModel, SampleOptions
from condgen.checkpoint_files import FILES
from condgen.color.lab import denormalize_ab
from condgen.errors import DatasetError, UnsupportedError
from condgen.metrics.color import ab_cells, ab_distance, auc_raw, count_hits
from condgen.noise import NoiseSource, SampleId
from pipelines.streaming.epoch_order import StreamPosition
from pipelines.streaming.stream import StreamBatch, StreamConfig, load_block
from pipelines.streaming.unpaired import UnpairedBatch, UnpairedPosition
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.feed import Item, make_feed
from pipelines.training.job import TrainJob
from pipelines.training.run_folder import RunFolder
from pipelines.training.sample_sheet import sample_sheet
from pipelines.training.validation_rows import ValidationRow

__all__ = ["Validated", "measure", "read_held_out", "validate"]

_BATCH = 16
_SEED = 0
_ITERATIVE_IMAGES = 32
"""Number of images whose point prediction is measured where it takes many passes of the network."""
_CODES = 127.5


@dataclass(frozen=True, kw_only=True)
class Validated:
    """What was made of a checkpoint.

    Attributes:
        row: its row of validation.jsonl, or None where it was not asked for.
        sheet: a PNG of samples, or None where it was not asked for.
    """

    row: ValidationRow | None
    sheet: bytes | None


def validate(
    job: TrainJob, name: CheckpointName, *, measures: bool, sheet: bool, device: torch.device | None = None
) -> Validated:
    """Measure a checkpoint, and draw samples of it.

    Args:
        job: job of the run.
        name: name of a whole checkpoint.
        measures: whether a row is wanted.
        sheet: whether a sheet is wanted.
        device: device of the model (default: the CPU).

    Raises:
        MissingError: the checkpoint was removed meanwhile.
        CheckpointError, StorageError: the checkpoint or the images can't be read.
        DatasetError: no image of the sample can be decoded.
    """
    began, train = time.monotonic(), job.preset.train
    device = device or torch.device("cpu")
    files = RunFolder(job.out).read_checkpoint(name, only=FILES)
    model = checkpoint.load(files)[0].to(device)
    feed = make_feed(job.preset, job.held_out)
    measured = _Sums(job.preset.data.task)
    shown: list[Item] = []
    wanted = train.validation_images if measures else train.sheet_images
    for number, item in enumerate(read_held_out(job.held_out, wanted)):
        if sheet and (room := train.sheet_images - sum(len(one.weight) for one in shown)) > 0:
            shown.append(_first(item, room))
        if measures:
            measured.add(model, feed.batch(item, device), number)
    if not (shown or measured.images):
        raise DatasetError(f"no image of {train.validation_split} that validation looks at can be decoded")
    row = None
    if measures:
        terms, metrics = measured.means(), measured.metrics()
        row = ValidationRow(
            step=name.step,
            loss=sum(terms.values()),
            losses=terms,
            metrics=metrics,
            images=measured.images,
            split=train.validation_split,
            seconds=round(time.monotonic() - began, 3),
        )
    drawn = sample_sheet(model, feed, shown, job.preset.data.task, device) if sheet else None
    return Validated(row=row, sheet=drawn)


def measure(model: ConditionalModel, batch: Batch, number: int) -> dict[str, float]:
    """Return the terms of all phases by name, with random numbers that belong to the batch's number.

    A phase that is not due in every step has its terms as they are, as in the means of many steps.

    Args:
        model: model in ``eval()`` mode.
        batch: batch on the model's device.
        number: number of the batch.
    """
    terms: dict[str, float] = {}
    with torch.no_grad():
        for phase in model.phases:
            torch.manual_seed(_SEED + number)
            terms |= {name: float(value) for name, value in model(batch, phase).items()}
    return terms


def read_held_out(plans: Mapping[str, StreamConfig], images: int) -> Iterator[Item]:
    """Yield the fixed sample in batches of at most 16, without those samples that can't be decoded.

    Args:
        plans: plans of the sample: ``a``, and ``b`` for the second of two domains.
        images: number of samples of each; those that can't be decoded count.

    Raises:
        StorageError: a chunk can't be read.
    """
    streams = {name: _batches(plan, images) for name, plan in plans.items()}
    if "b" not in streams:
        yield from streams["a"]
        return
    for a, b in zip(streams["a"], streams["b"], strict=False):
        size = min(len(a.weight), len(b.weight))
        yield UnpairedBatch(a=_first_rows(a, size), b=_first_rows(b, size), after=UnpairedPosition())


def _batches(plan: StreamConfig, images: int) -> Iterator[StreamBatch]:
    bare = replace(plan, chunks=plan.chunks.schema.empty_table())
    rgb = np.zeros((0, *plan.image_shape), np.uint8)
    labels = np.zeros((0, plan.words.width), np.int64)
    left = images
    for place in range(plan.chunks.num_rows):
        block = plan.chunks.slice(place, 1).append_column("epoch", pa.array([0], pa.int64()))
        [row] = load_block(block, plan=bare).to_pylist()
        whole = np.frombuffer(row["weight"], np.uint8)
        good = np.flatnonzero(whole[:left])
        left -= min(left, len(whole))
        more = np.frombuffer(row["rgb"], np.uint8).reshape(len(whole), *plan.image_shape)[good]
        rgb = np.concatenate([rgb, more])
        labels = np.concatenate([labels, np.frombuffer(row["labels"], np.int64).reshape(len(whole), -1)[good]])
        while len(rgb) >= _BATCH or (len(rgb) and not left):
            yield _stream_batch(rgb[:_BATCH], labels[:_BATCH])
            rgb, labels = rgb[_BATCH:], labels[_BATCH:]
        if not left:
            return
    if len(rgb):
        yield _stream_batch(rgb, labels)


def _stream_batch(rgb: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> StreamBatch:
    weight = np.ones(len(rgb), np.float32)
    return StreamBatch(rgb=rgb, labels=labels, weight=weight, faults=0, after=StreamPosition())


def _first(item: Item, size: int) -> Item:
    """Return at most so many samples of a batch."""
    if isinstance(item, UnpairedBatch):
        return UnpairedBatch(a=_first_rows(item.a, size), b=_first_rows(item.b, size), after=item.after)
    return _first_rows(item, size)


def _first_rows(batch: StreamBatch, size: int) -> StreamBatch:
    return replace(batch, rgb=batch.rgb[:size], labels=batch.labels[:size], weight=batch.weight[:size])


@dataclass
class _Sums:
    """Sums over images: of the terms, and of what the measures are made of."""

    task: str
    images: int = 0
    _terms: dict[str, float] = field(default_factory=dict)
    _errors: dict[str, float] = field(default_factory=dict)
    _of_points: int = 0
    _hits: npt.NDArray[np.int64] | None = None
    _has_points: bool = True

    def add(self, model: ConditionalModel, batch: Batch, number: int) -> None:
        size = batch.num_samples
        for name, value in measure(model, batch, number).items():
            self._terms[name] = self._terms.get(name, 0.0) + size * value
        self.images += size
        is_iterative = bool({"steps", "top_k"} & set(model.sample_options))
        enough = is_iterative and self._of_points >= _ITERATIVE_IMAGES
        if self.task in ("color", "pairs") and self._has_points and not enough:
            self._add_points(model, batch, number)

    def _add_points(self, model: ConditionalModel, batch: Batch, number: int) -> None:
        samples = [SampleId("validation", f"{number}/{place}") for place in range(batch.num_samples)]
        try:
            point = model.sample(batch.condition, NoiseSource(_SEED, samples, [0]), SampleOptions(mode="point"))[:, 0]
        except UnsupportedError:  # the family has no point prediction
            self._has_points = False
            return
        point, truth = point.float().cpu(), batch.target.cpu()
        self._of_points += batch.num_samples
        if self.task == "color":
            truth = denormalize_ab(truth)
            distance = ab_distance(denormalize_ab(point), truth)
            hits = count_hits(distance, ab_cells(truth))
            self._hits = hits if self._hits is None else self._hits + hits
            self._add_error("ab_error", distance.flatten(1))
        else:
            self._add_error("rgb_error", (point.clamp(-1, 1) - truth).abs().flatten(1) * _CODES)

    def _add_error(self, name: str, values: Tensor) -> None:
        self._errors[name] = self._errors.get(name, 0.0) + float(values.double().mean(dim=1).sum())

    def means(self) -> dict[str, float]:
        return {name: value / self.images for name, value in self._terms.items()}

    def metrics(self) -> dict[str, float]:
        found = {} if self._hits is None else {"auc": auc_raw(self._hits)}
        return found | {name: value / self._of_points for name, value in self._errors.items()}
