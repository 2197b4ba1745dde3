"""Presets: named, complete configurations of a family, its data and its training. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from condgen.errors import ConfigError
from condgen.families.color_classifier.presets import TASK_PRESETS
from condgen.families.crf.config import CrfConfig, GaussianConfig, MixtureConfig
from condgen.families.cyclegan.presets import GAN_PRESETS
from condgen.families.diffusion.colorizer_presets import COLORIZER_PRESETS
from condgen.families.diffusion.presets import LATENT_PRESETS
from condgen.families.pix2pix.presets import REAL_PRESETS
from condgen.gan.presets import EXAMPLE_PRESETS
from condgen.nn.config import ColorClassifierConfig, RegressionConfig
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["PRESETS", "DataConfig", "Preset", "TrainConfig", "find_preset"]


def _table(*presets: Preset) -> Mapping[str, Preset]:
    return MappingProxyType({preset.name: preset for preset in presets})


_SMALL_UNET: Mapping[str, Any] = MappingProxyType(
    {"width": 32, "multipliers": (1, 2, 4), "blocks_per_level": 1, "out_stride": 4}
)
_SMALL_DATA = DataConfig(size_px=64)
_SMALL_TRAIN = TrainConfig(
    steps=400,
    batch_size=32,
    learning_rate=2e-3,
    warmup_steps=20,
    ema_decay=0.98,
    log_every_steps=10,
    checkpoint_every_steps=100,
)


def _pixel_presets() -> Iterator[Preset]:
    """The families that predict pixels: a small preset and a full-size one each."""
    configs = (RegressionConfig, GaussianConfig, MixtureConfig, ColorClassifierConfig, CrfConfig)
    names = ("regression", "gaussian", "mixture", "color_classifier", "crf")
    for family, config in zip(names, configs, strict=True):
        name = family.replace("_", "-")
        yield Preset(
            name=f"{name}-small",
            summary="64 px, a minute on two CPU cores",
            family=family,
            model=config(**_SMALL_UNET),
            data=_SMALL_DATA,
            train=_SMALL_TRAIN,
        )
        yield Preset(name=name, summary="256 px, full size, for GPUs", family=family, model=config())


PRESETS: Mapping[str, Preset] = _table(
    *COLORIZER_PRESETS,
    *_pixel_presets(),
    *GAN_PRESETS,
    *LATENT_PRESETS,
    *REAL_PRESETS,
    *TASK_PRESETS,
    *EXAMPLE_PRESETS,
)


def find_preset(name: str) -> Preset:
    """Return the preset ``name``.

    Raises:
        ConfigError: no such preset; it lists the known names and the nearest.
    """
    if name not in PRESETS:
        raise ConfigError.unknown("preset", name, PRESETS)
    return PRESETS[name]
