"""Presets for real sets that package registries hold, small enough for some minutes on two CPU cores. Free of torch.

The sets are made by ``benchmarks/real_data.py``: OpenMoji's outlines and colours, 64 px. The full-size settings are
those of the families' own presets. None of these was trained to its end yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.families.gan_configs import CycleGanConfig, Pix2PixConfig
from condgen.families.latent_configs import CVAEConfig, DiffusionConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["REAL_PRESETS"]

_SUMMARY = "64 px, some minutes on two CPU cores: OpenMoji's"
_PAIRS = DataConfig(task="pairs", size_px=64, crop_scale_min=1.0, flip=True)
_DOMAINS = replace(_PAIRS, task="domains")
_TRAIN = TrainConfig(
    steps=2_000,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=50,
    ema_decay=0.99,
    log_every_steps=20,
    checkpoint_every_steps=200,
)
_GAN_TRAIN = replace(
    _TRAIN, learning_rate=4e-4, schedule="linear", adam_betas=(0.5, 0.999), weight_decay=0.0, grad_clip_norm=0.0
)
_RGB: Mapping[str, Any] = MappingProxyType({"condition_channels": 1, "target_channels": 3})
_UNET: Mapping[str, Any] = MappingProxyType(
    {"width": 32, "multipliers": (1, 2, 4), "blocks_per_level": 1, "out_stride": 2}
)
_CYCLIC: Mapping[str, Any] = MappingProxyType(
    {"condition_channels": 3, "target_channels": 3, "width": 24, "discriminator_width": 24, "pool_px": 64}
)

REAL_PRESETS: tuple[Preset, ...] = (
    Preset(
        name="pix2pix-emoji",
        summary=f"{_SUMMARY} outlines to colours",
        family="pix2pix",
        model=Pix2PixConfig(**_RGB, width=32, discriminator_width=32, depth=5, patch_px=34),
        data=_PAIRS,
        train=_GAN_TRAIN,
    ),
    Preset(
        name="cvae-emoji",
        summary=f"{_SUMMARY} outlines to colours, draws by a latent",
        family="cvae",
        model=CVAEConfig(**_RGB, **_UNET, latent_dims=16, variance="fixed", std=0.3),
        data=_PAIRS,
        train=_TRAIN,
    ),
    Preset(
        name="diffusion-emoji",
        summary=f"{_SUMMARY} outlines to colours, draws by 8 Heun steps",
        family="diffusion",
        model=DiffusionConfig(
            **_RGB, **_UNET, size_px=64, parametrization="flow", data_scale=0.7, steps=8, uniform_times=0.1
        ),
        data=_PAIRS,
        train=_TRAIN,
    ),
    Preset(
        name="cyclegan-emoji",
        summary=f"{_SUMMARY} outlines and colours, unpaired",
        family="cyclegan",
        model=CycleGanConfig(**_CYCLIC, blocks=3, patch_px=34),
        data=_DOMAINS,
        train=replace(_GAN_TRAIN, batch_size=4),
    ),
    Preset(
        name="dualgan-emoji",
        summary=f"{_SUMMARY} outlines and colours, unpaired: Wasserstein critics, U-Nets with dropout",
        family="cyclegan",
        model=CycleGanConfig(
            **_CYCLIC,
            generator="unet",
            depth=5,
            dropout=0.5,
            dropout_noise=True,
            patch_px=34,
            gan_loss="wasserstein",
            discriminator_scale=1.0,
            clip_weights=0.01,
            critic_steps=3,
            cycle_weight=500.0,
            identity_weight=0.0,
            pool_size=0,
        ),
        data=_DOMAINS,
        train=replace(_GAN_TRAIN, batch_size=4, learning_rate=2e-4, adam_betas=(0.0, 0.9)),
    ),
    Preset(
        name="discogan-emoji",
        summary=f"{_SUMMARY} outlines and colours, unpaired: no skips, squared reconstruction error",
        family="cyclegan",
        model=CycleGanConfig(
            **_CYCLIC,
            generator="encoder_decoder",
            discriminator="encoder",
            depth=4,
            gan_loss="non_saturating",
            discriminator_scale=1.0,
            cycle_weight=1.0,
            cycle_loss="l2",
            identity_weight=0.0,
            pool_size=0,
        ),
        data=_DOMAINS,
        train=replace(_GAN_TRAIN, batch_size=16),
    ),
    Preset(
        name="diffusion-names",
        summary=f"{_SUMMARY} names to pictures, 32 px",
        family="diffusion",
        model=DiffusionConfig(
            condition_channels=0,
            target_channels=3,
            width=48,
            multipliers=(1, 2, 2),
            blocks_per_level=1,
            out_stride=1,
            size_px=32,
            text_vocabulary=8192,
            text_length=8,
            text_encoder="bag",
            parametrization="flow",
            data_scale=0.7,
            steps=8,
            uniform_times=0.1,
        ),
        data=DataConfig(task="pictures", caption="caption", size_px=32, crop_scale_min=1.0, flip=False),
        train=replace(_TRAIN, batch_size=32),
    ),
)
