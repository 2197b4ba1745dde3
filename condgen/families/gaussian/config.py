"""The configuration of ``gaussian``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from condgen.families.mixture.config import PixelMixtureConfig

__all__ = ["GaussianConfig"]


@dataclass(frozen=True, kw_only=True)
class GaussianConfig(PixelMixtureConfig):
    """See ``condgen.families.gaussian.model``; every field is a mixture's."""

    family: ClassVar[str] = "gaussian"
