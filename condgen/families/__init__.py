"""The table of model families: a name, a configuration, a model.

Importing this imports no torch; a family's model is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from condgen.errors import ConfigError
from condgen.families.crf.config import CrfConfig, GaussianConfig, MixtureConfig
from condgen.families.diffusion.config import AutoregressiveConfig, CVAEConfig, DiffusionConfig
from condgen.gan.config import CganConfig, CycleGanConfig, Pix2PixConfig
from condgen.nn.config import ColorClassifierConfig, RegressionConfig

if TYPE_CHECKING:
    from condgen.base import ConditionalModel

__all__ = ["FAMILIES", "Family", "build", "config_from_dict", "find_family"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of model.

    Attributes:
        name: as in presets and checkpoints.
        summary: one line for ``condgen models``.
        config_class: a frozen dataclass; its defaults are the full-size settings.
        load_model_class: imports and returns the model's class.
        task: what it does with an archive; ``colorize`` predicts ab from L, ``translate`` other pictures.
    """

    name: str
    summary: str
    config_class: type[Any]
    load_model_class: Callable[[], type[ConditionalModel]]
    task: str

    @property
    def model_class(self) -> type[ConditionalModel]:
        """The model's class; importing it imports torch."""
        return self.load_model_class()


def _regression() -> type[ConditionalModel]:
    from condgen.families.regression.model import Regression

    return Regression


def _gaussian() -> type[ConditionalModel]:
    from condgen.families.gaussian.model import Gaussian

    return Gaussian


def _mixture() -> type[ConditionalModel]:
    from condgen.families.mixture.model import Mixture

    return Mixture


def _color_classifier() -> type[ConditionalModel]:
    from condgen.families.color_classifier.model import ColorClassifier

    return ColorClassifier


def _crf() -> type[ConditionalModel]:
    from condgen.families.crf.model import Crf

    return Crf


def _cgan() -> type[ConditionalModel]:
    from condgen.families.cgan.model import Cgan

    return Cgan


def _pix2pix() -> type[ConditionalModel]:
    from condgen.families.pix2pix.model import Pix2Pix

    return Pix2Pix


def _cyclegan() -> type[ConditionalModel]:
    from condgen.families.cyclegan.model import CycleGan

    return CycleGan


def _diffusion() -> type[ConditionalModel]:
    from condgen.families.diffusion.model import Diffusion

    return Diffusion


def _cvae() -> type[ConditionalModel]:
    from condgen.families.cvae.model import CVAE

    return CVAE


def _autoregressive() -> type[ConditionalModel]:
    from condgen.families.autoregressive.model import Autoregressive

    return Autoregressive


def _table(*families: Family) -> Mapping[str, Family]:
    return MappingProxyType({family.name: family for family in families})


FAMILIES: Mapping[str, Family] = _table(
    Family(
        name="regression",
        summary="point prediction: the mean of p(y | x) by L2, or its median by L1",
        config_class=RegressionConfig,
        load_model_class=_regression,
        task="colorize",
    ),
    Family(
        name="gaussian",
        summary="one Gaussian a pixel: a mean and how far the truth may lie from it",
        config_class=GaussianConfig,
        load_model_class=_gaussian,
        task="colorize",
    ),
    Family(
        name="mixture",
        summary="N Gaussians a pixel: all its modes, and nothing of what pixels have in common",
        config_class=MixtureConfig,
        load_model_class=_mixture,
        task="colorize",
    ),
    Family(
        name="color_classifier",
        summary="a softmax over quantised ab at every pixel, with draws and a likelihood",
        config_class=ColorClassifierConfig,
        load_model_class=_color_classifier,
        task="colorize",
    ),
    Family(
        name="crf",
        summary="the classifier with pairwise potentials: pixels that agree, by mean field",
        config_class=CrfConfig,
        load_model_class=_crf,
        task="colorize",
    ),
    Family(
        name="cgan",
        summary="a conditional GAN whose noise is used: draws that are sharp and agree with themselves",
        config_class=CganConfig,
        load_model_class=_cgan,
        task="colorize",
    ),
    Family(
        name="pix2pix",
        summary="a conditional GAN with an L1 term: one sharp answer, nearly",
        config_class=Pix2PixConfig,
        load_model_class=_pix2pix,
        task="colorize",
    ),
    Family(
        name="cyclegan",
        summary="translation between two unpaired domains, both ways",
        config_class=CycleGanConfig,
        load_model_class=_cyclegan,
        task="translate",
    ),
    Family(
        name="diffusion",
        summary="a denoiser and its samplers: joint draws, by image, label and text, with guidance",
        config_class=DiffusionConfig,
        load_model_class=_diffusion,
        task="colorize",
    ),
    Family(
        name="cvae",
        summary="a latent z beside x, and a bound of the likelihood",
        config_class=CVAEConfig,
        load_model_class=_cvae,
        task="colorize",
    ),
    Family(
        name="autoregressive",
        summary="a transformer over [x, then y] in tokens, with the exact likelihood",
        config_class=AutoregressiveConfig,
        load_model_class=_autoregressive,
        task="colorize",
    ),
)


def find_family(name: str) -> Family:
    """Return the family ``name``.

    Raises:
        ConfigError: no such family; it lists the known names and the nearest.
    """
    if name not in FAMILIES:
        raise ConfigError.unknown("family", name, FAMILIES)
    return FAMILIES[name]


def config_from_dict(family: Family, values: Mapping[str, Any]) -> Any:
    """Return the family's configuration from plain values, as JSON has them; defaults fill what is left out.

    Raises:
        ConfigError: an unknown key, or a value that is not allowed.
    """
    known = [f.name for f in fields(family.config_class)]
    for key in values:
        if key not in known:
            raise ConfigError.unknown("model", key, known)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return family.config_class(**plain)
    except TypeError as error:  # a text where a number belongs: comparisons in the checks fail
        raise ConfigError("model", dict(values), f"values of the right types ({error})") from error


def build(name: str, config: Mapping[str, Any]) -> ConditionalModel:
    """Return a new model of the family ``name`` with the configuration ``config``.

    Raises:
        ConfigError: an unknown family or key, or a value that is not allowed.
    """
    family = find_family(name)
    return family.model_class(config_from_dict(family, config))
