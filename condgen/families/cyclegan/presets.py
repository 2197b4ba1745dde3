"""Presets of the adversarial families: a recommended one, a small one, and their papers' settings. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.gan.config import CganConfig, CycleGanConfig, Pix2PixConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["GAN_PRESETS"]

_PAPER_TRAIN = TrainConfig(
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
"""Adam, 2e-4 for 100 epochs and down to 0 in 100 more: 80,000 steps are those of 400 pictures."""
_TRAIN = replace(_PAPER_TRAIN, steps=100_000, batch_size=16, ema_decay=0.999)
_SMALL_TRAIN = replace(
    _TRAIN, steps=800, batch_size=16, learning_rate=4e-4, ema_decay=0.98, log_every_steps=10, checkpoint_every_steps=200
)
_PAPER_CROPS = DataConfig(size_px=256, crop_scale_min=0.875)  # of 286 pixels, 256
_SMALL_DATA = DataConfig(size_px=64)
_UNPAIRED, _SMALL_UNPAIRED = (replace(data, task="domains") for data in (_PAPER_CROPS, _SMALL_DATA))
_SMALL: Mapping[str, Any] = MappingProxyType({"width": 24, "discriminator_width": 24})
_PAPER_NETWORKS: Mapping[str, Any] = MappingProxyType(
    {"norm": "batch", "discriminator_norm": "batch", "upsampling": "transposed", "padding": "zero"}
)

GAN_PRESETS: tuple[Preset, ...] = (
    Preset(
        name="cgan",
        summary="256 px, full size, for GPUs",
        family="cgan",
        model=CganConfig(),
        train=replace(_TRAIN, adam_betas=(0.0, 0.99)),
    ),
    Preset(
        name="cgan-small",
        summary="64 px, some minutes on two CPU cores",
        family="cgan",
        model=CganConfig(
            **_SMALL, multipliers=(1, 2, 4), patch_px=34, noise_dim=16, noise_width=64, diversity_weight=3e-3
        ),
        data=_SMALL_DATA,
        train=replace(_SMALL_TRAIN, steps=400, learning_rate=1e-3, adam_betas=(0.0, 0.99)),
    ),
    Preset(
        name="pix2pix",
        summary="256 px, full size, for GPUs: group norm, no checkerboards, noise by dropout",
        family="pix2pix",
        model=Pix2PixConfig(),
        data=_PAPER_CROPS,
        train=_TRAIN,
    ),
    Preset(
        name="pix2pix-small",
        summary="64 px, some minutes on two CPU cores",
        family="pix2pix",
        model=Pix2PixConfig(**_SMALL, depth=5, patch_px=34),
        data=_SMALL_DATA,
        train=_SMALL_TRAIN,
    ),
    Preset(
        name="pix2pix-paper",
        summary="Isola et al. 2017: U-Net 256, PatchGAN 70, batch norm, L1 weight 100, batches of 1",
        family="pix2pix",
        model=Pix2PixConfig(**_PAPER_NETWORKS),
        data=_PAPER_CROPS,
        train=_PAPER_TRAIN,
    ),
    Preset(
        name="cyclegan",
        summary="256 px, full size, for GPUs: no checkerboards",
        family="cyclegan",
        model=CycleGanConfig(),
        data=_UNPAIRED,
        train=replace(_TRAIN, steps=250_000, batch_size=4),
    ),
    Preset(
        name="cyclegan-small",
        summary="64 px, some minutes on two CPU cores",
        family="cyclegan",
        model=CycleGanConfig(**_SMALL, blocks=3, patch_px=34, pool_px=64),
        data=_SMALL_UNPAIRED,
        train=replace(_SMALL_TRAIN, batch_size=4),
    ),
    Preset(
        name="cyclegan-paper",
        summary="Zhu et al. 2017: resnet of 9 blocks, PatchGAN 70, LSGAN, cycle 10, identity 0.5, pool 50",
        family="cyclegan",
        model=CycleGanConfig(upsampling="transposed"),
        data=_UNPAIRED,
        train=replace(_PAPER_TRAIN, steps=250_000),
    ),
    Preset(
        name="dualgan",
        summary="Yi et al. 2017: U-Nets with dropout, Wasserstein critics with clipped weights, L1 cycle",
        family="cyclegan",
        model=CycleGanConfig(
            **_PAPER_NETWORKS,
            generator="unet",
            dropout=0.5,
            dropout_noise=True,
            gan_loss="wasserstein",
            discriminator_scale=1.0,
            clip_weights=0.01,
            critic_steps=3,
            cycle_weight=500.0,
            identity_weight=0.0,
            pool_size=0,
        ),
        data=_UNPAIRED,
        # RMSProp, as with Wasserstein critics: Adam without a mean of the gradient.
        train=replace(_PAPER_TRAIN, batch_size=4, learning_rate=5e-5, adam_betas=(0.0, 0.9)),
    ),
    Preset(
        name="discogan",
        summary="Kim et al. 2017: 64 px, encoder and decoder without skips, squared reconstruction error",
        family="cyclegan",
        model=CycleGanConfig(
            **_PAPER_NETWORKS,
            generator="encoder_decoder",
            discriminator="encoder",
            depth=4,
            gan_loss="non_saturating",
            discriminator_scale=1.0,
            cycle_weight=1.0,
            cycle_loss="l2",
            identity_weight=0.0,
            pool_size=0,
            pool_px=64,
        ),
        data=replace(_SMALL_UNPAIRED, crop_scale_min=1.0, flip=False),
        train=replace(_PAPER_TRAIN, batch_size=200, schedule="cosine", weight_decay=1e-4),
    ),
)
"""To be put into the table of `condgen.presets`."""
