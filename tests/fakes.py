"""A fake model and pictures to put through it; for the tests of the batch engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.noise import NoiseSource
from pipelines.plans import BatchSettings

__all__ = ["SETTINGS", "UniformColour", "write_image"]

SETTINGS = BatchSettings(draws=2, seed=3, batch_size=4, chunk_samples=3)


class UniformColour(ConditionalModel):
    """A fake model: every draw is one random colour for the whole picture, and NaN where a picture is black."""

    family = "uniform"
    is_stochastic = True

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> torch.Tensor:
        assert condition.image is not None
        colour = noise.uniform((2, 1, 1)) - 0.5
        black = condition.image.mean(dim=(1, 2, 3)) < -0.99
        colour[black] = torch.nan
        return colour.expand(-1, -1, -1, *condition.image.shape[-2:])


def write_image(path: Path, shade: int, size: tuple[int, int] = (40, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, shade, size[0] * size[1], dtype=np.float32).reshape(size[1], size[0]).astype(np.uint8)
    Image.fromarray(np.stack([ramp] * 3, axis=-1)).save(path)
