"""Settings that presets of the adversarial families share: those of the papers, and what is made of them. No torch.

The losses and their weights are the papers' everywhere; ``EXAMPLE`` is the papers' own examples at 128 pixels, with
narrower networks and larger batches than there, which is what CPUs do best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.preset_parts import DataConfig, TrainConfig

__all__ = [
    "EXAMPLE_DATA",
    "EXAMPLE_TRAIN",
    "FULL_TRAIN",
    "MINUTES_TRAIN",
    "PAPER_CROPS",
    "PAPER_NETWORKS",
    "PAPER_TRAIN",
    "SMALL_TRAIN",
    "SMALL_WIDTHS",
]

PAPER_TRAIN = TrainConfig(
    steps=80_000,
    batch_size=1,
    learning_rate=2e-4,
    warmup_steps=0,
    schedule="linear",
    adam_betas=(0.5, 0.999),
    weight_decay=0.0,
    grad_clip_norm=0.0,
    ema_decay=0.0,
)
"""Adam, 2e-4 for 100 epochs and down to 0 in 100 more: 80,000 steps are those of 400 images."""
FULL_TRAIN = replace(PAPER_TRAIN, steps=100_000, batch_size=16, ema_decay=0.999)
SMALL_TRAIN = replace(
    FULL_TRAIN, steps=800, learning_rate=4e-4, ema_decay=0.98, log_every_steps=10, checkpoint_every_steps=200
)
MINUTES_TRAIN = replace(
    SMALL_TRAIN, steps=1_500, learning_rate=5e-4, warmup_steps=50, ema_decay=0.99, log_every_steps=20
)
"""For small sets of pairs and domains (``benchmarks/real_data.py``): some minutes on a CPU."""
EXAMPLE_TRAIN = replace(PAPER_TRAIN, batch_size=4, learning_rate=4e-4, ema_decay=0.999, checkpoint_every_steps=250)

PAPER_CROPS = DataConfig(size_px=256, crop_scale_min=0.875)  # of 286 pixels, 256
EXAMPLE_DATA = DataConfig(task="pairs", size_px=128, crop_scale_min=0.875)

SMALL_WIDTHS: Mapping[str, Any] = MappingProxyType({"width": 24, "discriminator_width": 24})
PAPER_NETWORKS: Mapping[str, Any] = MappingProxyType(
    {"norm": "batch", "discriminator_norm": "batch", "upsampling": "transposed", "padding": "zero"}
)
