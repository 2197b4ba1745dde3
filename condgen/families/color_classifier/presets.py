"""Presets for tasks beyond colour, small enough for some minutes on a CPU. Free of torch.

``benchmarks/tasks.py`` makes their pairs from the generated worlds of ``condgen.worlds``; pairs of your own are read
the same way. A label map is a grey picture whose C classes are C even levels from black to white.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.families.crf.config import GaussianConfig
from condgen.families.diffusion.config import DiffusionConfig
from condgen.nn.config import ColorClassifierConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["TASK_PRESETS"]

_PAIRS = DataConfig(task="pairs", size_px=64, crop_scale_min=1.0, flip=True)
_TRAIN = TrainConfig(
    steps=800,
    batch_size=16,
    learning_rate=2e-3,
    warmup_steps=50,
    ema_decay=0.99,
    log_every_steps=20,
    checkpoint_every_steps=200,
)
_UNET: Mapping[str, Any] = MappingProxyType(
    {"width": 24, "multipliers": (1, 2, 4), "blocks_per_level": 1, "out_stride": 1}
)

TASK_PRESETS: tuple[Preset, ...] = (
    Preset(
        name="diffusion-edges",
        summary="edges to photo, 64 px, some minutes on a CPU; full size: diffusion-flow",
        family="diffusion",
        model=DiffusionConfig(
            **{**_UNET, "out_stride": 2},
            condition_channels=1,
            target_channels=3,
            size_px=64,
            parametrization="flow",
            data_scale=0.6,
            steps=8,
            uniform_times=0.1,
        ),
        data=_PAIRS,
        train=replace(_TRAIN, steps=1_000),
    ),
    Preset(
        name="diffusion-frames",
        summary="a frame to the next one, 16 px, a minute on a CPU; full size: diffusion-flow",
        family="diffusion",
        model=DiffusionConfig(
            condition_channels=1,
            target_channels=1,
            width=24,
            multipliers=(1, 2),
            blocks_per_level=1,
            out_stride=1,
            size_px=16,
            parametrization="flow",
            data_scale=0.5,
            steps=8,
            uniform_times=0.1,
        ),
        data=replace(_PAIRS, size_px=16, flip=False),
        train=replace(_TRAIN, steps=1_000, batch_size=32),
    ),
    Preset(
        name="classifier-labels",
        summary="photo to label map of 8 classes, 64 px, some minutes on a CPU; full size: color-classifier",
        family="color_classifier",
        model=ColorClassifierConfig(
            **_UNET, condition_channels=3, target_channels=1, bins="uniform", num_bins=8, point="argmax"
        ),
        data=_PAIRS,
        train=replace(_TRAIN, steps=300),
    ),
    Preset(
        name="gaussian-depth",
        summary="photo to depth, 64 px, some minutes on a CPU; full size: gaussian",
        family="gaussian",
        model=GaussianConfig(**_UNET, condition_channels=3, target_channels=1, min_std=0.02),
        data=_PAIRS,
        train=replace(_TRAIN, steps=300),
    ),
)
