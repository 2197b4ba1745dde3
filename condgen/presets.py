"""Presets: named, complete configurations of a family, its data and its training. Free of torch.

Each is in its family's ``presets.py``; this is the table of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from condgen.checks import check_choice
from condgen.families import FAMILIES
from condgen.preset_parts import DataConfig, Preset, TrainConfig

__all__ = ["PRESETS", "DataConfig", "Preset", "TrainConfig", "find_preset"]

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {preset.name: preset for family in FAMILIES.values() for preset in family.presets}
)


def find_preset(name: str) -> Preset:
    """Return the preset ``name``.

    Raises:
        ConfigError: no such preset; it lists the known names and the nearest.
    """
    check_choice("preset", name, PRESETS)
    return PRESETS[name]
