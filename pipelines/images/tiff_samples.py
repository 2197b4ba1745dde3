"""TIFFs whose samples Pillow has no mode for, or shows wrongly, are opened and decoded here.

These are signed integers and floats, samples of 1 to 64 bits in any number that is not 1, 2, 4, 8 or 16, and color maps
on the scale of 8 bits or with indices of more than 8. libtiff, in imagecodecs, gives the numbers. What is black and
what is white follows from the type of the numbers, or from ``SMinSampleValue`` and ``SMaxSampleValue`` (TIFF 6.0,
section 19) where a type has no range of its own. ``MinSampleValue`` and ``MaxSampleValue`` say nothing of appearance
(section 8).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImagePalette, TiffImagePlugin

from condgen.errors import ImageError
from pipelines.images.tiff_pages import with_first_page

__all__ = ["TiffPage", "decode_samples"]

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 284, 338, 339
_COLOR_MAP, _S_MIN, _S_MAX, _PROFILE = 320, 340, 341, 34675
_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _SEPARATE = 0, (0, 1), 2, 3, 2
_UNSIGNED, _SIGNED, _FLOAT = (1, 4), 2, 3
_PREMULTIPLIED, _STRAIGHT = 1, 2
_MAX_BYTES_A_PIXEL = 16
"""Bytes of samples for each pixel that is allowed: four floats of 32 bits."""


class TiffPage(TiffImagePlugin.TiffImageFile):
    """Pillow's TIFF, which opens samples of any kind.

    Attributes:
        is_odd: whether the samples of the page are for ``decode_samples`` and not for Pillow. Its size is that of the
            stored image then.
        is_readable: whether the page can be decoded at all.
    """

    is_odd: bool
    is_readable: bool

    def _setup(self) -> None:
        self.is_odd, self.is_readable = False, True
        try:
            super()._setup()
        except SyntaxError as error:
            if str(error) != "unknown pixel mode":
                raise
            self._set_up_odd()
        else:
            bits, kinds = self._layout()
            if max(bits) > 16 or set(kinds) & {_SIGNED, _FLOAT}:
                self._set_up_odd()
            elif self.mode in ("P", "PA"):
                color_map = _color_map(self.tag_v2[_COLOR_MAP]) >> 8
                self.palette = ImagePalette.raw("RGB;L", color_map.astype(np.uint8).tobytes())

    def _layout(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        tags = self.tag_v2
        return tuple(tags.get(_BITS_PER_SAMPLE, (1,))), tuple(tags.get(_SAMPLE_FORMAT, (1,)))

    def _set_up_odd(self) -> None:
        tags = self.tag_v2
        bits, kinds = self._layout()
        photometric, samples = tags.get(_PHOTOMETRIC, 0), tags.get(_SAMPLES, 1)
        needed = 3 if photometric == _RGB else 1
        is_known = len(set(bits)) == len(set(kinds)) == 1 and max(bits) <= 64 and samples >= needed
        modes = {0: "L", 1: "L", _RGB: "RGB", _PALETTE: "P"}
        self.is_readable = is_known and photometric in modes and kinds[0] in (*_UNSIGNED, _SIGNED, _FLOAT)
        mode = modes.get(photometric, "L")
        self._mode = "I;16" if mode == "L" and max(bits) > 8 else mode
        self._size = self._tile_size
        self.is_odd, self.use_load_libtiff, self.tile = True, True, []
        if _PROFILE in tags:
            self.info["icc_profile"] = tags[_PROFILE]


def decode_samples(data: bytes, page: TiffPage, max_pixels: int) -> tuple[NDArray[np.uint16], bool]:
    """Decode the samples of a page that is odd.

    Args:
        data: bytes of the file.
        page: the page, open.
        max_pixels: largest product of width and height, which the header was checked against.

    Returns:
        ``[H, W, 1 to 4]`` uint16 as stored (not turned), 65535 being white and opaque: grey or RGB, perhaps with
        alpha; and whether the file has more than 8 bits a sample.

    Raises:
        ImageError: stage ``decode``: the file is damaged, or what is white is not known.
    """
    from imagecodecs import TiffError, tiff_decode  # 0.3 s, for the few images that need it

    tags = page.tag_v2
    bits, photometric, samples = tags.get(_BITS_PER_SAMPLE, (1,))[0], tags.get(_PHOTOMETRIC, 0), tags.get(_SAMPLES, 1)
    width, height = page.size
    if width * height * samples * ((bits + 7) // 8) > max_pixels * _MAX_BYTES_A_PIXEL:
        reason = f"{width} x {height} pixels of {samples} x {bits} bits are more than is allowed"
        raise ImageError("decode", "TooManyPixels", reason)
    try:
        numbers = np.asarray(tiff_decode(with_first_page(data, tags.offset)))
    except TiffError as error:
        raise ImageError("decode", "TiffError", "libtiff can't decode it: damaged or cut") from error
    if tags.get(_PLANAR) == _SEPARATE and numbers.ndim == 3:
        numbers = np.moveaxis(numbers, 0, -1)
    numbers = numbers.reshape(*numbers.shape[:2], -1)
    if numbers.shape != (height, width, samples):
        raise ImageError("decode", "LyingHeader", "the header tells of another size or layout than the image has")
    if bits == 24:  # imagecodecs takes them for a stream of bits, and libtiff gives bytes in the machine's order
        numbers = numbers.astype(np.uint32).byteswap() >> 8
    if photometric == _PALETTE:
        color_map = _color_map(tags[_COLOR_MAP]).reshape(3, -1)
        return color_map.T[np.minimum(numbers[..., 0], color_map.shape[1] - 1)], False
    colors = 3 if photometric == _RGB else 1
    levels = _scaled(numbers[..., :colors], page)
    if photometric == _WHITE_IS_ZERO:
        levels = 65535 - levels
    return _with_alpha(levels, numbers[..., colors:], page), bits > 8


def _color_map(values: Iterable[int]) -> NDArray[np.uint16]:
    """Return a color map on the scale of 16 bits; old programs wrote that of 8 bits (libtiff looks for it alike)."""
    color_map = np.array(list(values), np.uint16)
    return color_map * np.uint16(257) if color_map.max(initial=0) < 256 else color_map


def _scaled(values: NDArray[Any], page: TiffPage) -> NDArray[np.uint16]:
    """Scale samples to 0..65535, black to white as their type or the file tells."""
    tags = page.tag_v2
    bits, kind = tags.get(_BITS_PER_SAMPLE, (1,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0]
    is_plain = kind in _UNSIGNED and bits <= 16
    bounds = None if is_plain else _told_range(tags.get(_S_MIN), tags.get(_S_MAX))
    black, white = bounds or (0.0, 1.0 if kind == _FLOAT else float((1 << (bits - (kind == _SIGNED))) - 1))
    if bounds is None and not is_plain:
        least, most = float(values.min(initial=0)), float(values.max(initial=0))
        if kind == _FLOAT and not (least >= 0 and most <= 1):
            raise _unknown_range("floating-point samples beyond 0 to 1")
        if least < 0:
            raise _unknown_range("negative samples")
        if bits > 16 and 0 < most < white / 512:
            raise _unknown_range(f"{bits}-bit integer samples that use less than 1/512 of their range")
    return _to_16_bits(values, black, white)


def _to_16_bits(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint16]:
    levels = np.empty(values.shape, np.uint16)
    for row, line in enumerate(values):
        shares = (line.astype(np.float64) - black) / (white - black)
        levels[row] = np.rint(np.clip(shares, 0, 1) * 65535)
    return levels


def _told_range(least: object, most: object) -> tuple[float, float] | None:
    """Return the range that SMinSampleValue and SMaxSampleValue tell, over all channels; None if they are unusable."""
    try:
        low = min(float(value) for value in (least if isinstance(least, tuple) else (least,)))
        high = max(float(value) for value in (most if isinstance(most, tuple) else (most,)))
    except (TypeError, ValueError, ArithmeticError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _with_alpha(colors: NDArray[np.uint16], extras: NDArray[Any], page: TiffPage) -> NDArray[np.uint16]:
    """Put the alpha behind the colors, which are divided by it where they were multiplied; other extras are dropped."""
    tags = page.tag_v2
    kind = (*tags.get(_EXTRA_SAMPLES, ()), _STRAIGHT if colors.shape[2] == 3 else 0)[0]
    if not extras.shape[2] or kind not in (_PREMULTIPLIED, _STRAIGHT):
        return colors
    bits, sample_format = tags[_BITS_PER_SAMPLE][0], tags.get(_SAMPLE_FORMAT, (1,))[0]
    opaque = 1.0 if sample_format == _FLOAT else float((1 << (bits - (sample_format == _SIGNED))) - 1)
    alpha = _to_16_bits(extras[..., :1], 0.0, opaque)
    if kind == _PREMULTIPLIED:
        colors = np.minimum(colors * (65535 / np.maximum(alpha, 1)), 65535).astype(np.uint16)
    return np.concatenate([colors, alpha], -1)


def _unknown_range(what: str) -> ImageError:
    return ImageError("decode", "UnknownRange", f"{what}: what is black and what is white is not known")
