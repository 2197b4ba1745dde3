"""The inner loop of ``condgen.colorize.recolor``, compiled by Numba when it is first called.

It is compiled with IEEE semantics (no fast-math, so no contraction to FMA and no reordering) and without threads: its
bytes are the same on any machine. Importing this module imports Numba (0.5 s), so ``recolor`` does it when called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["paint"]

_F = TypeVar("_F", bound=Callable[..., Any])
_Floats = NDArray[np.float32]
_Lerp = tuple[NDArray[np.int64], NDArray[np.int64], _Floats]

_DELTA = np.float32(6.0 / 29.0)
_SLOPE = np.float32(3.0 * (6.0 / 29.0) ** 2)
_TOP = np.float32(65535)
_ROOT_TOP = np.float32(65535**0.5)
_LAST = np.int32(65534)
_ZERO, _HALF, _ONE, _TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-6)


def _jit(function: _F) -> _F:
    """Compile when first called, without Python's lock while it runs.

    Machine code is kept beside this file or in the user's cache folder (or NUMBA_CACHE_DIR), where one can be written.
    """
    try:
        return cast("_F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # there is no folder for a cache
        return cast("_F", numba.njit(nogil=True, error_model="numpy")(function))


@_jit
def _smooth(table: _Floats, value: np.float32) -> np.float32:
    """Look a linear value in [0, 65535] up in a table by its root, between whose entries is interpolated."""
    at = np.sqrt(value) * _ROOT_TOP
    low = min(np.int32(at), _LAST)
    found: np.float32 = table[low] + (table[low + 1] - table[low]) * (at - np.float32(low))
    return found


@_jit
def _f_inverse(f: np.float32) -> np.float32:
    """CIE's inverse of f: t^3 above 6/29, below it that curve's tangent."""
    curved = max(f, _DELTA)
    return curved * curved * curved + (f - curved) * _SLOPE


@_jit
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


@_jit
def _widen(ab: _Floats, columns: _Lerp, out: _Floats) -> None:
    for draw in range(out.shape[0]):
        for channel in range(2):
            narrow, wide = ab[draw, channel], out[draw, channel]
            for j in range(wide.shape[0]):
                left = narrow[columns[0][j]]
                wide[j] = (narrow[columns[1][j]] - left) * columns[2][j] + left


@_jit
def _linear(
    y: _Floats, f: _Floats, above: _Floats, below: _Floats, weight: np.float32, matrix: _Floats, out: _Floats
) -> None:
    """Linear RGB of a row, inside the gamut.

    A colour outside is scaled about (Y, Y, Y) towards the grey of its own luminance, as little as is needed: that
    keeps Y, and so L, exactly. It costs chroma (and a little hue), where clipping would change L.
    """
    x_above, z_above, x_below, z_below = above[0], above[1], below[0], below[1]
    rx, ry, rz = matrix[0]
    gx, gy, gz = matrix[1]
    bx, by, bz = matrix[2]
    for j in range(y.shape[0]):
        x = _f_inverse(x_above[j] + (x_below[j] - x_above[j]) * weight + f[j])
        z = _f_inverse(z_above[j] + (z_below[j] - z_above[j]) * weight + f[j])
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


@_jit
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


@_jit
def paint(
    rgb: NDArray[Any],
    ab: _Floats,
    columns: _Lerp,
    rows: _Lerp,
    luminance: _Floats,
    fy: _Floats,
    matrix: _Floats,
    codes: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Write K colourings of a picture, row by row, each row for all K draws; only some rows of numbers are held.

    Linear values are in table units, 0 to 65535. All numbers are finite and far from overflow: the caller sees to it.

    Args:
        rgb: ``[H, W, 3]`` uint8 or uint16.
        ab: ``[K, 2, h, w]`` float32, offsets of CIE's f(X) and f(Z) from f(Y).
        columns, rows: bilinear interpolation from w to W and from h to H: the lower index, the upper index (the next
            or the same), the upper's weight.
        luminance: ``[3, codes]`` float32, what each channel's code adds to Y in [0, 1].
        fy: ``[65536]`` float32, f(Y): by Y for uint8; by Y's root, between whose entries is interpolated, for uint16.
        matrix: ``[3, 3]`` float32, from X / Xn, Y in table units and Z / Zn to linear RGB in table units.
        codes: ``[65536]``, sRGB codes: uint8 by linear value, or for uint16 float32 by its root, as ``fy``.
        out: ``[K, H, W, 3]`` of rgb's type.
    """
    num_draws, height, width = out.shape[:3]
    y, f = np.empty(width, np.float32), np.empty(width, np.float32)
    linear = np.empty((3, width), np.float32)
    wide = np.empty((2, num_draws, 2, width), np.float32)  # the last two rows of ab at the picture's width
    held = np.full(2, -1, np.int64)
    for i in range(height):
        _lightness(rgb[i], luminance, fy, y, f)
        for row in (rows[0][i], rows[1][i]):
            if held[row & 1] != row:
                held[row & 1] = row
                _widen(ab[:, :, row], columns, wide[row & 1])
        above, below = wide[rows[0][i] & 1], wide[rows[1][i] & 1]
        for draw in range(num_draws):
            _linear(y, f, above[draw], below[draw], rows[2][i], matrix, linear)
            _encode(linear, codes, luminance.shape[1] > 256, out[draw, i])
