"""The tables, the matrix and the interpolation that the loops of ``condgen.color._paint`` are given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from condgen.color.lab import RGB_TO_XYZ, WHITE, XYZ_TO_RGB

__all__ = ["Lerp", "Tables", "lerp", "lerp_at", "matrix", "tables"]

_TABLE_SIZE = 1 << 16


@dataclass(frozen=True)
class Tables:
    """The tables that replace powers in the loop over pixels.

    Those for 8 bits are looked up by a linear value v in [0, 65535], rounded. Those for 16 bits are looked up by
    the root, sqrt(65535 v), with interpolation between entries: both curves are close to straight over it.

    Attributes:
        luminance: ``[3, codes]`` float32, what each channel's code adds to Y.
        fy: ``[65536]`` float32, (L + 16) / 116 by Y; L is within 0.007 of exact for 8 bits, 0.0005 for 16.
        codes: ``[65536]``, sRGB codes: uint8, within 0.03 of a code of exact before rounding; or float32 for
            16 bits, within 0.15 of a code of exact.
    """

    luminance: NDArray[np.float32]
    fy: NDArray[np.float32]
    codes: NDArray[np.uint8] | NDArray[np.float32]


@cache
def tables(top: int) -> Tables:
    """Return the tables for codes from 0 to ``top``, 255 or 65535."""
    codes = np.arange(top + 1) / top
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    luminance = np.array(RGB_TO_XYZ[1])[:, None] * linear
    x = np.arange(_TABLE_SIZE) / (_TABLE_SIZE - 1)
    if top > 255:
        x = x * x
    fy = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    encoded = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055) * top
    return Tables(
        luminance=luminance.astype(np.float32),
        fy=fy.astype(np.float32),
        codes=encoded.astype(np.float32) if top > 255 else np.rint(encoded).astype(np.uint8),
    )


@cache
def matrix() -> NDArray[np.float32]:
    """Return the matrix from X / Xn, Y in table units and Z / Zn to linear RGB in table units."""
    scale = _TABLE_SIZE - 1
    return np.array([[cx * WHITE[0] * scale, cy, cz * WHITE[2] * scale] for cx, cy, cz in XYZ_TO_RGB], np.float32)


class Lerp(NamedTuple):
    """Bilinear interpolation along one axis: value = (1 - weight) * at[low] + weight * at[high]."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]


def lerp(source: int, target: int) -> Lerp:
    """Map pixel centers to pixel centers (as ``align_corners=False`` does), repeating the edges."""
    return lerp_at((np.arange(target) + 0.5) * (source / target) - 0.5, source)


def lerp_at(places: NDArray[np.floating[Any]], source: int) -> Lerp:
    """Interpolate between ``source`` values at 0, 1, ... at these places; beyond the ends the edges are repeated."""
    at = np.clip(places, 0.0, source - 1.0)
    low = np.minimum(at.astype(np.int64), max(source - 2, 0))
    high = np.minimum(low + 1, source - 1)
    return Lerp(low, high, (at - low).astype(np.float32))
