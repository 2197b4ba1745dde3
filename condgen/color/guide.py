"""Guided upsampling: color at a model's grid follows a photograph's own lightness to its full size.

A model's color is coarse: a 160 px square in cells of 4 x 4 pixels is 40 x 40 values, 26 pixels of a photograph of
1,024 px apart. Interpolated bilinearly it crosses every edge by half of that. Here a cell's color is a straight line
over lightness, as in the guided filter (He, Sun and Tang, "Guided image filtering", 2013, eq. 4 to 6) with its
coefficients at low resolution ("Fast guided filter", He and Sun 2015):

    color(p) = v(p) + s(p) (clip(L(p)) - m(p))          v, s, m interpolated bilinearly between cells

where m is a cell's mean lightness and s the slope of a regression over its 3 x 3 neighbors, anchored at the cell,

    s = sum_k dL_k dc_k / (sum_k dL_k^2 + 9 (ridge + texture u))

It differs from the paper in four ways, each of which was measured (``benchmarks/bleeding.py``):

- the filter's own smoothing is left out: v is such that the result's mean over a cell is what the model said of the
  cell (one step of back-projection, never beyond the range of the neighbors), so that nothing is lost off edges;
- u is the least variance of lightness inside the cells of a neighborhood. Grain, halftone dots and cloth have it
  everywhere and weaken the slope; an edge crosses some of the cells alone, and does not;
- lightness is held to the range of the neighboring cells' means, widened by a share ``MARGIN``: a slope is followed
  inside what it was fitted to, and neither a highlight nor a grain of silver is extrapolated to a color;
- the slope is anchored at the cell's own color, not at the neighborhood's mean.

What depends on the lightness alone is computed once for all draws of a photograph: a ``Guide``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condgen.color._tables import Lerp, lerp_at, tables

__all__ = ["MARGIN", "RIDGE", "TEXTURE", "Guide", "make_guide"]

RIDGE = 5.0
"""Variance of L, which is in [0, 100], below which a neighborhood's lightness is taken for flat."""

TEXTURE = 2.0
"""How much the variance of L inside cells counts against a slope."""

MARGIN = 0.25
"""By how much of itself the neighboring cells' range of lightness is widened at either end."""

_L_PER_F = 116.0  # L = 116 f(Y) - 16


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What a photograph's lightness says of where its color may change: ``h x w`` cells, the same for all draws.

    Attributes:
        stride: side of a cell in the model's square, in its pixels.
        first: the first cell down and across that the photograph reaches.
        rows, columns: interpolation from the cells to the photograph's pixels.
        blur: share of a cell's mean, down and across, that is its neighbors' when values are interpolated.
        lightness: ``[1, 3, h, w]`` float32, f(Y) = (L + 16) / 116: mean, and the range to which it is held.
        pull: ``[9, h, w]`` float32, what a cell's slope has of each neighbor's difference.
        bend: ``[h, w]`` float32, the mean less what interpolation makes of it.
    """

    stride: int
    first: tuple[int, int]
    rows: Lerp
    columns: Lerp
    blur: tuple[np.float32, np.float32]
    lightness: NDArray[np.float32]
    pull: NDArray[np.float32]
    bend: NDArray[np.float32]

    def lines(self, square: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return each cell's color as a line over f(Y).

        Args:
            square: ``[K, 2, S, S]`` float32, colors in the model's square, interpolated from its grid.
            scale: ``[2]`` float32, what each channel is multiplied by.

        Returns:
            ``[K, 4, h, w]`` float32: two channels' values, and their slopes.
        """
        from condgen.color._lines import grid_values, local_lines

        shape = (square.shape[0], 2, *self.bend.shape)
        values, lines = np.empty(shape, np.float32), np.empty((shape[0], 4, *shape[2:]), np.float32)
        grid_values(np.ascontiguousarray(square), self.stride, self.first, scale, values)
        local_lines(values, self.pull, self.bend, self.blur, lines)
        return lines


class _Axis(NamedTuple):
    """How an axis lies in cells.

    The first cell, how many, how many pixels each has, and of each pixel its cell and its share in that cell.
    """

    first: int
    num_cells: int
    areas: NDArray[np.float64]
    cell: NDArray[np.int64]
    share: NDArray[np.float32]
    lerp: Lerp
    blur: np.float32


@lru_cache(maxsize=64)
def _axis(start: int, length: int, num_pixels: int, stride: int) -> _Axis:
    """Lay pixels over ``length`` pixels of the square from ``start`` on, in cells of ``stride``; no pixel is larger.

    Archives have few sizes: what is returned is shared, and only read.
    """
    first = start // stride
    num_cells = (start + length - 1) // stride - first + 1
    scale = length / num_pixels / stride
    edges = start / stride - first + np.arange(num_pixels) * scale
    cell = np.minimum(edges.astype(np.int64), num_cells - 1)
    share = np.clip((cell + 1 - edges) / scale, 0.0, 1.0)
    share[(cell == num_cells - 1) | (share > 1 - 1e-6)] = 1.0
    places = edges + scale / 2 - 0.5
    blur = math.fsum(np.abs(places - np.rint(places))) / num_pixels  # fsum: in no order of its own
    shares = share.astype(np.float32)
    areas = np.bincount(cell, shares, num_cells).astype(np.float64)
    areas[1:] += np.bincount(cell, np.float32(1) - shares, num_cells)[:-1]
    return _Axis(first, num_cells, areas, cell, shares, lerp_at(places, num_cells), np.float32(blur))


def make_guide(
    rgb: NDArray[np.uint8] | NDArray[np.uint16], region: tuple[int, int, int, int], stride: int = 1
) -> Guide | None:
    """Make the guide of a photograph, for ``condgen.color.colorize.recolor``.

    It reads the photograph once, row by row, and holds some rows of numbers and some numbers a cell. Its bytes are the
    same on any machine.

    Args:
        rgb: ``[H, W, 3]`` uint8 or uint16, sRGB, with H, W >= 1.
        region: the photograph's part of the model's square, ``Fitted.region``.
        stride: pixels of the square, down and across, to each of the values that the model really predicts
            (``out_stride`` of its configuration); >= 1.

    Returns:
        The guide; None where the photograph has fewer pixels than cells, so that there is nothing to guide.
    """
    from condgen.color._lines import guide_lines
    from condgen.color._paint import cell_moments

    top, left, region_height, region_width = region
    height, width = rgb.shape[:2]
    if height * stride < region_height or width * stride < region_width:
        return None
    rows, columns = _axis(top, region_height, height, stride), _axis(left, region_width, width, stride)
    shape = rows.num_cells, columns.num_cells
    mean, variance, bend = (np.empty(shape, np.float32) for _ in range(3))
    lightness, pull = np.empty((1, 3, *shape), np.float32), np.empty((9, *shape), np.float32)
    table = tables(int(np.iinfo(rgb.dtype).max))
    cell_moments(
        np.ascontiguousarray(rgb),
        (columns.cell, columns.share),
        (rows.cell, rows.share),
        (rows.areas, columns.areas),
        table.luminance,
        table.fy,
        mean,
        variance,
    )
    blur = rows.blur, columns.blur
    ridge = np.float32(RIDGE / _L_PER_F**2)
    guide_lines(mean, variance, blur, ridge, np.float32(TEXTURE), np.float32(MARGIN), lightness, pull, bend)
    return Guide(
        stride=stride,
        first=(rows.first, columns.first),
        rows=rows.lerp,
        columns=columns.lerp,
        blur=blur,
        lightness=lightness,
        pull=pull,
        bend=bend,
    )
