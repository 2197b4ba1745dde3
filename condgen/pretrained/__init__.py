"""Models that ship with condgen: their files lie in this package, each in a folder of its own with a model card.

colorizer/model.safetensors, model.json    as ``condgen.checkpoint`` keeps them
colorizer/README.md                        the model card
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from condgen.checkpoint_files import FILES
from condgen.checks import check_choice

__all__ = ["DEFAULT_COLORIZER", "PRETRAINED", "read_pretrained"]

DEFAULT_COLORIZER = "colorizer"
"""The model that ``condgen colorize`` takes where none is named."""

PRETRAINED: Mapping[str, str] = MappingProxyType(
    {DEFAULT_COLORIZER: "several colorizations of photographs, old and new: docs/colorizer.md"}
)
"""The models' names, and a line on each."""


def read_pretrained(name: str) -> dict[str, bytes]:
    """Return the files of a checkpoint that ships with condgen, by name.

    Raises:
        ConfigError: no such model; it lists the known names and the nearest.
    """
    check_choice("model", name, PRETRAINED)
    folder = files(__name__) / name
    return {file: (folder / file).read_bytes() for file in FILES}
