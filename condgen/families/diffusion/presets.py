"""Presets of diffusion, cvae and autoregressive, for colour: a full-size one and a small one each. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.families.diffusion.config import AutoregressiveConfig, CVAEConfig, DiffusionConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["LATENT_PRESETS"]

_TRAIN = TrainConfig(learning_rate=2e-4, ema_decay=0.9995)
_SMALL_TRAIN = TrainConfig(
    steps=800,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=40,
    ema_decay=0.99,
    log_every_steps=10,
    checkpoint_every_steps=200,
)
_SMALL_DATA = DataConfig(size_px=64)
_SMALL_UNET: Mapping[str, Any] = MappingProxyType(
    {"width": 32, "multipliers": (1, 2, 4), "blocks_per_level": 1, "out_stride": 4}
)
_FULL_UNET: Mapping[str, Any] = MappingProxyType({"width": 128, "multipliers": (1, 2, 3, 4), "out_stride": 4})
_AB_SCALE = 0.3
"""Photographs' ab_n has a standard deviation of about 0.15; divided by this, EDM's 0.5."""

LATENT_PRESETS: tuple[Preset, ...] = (
    Preset(
        name="diffusion",
        summary="256 px, full size, for GPUs: EDM, 18 Heun steps",
        family="diffusion",
        model=DiffusionConfig(**_FULL_UNET, data_scale=_AB_SCALE),
        train=_TRAIN,
    ),
    Preset(
        name="diffusion-small",
        summary="64 px, some minutes on two CPU cores: EDM, 8 Heun steps",
        family="diffusion",
        model=DiffusionConfig(**_SMALL_UNET, data_scale=_AB_SCALE, steps=8, uniform_times=0.1),
        data=_SMALL_DATA,
        train=replace(_SMALL_TRAIN, batch_size=32),
    ),
    Preset(
        name="diffusion-flow",
        summary="256 px, full size, for GPUs: rectified flow, 16 Heun steps",
        family="diffusion",
        model=DiffusionConfig(**_FULL_UNET, parametrization="flow", data_scale=_AB_SCALE / 2, steps=16),
        train=_TRAIN,
    ),
    Preset(
        name="cvae",
        summary="256 px, full size, for GPUs",
        family="cvae",
        model=CVAEConfig(**_FULL_UNET, latent_dims=32),
        train=_TRAIN,
    ),
    Preset(
        name="cvae-small",
        summary="64 px, some minutes on two CPU cores",
        family="cvae",
        model=CVAEConfig(**_SMALL_UNET, latent_dims=8),
        data=_SMALL_DATA,
        train=_SMALL_TRAIN,
    ),
    Preset(
        name="autoregressive",
        summary="256 px, full size, for GPUs: 32 x 32 colours of the ab grid, upsampled",
        family="autoregressive",
        model=AutoregressiveConfig(),
        train=_TRAIN,
    ),
    Preset(
        name="autoregressive-small",
        summary="64 px, some minutes on two CPU cores: 8 x 8 colours, upsampled",
        family="autoregressive",
        model=AutoregressiveConfig(width=128, layers=4, heads=4),
        data=_SMALL_DATA,
        train=_SMALL_TRAIN,
    ),
)
