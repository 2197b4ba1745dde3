"""Settings that presets of several families share. Free of torch.

Names say of what size and for which data: ``FULL`` is 256 pixels on GPUs, ``SMALL`` some minutes on two CPU cores;
``EMOJI`` and ``TASK`` are small sets beyond color, which ``benchmarks/real_data.py`` and ``benchmarks/tasks.py`` make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.nn.config import UNetConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = [
    "EMOJI_CHANNELS",
    "EMOJI_TRAIN",
    "EMOJI_UNET",
    "FULL_TRAIN",
    "FULL_UNET",
    "PAIRS",
    "PIXEL_TRAIN",
    "SMALL_DATA",
    "SMALL_TRAIN",
    "SMALL_UNET",
    "TASK_TRAIN",
    "TASK_UNET",
    "small_and_full",
]

SMALL_DATA = DataConfig(size_px=64)
PAIRS = DataConfig(task="pairs", size_px=64, crop_scale_min=1.0, flip=True)

SMALL_UNET: Mapping[str, Any] = MappingProxyType(
    {"width": 32, "multipliers": (1, 2, 4), "blocks_per_level": 1, "out_stride": 4}
)
FULL_UNET: Mapping[str, Any] = MappingProxyType({"width": 128, "multipliers": (1, 2, 3, 4), "out_stride": 4})
EMOJI_CHANNELS: Mapping[str, Any] = MappingProxyType({"condition_channels": 1, "target_channels": 3})
EMOJI_UNET: Mapping[str, Any] = MappingProxyType(
    {"width": 24, "multipliers": (1, 2, 4), "blocks_per_level": 1, "out_stride": 2}
)
TASK_UNET: Mapping[str, Any] = MappingProxyType({**EMOJI_UNET, "out_stride": 1})

FULL_TRAIN = TrainConfig(learning_rate=2e-4, ema_decay=0.9995)
SMALL_TRAIN = TrainConfig(
    steps=800,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=40,
    ema_decay=0.99,
    log_every_steps=10,
    checkpoint_every_steps=200,
)
PIXEL_TRAIN = TrainConfig(
    steps=400,
    batch_size=32,
    learning_rate=2e-3,
    warmup_steps=20,
    ema_decay=0.98,
    log_every_steps=10,
    checkpoint_every_steps=100,
)
"""Families that predict each pixel by itself learn fast."""
TASK_TRAIN = TrainConfig(
    steps=800,
    batch_size=16,
    learning_rate=2e-3,
    warmup_steps=50,
    ema_decay=0.99,
    log_every_steps=20,
    checkpoint_every_steps=200,
)
EMOJI_TRAIN = replace(TASK_TRAIN, steps=1_200, learning_rate=1.5e-3)


def small_and_full(config: type[UNetConfig]) -> tuple[Preset, Preset]:
    """Return the presets of a family that predicts each pixel by itself: a small one and one of full size."""
    name = config.family.replace("_", "-")
    small = Preset(
        name=f"{name}-small",
        summary="64 px, a minute on two CPU cores",
        model=config(**SMALL_UNET),
        data=SMALL_DATA,
        train=PIXEL_TRAIN,
    )
    return small, Preset(name=name, summary="256 px, full size, for GPUs", model=config())
