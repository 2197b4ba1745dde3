"""Presets of ``cgan``. Free of torch."""

from __future__ import annotations

from dataclasses import replace

from condgen.families.cgan.config import CganConfig
from condgen.gan.preset_settings import FULL_TRAIN, SMALL_TRAIN, SMALL_WIDTHS
from condgen.preset_parts import DataConfig, Preset

__all__ = ["PRESETS"]

PRESETS = (
    Preset(
        name="cgan",
        summary="256 px, full size, for GPUs",
        model=CganConfig(),
        train=replace(FULL_TRAIN, adam_betas=(0.0, 0.99)),
    ),
    Preset(
        name="cgan-small",
        summary="64 px, some minutes on two CPU cores",
        model=CganConfig(
            **SMALL_WIDTHS, multipliers=(1, 2, 4), patch_px=34, noise_dim=16, noise_width=64, diversity_weight=3e-3
        ),
        data=DataConfig(size_px=64),
        train=replace(SMALL_TRAIN, steps=400, learning_rate=1e-3, adam_betas=(0.0, 0.99)),
    ),
)
