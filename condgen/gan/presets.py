"""Presets for the papers' own examples: CMP Facades and Monet, 128 px, some hours on two CPU cores. Free of torch.

    pix2pix-facades   label maps to photographs of house fronts (Isola et al. 2017, section 4), in pairs
    cyclegan-monet    photographs (A) to paintings by Monet (B) and back (Zhu et al. 2017, section 5.2), without pairs

``docs/models.md`` has the commands that make the datasets. The losses and their weights are the papers'; the networks
are narrower, and batches larger, by what CPUs do best.
"""

from __future__ import annotations

from dataclasses import replace

from condgen.gan.config import CycleGanConfig, Pix2PixConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["EXAMPLE_PRESETS"]

_DATA = DataConfig(task="pairs", size_px=128, crop_scale_min=0.875)
_TRAIN = TrainConfig(
    batch_size=4,
    learning_rate=4e-4,
    warmup_steps=0,
    schedule="linear",
    adam_betas=(0.5, 0.999),
    weight_decay=0.0,
    grad_clip_norm=0.0,
    ema_decay=0.999,
    log_every_steps=50,
    checkpoint_every_steps=250,
)

EXAMPLE_PRESETS: tuple[Preset, ...] = (
    Preset(
        name="pix2pix-facades",
        summary="CMP Facades: label map to photograph, 128 px, two hours on two CPU cores; full size: pix2pix-paper",
        family="pix2pix",
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
        data=_DATA,
        train=replace(_TRAIN, steps=20_000),  # 200 epochs of 400 pairs, as in the paper
    ),
    Preset(
        name="cyclegan-monet",
        summary="photographs to Monet's paintings and back, 128 px, two hours on two CPU cores; full size: cyclegan",
        family="cyclegan",
        # A painting keeps its scene's composition: a global skip leaves the change alone to be learned. It also holds
        # colors in place, which is what the paper has identity terms for; they would take half as much time again.
        model=CycleGanConfig(
            width=32,
            discriminator_width=48,
            blocks=6,
            global_skip=True,
            identity_weight=0.0,
            patch_px=34,
            pool_px=128,
        ),
        data=replace(_DATA, task="domains", crop_scale_min=0.8),
        train=replace(_TRAIN, steps=8_000, batch_size=2, learning_rate=3e-4),
    ),
)
