"""Colorization: L goes into the model, and the predicted ab comes back onto the image's own L at its own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from condgen.checks import check_choice
from condgen.color.colorize import Region, fit_square, recolor
from condgen.color.guide import make_guide
from condgen.errors import JobError
from pipelines.models.task import Rgb

__all__ = ["UPSAMPLING", "ColorizeTask"]

UPSAMPLING = ("guided", "bilinear")
"""The ways in which color comes to an image's own size: along its edges (`condgen.color.guide`), or across them."""


# Up to this many pixels, an image's K draws are put back together, which converts its L once; above, one by one.
_TOGETHER_PIXELS = 8_000_000


class ColorizeTask:
    """Colorization for `pipelines.batch.engine.ChunkEngine`. An image of any size is one tile.

    Args:
        size_px: side of the square that the model takes (pixels); images keep their aspect in it.
        chroma: factor of the predicted ab (>= 0; below 1 colors are paler, above 1 stronger, 0 is grey).
        upsampling: one of `UPSAMPLING`.
        stride: pixels of the square, down and across, to each value that the model predicts before its own bilinear
            upsampling; >= 1. It matters to guided upsampling alone.
        device: device that puts colors onto images (default: the CPU); see `condgen.color.colorize.recolor`.

    Raises:
        ConfigError: an unknown upsampling.
    """

    def __init__(
        self,
        size_px: int,
        chroma: float = 1.0,
        *,
        upsampling: str = "bilinear",
        stride: int = 1,
        device: torch.device | None = None,
    ) -> None:
        check_choice("upsampling", upsampling, UPSAMPLING)
        self._size_px = size_px
        self._chroma = chroma
        self._guided = upsampling == "guided"
        self._stride = stride
        self._device = device

    def condition(self, rgb: Rgb) -> tuple[Sequence[torch.Tensor], Region]:
        """Return `[H, W, 3]` uint8 or uint16 as L_n `[1, S, S]` float32, and where in the square the image lies."""
        fitted = fit_square(rgb, self._size_px)
        return [torch.from_numpy(fitted.l_n)], fitted.region

    def images(self, rgb: Rgb, outputs: Iterable[torch.Tensor], context: Region) -> Iterator[Rgb]:
        """Turn the one tile's ab_n `[K, 2, S, S]` into K images `[H, W, 3]` of the original's own L, size and type.

        Raises:
            JobError: the device's memory is full.
        """
        (y,) = outputs
        y = y * self._chroma if self._chroma != 1.0 else y
        together = rgb.shape[0] * rgb.shape[1] * y.shape[0] <= _TOGETHER_PIXELS
        step = y.shape[0] if together else 1
        guide = make_guide(rgb, context, self._stride) if self._guided else None
        for first in range(0, y.shape[0], step):
            try:
                images = recolor(rgb, y[first : first + step], context, guide=guide, device=self._device)
            except torch.OutOfMemoryError as error:
                raise JobError(
                    "colors ran out of the device's memory: run again with a smaller --batch-size"
                ) from error
            yield from images
