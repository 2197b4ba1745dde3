"""``recolor`` in NumPy passes, as it was first written: what the compiled loop must equal, bit for bit."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from condgen.color._tables import Lerp, lerp
from condgen.color.colorize import Region
from condgen.color.guide import MARGIN, RIDGE, TEXTURE, _Axis, _axis
from condgen.color.lab import AB_SCALE, RGB_TO_XYZ, WHITE, XYZ_TO_RGB

_SCALE = np.float32(65535)
_DELTA = np.float32(6.0 / 29.0)
_SLOPE = np.float32(3.0 * (6.0 / 29.0) ** 2)


@cache
def _tables() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Each channel's share of Y by its code; f(Y) and the sRGB code by Y or a linear channel, in 65,536 steps."""
    codes = np.arange(256) / 255.0
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    luminance = np.array(RGB_TO_XYZ[1])[:, None] * linear
    x = np.arange(65536) / 65535
    fy = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    encoded = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)
    return luminance.astype(np.float32), fy.astype(np.float32), np.rint(encoded * 255).astype(np.uint8)


def _lightness(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Y in table units, 0 to 65535, and f(Y) of ``[H, W, 3]`` uint8."""
    luminance, fy, _ = _tables()
    red, green, blue = (share[rgb[..., channel]] for channel, share in enumerate(luminance))
    y = np.minimum((red + green + blue) * _SCALE, _SCALE)
    return y, fy[(y + np.float32(0.5)).astype(np.int32)]


def _between(values: NDArray[np.float32], at: Lerp, axis: int) -> NDArray[np.float32]:
    """Interpolate along x (axis -1) or y (-2)."""
    low, high = (np.take(values, index, axis=axis) for index in (at.low, at.high))
    between: NDArray[np.float32] = low + (high - low) * (at.weight if axis == -1 else at.weight[:, None])
    return between


def _f_inverse(f: NDArray[np.float32]) -> NDArray[np.float32]:
    """CIE's inverse of f: t^3 above 6/29, below it that curve's tangent."""
    above = np.maximum(f, _DELTA)
    return above * above * above + (f - above) * _SLOPE


def _into_gamut(rgb: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move what lies outside the gamut towards the grey of its own luminance, as little as is needed.

    Linear RGB scaled about (Y, Y, Y) keeps Y, and so L, exactly: it costs chroma (and a little hue), where
    clipping would change L.
    """
    high, low, tiny = rgb.max(axis=0), rgb.min(axis=0), np.float32(1e-6)
    share = np.minimum((_SCALE - y) / np.maximum(high - y, tiny), y / np.maximum(y - low, tiny))
    moved = np.clip(y + np.clip(share, np.float32(0), np.float32(1)) * (rgb - y), np.float32(0), _SCALE)
    return np.where((high > _SCALE) | (low < 0), moved, rgb)


def _offsets(ab: NDArray[np.float32]) -> NDArray[np.float32]:
    """The differences of f(X) and of f(Z) from f(Y) that make these colors."""
    return ab * np.array([AB_SCALE / 500, -AB_SCALE / 200], np.float32)[:, None, None]


def recolor_reference(rgb: NDArray[np.uint8], ab_n: NDArray[np.float32], region: Region) -> NDArray[np.uint8]:
    inner = ab_n[:, :, region.top : region.top + region.height, region.left : region.left + region.width]
    wide = _between(_offsets(inner), lerp(region.width, rgb.shape[1]), axis=-1)
    return _paint(rgb, wide, None, lerp(region.height, rgb.shape[0]))


def _paint(
    rgb: NDArray[np.uint8], wide: NDArray[np.float32], lightness: NDArray[np.float32] | None, rows: Lerp
) -> NDArray[np.uint8]:
    """Paint ``[K, 2, h, W]`` offsets, or with ``[3, h, W]`` lightness ``[K, 4, h, W]`` offsets and slopes."""
    y, fy = _lightness(rgb)
    if lightness is not None:
        mean, low, high = _between(lightness, rows, axis=-2)
        beyond = np.minimum(np.maximum(fy, low), high) - mean
    scales = np.array([WHITE[0] * 65535, 1, WHITE[2] * 65535])
    weights, painted = (np.array(XYZ_TO_RGB) * scales).astype(np.float32), []
    for draw in wide:
        offsets = _between(draw, rows, axis=-2)
        x, z = _f_inverse((offsets if lightness is None else offsets[:2] + offsets[2:] * beyond) + fy)
        linear = _into_gamut(np.stack([x * cx + y * cy + z * cz for cx, cy, cz in weights]), y)
        codes = np.take(_tables()[2], (linear + np.float32(0.5)).astype(np.int32), mode="clip")
        painted.append(np.moveaxis(codes, 0, -1))
    return np.stack(painted)


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
    cells = _offsets(_grid_values(ab_n, stride, rows, columns))
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
    return _paint(rgb, *(_between(cells, columns.lerp, axis=-1) for cells in (lines, lightness)), rows.lerp)


def _moments(rgb: NDArray[np.uint8], rows: _Axis, columns: _Axis) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of f(Y) in the cells, row of pixels by row of pixels."""
    beyond = _lightness(rgb)[1] - np.float32(0.5)
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
