"""The quantized ab plane of Zhang et al. 2016, "Colorful Image Colorization" (arXiv:1603.08511), section 2.2."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.color.lab import rgb_to_lab
from condgen.errors import ConfigError, DatasetError
from condgen.statistics import AB_GRID_POINTS, AB_GRID_STEP, DatasetStatistics

__all__ = ["AbBins", "gamut_points"]

_LIMIT = 120
"""Points beyond this are never near the gamut."""

_MARGIN_STEPS = 1.35
"""How far from the nearest sRGB color a bin's center may lie, in grid steps."""

_COLORS_PER_AXIS = 26
"""Of the lattice of sRGB colors that stands for all of them; one of 86 a side gives the same points."""

_LEAST_SQUARED_DISTANCE = 1.0
"""Below it, in squared ab units, a median counts a bin as no nearer: Weiszfeld's step would not be defined at a bin."""

_MEDIAN_PIXELS = 512

_TABLE_STEP = 2
"""Resolution of the table of nearest bins, in ab units."""


@cache
def gamut_points(grid_step: int) -> NDArray[np.float32]:
    """Return the centers of the ab bins, ``[Q, 2]`` float32, ordered by a, then b.

    The rule: the points (i * step, j * step) that lie within 1.35 steps of the ab of some sRGB color. At step
    10 these are 313, as many as in the paper (which doesn't state its rule); the points at which some color
    rounds are 261 of them, the others let a soft encoding straddle the gamut's edge. The count is not delicate:
    at step 10, any margin from 13.4 to 13.7 gives the same points.
    """
    levels = torch.linspace(0, 1, _COLORS_PER_AXIS, dtype=torch.float64)
    cube = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(3, -1, 1)
    # Rounded to half a unit, few distinct colors are left to measure from.
    ab = torch.from_numpy(np.unique((rgb_to_lab(cube)[1:, :, 0].T * 2).round().numpy(), axis=0)) / 2
    axis = torch.arange(-(_LIMIT // grid_step), _LIMIT // grid_step + 1, dtype=torch.float64) * grid_step
    points = torch.cartesian_prod(axis, axis)
    distance = torch.cdist(points, ab).amin(dim=1)
    in_gamut: NDArray[np.float32] = points[distance <= _MARGIN_STEPS * grid_step].float().numpy()
    return in_gamut


class AbBins:
    """A grid over the ab plane, and the ways between colors and its bins.

    All methods work on the device of what they are given. Colors are in ab units (not divided by 110).

    Args:
        grid_step: distance of neighboring bins in ab units, 5, 10 or 20.
        num_neighbors: bins that share a color's soft encoding.
        sigma: standard deviation of its Gaussian weights (ab units).

    Raises:
        ConfigError: another step, or as many neighbors as there are bins.
    """

    def __init__(self, grid_step: int = 10, *, num_neighbors: int = 10, sigma: float = 5.0) -> None:
        if grid_step not in (5, 10, 20):
            raise ConfigError("grid_step", grid_step, "one of 5, 10, 20")
        self.centers = torch.from_numpy(gamut_points(grid_step).copy())
        if not 1 <= num_neighbors < len(self.centers):
            raise ConfigError("num_neighbors", num_neighbors, f"from 1 to {len(self.centers) - 1}")
        self.num_neighbors = num_neighbors
        self.sigma = sigma
        self._table = torch.from_numpy(_nearest_table(grid_step, num_neighbors))

    def __len__(self) -> int:
        return len(self.centers)

    def to(self, device: torch.device) -> AbBins:
        """Move the tables to ``device`` (where they are not there yet) and return self."""
        if self.centers.device != device:
            self.centers = self.centers.to(device)
            self._table = self._table.to(device)
        return self

    def _candidates(self, ab: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest bins ``[..., H, W, k]`` int64 and squared distances to them, nearest first or so.

        The table's entry is that of the table's point nearest to the color, at most 1.5 units away.
        """
        a, b = ab.unbind(-3)
        half = _LIMIT // _TABLE_STEP
        row = (a / _TABLE_STEP).round().clamp(-half, half).long() + half
        column = (b / _TABLE_STEP).round().clamp(-half, half).long() + half
        index = self._table[row * (2 * half + 1) + column].long()
        centers = self.centers[index]
        squared = (a[..., None] - centers[..., 0]).square() + (b[..., None] - centers[..., 1]).square()
        return index, squared

    def nearest(self, ab: Tensor) -> Tensor:
        """Return the bin nearest to each color.

        Args:
            ab: ``[..., 2, H, W]`` float32.

        Returns:
            ``[..., H, W]`` int64. Colors beyond +-120 count as at +-120.
        """
        index, squared = self._candidates(ab)
        return index.gather(-1, squared.argmin(dim=-1, keepdim=True))[..., 0]

    def soft_encode(self, ab: Tensor) -> tuple[Tensor, Tensor]:
        """Return each color's soft target over its nearest bins.

        Args:
            ab: ``[..., 2, H, W]`` float32.

        Returns:
            Bins ``[..., H, W, k]`` int64, and weights ``[..., H, W, k]`` float32 in proportion to
            exp(-distance^2 / 2 sigma^2), which sum to 1.
        """
        index, squared = self._candidates(ab)
        nearest = squared.amin(dim=-1, keepdim=True)  # taken out so that a far color's weights do not vanish
        weight = torch.exp((nearest - squared) / (2 * self.sigma**2))
        return index, weight / weight.sum(dim=-1, keepdim=True)

    def decode(self, bins: Tensor) -> Tensor:
        """Return the centers of bins ``[..., H, W]`` int64 as colors ``[..., 2, H, W]`` float32."""
        return self.centers[bins].movedim(-1, -3)

    def decode_mean(self, probabilities: Tensor) -> Tensor:
        """Return the mean color ``[..., 2, H, W]`` of probabilities over bins ``[..., H, W, Q]``."""
        return (probabilities @ self.centers.to(probabilities.dtype)).movedim(-1, -3)

    def decode_median(self, probabilities: Tensor, iterations: int = 8) -> Tensor:
        """Return the geometric median ``[..., 2, H, W]`` of probabilities over bins ``[..., H, W, Q]``.

        It is the color with the least expected distance to the true one, E|c - y|, where the mean has the least
        expected squared distance: the curves of Zhang et al. 2016 count distances. Found by Weiszfeld's iterations
        (1937), from the mean on: each is the mean of the bins weighted by p / |c - bin|.
        """
        centers = self.centers.to(probabilities.dtype)
        colors = []
        for weights in torch.split(
            probabilities.reshape(-1, len(self)), _MEDIAN_PIXELS
        ):  # some at a time stay in the cache
            color = weights @ centers
            for _ in range(iterations):
                # |x - c|^2 = |c|^2 - 2 x.c + |x|^2, by one matrix product
                squared = torch.addmm(centers.square().sum(dim=1), color, centers.T, alpha=-2.0)
                squared += color.square().sum(dim=1, keepdim=True)
                near = squared.clamp_min_(_LEAST_SQUARED_DISTANCE).rsqrt_().mul_(weights)
                color = (near @ centers) / near.sum(dim=-1, keepdim=True)
            colors.append(color)
        return torch.cat(colors).reshape(*probabilities.shape[:-1], 2).movedim(-1, -3)

    def smoothed_prior(self, statistics: DatasetStatistics, sigma: float) -> Tensor:
        """Return a training set's distribution over the bins, smoothed by a Gaussian: ``[Q]`` float64 on the CPU.

        Args:
            statistics: statistics of the training set.
            sigma: standard deviation of the Gaussian (ab units).

        Raises:
            DatasetError: the statistics hold no colors.
        """
        counts = self.count(statistics)
        if float(counts.sum()) == 0.0:
            raise DatasetError("the training set's statistics hold no colors: count at least one image")
        centers = self.centers.double().cpu()
        kernel = torch.exp(-torch.cdist(centers, centers).square() / (2 * sigma**2))
        return (counts / counts.sum()) @ (kernel / kernel.sum(dim=1, keepdim=True))

    def count(self, statistics: DatasetStatistics) -> Tensor:
        """Return the colors of a training set by bin, ``[Q]`` float64 on the CPU."""
        half = AB_GRID_POINTS // 2
        axis = (torch.arange(AB_GRID_POINTS, dtype=torch.float32) - half) * AB_GRID_STEP
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).to(self.centers.device)
        bins = self.nearest(grid).flatten().cpu()
        counts = torch.from_numpy(statistics.ab_histogram).double().flatten()
        return torch.zeros(len(self), dtype=torch.float64).index_add_(0, bins, counts)


@cache
def _nearest_table(grid_step: int, num_neighbors: int) -> NDArray[np.int16]:
    """Return the nearest bins of each point of a fine grid over the ab plane, nearest first, ``[P * P, k]``."""
    half = _LIMIT // _TABLE_STEP
    axis = torch.arange(-half, half + 1, dtype=torch.float32) * _TABLE_STEP
    centers = torch.from_numpy(gamut_points(grid_step))
    points = torch.cartesian_prod(axis, axis)
    nearest = torch.cdist(points, centers).topk(num_neighbors, largest=False)[1]
    table: NDArray[np.int16] = nearest.to(torch.int16).numpy()
    return table
