"""A fake model and pictures to put through it; for the tests of the batch engine."""

import os
import signal
import time
from collections.abc import Iterable
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
from pipelines.storage.store import Store, open_store

__all__ = [
    "SETTINGS",
    "PoisonedColor",
    "UniformColor",
    "fake_engine",
    "poisoned_engine",
    "write_archive",
    "write_image",
]

SETTINGS = BatchSettings(draws=2, seed=3, batch_size=4, chunk_samples=3)


class UniformColor(ConditionalModel):
    """A fake model: every draw is one random colour for the whole picture, and NaN where a picture is black."""

    family = "uniform"
    is_stochastic = True

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> torch.Tensor:
        colour = noise.uniform((2, 1, 1)) - 0.5
        black = condition.image.mean(dim=(1, 2, 3)) < -0.99
        colour[black] = torch.nan
        return colour.expand(-1, -1, -1, *condition.image.shape[-2:])


def write_image(path: Path, shade: int, size: tuple[int, int] = (40, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, shade, size[0] * size[1], dtype=np.float32).reshape(size[1], size[0]).astype(np.uint8)
    Image.fromarray(np.stack([ramp] * 3, axis=-1)).save(path)


def write_archive(folder: Path, shades: Iterable[int], *, bad: bool = True) -> Store:
    """Images of these shades and, among them, a text file and a black image, on which the fake model fails."""
    for number, shade in enumerate(shades):
        write_image(folder / f"{number}.png", shade)
    if bad:
        write_image(folder / "black.png", 0)
        (folder / "5.dat").write_text("not an image")
    return open_store(str(folder))


class PoisonedColor(UniformColor):
    """Ends its process at a picture that is white all over; with a `fuse`, a file, also once at any other.

    Where it `hangs`, it does nothing for a minute in place of ending.
    """

    def __init__(self, fuse: Path | None = None, *, hangs: bool = False) -> None:
        super().__init__(None)
        self.fuse = fuse
        self.hangs = hangs

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> torch.Tensor:
        poisoned = bool((condition.image.mean(dim=(1, 2, 3)) > 0.99).any())
        burnt = self.fuse is not None and self.fuse.exists()
        if burnt and self.fuse is not None:
            self.fuse.unlink()
        if poisoned and self.hangs:
            time.sleep(60)
        elif poisoned or burnt:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(condition, noise, options)


def fake_engine(archive: Store, results: Store, **values: Any) -> ChunkEngine[Any]:
    """An engine of a job called "job", with a fake model and `SETTINGS` where nothing else is said."""
    values = {"model": UniformColor(None), "settings": SETTINGS, "footer": {"job": "job"}} | values
    return ChunkEngine(archive=archive, results=results, task=ColorizeTask(16), **values)


def poisoned_engine(
    archive: Store, results: Store, fuse: Path | None = None, *, hangs: bool = False
) -> ChunkEngine[Any]:
    """An engine with a model that one picture kills."""
    return fake_engine(archive, results, model=PoisonedColor(fuse, hangs=hangs))
