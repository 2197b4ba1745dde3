"""Presets of ``gaussian``. Free of torch."""

from __future__ import annotations

from dataclasses import replace

from condgen.families.gaussian.config import GaussianConfig
from condgen.families.preset_settings import PAIRS, TASK_TRAIN, TASK_UNET, small_and_full
from condgen.preset_parts import Preset

__all__ = ["PRESETS"]

PRESETS = (
    *small_and_full(GaussianConfig),
    Preset(
        name="gaussian-depth",
        summary="photo to depth, 64 px, some minutes on a CPU; full size: gaussian",
        model=GaussianConfig(**TASK_UNET, condition_channels=3, target_channels=1, min_std=0.02),
        data=PAIRS,
        train=replace(TASK_TRAIN, steps=300),
    ),
)
