"""Presets of ``mixture``. Free of torch."""

from __future__ import annotations

from condgen.families.mixture.config import MixtureConfig
from condgen.families.preset_settings import small_and_full

__all__ = ["PRESETS"]

PRESETS = small_and_full(MixtureConfig)
