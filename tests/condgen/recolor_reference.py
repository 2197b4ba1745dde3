"""``recolor`` in NumPy passes, as it was first written: what the compiled loop must equal, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from condgen._tables import Lerp, lerp
from condgen.color import AB_SCALE, RGB_TO_XYZ, WHITE, XYZ_TO_RGB
from condgen.colorize import Region

_STRIP_PIXELS = 1 << 15
_TABLE_SIZE = 1 << 16
_DELTA = np.float32(6.0 / 29.0)
_SLOPE = np.float32(3.0 * (6.0 / 29.0) ** 2)


@dataclass(frozen=True)
class _Tables:
    luminance: NDArray[np.float32]
    fy: NDArray[np.float32]
    encode: NDArray[np.uint8]


@cache
def _tables() -> _Tables:
    codes = np.arange(256) / 255.0
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    luminance = np.array(RGB_TO_XYZ[1])[:, None] * linear
    x = np.arange(_TABLE_SIZE) / (_TABLE_SIZE - 1)
    fy = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    encoded = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)
    return _Tables(
        luminance=luminance.astype(np.float32),
        fy=fy.astype(np.float32),
        encode=np.rint(encoded * 255).astype(np.uint8),
    )


class _Strip:
    """Buffers for one strip of rows, reused from strip to strip and from draw to draw."""

    def __init__(self, rows: int, width: int) -> None:
        self.y, self.fy = (np.empty((rows, width), np.float32) for _ in range(2))
        self.x, self.z, self.u, self.v = (np.empty((rows, width), np.float32) for _ in range(4))
        self.rgb = np.empty((3, rows, width), np.float32)
        self.index = np.empty((rows, width), np.int32)

    def head(self, rows: int) -> _Strip:
        """Return a view of the first rows, for a last strip that is shorter."""
        view = object.__new__(_Strip)
        for name in ("y", "fy", "x", "z", "u", "v", "index"):
            setattr(view, name, getattr(self, name)[:rows])
        view.rgb = self.rgb[:, :rows]
        return view

    def take_lightness(self, rgb: NDArray[np.uint8]) -> None:
        """Set ``y`` (relative luminance in table units, 0 to 65535) and ``fy`` from ``[h, W, 3]`` uint8."""
        tables = _tables()
        scale = np.float32(_TABLE_SIZE - 1)
        np.take(tables.luminance[0], rgb[..., 0], out=self.y, mode="clip")
        for channel in (1, 2):
            np.take(tables.luminance[channel], rgb[..., channel], out=self.u, mode="clip")
            np.add(self.y, self.u, out=self.y)
        np.multiply(self.y, scale, out=self.y)
        np.minimum(self.y, scale, out=self.y)
        np.add(self.y, np.float32(0.5), out=self.u)
        np.copyto(self.index, self.u, casting="unsafe")
        np.take(tables.fy, self.index, out=self.fy, mode="clip")

    def interpolate(self, columns: NDArray[np.float32], rows: Lerp, out: NDArray[np.float32]) -> None:
        """Write the rows between source rows, ``[s, W]``, to ``out``, ``[h, W]``."""
        np.take(columns, rows.low, axis=0, out=out, mode="clip")
        np.take(columns, rows.high, axis=0, out=self.v, mode="clip")
        np.subtract(self.v, out, out=self.v)
        np.multiply(self.v, rows.weight[:, None], out=self.v)
        np.add(out, self.v, out=out)

    def f_inverse(self, f: NDArray[np.float32]) -> None:
        """CIE's inverse of f, in place: t^3 above 6/29, below it that curve's tangent."""
        np.maximum(f, _DELTA, out=self.u)
        np.subtract(f, self.u, out=self.v)
        np.multiply(self.v, _SLOPE, out=self.v)
        np.multiply(self.u, self.u, out=f)
        np.multiply(f, self.u, out=f)
        np.add(f, self.v, out=f)

    def to_linear_rgb(self) -> None:
        """Set ``rgb`` (linear, in table units) from X / Xn, Y and Z / Zn."""
        scale = _TABLE_SIZE - 1
        for channel, (cx, cy, cz) in enumerate(XYZ_TO_RGB):
            out = self.rgb[channel]
            np.multiply(self.x, np.float32(cx * WHITE[0] * scale), out=out)
            np.multiply(self.y, np.float32(cy), out=self.u)
            np.add(out, self.u, out=out)
            np.multiply(self.z, np.float32(cz * WHITE[2] * scale), out=self.u)
            np.add(out, self.u, out=out)

    def into_gamut(self) -> None:
        """Move what lies outside the gamut towards the grey of its own luminance, as little as is needed.

        Linear RGB scaled about (Y, Y, Y) keeps Y, and so L, exactly: it costs chroma (and a little hue), where
        clipping would change L.
        """
        scale = np.float32(_TABLE_SIZE - 1)
        red, green, blue = self.rgb
        np.maximum(red, green, out=self.u)
        np.maximum(self.u, blue, out=self.u)
        np.minimum(red, green, out=self.v)
        np.minimum(self.v, blue, out=self.v)
        if self.u.max() <= scale and self.v.min() >= 0.0:
            return
        outside = np.nonzero((self.u > scale) | (self.v < 0.0))
        y, high, low = self.y[outside], self.u[outside], self.v[outside]
        tiny = np.float32(1e-6)
        share = np.minimum((scale - y) / np.maximum(high - y, tiny), y / np.maximum(y - low, tiny))
        share = np.clip(share, np.float32(0), np.float32(1))
        for channel in range(3):
            value = y + share * (self.rgb[channel][outside] - y)
            self.rgb[channel][outside] = np.clip(value, np.float32(0), scale)

    def encode(self, out: NDArray[np.uint8]) -> None:
        """Write sRGB codes to ``[h, W, 3]``."""
        encode = _tables().encode
        for channel in range(3):
            np.add(self.rgb[channel], np.float32(0.5), out=self.u)
            np.copyto(self.index, self.u, casting="unsafe")
            out[..., channel] = np.take(encode, self.index, mode="clip")


def _widen(ab_n: NDArray[np.float32], region: Region, width: int) -> NDArray[np.float32]:
    """Crop to the region, scale to offsets of f and interpolate along x: ``[K, 2, region.height, W]``."""
    inner = ab_n[:, :, region.top : region.top + region.height, region.left : region.left + region.width]
    offset = np.array([AB_SCALE / 500, -AB_SCALE / 200], np.float32)[:, None, None]
    scaled = inner * offset
    columns = lerp(region.width, width)
    low = np.take(scaled, columns.low, axis=-1)  # in C order, which indexing would not give
    wide: NDArray[np.float32] = np.take(scaled, columns.high, axis=-1)
    wide -= low
    wide *= columns.weight
    wide += low
    return wide


def recolor_reference(rgb: NDArray[np.uint8], ab_n: NDArray[np.float32], region: Region) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    wide = _widen(ab_n, region, width)
    rows = lerp(region.height, height)
    out = np.empty((ab_n.shape[0], height, width, 3), np.uint8)
    strip_rows = min(height, max(1, _STRIP_PIXELS // width))
    buffers = _Strip(strip_rows, width)
    for start in range(0, height, strip_rows):
        stop = min(start + strip_rows, height)
        strip = buffers.head(stop - start)
        strip.take_lightness(rgb[start:stop])
        part = Lerp(rows.low[start:stop], rows.high[start:stop], rows.weight[start:stop])
        for draw in range(ab_n.shape[0]):
            for channel, f in enumerate((strip.x, strip.z)):
                strip.interpolate(wide[draw, channel], part, f)
                np.add(f, strip.fy, out=f)
                strip.f_inverse(f)
            strip.to_linear_rgb()
            strip.into_gamut()
            strip.encode(out[draw, start:stop])
    return out
