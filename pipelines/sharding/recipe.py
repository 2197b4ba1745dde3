"""The recipe by which images go into a shard: as they are, smaller, halved, or in another format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condgen.checks import check_choice
from condgen.errors import ConfigError, ImageError
from pipelines.images.decoding import ImageInfo, decode, probe
from pipelines.images.encoding import encode
from pipelines.images.formats import FORMATS

__all__ = ["RESIZE_MODES", "STATISTICS_SIZE_PX", "Recipe", "StoredImage", "half_of", "shrunk"]

STATISTICS_SIZE_PX = 64
"""Longest side of the copies that statistics are made from."""

RESIZE_MODES = {
    "short": "the shorter side becomes SIZE",
    "fit": "the longer side becomes SIZE",
    "square": "the shorter side becomes SIZE, and the middle of the longer one is kept",
}
"""Meanings of ``resize_px``; no image is ever enlarged."""

_LOSSY = frozenset({"JPEG", "WEBP", "JPEG2000", "AVIF", "HEIF", "JPEGXL"})
_FORMAT_NAMES = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Recipe by which images are stored: by default as the bytes that they are.

    Attributes:
        resize_px: size that larger images are reduced to (pixels; 0 keeps their size).
        resize_mode: one of ``RESIZE_MODES``.
        format: ``jpeg``, ``png`` or ``webp``, into which every image is encoded. Empty: an image that is kept as it
            is keeps its bytes; one that is made smaller, or a half, is JPEG where the original was lossy, else PNG.
        quality: quality of JPEG and WebP (1 to 100).
        max_pixels: most pixels of an image; larger ones are rejected by their headers.
    """

    resize_px: int = 0
    resize_mode: str = "short"
    format: str = ""
    quality: int = 95
    max_pixels: int

    def __post_init__(self) -> None:
        if self.resize_px < 0:
            raise ConfigError("resize_px", self.resize_px, "a size in pixels, or 0 to keep each image's")
        check_choice("resize_mode", self.resize_mode, RESIZE_MODES)
        if self.format and self.format not in _FORMAT_NAMES:
            raise ConfigError.unknown("format", self.format, _FORMAT_NAMES)
        if not 1 <= self.quality <= 100:
            raise ConfigError("quality", self.quality, "1 to 100")

    def apply(self, data: bytes, half: str = "") -> StoredImage:
        """Apply the recipe to the bytes of an image, or to a half of it.

        Raises:
            ImageError: the bytes are no image, or it is damaged, too large, or too small to be halved.
        """
        info = probe(data, max_pixels=self.max_pixels)
        size = self._size_of(info.width, info.height)
        if not half and not self.format and size == (info.width, info.height):
            small = decode(data, min_size_px=STATISTICS_SIZE_PX, max_pixels=self.max_pixels)
            return StoredImage(data, info, shrunk(small))
        # Twice the size that is wanted is enough for a good filter, and for a JPEG much cheaper than all of it.
        enough = 2 * min(size) if not half and size != (info.width, info.height) else None
        rgb = decode(data, min_size_px=enough, max_pixels=self.max_pixels)
        if half:
            rgb = half_of(rgb, half)
            size = self._size_of(rgb.shape[1], rgb.shape[0])
        rgb = _resized(rgb, size, square=self.resize_mode == "square" and self.resize_px > 0)
        name = self.format or ("jpeg" if info.format in _LOSSY else "png")
        made = encode(rgb, name, self.quality)
        return StoredImage(made, ImageInfo(rgb.shape[1], rgb.shape[0], _FORMAT_NAMES[name], "RGB"), shrunk(rgb))

    def _size_of(self, width: int, height: int) -> tuple[int, int]:
        """Return the size that an image is to have (of ``square``, before its middle is taken)."""
        side = max(width, height) if self.resize_mode == "fit" else min(width, height)
        if self.resize_px == 0 or side <= self.resize_px:
            square = self.resize_mode == "square" and self.resize_px > 0 and width != height
            return (min(width, height),) * 2 if square and side <= self.resize_px else (width, height)
        return max(1, round(width * self.resize_px / side)), max(1, round(height * self.resize_px / side))


@dataclass(frozen=True)
class StoredImage:
    """An image as it is stored: its bytes, what they are, and a small copy ``[h, w, 3]`` uint8 for statistics."""

    data: bytes
    info: ImageInfo
    small: NDArray[np.uint8]

    @property
    def extension(self) -> str:
        """File name extension of its format."""
        return FORMATS[self.info.format]


def half_of(rgb: NDArray[np.uint8], half: str) -> NDArray[np.uint8]:
    """Return a half of ``[H, W, 3]``: both are of one size, and the middle line of an odd number belongs to none.

    Raises:
        ImageError: there are no two halves.
    """
    axis = 1 if half in ("left", "right") else 0
    size = rgb.shape[axis] // 2
    if size < 1:
        raise ImageError("decode", "NoHalves", f"{rgb.shape[1]} x {rgb.shape[0]} pixels have no two halves")
    part = slice(size) if half in ("left", "top") else slice(rgb.shape[axis] - size, None)
    return np.ascontiguousarray(rgb[:, part] if axis else rgb[part])


def shrunk(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of at most ``STATISTICS_SIZE_PX`` a side."""
    image = Image.fromarray(rgb)
    longest = max(image.size)
    if longest > STATISTICS_SIZE_PX:
        width, height = (max(1, round(side * STATISTICS_SIZE_PX / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image)


def _resized(rgb: NDArray[np.uint8], size: tuple[int, int], *, square: bool) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    if square:
        side = min(size)
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        rgb = np.ascontiguousarray(rgb[top : top + short, left : left + short])
        size = (side, side)
    if (rgb.shape[1], rgb.shape[0]) == size:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))
