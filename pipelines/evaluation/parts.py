"""Evaluation in parts: a fixed run of chunks each, measured by whoever is free, and added up in one order.

    parts ─ actors: read the answers, measure, features ─ PartResult ─ in the order of the parts ─ totals

What a part gives depends on the part alone, and the parts on the chunks alone, so that the numbers are the same for any
number of workers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from condgen.color.colorize import resize
from condgen.errors import ImageError
from condgen.metrics.sets import FeatureMoments
from pipelines.datasets.chunk import Chunk
from pipelines.evaluation.measures import (
    Answer,
    ImageRow,
    MeasuredImage,
    MeasureSettings,
    measure,
    measured_size,
    recolored,
)
from pipelines.evaluation.sources import AnswerReader, AnswerSource, Item, UnmeasuredImage
from pipelines.images.decoding import decode

if TYPE_CHECKING:
    from pipelines.evaluation.features import MobileNetFeatures
    from pipelines.evaluation.judging import JudgeSpec, LikelihoodModel

__all__ = ["ROWS_SCHEMA", "EvaluationSpec", "Part", "PartMeasurer", "PartResult", "cut_parts"]

PART_SAMPLES = 128
"""Most images in a part of more than one chunk."""

_LISTS = {"cells": pa.int16(), "cell_pixels": pa.int32(), "cell_hits": pa.int64()}
_INTEGERS = ("draw", "draws")

ROWS_SCHEMA = pa.schema(
    [pa.field("source", pa.string(), nullable=False), pa.field("key", pa.string(), nullable=False)]
    + [
        pa.field(one.name, pa.string(), nullable=False)
        if one.name == "answer"
        else pa.field(one.name, pa.int32(), nullable=False)
        if one.name in _INTEGERS
        else pa.field(one.name, pa.list_(_LISTS[one.name]) if one.name in _LISTS else pa.float64())
        for one in fields(ImageRow)
    ]
)
"""The columns of `evaluation.parquet`; see `pipelines.evaluation.measures.ImageRow`."""


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive chunks that are measured together."""

    ordinal: int
    chunks: tuple[Chunk, ...]


def cut_parts(chunks: Iterable[Chunk], samples: int = PART_SAMPLES) -> list[Part]:
    """Group chunks into parts of at most `samples` images, or of one chunk."""
    parts: list[Part] = []
    group: list[Chunk] = []
    for chunk in chunks:
        if group and sum(one.samples for one in group) + chunk.samples > samples:
            parts.append(Part(len(parts), tuple(group)))
            group = []
        group.append(chunk)
    return [*parts, Part(len(parts), tuple(group))] if group else parts


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """Everything that a worker needs to measure parts.

    Attributes:
        source: source of the answers.
        settings: settings of the measures.
        mean: mean color of the reference set, `[2]` in ab units, or its mean image, `[S, S, 3]` uint8.
        weights: weights of the feature extractor; None leaves set distances out.
        judge: the model whose likelihood and calibration are asked for, where it has any.
        kernel_share: share of the images, by a digest of their keys, whose features the kernel distance takes.
    """

    source: AnswerSource
    settings: MeasureSettings
    mean: NDArray[Any]
    weights: Mapping[str, torch.Tensor] | None = None
    judge: JudgeSpec | None = None
    kernel_share: float = 1.0


@dataclass(slots=True, kw_only=True)
class PartResult:
    """The measurements of a part.

    Attributes:
        ordinal: number of the part.
        rows: table in `ROWS_SCHEMA`, in data order.
        reasons: images that were not measured, by reason.
        hits: counts of `condgen.metrics.color.count_hits` by answer, summed over images and draws.
        moments: moments of features, by answer and draw.
        kernel: features of the images chosen for the kernel distance, by answer and draw, `[n, D]` float32.
        reliability: counts of the judge's categories, see `condgen.metrics.calibration.count_reliability`.
    """

    ordinal: int
    rows: pa.Table
    reasons: Counter[str] = field(default_factory=Counter)
    hits: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    moments: dict[tuple[str, int], FeatureMoments] = field(default_factory=dict)
    kernel: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)
    reliability: NDArray[np.float64] | None = None


