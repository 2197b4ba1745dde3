"""How much color bleeds over edges, as a number.

Of a photograph whose true color is known, the distance in ab between what was painted and the truth is averaged in
three parts of it: near its edges of color, where bleeding is; near edges of lightness alone, where a method that
follows lightness could invent color; and elsewhere, where nothing may be lost. Of two flat areas side by side, whose
answer is known, the color that crosses is measured in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from condgen.errors import ConfigError
from condgen.metrics.color import ab_distance

__all__ = ["Bleeding", "Crossing", "EdgeBands", "bleeding", "crossing", "edge_bands"]

_REFERENCE_PX = 1024  # the longer side that the lengths of `edge_bands` are for
_SIGMA_PX = 1.5
_COLOR_PER_PX, _LIGHTNESS_PER_PX = 2.0, 3.0
_BAND_PX = 10
_REACH_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class EdgeBands:
    """The parts of a photograph, ``[H, W]`` bool each; every pixel is in one.

    Attributes:
        color: near an edge of the true color.
        lightness: near an edge of lightness, and near none of color.
        elsewhere: near neither.
    """

    color: Tensor
    lightness: Tensor
    elsewhere: Tensor


@dataclass(frozen=True, kw_only=True)
class Bleeding:
    """Mean distances in ab between painted and true color; NaN of a part that has no pixel.

    Attributes:
        overall: error of all pixels.
        at_edges: near edges of color.
        at_lightness_edges: near edges of lightness alone.
        elsewhere: far from both.
    """

    overall: float
    at_edges: float
    at_lightness_edges: float
    elsewhere: float


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """How far color crosses a straight edge between two flat areas, in pixels.

    Attributes:
        width_px: the width of a band that had the other side's color altogether, and the same error as there is on
            both sides; cells of c pixels interpolated bilinearly have c / 4 where the edge lies between two cells.
        reach_px: the farthest pixel from the edge that has a tenth or more of the other side's color.
    """

    width_px: float
    reach_px: int


def _smooth(x: Tensor, sigma_px: float) -> Tensor:
    """Return ``[C, H, W]`` blurred by a Gaussian, its edges repeated."""
    radius = max(1, round(3 * sigma_px))
    kernel = torch.exp(-(torch.arange(-radius, radius + 1, dtype=x.dtype) ** 2) / (2 * sigma_px**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(x[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])[:, 0]


def _steepness(x: Tensor) -> Tensor:
    """Return the length of the gradient of ``[C, H, W]`` over all channels, per pixel, ``[H, W]``."""
    padded = F.pad(x[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return ((across / 2).square() + (down / 2).square()).sum(dim=0).sqrt()


def edge_bands(lab: Tensor) -> EdgeBands:
    """Find the edges of a photograph's true color and lightness, and what lies near them.

    An edge is where color, blurred by 1.5 px, changes by more than 2 units of ab a pixel (lightness: by more than 3 of
    L); near is within 10 px. The lengths are for a longer side of 1,024 px and grow with it.

    Args:
        lab: ``[3, H, W]`` float, CIE Lab.
    """
    scale = max(lab.shape[1:]) / _REFERENCE_PX
    sigma_px, band_px = max(_SIGMA_PX * scale, 0.7), max(round(_BAND_PX * scale), 1)

    def near(x: Tensor, per_px: float) -> Tensor:
        edges = _steepness(_smooth(x, sigma_px)) * scale > per_px
        return F.max_pool2d(edges[None].to(lab.dtype), 2 * band_px + 1, 1, band_px)[0] > 0

    color, lightness = near(lab[1:], _COLOR_PER_PX), near(lab[:1], _LIGHTNESS_PER_PX)
    return EdgeBands(color=color, lightness=lightness & ~color, elsewhere=~(color | lightness))


def bleeding(ab: Tensor, truth: Tensor, bands: EdgeBands) -> Bleeding:
    """Compare painted color with the true one, near edges and elsewhere.

    Args:
        ab: ``[2, H, W]`` float, as painted, in units of Lab.
        truth: the photograph's own ab, of the same shape.
        bands: edge bands of the photograph; see ``edge_bands``.

    Raises:
        ConfigError: arrays of other or of different shapes.
    """
    if ab.ndim != 3 or ab.shape[0] != 2 or ab.shape != truth.shape or ab.shape[1:] != bands.color.shape:
        allowed = f"[2, H, W], the truth's {list(truth.shape)} and the bands' {list(bands.color.shape)}"
        raise ConfigError("ab", list(ab.shape), allowed)
    distance = ab_distance(ab, truth)
    return Bleeding(
        overall=float(distance.mean()),
        at_edges=float(distance[bands.color].mean()),
        at_lightness_edges=float(distance[bands.lightness].mean()),
        elsewhere=float(distance[bands.elsewhere].mean()),
    )


def crossing(ab: Tensor, left: Tensor, right: Tensor, edge_px: int) -> Crossing:
    """Measure the color that crosses a vertical edge between two flat areas.

    Args:
        ab: ``[2, H, W]`` float, as painted.
        left, right: ``[2]``, the areas' true colors, which differ.
        edge_px: the first column of the right area.
    """
    contrast = (right - left).square().sum().sqrt()
    truth = torch.cat([left[:, None].expand(2, edge_px), right[:, None].expand(2, ab.shape[2] - edge_px)], dim=1)
    error = ab_distance(ab, truth[:, None]) / contrast
    columns = torch.nonzero(error.amax(dim=0) >= _REACH_SHARE)[:, 0]
    distances = torch.where(columns < edge_px, edge_px - columns, columns - edge_px + 1)
    return Crossing(width_px=float(error.sum(dim=1).mean()), reach_px=int(distances.max()) if len(columns) else 0)
