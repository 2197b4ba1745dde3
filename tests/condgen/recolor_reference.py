"""``recolor`` in NumPy passes, as it was first written: what the compiled loop must equal, bit for bit."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from condgen.color._tables import Lerp, lerp
from condgen.color.colorize import Region
from condgen.color.guide import MARGIN, RIDGE, TEXTURE, _Axis, _axis
from condgen.color.lab import AB_SCALE, RGB_TO_XYZ, WHITE, XYZ_TO_RGB

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

    def head(self, rows: int) -> "_Strip":
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


def _scale() -> NDArray[np.float32]:
    return np.array([AB_SCALE / 500, -AB_SCALE / 200], np.float32)[:, None, None]


def _widen(planes: NDArray[np.float32], columns: Lerp) -> NDArray[np.float32]:
    """Interpolate along x: ``[..., h, w]`` to ``[..., h, W]``."""
    low = np.take(planes, columns.low, axis=-1)  # in C order, which indexing would not give
    wide: NDArray[np.float32] = np.take(planes, columns.high, axis=-1)
    wide -= low
    wide *= columns.weight
    wide += low
    return wide


def recolor_reference(rgb: NDArray[np.uint8], ab_n: NDArray[np.float32], region: Region) -> NDArray[np.uint8]:
    inner = ab_n[:, :, region.top : region.top + region.height, region.left : region.left + region.width]
    wide = _widen(inner * _scale(), lerp(region.width, rgb.shape[1]))
    return _paint(rgb, wide, None, lerp(region.height, rgb.shape[0]))


def _paint(
    rgb: NDArray[np.uint8], wide: NDArray[np.float32], lightness: NDArray[np.float32] | None, rows: Lerp
) -> NDArray[np.uint8]:
    """Paint ``[K, 2, h, W]`` offsets, or with ``[3, h, W]`` lightness ``[K, 4, h, W]`` offsets and slopes."""
    height, width = rgb.shape[:2]
    out = np.empty((wide.shape[0], height, width, 3), np.uint8)
    strip_rows = min(height, max(1, _STRIP_PIXELS // width))
    buffers = _Strip(strip_rows, width)
    for start in range(0, height, strip_rows):
        stop = min(start + strip_rows, height)
        strip = buffers.head(stop - start)
        strip.take_lightness(rgb[start:stop])
        part = Lerp(rows.low[start:stop], rows.high[start:stop], rows.weight[start:stop])
        mean, low, high, slope = (np.empty_like(strip.x) for _ in range(4))
        if lightness is not None:
            for plane, values in zip(lightness, (mean, low, high), strict=True):
                strip.interpolate(plane, part, values)
            mean = np.minimum(np.maximum(strip.fy, low), high) - mean
        for draw in range(wide.shape[0]):
            for channel, f in enumerate((strip.x, strip.z)):
                strip.interpolate(wide[draw, channel], part, f)
                if lightness is not None:
                    strip.interpolate(wide[draw, channel + 2], part, slope)
                    np.add(f, slope * mean, out=f)
                np.add(f, strip.fy, out=f)
                strip.f_inverse(f)
            strip.to_linear_rgb()
            strip.into_gamut()
            strip.encode(out[draw, start:stop])
    return out


def guided_reference(
    rgb: NDArray[np.uint8], ab_n: NDArray[np.float32], region: Region, stride: int
) -> NDArray[np.uint8]:
    """Follow ``condgen.color.guide``'s formulas, one pass a term."""
    rows = _axis(region.top, region.height, rgb.shape[0], stride)
    columns = _axis(region.left, region.width, rgb.shape[1], stride)
    f32 = np.float32
    mean, variance = _moments(rgb, rows, columns)
    noise = _neighbors(variance).min(axis=0)
    steps = _neighbors(mean) - mean
    spread = f32(9) * (f32(RIDGE / 116**2) + f32(TEXTURE) * noise)
    for step in steps:
        spread = spread + step * step
    near = _neighbors(mean)
    low, high = near.min(axis=0), near.max(axis=0)
    widened = f32(MARGIN) * (high - low)
    lightness = np.stack([mean, low - widened, high + widened])
    bend = mean - _cell_means(mean, rows.blur, columns.blur)
    cells = _grid_values(ab_n, stride, rows, columns) * _scale()
    lines = np.empty((cells.shape[0], 4, *mean.shape), np.float32)
    for draw in range(cells.shape[0]):
        for channel in range(2):
            center = cells[draw, channel]
            around = _neighbors(center)
            slope = np.zeros_like(center)
            for step, value in zip(steps, around, strict=True):
                slope = slope + step / spread * (value - center)
            value = center + (center - _cell_means(center, rows.blur, columns.blur))
            value = value - _cell_means(slope, rows.blur, columns.blur) * bend
            lines[draw, channel] = np.clip(value, around.min(axis=0), around.max(axis=0))
            lines[draw, channel + 2] = slope
    return _paint(rgb, _widen(lines, columns.lerp), _widen(lightness, columns.lerp), rows.lerp)


