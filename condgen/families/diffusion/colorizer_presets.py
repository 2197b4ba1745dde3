"""The presets of the colorizer that ships with condgen, and of its parts. Free of torch.

    colorizer-features    an ImageNet encoder, a decoder, and a classifier of each pixel's color on its features
    colorizer             the same, and a rectified flow over ab that is conditioned on those features

The second begins with the weights of the first (``--init-from``). ``docs/colorizer.md`` has the commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.families.diffusion.config import DiffusionConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["COLORIZER_PRESETS"]

_DATA = DataConfig(size_px=128, sample_px=160, crop_scale_min=0.7, aging_share=0.3)
_TRAIN = TrainConfig(
    steps=12_000,
    batch_size=32,
    learning_rate=1.5e-3,
    warmup_steps=200,
    ema_decay=0.998,
    weight_decay=0.01,
    log_every_steps=50,
    checkpoint_every_steps=250,
    precision="bf16",
)
_MODEL: Mapping[str, Any] = MappingProxyType(
    {
        "encoder": "mobilenet_v2",
        "encoder_rate": 0.0,
        "decoder_widths": (32, 64, 96, 160, 224, 320),
        "width": 32,
        "multipliers": (1, 2, 5),
        "blocks_per_level": 1,
        "out_stride": 4,
        "attention_heads": 4,
        "parametrization": "flow",
        "data_scale": 0.18,
        "sampler": "dpm-solver++",
        "steps": 8,
        "uniform_times": 0.1,
        "condition_dropout": 0.0,
        "point_head": "bins",
        "point_balance": 0.3,
    }
)

COLORIZER_PRESETS: tuple[Preset, ...] = (
    Preset(
        name="colorizer-features",
        summary="the first part of the shipped colorizer: encoder, decoder and point head, 128 px",
        family="diffusion",
        model=DiffusionConfig(**_MODEL, denoising_weight=0.0, point_weight=1.0),
        data=_DATA,
        train=_TRAIN,
    ),
    Preset(
        name="colorizer",
        summary="the shipped colorizer: draws by a rectified flow, begun with colorizer-features",
        family="diffusion",
        model=DiffusionConfig(**_MODEL, point_weight=0.3),
        data=_DATA,
        train=replace(_TRAIN, learning_rate=1e-3),
    ),
)
"""To be put into the table of `condgen.presets`."""
