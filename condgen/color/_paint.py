"""The inner loops over an image's pixels of ``condgen.color.colorize.recolor``; see ``condgen.color._compile``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from condgen.color._compile import jit

__all__ = ["cell_moments", "paint"]

_Floats = NDArray[np.float32]
_Doubles = NDArray[np.float64]
_Lerp = tuple[NDArray[np.int64], NDArray[np.int64], _Floats]
_Split = tuple[NDArray[np.int64], _Floats]

_DELTA = np.float32(6.0 / 29.0)
_SLOPE = np.float32(3.0 * (6.0 / 29.0) ** 2)
_TOP = np.float32(65535)
_ROOT_TOP = np.float32(65535**0.5)
_LAST = np.int32(65534)
_ZERO, _HALF, _ONE, _TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-6)


@jit
def _smooth(table: _Floats, value: np.float32) -> np.float32:
    """Look a linear value in [0, 65535] up in a table by its root, between whose entries is interpolated."""
    at = np.sqrt(value) * _ROOT_TOP
    low = min(np.int32(at), _LAST)
    found: np.float32 = table[low] + (table[low + 1] - table[low]) * (at - np.float32(low))
    return found


@jit
def _f_inverse(f: np.float32) -> np.float32:
    """CIE's inverse of f: t^3 above 6/29, below it that curve's tangent."""
    curved = max(f, _DELTA)
    return curved * curved * curved + (f - curved) * _SLOPE


@jit
def _lightness(pixels: NDArray[Any], luminance: _Floats, fy: _Floats, y: _Floats, f: _Floats) -> None:
    for j in range(y.shape[0]):
        value = luminance[0, pixels[j, 0]] + luminance[1, pixels[j, 1]] + luminance[2, pixels[j, 2]]
        y[j] = min(value * _TOP, _TOP)
    if luminance.shape[1] > 256:
        for j in range(y.shape[0]):
            f[j] = _smooth(fy, y[j])
    else:
        for j in range(y.shape[0]):
            f[j] = fy[np.int32(y[j] + _HALF)]


@jit
def _fold(above: _Floats, columns: _Split, out: _Doubles) -> None:
    """Add a row of sums over pixels, ``[2, W]``, to the sums over its cells, ``[2, w + 1]``."""
    for j in range(above.shape[1]):
        cell, share = columns[0][j], columns[1][j]
        for moment in range(2):
            out[moment, cell] += share * above[moment, j]
            out[moment, cell + 1] += (_ONE - share) * above[moment, j]


@jit
def cell_moments(
    rgb: NDArray[Any],
    columns: _Split,
    rows: _Split,
    areas: tuple[_Doubles, _Doubles],
    luminance: _Floats,
    fy: _Floats,
    mean: _Floats,
    variance: _Floats,
) -> None:
    """Write the mean and the variance of f(Y) in the cells of a grid over an image.

    A pixel is in one cell or in two neighbors of each axis: none is larger than a cell.

    Args:
        rgb, luminance, fy: the arguments of ``paint``.
        columns, rows: each pixel's first cell, and its share in it (the rest is in the next).
        areas: pixels in each cell down, ``[h]``, and across, ``[w]``, fractions included.
        mean, variance: ``[h, w]`` float32, written.
    """
    height, width = rgb.shape[:2]
    num_rows, num_columns = mean.shape
    y, f = np.empty(width, np.float32), np.empty(width, np.float32)
    here, below = np.zeros((2, width), np.float32), np.zeros((2, width), np.float32)
    sums = np.zeros((num_rows + 1, 2, num_columns + 1))
    current = 0
    for i in range(height):
        row, share = rows[0][i], rows[1][i]
        if row > current:
            _fold(here, columns, sums[current])
            here, below = below, here
            for j in range(width):
                below[0, j] = below[1, j] = _ZERO
            current = row
        _lightness(rgb[i], luminance, fy, y, f)
        for j in range(width):
            beyond = f[j] - _HALF  # of smaller squares, which cost fewer digits
            here[0, j] += share * beyond
            here[1, j] += share * (beyond * beyond)
        if share < _ONE:
            rest = _ONE - share
            for j in range(width):
                beyond = f[j] - _HALF
                below[0, j] += rest * beyond
                below[1, j] += rest * (beyond * beyond)
    _fold(here, columns, sums[current])
    _fold(below, columns, sums[current + 1])
    for row in range(num_rows):
        for cell in range(num_columns):
            area = areas[0][row] * areas[1][cell]
            middle = sums[row, 0, cell] / area
            mean[row, cell] = middle + 0.5
            variance[row, cell] = max(sums[row, 1, cell] / area - middle * middle, 0.0)


@jit
def _widen(ab: _Floats, columns: _Lerp, out: _Floats) -> None:
    for draw in range(out.shape[0]):
        for plane in range(out.shape[1]):
            narrow, wide = ab[draw, plane], out[draw, plane]
            for j in range(wide.shape[0]):
                left = narrow[columns[0][j]]
                wide[j] = (narrow[columns[1][j]] - left) * columns[2][j] + left


@jit
def _beyond_mean(f: _Floats, above: _Floats, below: _Floats, weight: np.float32, out: _Floats) -> None:
    """What f is above its local mean, of f held to its local range."""
    for j in range(f.shape[0]):
        mean = above[0, j] + (below[0, j] - above[0, j]) * weight
        low = above[1, j] + (below[1, j] - above[1, j]) * weight
        high = above[2, j] + (below[2, j] - above[2, j]) * weight
        out[j] = min(max(f[j], low), high) - mean


@jit
def _offsets(above: _Floats, below: _Floats, weight: np.float32, detail: _Floats, out: _Floats) -> None:
    """Offsets of f(X) and f(Z) from f(Y) in a row: interpolated values, and with slopes what the lightness adds."""
    for channel in range(2):
        for j in range(out.shape[1]):
            out[channel, j] = above[channel, j] + (below[channel, j] - above[channel, j]) * weight
        if above.shape[0] > 2:
            first, second = above[channel + 2], below[channel + 2]
            for j in range(out.shape[1]):
                out[channel, j] += (first[j] + (second[j] - first[j]) * weight) * detail[j]


@jit
def _linear(y: _Floats, f: _Floats, offsets: _Floats, matrix: _Floats, out: _Floats) -> None:
    """Linear RGB of a row, inside the gamut.

    A color outside is scaled about (Y, Y, Y) towards the grey of its own luminance, as little as is needed: that
    keeps Y, and so L, exactly. It costs chroma (and a little hue), where clipping would change L.
    """
    rx, ry, rz = matrix[0]
    gx, gy, gz = matrix[1]
    bx, by, bz = matrix[2]
    for j in range(y.shape[0]):
        x = _f_inverse(offsets[0, j] + f[j])
        z = _f_inverse(offsets[1, j] + f[j])
        grey = y[j]
        red = rx * x + ry * grey + rz * z
        green = gx * x + gy * grey + gz * z
        blue = bx * x + by * grey + bz * z
        high, low = max(max(red, green), blue), min(min(red, green), blue)
        share = min((_TOP - grey) / max(high - grey, _TINY), grey / max(grey - low, _TINY))
        share = min(max(share, _ZERO), _ONE)
        inside = (high <= _TOP) & (low >= _ZERO)
        out[0, j] = red if inside else min(max(grey + share * (red - grey), _ZERO), _TOP)
        out[1, j] = green if inside else min(max(grey + share * (green - grey), _ZERO), _TOP)
        out[2, j] = blue if inside else min(max(grey + share * (blue - grey), _ZERO), _TOP)


@jit
def _encode(linear: _Floats, codes: NDArray[Any], fine: bool, out: NDArray[Any]) -> None:
    red, green, blue = linear[0], linear[1], linear[2]
    if fine:
        for j in range(out.shape[0]):
            out[j, 0] = np.int32(_smooth(codes, red[j]) + _HALF)
            out[j, 1] = np.int32(_smooth(codes, green[j]) + _HALF)
            out[j, 2] = np.int32(_smooth(codes, blue[j]) + _HALF)
    else:
        for j in range(out.shape[0]):
            out[j, 0] = codes[np.int32(red[j] + _HALF)]
            out[j, 1] = codes[np.int32(green[j] + _HALF)]
            out[j, 2] = codes[np.int32(blue[j] + _HALF)]


@jit
def paint(
    rgb: NDArray[Any],
    ab: _Floats,
    lightness: _Floats,
    columns: _Lerp,
    rows: _Lerp,
    luminance: _Floats,
    fy: _Floats,
    matrix: _Floats,
    codes: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Write K colorings of an image, row by row, each row for all K draws; only some rows of numbers are held.

    Linear values are in table units, 0 to 65535. All numbers are finite and far from overflow: the caller sees to it.

    Args:
        rgb: ``[H, W, 3]`` uint8 or uint16.
        ab: ``[K, 2, h, w]`` float32, offsets of CIE's f(X) and f(Z) from f(Y); or ``[K, 4, h, w]``, those and by how
            much each rises with f(Y).
        lightness: ``[1, 3, h, w]`` float32, what f(Y) is at the values of ab, and the range to which it is held when a
            slope is followed: mean, lower end, upper end. Not read where ab has no slopes.
        columns, rows: bilinear interpolation from w to W and from h to H: the lower index, the upper index (the next
            or the same), the upper's weight.
        luminance: ``[3, codes]`` float32, what each channel's code adds to Y in [0, 1].
        fy: ``[65536]`` float32, f(Y): by Y for uint8; by Y's root, between whose entries is interpolated, for uint16.
        matrix: ``[3, 3]`` float32, from X / Xn, Y in table units and Z / Zn to linear RGB in table units.
        codes: ``[65536]``, sRGB codes: uint8 by linear value, or for uint16 float32 by its root, as ``fy``.
        out: ``[K, H, W, 3]`` of rgb's type.
    """
    num_draws, height, width = out.shape[:3]
    guided = ab.shape[1] > 2
    y, f, detail = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    offsets, linear = np.empty((2, width), np.float32), np.empty((3, width), np.float32)
    # The last two rows of ab and of lightness at the image's width.
    wide = np.empty((2, num_draws, ab.shape[1], width), np.float32)
    wide_lightness = np.empty((2, 1, 3, width), np.float32)
    held = np.full(2, -1, np.int64)
    for i in range(height):
        _lightness(rgb[i], luminance, fy, y, f)
        for row in (rows[0][i], rows[1][i]):
            if held[row & 1] != row:
                held[row & 1] = row
                _widen(ab[:, :, row], columns, wide[row & 1])
                if guided:
                    _widen(lightness[:, :, row], columns, wide_lightness[row & 1])
        first, second = rows[0][i] & 1, rows[1][i] & 1
        if guided:
            _beyond_mean(f, wide_lightness[first, 0], wide_lightness[second, 0], rows[2][i], detail)
        for draw in range(num_draws):
            _offsets(wide[first, draw], wide[second, draw], rows[2][i], detail, offsets)
            _linear(y, f, offsets, matrix, linear)
            _encode(linear, codes, luminance.shape[1] > 256, out[draw, i])
