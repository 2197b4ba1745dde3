"""Evenly spaced levels of numbers: between values and their indices, and the combinations of several channels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["UniformBins", "from_levels", "to_levels"]


def to_levels(values: Tensor, num: int, limit: float) -> Tensor:
    """Return the nearest of ``num`` levels from -limit to limit, int64 of any shape; what is beyond gets the last."""
    index = ((values + limit) * ((num - 1) / (2 * limit))).round()
    return index.clamp(0, num - 1).long()


def from_levels(index: Tensor, num: int, limit: float) -> Tensor:
    """Return the levels' values, float32."""
    return index.float() * (2 * limit / (num - 1)) - limit


class UniformBins:
    """``num_levels`` a channel, both limits included; a pixel's bins are all combinations, the last channel innermost.

    It has the interface of ``condgen.color.ab_bins.AbBins``; its encoding is hard, of one bin with the weight 1.

    Args:
        num_levels: levels of a channel, >= 2.
        channels: C.
        limit: largest absolute value.
    """

    def __init__(self, num_levels: int, channels: int = 1, *, limit: float = 1.0) -> None:
        self.num_levels, self.channels, self.limit = num_levels, channels, limit
        axis = from_levels(torch.arange(num_levels), num_levels, limit)
        grid = torch.meshgrid(*[axis] * channels, indexing="ij")
        self.centers = torch.stack(grid, dim=-1).reshape(-1, channels)

    def __len__(self) -> int:
        return len(self.centers)

    def to(self, device: torch.device) -> UniformBins:
        """Move the table to ``device`` (where it is not there yet) and return self."""
        if self.centers.device != device:
            self.centers = self.centers.to(device)
        return self

    def nearest(self, values: Tensor) -> Tensor:
        """Return the bin nearest to each pixel of ``[..., C, H, W]``, ``[..., H, W]`` int64."""
        levels = to_levels(values, self.num_levels, self.limit)
        bins = torch.zeros_like(levels[..., 0, :, :])
        for channel in levels.unbind(-3):
            bins = bins * self.num_levels + channel
        return bins

    def soft_encode(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``nearest`` as bins ``[..., H, W, 1]`` and their weights, ones of the same shape."""
        bins = self.nearest(values)[..., None]
        return bins, torch.ones_like(bins, dtype=torch.float32)

    def decode(self, bins: Tensor) -> Tensor:
        """Return the centers of bins ``[..., H, W]`` int64, ``[..., C, H, W]`` float32."""
        return self.centers[bins].movedim(-1, -3)

    def decode_mean(self, probabilities: Tensor) -> Tensor:
        """Return the mean ``[..., C, H, W]`` of probabilities over bins ``[..., H, W, Q]``."""
        return (probabilities @ self.centers.to(probabilities.dtype)).movedim(-1, -3)
