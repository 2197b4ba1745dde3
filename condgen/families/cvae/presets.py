"""Presets of ``cvae``. Free of torch."""

from __future__ import annotations

from condgen.families.cvae.config import CVAEConfig
from condgen.families.preset_settings import (
    EMOJI_CHANNELS,
    EMOJI_TRAIN,
    EMOJI_UNET,
    FULL_TRAIN,
    FULL_UNET,
    PAIRS,
    SMALL_DATA,
    SMALL_TRAIN,
    SMALL_UNET,
)
from condgen.preset_parts import Preset

__all__ = ["PRESETS"]

PRESETS = (
    Preset(
        name="cvae",
        summary="256 px, full size, for GPUs",
        model=CVAEConfig(**FULL_UNET, latent_dims=32),
        train=FULL_TRAIN,
    ),
    Preset(
        name="cvae-small",
        summary="64 px, some minutes on two CPU cores",
        model=CVAEConfig(**SMALL_UNET, latent_dims=8),
        data=SMALL_DATA,
        train=SMALL_TRAIN,
    ),
    Preset(
        name="cvae-emoji",
        summary="some minutes on a CPU: OpenMoji's outlines to colors, 64 px, draws by a latent; full size: cvae",
        model=CVAEConfig(**EMOJI_CHANNELS, **EMOJI_UNET, latent_dims=16, variance="fixed", std=0.3),
        data=PAIRS,
        train=EMOJI_TRAIN,
    ),
)
