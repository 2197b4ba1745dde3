"""How good colors are: colorfulness, distance in ab, and the accuracy curves of Zhang et al.

    hits = count_hits(ab_distance(ab, truth), ab_cells(truth))       # one image
    auc_raw(hits), auc_balanced(hits)                                # in 0 to 1; sums of counts are a set's

The accuracy at a threshold t is the share of pixels whose ab lies within t of the truth; the curve runs over t = 0, 1,
..., 150, and AuC is its mean (Zhang, Isola and Efros, "Colorful Image Colorization", 2016, arXiv:1603.08511, section
4, table 1). Class-balanced, a pixel weighs one over the number of the set's true pixels in its cell of the ab plane, so
that every occupied cell counts as much (their eq. 4 with lambda = 0).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "AB_CELLS",
    "AB_CELL_UNITS",
    "NUM_THRESHOLDS",
    "ab_cells",
    "ab_distance",
    "accuracy_curves",
    "auc_balanced",
    "auc_raw",
    "cell_hits",
    "chroma",
    "colorfulness",
    "count_hits",
]

NUM_THRESHOLDS = 151
"""Thresholds of the accuracy curve: 0, 1, ..., 150 ab units."""

AB_CELL_UNITS = 10
"""Side of a cell of the ab plane. Cell (i, j) holds 10 i <= a < 10 i + 10 and 10 j <= b < 10 j + 10."""

_CELLS_PER_AXIS = 22
_FIRST_CELL = -11

AB_CELLS = _CELLS_PER_AXIS**2
"""Cells of the ab plane from -110 to 110; what is beyond counts at the edge."""

_MISSED = NUM_THRESHOLDS
"""The class of pixels that no threshold reaches."""


def colorfulness(rgb: Tensor) -> Tensor:
    """Return Hasler & Suesstrunk's colorfulness M^(3) ("Measuring colorfulness in natural images", 2003).

    With rg = R - G and yb = (R + G) / 2 - B, it is the root of the sum of their variances plus 0.3 times the
    root of the sum of their squared means. Grey is 0; the paper calls 15 slightly, 59 quite, 109 extremely
    colorful.

    Args:
        rgb: ``[..., 3, H, W]``, sRGB in 0 to 255, uint8 or float.

    Returns:
        ``[...]`` float32.
    """
    red, green, blue = rgb.float().unbind(-3)
    rg, yb = red - green, (red + green) / 2 - blue
    spread = torch.sqrt(rg.var(dim=(-2, -1), correction=0) + yb.var(dim=(-2, -1), correction=0))
    offset = torch.sqrt(rg.mean(dim=(-2, -1)).square() + yb.mean(dim=(-2, -1)).square())
    return spread + 0.3 * offset


def chroma(ab: Tensor) -> Tensor:
    """Return the mean chroma, sqrt(a^2 + b^2) in ab units, of images ``[..., 2, H, W]``: ``[...]`` of ab's type."""
    return _length(ab).mean(dim=(-2, -1))


def ab_distance(ab: Tensor, reference: Tensor) -> Tensor:
    """Return the Euclidean distance of each pixel's color, in ab units.

    Args:
        ab, reference: ``[..., 2, H, W]`` in ab units.

    Returns:
        ``[..., H, W]``, >= 0.
    """
    return _length(ab - reference)


def _length(ab: Tensor) -> Tensor:
    a, b = ab.unbind(-3)  # torch's own norm over such an axis takes ten times as long
    return (a * a + b * b).sqrt()


def ab_cells(ab: Tensor) -> Tensor:
    """Return the cell of the ab plane that each pixel lies in.

    Args:
        ab: ``[..., 2, H, W]`` in ab units.

    Returns:
        ``[..., H, W]`` int64, in 0 to ``AB_CELLS - 1``; the cells' axes are a, then b.
    """
    index = (ab / AB_CELL_UNITS).floor().long() - _FIRST_CELL
    a, b = index.clamp(0, _CELLS_PER_AXIS - 1).unbind(-3)
    return a * _CELLS_PER_AXIS + b


def count_hits(distance: Tensor, cells: Tensor) -> NDArray[np.int64]:
    """Count pixels by the cell of their true color and by the first threshold that reaches them.

    Args:
        distance: ``[..., H, W]``, see ``ab_distance``.
        cells: ``[..., H, W]`` int64, see ``ab_cells``.

    Returns:
        ``[AB_CELLS, NUM_THRESHOLDS + 1]`` int64: at [q, t] the pixels of cell q with t - 1 < distance <= t, in the last
        column those beyond 150. Counts of several images add up.
    """
    first = distance.ceil().clamp(0, _MISSED).long()
    classes = (cells * (NUM_THRESHOLDS + 1) + first).flatten()
    counts = torch.bincount(classes, minlength=AB_CELLS * (NUM_THRESHOLDS + 1))
    hits: NDArray[np.int64] = counts.reshape(AB_CELLS, NUM_THRESHOLDS + 1).numpy()
    return hits


def cell_hits(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often a pixel of each cell is within a threshold, over all 151: ``[AB_CELLS]`` int64.

    Divided by 151 times the cell's pixels it is the AuC of the cell alone.
    """
    reached: NDArray[np.int64] = counts @ (NUM_THRESHOLDS - np.arange(NUM_THRESHOLDS + 1))
    return reached


def auc_raw(counts: NDArray[np.int64]) -> float:
    """Return the area under the accuracy curve of all pixels alike, in 0 to 1; see ``count_hits``."""
    return float(cell_hits(counts).sum() / (NUM_THRESHOLDS * counts.sum()))


def auc_balanced(counts: NDArray[np.int64]) -> float:
    """Return the area under the class-balanced curve, in 0 to 1: the mean over occupied cells of each cell's AuC."""
    pixels = counts.sum(axis=1)
    occupied = pixels > 0
    return float((cell_hits(counts)[occupied] / (NUM_THRESHOLDS * pixels[occupied])).mean())


def accuracy_curves(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the raw and the class-balanced accuracy at thresholds 0, 1, ..., 150: ``[151]`` each, in 0 to 1."""
    within = counts[:, :-1].cumsum(axis=1)
    pixels = counts.sum(axis=1)
    occupied = pixels > 0
    raw: NDArray[np.float64] = within.sum(axis=0) / pixels.sum()
    balanced: NDArray[np.float64] = (within[occupied] / pixels[occupied, None]).mean(axis=0)
    return raw, balanced
