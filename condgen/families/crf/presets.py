"""Presets of ``crf``. Free of torch."""

from __future__ import annotations

from condgen.families.crf.config import CrfConfig
from condgen.families.preset_settings import small_and_full

__all__ = ["PRESETS"]

PRESETS = small_and_full(CrfConfig)
