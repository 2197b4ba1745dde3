"""condgen: conditional image models at archive scale. Tensors in, tensors out; PyTorch alone.

errors.py       every error that is raised on purpose
base.py         what a model family implements: ``ConditionalModel``, and what goes in and out of it
options.py      how a model draws
noise.py        randomness that belongs to a sample and a draw
statistics.py   what a training set tells its model before the first step
families/       the model families, a folder each, and the table of them
presets.py      named, complete configurations; ``preset_parts.py`` says what they consist of
checkpoint.py   a model as two small files
training.py     one training step of any family
precision.py    the number format in which a model runs
color/          L*a*b*, bins of ab, color at an image's own size
diffusion/      paths and samplers
gan/            what adversarial families share
nn/             networks that families are built from
metrics/        how good images are
worlds/         generated worlds whose true p(y | x) is known
pretrained/     the models that ship with condgen
checks.py       checks of configuration fields
doors.py        lazy public names of packages, such as these
version.py      the version

Importing this package, ``condgen.errors``, ``condgen.families``, ``condgen.presets`` or a configuration imports neither
torch nor ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names
from condgen.version import __version__ as __version__

if TYPE_CHECKING:
    from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
    from condgen.errors import CondgenError, ConfigError, UnsupportedError
    from condgen.families import FAMILIES, build, find_family
    from condgen.noise import NoiseSource, SampleId
    from condgen.presets import PRESETS, find_preset
    from condgen.pretrained import read_pretrained
    from condgen.statistics import DatasetStatistics
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "base": ["Batch", "Condition", "ConditionalModel", "SampleOptions"],
            "errors": ["CondgenError", "ConfigError", "UnsupportedError"],
            "families": ["FAMILIES", "build", "find_family"],
            "noise": ["NoiseSource", "SampleId"],
            "presets": ["PRESETS", "find_preset"],
            "pretrained": ["read_pretrained"],
            "statistics": ["DatasetStatistics"],
        },
    )

__all__ = [
    "FAMILIES",
    "PRESETS",
    "Batch",
    "CondgenError",
    "Condition",
    "ConditionalModel",
    "ConfigError",
    "DatasetStatistics",
    "NoiseSource",
    "SampleId",
    "SampleOptions",
    "UnsupportedError",
    "build",
    "find_family",
    "find_preset",
    "read_pretrained",
]