def _moments(rgb: NDArray[np.uint8], rows: _Axis, columns: _Axis) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of f(Y) in the cells, row of pixels by row of pixels."""
    strip = _Strip(*rgb.shape[:2])
    strip.take_lightness(rgb)
    beyond = strip.fy - np.float32(0.5)
    sums = np.zeros((2, rows.num_cells + 1, rgb.shape[1]), np.float32)
    for i, (row, share) in enumerate(zip(rows.cell, rows.share, strict=True)):
        for moment, values in enumerate((beyond[i], beyond[i] * beyond[i])):
            sums[moment, row] += share * values
            if share < 1:
                sums[moment, row + 1] += (np.float32(1) - share) * values
    cells = np.zeros((2, rows.num_cells + 1, columns.num_cells + 1))
    for j, (column, share) in enumerate(zip(columns.cell, columns.share, strict=True)):
        cells[:, :, column] += share * sums[:, :, j]
        cells[:, :, column + 1] += (np.float32(1) - share) * sums[:, :, j]
    middle, square = cells[:, :-1, :-1] / np.outer(rows.areas, columns.areas)
    return (middle + 0.5).astype(np.float32), np.maximum(square - middle * middle, 0).astype(np.float32)


def _neighbors(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each cell's 3 x 3 neighbors, row by row, the edges repeated: ``[9, h, w]``."""
    height, width = values.shape
    padded = np.pad(values, 1, mode="edge")
    return np.stack([padded[r : r + height, c : c + width] for r in range(3) for c in range(3)])


def _cell_means(values: NDArray[np.float32], down: np.float32, across: np.float32) -> NDArray[np.float32]:
    """The means over cells of what is interpolated between them."""
    for blur in (down, across):  # each pass works on the first axis, and turns the array
        above, here, below = (np.pad(values, ((1, 1), (0, 0)), mode="edge")[k : k + values.shape[0]] for k in range(3))
        values = (here + blur * np.float32(0.5) * ((above - here) + (below - here))).T
    return values


def _grid_values(ab_n: NDArray[np.float32], stride: int, rows: _Axis, columns: _Axis) -> NDArray[np.float32]:
    """The values at the cells' centers, extrapolated from the two pixels on either side along each axis."""
    values = ab_n
    for axis, cells in ((3, columns), (2, rows)):
        center = (cells.first + np.arange(cells.num_cells)) * stride + stride // 2
        at = [np.take(values, np.clip(center + k, 0, ab_n.shape[axis] - 1), axis=axis) for k in (-2, -1, 0, 1)]
        if stride % 2:
            values = at[2]
        elif axis == 3:
            values = np.float32(0.75) * (at[1] + at[2]) + np.float32(-0.25) * (at[0] + at[3])
        else:
            values = sum(np.float32(w) * v for w, v in zip((-0.25, 0.75, 0.75, -0.25), at, strict=True))
    return values
