"""A fake model and pictures to put through it; for the tests of the batch engine."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.noise import NoiseSource
from pipelines.batch.engine import ChunkEngine
from pipelines.models.colorization import ColorizeTask
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import Store

__all__ = ["SETTINGS", "PoisonedColor", "UniformColor", "poisoned_engine", "write_image"]

SETTINGS = BatchSettings(draws=2, seed=3, batch_size=4, chunk_samples=3)


class UniformColor(ConditionalModel):
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


class PoisonedColor(UniformColor):
    """Ends its process at a picture that is white all over; with a `fuse`, a file, also once at any other.

    Where it `hangs`, it does nothing for a minute in place of ending.
    """

    def __init__(self, fuse: Path | None = None, *, hangs: bool = False) -> None:
        super().__init__(None)
        self.fuse = fuse
        self.hangs = hangs

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> torch.Tensor:
        assert condition.image is not None
        poisoned = bool((condition.image.mean(dim=(1, 2, 3)) > 0.99).any())
        burnt = self.fuse is not None and self.fuse.exists()
        if burnt and self.fuse is not None:
            self.fuse.unlink()
        if poisoned and self.hangs:
            time.sleep(60)
        elif poisoned or burnt:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(condition, noise, options)


def poisoned_engine(
    archive: Store, results: Store, fuse: Path | None = None, *, hangs: bool = False
) -> ChunkEngine[Any]:
    """An engine with a model that one picture kills."""
    model = PoisonedColor(fuse, hangs=hangs)
    footer = {"job": "job"}
    return ChunkEngine(
        archive=archive, results=results, model=model, task=ColorizeTask(16), settings=SETTINGS, footer=footer
    )
