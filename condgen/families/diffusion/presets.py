"""Presets of ``diffusion``: for color, beyond color, and the colorizer that ships with condgen. Free of torch.

    diffusion-emoji, -digits   OpenMoji's outlines to colors, handwritten digits, by ``benchmarks/real_data.py``
    diffusion-edges, -frames   generated worlds of ``condgen.worlds``, by ``benchmarks/tasks.py``
    colorizer-features         an ImageNet encoder, a decoder, and a classifier of each pixel's color on its features
    colorizer                  the same, and a rectified flow over ab that is conditioned on those features

``colorizer`` begins with the weights of ``colorizer-features`` (``--init-from``). ``docs/colorizer.md`` has the
commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from condgen.families import preset_settings as shared
from condgen.families.diffusion.config import DiffusionConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["PRESETS"]

_AB_SCALE = 0.3
"""Photographs' ab_n has a standard deviation of about 0.15; divided by this, EDM's 0.5."""

_SHORT_FLOW: Mapping[str, Any] = MappingProxyType({"parametrization": "flow", "steps": 8, "uniform_times": 0.1})
"""A rectified flow for short trainings, and its samplers' steps."""

_16_PX: Mapping[str, Any] = MappingProxyType(
    {"multipliers": (1, 2), "blocks_per_level": 1, "out_stride": 1, "size_px": 16, "target_channels": 1}
)

_COLORIZER: Mapping[str, Any] = MappingProxyType(
    {
        **_SHORT_FLOW,
        "encoder": "mobilenet_v2",
        "encoder_rate": 0.0,
        "decoder_widths": (32, 64, 96, 160, 224, 320),
        "width": 32,
        "multipliers": (1, 2, 5),
        "blocks_per_level": 1,
        "out_stride": 4,
        "attention_heads": 4,
        "data_scale": 0.18,
        "sampler": "adams-bashforth",
        "steps": 4,
        "time_shift": 3.5,
        "condition_dropout": 0.0,
        "point_head": "bins",
        "point_balance": 0.3,
        "draw_gain": 1.15,
    }
)
_COLORIZER_DATA = DataConfig(size_px=128, sample_px=160, crop_scale_min=0.7, aging_share=0.3)
_COLORIZER_TRAIN = TrainConfig(
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

PRESETS = (
    Preset(
        name="diffusion",
        summary="256 px, full size, for GPUs: EDM, 18 Heun steps",
        model=DiffusionConfig(**shared.FULL_UNET, data_scale=_AB_SCALE),
        train=shared.FULL_TRAIN,
    ),
    Preset(
        name="diffusion-small",
        summary="64 px, some minutes on two CPU cores: EDM, 8 Heun steps",
        model=DiffusionConfig(**shared.SMALL_UNET, data_scale=_AB_SCALE, steps=8, uniform_times=0.1),
        data=shared.SMALL_DATA,
        train=replace(shared.SMALL_TRAIN, batch_size=32),
    ),
    Preset(
        name="diffusion-flow",
        summary="256 px, full size, for GPUs: rectified flow, 16 Heun steps",
        model=DiffusionConfig(**shared.FULL_UNET, parametrization="flow", data_scale=_AB_SCALE / 2, steps=16),
        train=shared.FULL_TRAIN,
    ),
    Preset(
        name="colorizer-features",
        summary="the first part of the shipped colorizer: encoder, decoder and point head, 128 px",
        model=DiffusionConfig(**_COLORIZER, denoising_weight=0.0, point_weight=1.0),
        data=_COLORIZER_DATA,
        train=_COLORIZER_TRAIN,
    ),
    Preset(
        name="colorizer",
        summary="the shipped colorizer: draws by a rectified flow, begun with colorizer-features",
        model=DiffusionConfig(**_COLORIZER, point_weight=0.3),
        data=_COLORIZER_DATA,
        train=replace(_COLORIZER_TRAIN, learning_rate=1e-3),
    ),
    Preset(
        name="diffusion-emoji",
        summary="some minutes on a CPU: OpenMoji's outlines to colors, 64 px, draws by 8 Heun steps; "
        "full size: diffusion-flow",
        model=DiffusionConfig(**shared.EMOJI_CHANNELS, **shared.EMOJI_UNET, **_SHORT_FLOW, size_px=64, data_scale=0.7),
        data=shared.PAIRS,
        train=shared.EMOJI_TRAIN,
    ),
    Preset(
        name="diffusion-digits",
        summary="some minutes on a CPU: handwritten digits from labels, 16 px; "
        "full size: diffusion with model.num_labels",
        model=DiffusionConfig(**_16_PX, **_SHORT_FLOW, condition_channels=0, width=32, num_labels=10, data_scale=0.7),
        data=DataConfig(task="pictures", label="label", size_px=16, crop_scale_min=1.0, flip=False),
        train=replace(shared.EMOJI_TRAIN, steps=1_000, batch_size=32),
    ),
    Preset(
        name="diffusion-edges",
        summary="edges to photo, 64 px, some minutes on a CPU; full size: diffusion-flow",
        model=DiffusionConfig(**shared.EMOJI_CHANNELS, **shared.EMOJI_UNET, **_SHORT_FLOW, size_px=64, data_scale=0.6),
        data=shared.PAIRS,
        train=replace(shared.TASK_TRAIN, steps=1_000),
    ),
    Preset(
        name="diffusion-frames",
        summary="a frame to the next one, 16 px, a minute on a CPU; full size: diffusion-flow",
        model=DiffusionConfig(**_16_PX, **_SHORT_FLOW, width=24, data_scale=0.5),
        data=replace(shared.PAIRS, size_px=16, flip=False),
        train=replace(shared.TASK_TRAIN, steps=1_000, batch_size=32),
    ),
)
