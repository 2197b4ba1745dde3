"""Presets of ``pix2pix``: a recommended one, a small one, the paper's settings, and two sets. Free of torch.

pix2pix-emoji     OpenMoji's outlines to colors, by ``benchmarks/real_data.py``
pix2pix-facades   CMP Facades: label maps to photographs of house fronts (Isola et al. 2017, section 4);
``docs/models.md`` has the command that makes the dataset
"""

from __future__ import annotations

from dataclasses import replace

from condgen.families.pix2pix.config import Pix2PixConfig
from condgen.families.preset_settings import EMOJI_CHANNELS, PAIRS
from condgen.gan import preset_settings as gan
from condgen.preset_parts import DataConfig, Preset

__all__ = ["PRESETS"]

PRESETS = (
    Preset(
        name="pix2pix",
        summary="256 px, full size, for GPUs: group norm, no checkerboards, noise by dropout",
        model=Pix2PixConfig(),
        data=gan.PAPER_CROPS,
        train=gan.FULL_TRAIN,
    ),
    Preset(
        name="pix2pix-small",
        summary="64 px, some minutes on two CPU cores",
        model=Pix2PixConfig(**gan.SMALL_WIDTHS, depth=5, patch_px=34),
        data=DataConfig(size_px=64),
        train=gan.SMALL_TRAIN,
    ),
    Preset(
        name="pix2pix-paper",
        summary="Isola et al. 2017: U-Net 256, PatchGAN 70, batch norm, L1 weight 100, batches of 1",
        model=Pix2PixConfig(**gan.PAPER_NETWORKS),
        data=gan.PAPER_CROPS,
        train=gan.PAPER_TRAIN,
    ),
    Preset(
        name="pix2pix-emoji",
        summary="some minutes on a CPU: OpenMoji's outlines to colors, 64 px; full size: pix2pix",
        model=Pix2PixConfig(**EMOJI_CHANNELS, width=16, discriminator_width=16, depth=5, patch_px=34),
        data=PAIRS,
        train=gan.MINUTES_TRAIN,
    ),
    Preset(
        name="pix2pix-facades",
        summary="CMP Facades: label map to photograph, 128 px, two hours on two CPU cores; full size: pix2pix-paper",
        model=Pix2PixConfig(
            condition_channels=3,
            target_channels=3,
            width=48,
            discriminator_width=48,
            depth=6,
            norm="instance",
            discriminator_norm="instance",
            upsampling="transposed",
            padding="zero",
        ),
        data=gan.EXAMPLE_DATA,
        train=replace(gan.EXAMPLE_TRAIN, steps=20_000),  # 200 epochs of 400 pairs, as in the paper
    ),
)
