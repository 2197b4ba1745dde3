"""Presets of ``regression``. Free of torch."""

from __future__ import annotations

from condgen.families.preset_settings import small_and_full
from condgen.families.regression.config import RegressionConfig

__all__ = ["PRESETS"]

PRESETS = small_and_full(RegressionConfig)
