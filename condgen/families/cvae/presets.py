"""Presets of ``cvae``. Free of torch."""

from __future__ import annotations

from condgen.families import preset_settings as shared
from condgen.families.cvae.config import CVAEConfig
from condgen.preset_parts import Preset

__all__ = ["PRESETS"]

PRESETS = (
    Preset(
        name="cvae",
        summary="256 px, full size, for GPUs",
        model=CVAEConfig(**shared.FULL_UNET, latent_dims=32),
        train=shared.FULL_TRAIN,
    ),
    Preset(
        name="cvae-small",
        summary="64 px, some minutes on two CPU cores",
        model=CVAEConfig(**shared.SMALL_UNET, latent_dims=8),
        data=shared.SMALL_DATA,
        train=shared.SMALL_TRAIN,
    ),
    Preset(
        name="cvae-emoji",
        summary="some minutes on a CPU: OpenMoji's outlines to colors, 64 px, draws by a latent; full size: cvae",
        model=CVAEConfig(**shared.EMOJI_CHANNELS, **shared.EMOJI_UNET, latent_dims=16, variance="fixed", std=0.3),
        data=shared.PAIRS,
        train=shared.EMOJI_TRAIN,
    ),
)
