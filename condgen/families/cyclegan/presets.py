"""Presets of ``cyclegan``: a recommended one, a small one, three papers' settings, and two sets. Free of torch.

*-maps           satellite images and topographic maps, unpaired, by ``benchmarks/real_data.py``
cyclegan-monet   photographs (A) to paintings by Monet (B) and back (Zhu et al. 2017, section 5.2), without pairs;
``docs/models.md`` has the commands that make the datasets
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from condgen.families.cyclegan.config import CycleGanConfig
from condgen.families.preset_settings import PAIRS
from condgen.gan import preset_settings as gan
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["PRESETS"]

_DOMAINS = replace(gan.PAPER_CROPS, task="domains")
_SMALL_DOMAINS = DataConfig(task="domains", size_px=64)

_DUALGAN = CycleGanConfig(
    **gan.PAPER_NETWORKS,
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
)
_DISCOGAN = CycleGanConfig(
    **gan.PAPER_NETWORKS,
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
)


def _maps(name: str, summary: str, full_size: str, model: CycleGanConfig, train: TrainConfig, **config: Any) -> Preset:
    """Return a preset for maps: the full-size preset's model with narrow networks for 64 pixels."""
    narrow = {"width": 16, "discriminator_width": 16, "pool_px": 64}
    layers = {"norm": "group", "discriminator_norm": "group", "upsampling": "resize"}
    return Preset(
        name=name,
        summary=f"some minutes on a CPU: satellite images to maps, unpaired, 64 px{summary}; full size: {full_size}",
        model=replace(model, **{**narrow, **layers, **config}),
        data=replace(PAIRS, task="domains"),
        train=train,
    )


PRESETS = (
    Preset(
        name="cyclegan",
        summary="256 px, full size, for GPUs: no checkerboards",
        model=CycleGanConfig(),
        data=_DOMAINS,
        train=replace(gan.FULL_TRAIN, steps=250_000, batch_size=4),
    ),
    Preset(
        name="cyclegan-small",
        summary="64 px, some minutes on two CPU cores",
        model=CycleGanConfig(**gan.SMALL_WIDTHS, blocks=3, patch_px=34, pool_px=64),
        data=_SMALL_DOMAINS,
        train=replace(gan.SMALL_TRAIN, batch_size=4),
    ),
    Preset(
        name="cyclegan-paper",
        summary="Zhu et al. 2017: resnet of 9 blocks, PatchGAN 70, LSGAN, cycle 10, identity 0.5, pool 50",
        model=CycleGanConfig(upsampling="transposed"),
        data=_DOMAINS,
        train=replace(gan.PAPER_TRAIN, steps=250_000),
    ),
    Preset(
        name="dualgan",
        summary="Yi et al. 2017: U-Nets with dropout, Wasserstein critics with clipped weights, L1 cycle",
        model=_DUALGAN,
        data=_DOMAINS,
        # RMSProp, as with Wasserstein critics: Adam without a mean of the gradient.
        train=replace(gan.PAPER_TRAIN, batch_size=4, learning_rate=5e-5, adam_betas=(0.0, 0.9)),
    ),
    Preset(
        name="discogan",
        summary="Kim et al. 2017: 64 px, encoder and decoder without skips, squared reconstruction error",
        model=_DISCOGAN,
        data=replace(_SMALL_DOMAINS, crop_scale_min=1.0, flip=False),
        train=replace(gan.PAPER_TRAIN, batch_size=200, schedule="cosine", weight_decay=1e-4),
    ),
    _maps(
        "cyclegan-maps",
        ": U-Nets",
        "cyclegan",
        CycleGanConfig(),
        replace(gan.MINUTES_TRAIN, batch_size=4),
        generator="unet",
        depth=4,
        cycle_weight=3.0,
        patch_px=16,
    ),
    _maps(
        "dualgan-maps",
        ": Wasserstein critics, U-Nets with dropout",
        "dualgan",
        _DUALGAN,
        replace(gan.MINUTES_TRAIN, batch_size=8, learning_rate=2e-4, adam_betas=(0.0, 0.9)),
        depth=5,
        patch_px=16,
        clip_weights=0.05,
        cycle_weight=10.0,
        identity_weight=0.5,
    ),
    _maps(
        "discogan-maps",
        ": no skips",
        "discogan",
        _DISCOGAN,
        replace(gan.MINUTES_TRAIN, steps=1_000),
        norm="batch",
        cycle_weight=10.0,
        identity_weight=0.5,
    ),
    Preset(
        name="cyclegan-monet",
        summary="photographs to Monet's paintings and back, 128 px, two hours on two CPU cores; full size: cyclegan",
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
        data=replace(gan.EXAMPLE_DATA, task="domains", crop_scale_min=0.8),
        train=replace(gan.EXAMPLE_TRAIN, steps=8_000, batch_size=2, learning_rate=3e-4),
    ),
)
