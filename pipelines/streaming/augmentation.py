"""Augmentation: a random square of an image, maybe mirrored, always the same for (seed, epoch, sample).

A crop takes four numbers of the sample's own: its side, where it lies, and whether it is mirrored. They come from a
counter-based generator (Philox's raw words, as in `condgen.noise`), keyed by the run's seed, the epoch and the sample,
so that they depend on neither workers nor order. Free of torch, which the tasks that decode would import for nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Augmentation", "Crop", "draw_crop"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Options by which images become squares.

    Attributes:
        size_px: S, the side of the square that comes out.
        crop_scale_min: smallest side of the crop, as a share of the image's shorter side; 1 takes the largest.
        flip: whether half of the samples are mirrored left to right.
        is_middle: whether every crop is the largest square in the image's middle, so that nothing is random.
    """

    size_px: int
    crop_scale_min: float = 1.0
    flip: bool = False
    is_middle: bool = False


@dataclass(frozen=True)
class Crop:
    """One sample's augmentation in one epoch.

    Attributes:
        scale: side of the crop as a share of the image's shorter side, in (0, 1].
        top, left: place of the crop, as a share of the room that it has, in [0, 1).
        mirrored: whether it is mirrored left to right.
    """

    scale: float
    top: float
    left: float
    mirrored: bool

    def decode_px(self, size_px: int) -> int:
        """Return the shorter side that a decoder must keep, so that the crop is not enlarged more than it need be."""
        return math.ceil(size_px / self.scale)

    def apply(self, rgb: npt.NDArray[np.uint8], size_px: int) -> npt.NDArray[np.uint8]:
        """Cut the crop out of an image ``[H, W, 3]`` and resize it to ``[S, S, 3]`` uint8, antialiased.

        The same crop applied to the two images of a pair of equal shape takes the same part of both.
        """
        height, width = rgb.shape[:2]
        side = self.scale * min(height, width)
        top, left = self.top * (height - side), self.left * (width - side)
        if side == size_px and top.is_integer() and left.is_integer():  # nothing to resize: the same pixels, no copies
            pixels = rgb[int(top) : int(top) + size_px, int(left) : int(left) + size_px]
            return pixels[:, ::-1] if self.mirrored else pixels
        box = (left, top, left + side, top + side)
        square = Image.fromarray(rgb).resize((size_px, size_px), Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(square)
        return pixels[:, ::-1] if self.mirrored else pixels


def draw_crop(augmentation: Augmentation, *, seed: int, epoch: int, source: str, key: str) -> Crop:
    """Draw the crop of a sample in an epoch of a run."""
    if augmentation.is_middle:
        return Crop(1.0, 0.5, 0.5, mirrored=False)
    text = json.dumps([seed, epoch, source, key], ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("ascii")).digest()
    philox = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64))
    scale, top, left, mirrored = ((philox.random_raw(4) >> np.uint64(11)) * 2.0**-53).tolist()
    smallest = augmentation.crop_scale_min
    return Crop(smallest + (1.0 - smallest) * scale, top, left, augmentation.flip and mirrored < 0.5)
