"""The model families: a folder each, and the table of them.

regression/         point prediction: the mean or the median of p(y | x)
gaussian/           one Gaussian a pixel
mixture/            N Gaussians a pixel
color_classifier/   a softmax over color bins at every pixel
crf/                the classifier with pairwise potentials
cgan/               a conditional GAN whose noise is used
pix2pix/            a conditional GAN with an L1 term
cyclegan/           translation between two unpaired domains
diffusion/          a denoiser and its samplers
cvae/               a latent z beside x
autoregressive/     a transformer over tokens
preset_settings.py  settings that presets of several families share

A folder has ``config.py`` (the configuration: a frozen dataclass), ``model.py`` (the ``ConditionalModel``),
``presets.py`` (``PRESETS``), and an ``__init__.py`` with an empty ``__all__``. A new family is one such folder and one
row of ``FAMILIES``; ``CONTRIBUTING.md`` names its tests. Importing this package, a configuration or presets imports no
torch; a model is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from condgen.checks import check_choice
from condgen.errors import ConfigError
from condgen.preset_parts import Preset

if TYPE_CHECKING:
    from condgen.base import ConditionalModel

__all__ = ["FAMILIES", "Family", "build", "config_from_dict", "find_family"]


@dataclass(frozen=True)
class Family:
    """One kind of model: a row of the table.

    Attributes:
        name: name in presets and checkpoints, and of the family's folder.
        class_name: name of the model's class in ``model.py``; the configuration's in ``config.py`` ends in ``Config``.
        summary: one line for ``condgen models``.
        task: what the family does with an archive: ``colorize`` predicts ab from L, ``translate`` makes other images.
    """

    name: str
    class_name: str
    summary: str
    task: str = "colorize"

    @property
    def config_class(self) -> type[Any]:
        """The configuration, a frozen dataclass; its defaults are the full-size settings."""
        return self._load("config", f"{self.class_name}Config")  # type: ignore[no-any-return]

    @property
    def model_class(self) -> type[ConditionalModel]:
        """The model's class; importing it imports torch."""
        return self._load("model", self.class_name)  # type: ignore[no-any-return]

    @property
    def presets(self) -> Sequence[Preset]:
        """The family's presets."""
        return self._load("presets", "PRESETS")  # type: ignore[no-any-return]

    def _load(self, module: str, name: str) -> Any:
        return getattr(import_module(f"{__name__}.{self.name}.{module}"), name)


def _table(*families: Family) -> Mapping[str, Family]:
    return MappingProxyType({family.name: family for family in families})


FAMILIES: Mapping[str, Family] = _table(
    Family("regression", "Regression", "point prediction: the mean of p(y | x) by L2, or its median by L1"),
    Family("gaussian", "Gaussian", "one Gaussian a pixel: a mean and how far the truth may lie from it"),
    Family("mixture", "Mixture", "N Gaussians a pixel: all its modes, and nothing of what pixels have in common"),
    Family(
        "color_classifier", "ColorClassifier", "a softmax over quantized ab at every pixel, with draws and a likelihood"
    ),
    Family("crf", "Crf", "the classifier with pairwise potentials: pixels that agree, by mean field"),
    Family("cgan", "Cgan", "a conditional GAN whose noise is used: draws that are sharp and agree with themselves"),
    Family("pix2pix", "Pix2Pix", "a conditional GAN with an L1 term: one sharp answer, nearly"),
    Family("cyclegan", "CycleGan", "translation between two unpaired domains, both ways", task="translate"),
    Family(
        "diffusion", "Diffusion", "a denoiser and its samplers: joint draws, by image, label and text, with guidance"
    ),
    Family("cvae", "CVAE", "a latent z beside x, and a bound of the likelihood"),
    Family("autoregressive", "Autoregressive", "a transformer over [x, then y] in tokens, with the exact likelihood"),
)


def find_family(name: str) -> Family:
    """Return the family ``name``.

    Raises:
        ConfigError: no such family; it lists the known names and the nearest.
    """
    check_choice("family", name, FAMILIES)
    return FAMILIES[name]


def config_from_dict(family: Family, values: Mapping[str, Any]) -> Any:
    """Return the family's configuration from plain values, as JSON has them; defaults fill what is left out.

    Raises:
        ConfigError: an unknown key, or a value that is not allowed.
    """
    config_class = family.config_class
    known = [f.name for f in fields(config_class)]
    for key in values:
        check_choice("model", key, known)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return config_class(**plain)
    except TypeError as error:  # a text where a number belongs: comparisons in the checks fail
        raise ConfigError("model", dict(values), f"values of the right types ({error})") from error


def build(name: str, config: Mapping[str, Any]) -> ConditionalModel:
    """Return a new model of the family ``name`` with the configuration ``config``.

    Raises:
        ConfigError: an unknown family or key, or a value that is not allowed.
    """
    family = find_family(name)
    return family.model_class(config_from_dict(family, config))
