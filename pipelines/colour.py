"""Colour as a picture task: L goes in, the predicted ab comes back onto the picture's own L at its own size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from condgen.colorize import Region, fit_square, recolor

__all__ = ["ColourTask"]

# Up to this many pixels, a picture's K draws are put back together, which converts its L once; above, one by one.
_TOGETHER_PIXELS = 8_000_000


class ColourTask:
    """Colorization for `pipelines.batch.ChunkEngine`.

    Args:
        size_px: side of the square that the model takes; pictures keep their aspect in it.
    """

    def __init__(self, size_px: int) -> None:
        self._size_px = size_px

    def condition(self, rgb: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, Region]:
        """`[H, W, 3]` uint8 as L_n `[1, S, S]` float32, and where in the square the picture lies."""
        fitted = fit_square(rgb, self._size_px)
        return torch.from_numpy(fitted.l_n), fitted.region

    def pictures(self, rgb: npt.NDArray[np.uint8], y: torch.Tensor, context: Region) -> Iterator[npt.NDArray[np.uint8]]:
        """ab_n `[K, 2, S, S]` as K pictures `[H, W, 3]` uint8 of the original's own L and size."""
        together = rgb.shape[0] * rgb.shape[1] * y.shape[0] <= _TOGETHER_PIXELS
        step = y.shape[0] if together else 1
        for first in range(0, y.shape[0], step):
            yield from recolor(rgb, y[first : first + step], context)
