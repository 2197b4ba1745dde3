"""A trained model as one ``torch.export`` program, which any PyTorch runs without condgen.

    program(x)            the point prediction
    program(x, noise)     a draw: noise is [B, N], standard normal, all that the model draws for one image

x and y are those of `docs/own-models.md`, whose attributes are in the program's extra file ``condgen.json``, so that
``condgen translate --model program.pt2 --trust-code`` takes it as it takes a user's own.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from condgen.base import Condition, ConditionalModel, SampleOptions
from condgen.errors import JobError, UnsupportedError
from condgen.noise import NoiseSource
from pipelines.models.source import LoadedModel
from pipelines.models.user import PROGRAM_FACTS, load_program

__all__ = ["Exported", "export_program"]

_CHECKED = 2
_TOLERANCE = 1e-3
_LARGEST_UNIFORM = 1.0 - 2.0**-24


class _GivenNoise(NoiseSource):
    """Noise from one tensor, ``[B, N]``: each call takes the next numbers of it."""

    def __init__(self, normals: Tensor) -> None:
        self.seed, self.draws = 0, (0,)
        self._normals = normals
        self.used = 0

    @property
    def num_samples(self) -> int:
        return self._normals.shape[0]

    def normal(self, shape: Sequence[int], *, step: int = 0, stream: int = 0) -> Tensor:  # noqa: ARG002
        start, self.used = self.used, self.used + math.prod(shape)
        return self._normals[:, start : self.used].reshape(-1, 1, *shape)

    def uniform(self, shape: Sequence[int], *, step: int = 0, stream: int = 0) -> Tensor:
        below: Tensor = torch.special.ndtr(self.normal(shape, step=step, stream=stream))
        return below.clamp(0.0, _LARGEST_UNIFORM)


class _Counting(NoiseSource):
    """Counts the numbers that one draw asks for."""

    def __init__(self, num_samples: int) -> None:
        super().__init__(0, [None] * num_samples, [0])
        self.used = 0

    def normal(self, shape: Sequence[int], *, step: int = 0, stream: int = 0) -> Tensor:
        self.used += math.prod(shape)
        return super().normal(shape, step=step, stream=stream)

    def uniform(self, shape: Sequence[int], *, step: int = 0, stream: int = 0) -> Tensor:
        self.used += math.prod(shape)
        return super().uniform(shape, step=step, stream=stream)


class _Sampler(nn.Module):
    """A model's sampling as a plain function of tensors."""

    def __init__(self, model: ConditionalModel, options: SampleOptions) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        given = _GivenNoise(torch.zeros(x.shape[0], 0) if noise is None else noise)
        y: Tensor = self.model.sample(Condition(image=x), given, self.options)
        return y[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A program and how near it is to its model.

    Attributes:
        data: content of a ``.pt2`` file.
        facts: attributes of the program, as in ``condgen.json``.
        difference: largest difference of an output from the model's, in y's own units.
    """

    data: bytes
    facts: dict[str, Any]
    difference: float


def export_program(loaded: LoadedModel, options: SampleOptions) -> Exported:
    """Return a model's sampling as a ``torch.export`` program, compared with the model on random images.

    Args:
        loaded: model that is conditioned on an image.
        options: options of the sampling; mode ``point`` gives a program without noise.

    Raises:
        UnsupportedError: the model takes a label or a text, or its sampling can't be exported.
        JobError: the program's outputs differ from the model's.
    """
    model, size = loaded.model, int(loaded.extra["size_px"])
    channels = int(getattr(model.config, "condition_channels", 1))
    words = [name for name in ("num_labels", "text_vocabulary") if getattr(model.config, name, 0)]
    if words or not channels:
        raise UnsupportedError("a program takes an image alone: this model takes a label or a text")
    sampler = _Sampler(model.eval(), options)
    x = torch.rand(_CHECKED, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    inputs: tuple[Tensor, ...] = (x,)
    facts: dict[str, Any] = {"size_px": size, "task": loaded.extra.get("task", "color")}
    if options.mode == "draw" and model.is_stochastic:
        counting = _Counting(_CHECKED)
        model.sample(Condition(image=x), counting, options)
        facts["noise_shape"] = [counting.used]
        inputs = (x, torch.randn(_CHECKED, counting.used, generator=torch.Generator().manual_seed(1)))
    program = _exported(sampler, inputs)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Weights that are views of one storage; what is saved is compared below.
        warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)
        torch.export.save(program, file, extra_files={PROGRAM_FACTS: json.dumps(facts, sort_keys=True)})
    data = file.getvalue()
    return Exported(data=data, facts=facts, difference=_compare(sampler, data, inputs))


def _exported(sampler: _Sampler, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            return torch.export.export(sampler, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        family = sampler.model.family
        raise UnsupportedError(f"the sampling of {family} can't be exported by this torch: {reason[0]}") from error


def _compare(sampler: _Sampler, data: bytes, inputs: tuple[Tensor, ...]) -> float:
    """Return the largest difference of the written program's outputs from the model's, for 1 to 3 images.

    Raises:
        JobError: it is more than rounding.
    """
    program = cast("Any", load_program("program.pt2", data)).module
    worst = 0.0
    for rows in ([0], [0, 1], [1, 0, 1]):
        given = [value[rows] for value in inputs]
        with torch.no_grad():
            worst = max(worst, float((program(*given) - sampler(*given)).abs().max()))
    if not worst <= _TOLERANCE:
        raise JobError(f"the program's outputs differ from the model's by up to {worst:.2g}: it was not written")
    return worst
