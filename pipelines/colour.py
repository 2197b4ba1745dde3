"""Colour as a picture task: L goes in, the predicted ab comes back onto the picture's own L at its own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from condgen.colorize import Region, fit_square, recolor

__all__ = ["ColourTask"]

Rgb: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# Up to this many pixels, a picture's K draws are put back together, which converts its L once; above, one by one.
_TOGETHER_PIXELS = 8_000_000


class ColourTask:
    """Colorization for `pipelines.batch.ChunkEngine`. A picture of any size is one tile, whose colours are widened.

    Args:
        size_px: side of the square that the model takes; pictures keep their aspect in it.
        chroma: what predicted ab is multiplied by, >= 0: below 1 colours are paler, above 1 stronger, 0 is grey.
    """

    def __init__(self, size_px: int, chroma: float = 1.0) -> None:
        self._size_px = size_px
        self._chroma = chroma

    def condition(self, rgb: Rgb) -> tuple[Sequence[torch.Tensor], Region]:
        """`[H, W, 3]` uint8 or uint16 as L_n `[1, S, S]` float32, and where in the square the picture lies."""
        fitted = fit_square(rgb, self._size_px)
        return [torch.from_numpy(fitted.l_n)], fitted.region

    def pictures(self, rgb: Rgb, outputs: Iterable[torch.Tensor], context: Region) -> Iterator[Rgb]:
        """The one tile's ab_n `[K, 2, S, S]` as K pictures `[H, W, 3]` of the original's own L, size and type."""
        (y,) = outputs
        y = y * self._chroma if self._chroma != 1.0 else y
        together = rgb.shape[0] * rgb.shape[1] * y.shape[0] <= _TOGETHER_PIXELS
        step = y.shape[0] if together else 1
        for first in range(0, y.shape[0], step):
            yield from recolor(rgb, y[first : first + step], context)
