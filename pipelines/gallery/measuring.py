"""What a gallery measures of images itself, where there is no evaluation: how colorful they are, how draws differ.

The numbers are those that `condgen evaluate` calls colorfulness and diversity, both taken at 64 px here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from condgen.color.colorize import resize
from condgen.color.lab import rgb_to_lab
from condgen.errors import ImageError
from condgen.metrics.color import colorfulness
from condgen.metrics.distribution import pair_distance
from pipelines.images.decoding import decode

__all__ = ["Measurer"]

_SIZE_PX = 64
_CODES = 255.0


@dataclass(frozen=True, slots=True)
class Measurer:
    """Measures the draws of one image after the other, on one thread.

    Attributes:
        is_color: whether colors were drawn, which are compared in ab; else codes of sRGB are.
    """

    is_color: bool

    def __call__(self, draws: Sequence[bytes]) -> tuple[float | None, float | None]:
        """Return the mean colorfulness of encoded draws, and their diversity; None for what can't be had."""
        torch.set_num_threads(1)
        try:
            images = [decode(data, min_size_px=_SIZE_PX) for data in draws]
        except ImageError:
            return None, None
        height, width = images[0].shape[:2]
        scale = _SIZE_PX / min(height, width)
        size = max(_SIZE_PX, round(height * scale)), max(_SIZE_PX, round(width * scale))
        with torch.inference_mode():
            codes = torch.stack([resize(image, *size) for image in images])
            colorful = float(colorfulness(codes).mean())
            if len(images) < 2:
                return colorful, None
            unit = codes.float() / _CODES
            values = rgb_to_lab(unit)[:, 1:] if self.is_color else unit * _CODES
            return colorful, float(pair_distance(values))
