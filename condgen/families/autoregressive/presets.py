"""Presets of ``autoregressive``. Free of torch."""

from __future__ import annotations

from condgen.families.autoregressive.config import AutoregressiveConfig
from condgen.families.preset_settings import FULL_TRAIN, SMALL_DATA, SMALL_TRAIN
from condgen.preset_parts import Preset

__all__ = ["PRESETS"]

PRESETS = (
    Preset(
        name="autoregressive",
        summary="256 px, full size, for GPUs: 32 x 32 colors of the ab grid, upsampled",
        model=AutoregressiveConfig(),
        train=FULL_TRAIN,
    ),
    Preset(
        name="autoregressive-small",
        summary="64 px, some minutes on two CPU cores: 8 x 8 colors, upsampled",
        model=AutoregressiveConfig(width=128, layers=4, heads=4),
        data=SMALL_DATA,
        train=SMALL_TRAIN,
    ),
)
