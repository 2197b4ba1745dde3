"""A run begins with the weights of its seed, with pretrained ones, or with those of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condgen.base import ConditionalModel
from condgen.color.lab import rgb_to_lab
from condgen.errors import CheckpointError, ImageError
from condgen.families import find_family
from condgen.nn.encoders import PretrainedEncoder, pretrained
from condgen.statistics import DatasetStatistics
from pipelines.datasets.chunk import image_member, iter_chunks, read_chunk
from pipelines.images.decoding import decode
from pipelines.models.pretrained_weights import read_weights, require_mobilenet_v2
from pipelines.models.source import ModelSource
from pipelines.streaming.stream import StreamConfig
from pipelines.training.job import TrainJob

__all__ = ["build_model"]

_STATISTICS_CHUNKS = 32
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class _Difference:
    """The names of weights in which two models differ."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    shapes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.shapes)

    def describe(self) -> str:
        """Return what differs, some names of each kind."""
        kinds = {"lacks": self.missing, "has unknown": self.unknown, "has of another shape": self.shapes}
        return "; ".join(
            f"it {kind} {', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}"
            for kind, names in kinds.items()
            if names
        )


def build_model(job: TrainJob) -> ConditionalModel:
    """Return a new model; the same seed, statistics and start give the same weights.

    Raises:
        ConfigError: a pretrained encoder's weights are nowhere.
        CheckpointError: the weights to begin with are damaged, or do not match.
    """
    torch.manual_seed(job.preset.train.seed)
    model = find_family(job.preset.family).model_class(job.preset.model)
    if model.needs_statistics:
        model.fit_statistics(job.statistics if job.statistics is not None else _count(job.plans["a"]))
    encoder, options = pretrained(model), job.options
    needs_encoder = job.init_from is None or options.init_partial
    if encoder is not None and needs_encoder and options.encoder_weights != "random":
        encoder.load_pretrained(_encoder_weights(options.encoder_weights, encoder))
    if job.init_from is not None:
        _take(model, job.init_from, partial=options.init_partial)
    return model


def _encoder_weights(where: str, encoder: PretrainedEncoder) -> Mapping[str, Tensor]:
    if where == "torchvision":
        from torchvision.models import get_model_weights

        weights: Mapping[str, Tensor] = get_model_weights(encoder.kind.name).DEFAULT.get_state_dict(check_hash=True)
        return weights
    return read_weights(require_mobilenet_v2(None if where == "auto" else where))


def _take(model: ConditionalModel, source: ModelSource, *, partial: bool) -> None:
    """Copy the weights of another model that have the same name and shape.

    Raises:
        CheckpointError: some differ, and a part was not asked for; or none match.
    """
    wanted, offered = model.state_dict(), source.load().model.state_dict()
    common = wanted.keys() & offered.keys()
    difference = _Difference(
        missing=tuple(sorted(wanted.keys() - common)),
        unknown=tuple(sorted(offered.keys() - common)),
        shapes=tuple(sorted(name for name in common if wanted[name].shape != offered[name].shape)),
    )
    if difference and not partial:
        raise CheckpointError(
            f"the model in {source.uri} does not match: {difference.describe()}; --init-partial takes what does"
        )
    weights = {name: offered[name] for name in common - set(difference.shapes)}
    if not weights:
        raise CheckpointError(f"no weight of the model in {source.uri} matches: {difference.describe()}")
    model.load_state_dict(weights, strict=False)


def _count(plan: StreamConfig) -> DatasetStatistics:
    """Return statistics of some chunks, evenly spread over a dataset whose manifest has none."""
    total = DatasetStatistics()
    rows = np.unique(np.linspace(0, plan.chunks.num_rows - 1, _STATISTICS_CHUNKS).astype(np.int64))
    for chunk in iter_chunks(plan.chunks.take(rows)):
        for sample in read_chunk(plan.store, chunk, plan.member_names):
            try:
                rgb = decode(image_member(sample, plan.members[-1]), min_size_px=64)
            except ImageError:
                continue  # the stream counts and logs it
            lab = rgb_to_lab(torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).float() / 255)
            total = total + DatasetStatistics.of_ab(lab[None, 1:].numpy())
    return total
