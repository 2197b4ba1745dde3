"""The inner loops over a grid's cells of ``condgen.color.guide``; see ``condgen.color._compile``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from condgen.color._compile import jit

__all__ = ["grid_values", "guide_lines", "local_lines"]

_Floats = NDArray[np.float32]

_ZERO, _HALF = np.float32(0), np.float32(0.5)
_CELLS, _INNER, _OUTER = np.float32(9), np.float32(0.75), np.float32(-0.25)


@jit
def _pad(values: _Floats, out: _Floats) -> None:
    """Write ``[h, w]`` into ``[h + 2, w + 2]``, its edges repeated."""
    height, width = values.shape
    for r in range(height + 2):
        row, padded = values[min(max(r - 1, 0), height - 1)], out[r]
        padded[0], padded[width + 1] = row[0], row[width - 1]
        for c in range(width):
            padded[c + 1] = row[c]


@jit
def _blur(padded: _Floats, blur: tuple[np.float32, np.float32], out: _Floats) -> None:
    """The means over cells of the bilinear interpolation between padded ``[h + 2, w + 2]``: ``[h, w]``."""
    down, across = blur[0] * _HALF, blur[1] * _HALF
    row = np.empty(padded.shape[1], np.float32)
    for r in range(out.shape[0]):
        above, here, below = padded[r], padded[r + 1], padded[r + 2]
        for c in range(row.shape[0]):
            row[c] = here[c] + down * ((above[c] - here[c]) + (below[c] - here[c]))
        for c in range(out.shape[1]):
            out[r, c] = row[c + 1] + across * ((row[c] - row[c + 1]) + (row[c + 2] - row[c + 1]))


@jit
def _extremes(padded: _Floats, low: _Floats, high: _Floats) -> None:
    """The least and the most of each cell and its eight neighbors."""
    least, most = np.empty(padded.shape[1], np.float32), np.empty(padded.shape[1], np.float32)
    for r in range(low.shape[0]):
        above, here, below = padded[r], padded[r + 1], padded[r + 2]
        for c in range(least.shape[0]):
            least[c] = min(min(above[c], here[c]), below[c])
            most[c] = max(max(above[c], here[c]), below[c])
        for c in range(low.shape[1]):
            low[r, c] = min(min(least[c], least[c + 1]), least[c + 2])
            high[r, c] = max(max(most[c], most[c + 1]), most[c + 2])


@jit
def guide_lines(
    mean: _Floats,
    variance: _Floats,
    blur: tuple[np.float32, np.float32],
    ridge: np.float32,
    texture: np.float32,
    margin: np.float32,
    lightness: _Floats,
    pull: _Floats,
    bend: _Floats,
) -> None:
    """Prepare what ``local_lines`` and ``paint`` need of the lightness, the same for all draws.

    Args:
        mean, variance: ``[h, w]`` float32, of f(Y) in the cells.
        blur: share of a cell's mean, down and across, that is its neighbors' when values are interpolated.
        ridge, texture, margin: see ``condgen.color.guide``.
        lightness: ``[1, 3, h, w]`` float32, written: see ``paint``.
        pull: ``[9, h, w]`` float32, written: what the slope has of each neighbor's difference, row by row.
        bend: ``[h, w]`` float32, written: the mean less what interpolation makes of it.
    """
    height, width = mean.shape
    padded, noise = np.empty((height + 2, width + 2), np.float32), np.empty((height + 2, width + 2), np.float32)
    low, high = lightness[0, 1], lightness[0, 2]
    _pad(variance, noise)
    _extremes(noise, low, high)
    _pad(mean, padded)
    _blur(padded, blur, bend)
    spread = np.empty(width, np.float32)
    for r in range(height):
        for c in range(width):
            spread[c] = _CELLS * (ridge + texture * low[r, c])
            bend[r, c] = mean[r, c] - bend[r, c]
        for k in range(9):
            row, part = padded[r + k // 3, k % 3 :], pull[k, r]
            for c in range(width):
                part[c] = row[c] - mean[r, c]
                spread[c] += part[c] * part[c]
        for k in range(9):
            part = pull[k, r]
            for c in range(width):
                part[c] /= spread[c]
    _extremes(padded, low, high)
    for r in range(height):
        for c in range(width):
            widened = margin * (high[r, c] - low[r, c])
            lightness[0, 0, r, c] = mean[r, c]
            low[r, c] -= widened
            high[r, c] += widened


@jit
def local_lines(
    values: _Floats, pull: _Floats, bend: _Floats, blur: tuple[np.float32, np.float32], out: _Floats
) -> None:
    """Fit to each cell's color how it rises with the lightness around it.

    Args:
        values: ``[K, 2, h, w]`` float32, the means of offsets in the cells.
        pull, bend, blur: results of ``guide_lines``.
        out: ``[K, 4, h, w]`` float32, written: values and slopes whose interpolation has these means, see ``paint``.
    """
    height, width = bend.shape
    padded = np.empty((height + 2, width + 2), np.float32)
    blurred = np.empty((height, width), np.float32)
    low, high = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for draw in range(values.shape[0]):
        for channel in range(2):
            center, value, slope = values[draw, channel], out[draw, channel], out[draw, channel + 2]
            _pad(center, padded)
            for r in range(height):
                for c in range(width):
                    slope[r, c] = _ZERO
                for k in range(9):
                    row, part = padded[r + k // 3, k % 3 :], pull[k, r]
                    for c in range(width):
                        slope[r, c] += part[c] * (row[c] - center[r, c])
            _blur(padded, blur, value)
            _extremes(padded, low, high)
            _pad(slope, padded)
            _blur(padded, blur, blurred)
            for r in range(height):
                for c in range(width):
                    told = center[r, c] + (center[r, c] - value[r, c]) - blurred[r, c] * bend[r, c]
                    value[r, c] = min(max(told, low[r, c]), high[r, c])


@jit
def grid_values(ab: _Floats, stride: int, first: tuple[int, int], scale: _Floats, out: _Floats) -> None:
    """Write the values whose bilinear interpolation by ``stride`` a square holds.

    Of an odd stride they are the square's own at the cells' centers; of an even one they are extrapolated to there
    from the two next on either side, which is exact.

    Args:
        ab: ``[K, 2, S, S]`` float32.
        stride: stride of the grid in the square, > 1.
        first: the first cell down and across.
        scale: ``[2]`` float32, what the channels are multiplied by.
        out: ``[K, 2, h, w]`` float32, written.
    """
    last = ab.shape[2] - 1
    half = stride // 2
    taps = np.empty((2, 4), np.int64)
    for draw in range(out.shape[0]):
        for channel in range(2):
            plane = ab[draw, channel]
            for r in range(out.shape[2]):
                for c in range(out.shape[3]):
                    top, left = (first[0] + r) * stride + half, (first[1] + c) * stride + half
                    if stride % 2:
                        out[draw, channel, r, c] = plane[min(top, last), min(left, last)] * scale[channel]
                        continue
                    for k in range(4):
                        taps[0, k] = min(max(top - 2 + k, 0), last)
                        taps[1, k] = min(max(left - 2 + k, 0), last)
                    total = _ZERO
                    for k in range(4):
                        row = plane[taps[0, k]]
                        inner, outer = row[taps[1, 1]] + row[taps[1, 2]], row[taps[1, 0]] + row[taps[1, 3]]
                        weight = _INNER if k in (1, 2) else _OUTER
                        total += weight * (_INNER * inner + _OUTER * outer)
                    out[draw, channel, r, c] = total * scale[channel]
