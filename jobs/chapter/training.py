"""How the experiments train: a world's samples, made as they are needed, and condgen's own training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from condgen.base import Batch, ConditionalModel
from condgen.families import build
from condgen.noise import NoiseSource, SampleId
from condgen.preset_parts import TrainConfig
from condgen.training import Training

__all__ = ["TINY_UNET", "grid", "noise", "train"]

TINY_UNET: Mapping[str, Any] = {
    "width": 24, "norm_groups": 8, "multipliers": (1, 2), "blocks_per_level": 1, "out_stride": 1
}  # fmt: skip
"""The small U-Net of the worlds of 16 pixels."""


def train(
    family: str,
    config: Mapping[str, Any],
    batches: Callable[[torch.Generator], Batch],
    *,
    seed: int,
    steps: int,
    learning_rate: float = 2e-3,
    **training: Any,
) -> ConditionalModel:
    """Train a new model and return its averaged weights, ready to sample.

    Args:
        family: its name.
        config: its configuration, as plain values.
        batches: makes a batch with the generator that it is given.
        seed: of the weights, the samples and the training's noise.
        steps: of the optimizers.
        learning_rate: the highest, of a cosine that ends at a tenth.
        training: other fields of ``TrainConfig``.
    """
    settings: dict[str, Any] = {"warmup_steps": min(30, steps), "ema_decay": 0.99, "batch_size": 32, **training}
    torch.manual_seed(seed)
    model = build(family, config).train()
    made = Training(model, TrainConfig(steps=steps, learning_rate=learning_rate, seed=seed, **settings))
    generator = torch.Generator().manual_seed(seed + 1)
    for number in range(steps):
        made.step(batches(generator), number)
    return made.averaged.eval()


def noise(samples: int, draws: int, seed: int = 0) -> NoiseSource:
    """The noise of K draws of B samples of a world."""
    return NoiseSource(seed, [SampleId("world", f"{i:06d}") for i in range(samples)], range(draws))


def grid(rows: list[list[Tensor]], *, scale: int = 4, gap: int = 2) -> Tensor:
    """Put images ``[3, h, w]`` in [0, 1] into rows, enlarged by whole pixels, on white: ``[3, H, W]``."""
    height, width = rows[0][0].shape[1] * scale, rows[0][0].shape[2] * scale
    columns = max(len(row) for row in rows)
    out = torch.ones(3, len(rows) * (height + gap) - gap, columns * (width + gap) - gap)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            large = image.clamp(0, 1).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            top, left = i * (height + gap), j * (width + gap)
            out[:, top : top + height, left : left + width] = large
    return out