class PartMeasurer:
    """Measures parts in this process, on one thread: the last bits of a sum depend on how many share it."""

    def __init__(self, spec: EvaluationSpec) -> None:
        torch.set_num_threads(1)
        self._spec = spec
        self._reader: AnswerReader = spec.source.open()
        self._extract: MobileNetFeatures | None = None
        if spec.weights is not None:
            from pipelines.evaluation.features import load_extractor

            self._extract = load_extractor(spec.weights)
        self._judge: LikelihoodModel | None = None
        if spec.judge is not None:
            from pipelines.evaluation.judging import LikelihoodModel

            self._judge = LikelihoodModel(spec.judge)

    def run(self, part: Part) -> PartResult:
        """Measure a part.

        Raises:
            DatasetError, StorageError: its answers or references can't be read.
        """
        torch.set_num_threads(1)  # a setting of the calling thread
        result = PartResult(ordinal=part.ordinal, rows=ROWS_SCHEMA.empty_table())
        columns: dict[str, list[Any]] = {name: [] for name in ROWS_SCHEMA.names}
        features: dict[tuple[str, int], list[NDArray[np.float32]]] = {}
        chosen: list[bool] = []
        for item in (item for chunk in part.chunks for item in self._reader.read(chunk)):
            found = self._measure(item, result) if isinstance(item, Item) else item
            if isinstance(found, UnmeasuredImage):
                result.reasons[found.reason] += 1
                continue
            _append(columns, found)
            for answer, hits in found.measured.hits.items():
                result.hits[answer] = result.hits[answer] + hits if answer in result.hits else hits
            if self._extract is not None:
                chosen.append(_share(found.item) < self._spec.kernel_share)
                for name, values in self._features(found.measured).items():
                    features.setdefault(name, []).append(values)
        result.rows = pa.table(columns, schema=ROWS_SCHEMA)
        for name, values_of in features.items():
            stacked = np.stack(values_of)
            result.moments[name] = FeatureMoments.of(stacked)
            result.kernel[name] = stacked[np.array(chosen)]
        return result

    def _measure(self, item: Item, result: PartResult) -> _Found | UnmeasuredImage:
        size_px = self._spec.settings.size_px
        try:
            reference = decode(item.reference, min_size_px=size_px)
            height, width = measured_size(reference.shape[0], reference.shape[1], size_px)
            reference = _array(resize(reference, height, width))
            given = decode(item.input, min_size_px=size_px) if item.input is not None else None
            answers = [
                Answer(name, [decode(data, min_size_px=size_px) for data in images])
                for name, images in item.answers.items()
            ]
        except ImageError as error:
            return UnmeasuredImage(item.source, item.key, error.stage)
        measured = measure(reference, [*answers, *self._trivial(reference, given)], self._spec.settings)
        if self._judge is not None:
            verdict = self._judge(reference, given)
            measured.rows[0].nll, measured.rows[0].marginal_nll = verdict.nll, verdict.marginal_nll
            known = result.reliability
            result.reliability = verdict.reliability if known is None else known + verdict.reliability
        return _Found(item, measured)

    def _trivial(self, reference: NDArray[np.uint8], given: NDArray[np.uint8] | None) -> list[Answer]:
        """Return the answers that cost nothing, which a model is to beat."""
        found: list[Answer] = []
        if self._spec.settings.is_color:
            found.append(Answer("grey", [recolored(reference, np.zeros(2))]))
            found.append(Answer("mean_color", [recolored(reference, self._spec.mean)]))
        else:
            found.append(Answer("mean_image", [self._spec.mean]))
        if given is not None:
            found.append(Answer("input", [given]))
        return found

    def _features(self, found: MeasuredImage) -> dict[tuple[str, int], NDArray[np.float32]]:
        """Return the features of all images of one sample, by answer and draw."""
        if self._extract is None:
            return {}
        names = [(answer, draw) for answer, images in found.images.items() for draw in range(len(images))]
        values = self._extract(torch.cat(list(found.images.values())))
        return dict(zip(names, values, strict=True))


@dataclass(frozen=True, slots=True)
class _Found:
    item: Item
    measured: MeasuredImage


def _append(columns: Mapping[str, list[Any]], found: _Found) -> None:
    for row in found.measured.rows:
        columns["source"].append(found.item.source)
        columns["key"].append(found.item.key)
        for one in fields(ImageRow):
            columns[one.name].append(getattr(row, one.name))


def _array(codes: torch.Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(codes.permute(1, 2, 0).numpy())


def _share(item: Item) -> float:
    """Return a number in [0, 1) that belongs to the image."""
    digest = hashlib.sha256(f"{item.source}\0{item.key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
