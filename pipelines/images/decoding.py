"""Encoded images are decoded to sRGB arrays.

Whatever a photographer's disk holds is decoded as a viewer shows it, or refused with an ``ImageError`` that says why.
An image is never half there, never clipped, and a header is believed only up to a bound of pixels. A file of several
images gives the first; a TIFF gives the first page that is a full image, neither a reduced copy nor a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from condgen.errors import ImageError
from pipelines.images.color_tags import color_of, exif_color
from pipelines.images.formats import (
    DECODE_ERRORS,
    MAX_PIXELS,
    exif_orientation,
    image_error,
    open_image,
    orientation_of,
)
from pipelines.images.high_depth import decode_deep, is_deep_only
from pipelines.images.icc import deep_to_srgb, to_8_bits, to_srgb
from pipelines.images.jpeg import Colors, JpegHeader, check_scans, decode_jpeg, mended_jpeg, read_header
from pipelines.images.jpegxl import jpeg_of

__all__ = ["ImageInfo", "decode", "probe"]


_JPEG_COLORS: Mapping[str, Colors] = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Size and coding of an image, from its header.

    Attributes:
        width, height: size as displayed, after the EXIF orientation (pixels).
        format: name of the format, one of ``FORMATS``.
        mode: Pillow's name of the channels as stored: ``RGB``, ``CMYK``, ``P``, ``I;16``...
    """

    width: int
    height: int
    format: str
    mode: str


def probe(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Read an image's header, without decoding it.

    Args:
        data: bytes of the file.
        max_pixels: largest product of width and height (default: ``MAX_PIXELS``).

    Raises:
        ImageError: stage ``decode``: not an image of a known format, or one of more than ``max_pixels``.
    """
    try:
        image, name = open_image(data, max_pixels)
        width, height = image.size
        if orientation_of(image, name, data) >= 5:
            width, height = height, width
        return ImageInfo(width, height, name, image.mode)
    except DECODE_ERRORS as error:
        raise image_error("decode", error) from error


@overload
def decode(
    data: bytes,
    *,
    min_size_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
    out: NDArray[np.uint8] | None = None,
    keep_16_bit: Literal[False] = False,
) -> NDArray[np.uint8]: ...


@overload
def decode(
    data: bytes,
    *,
    min_size_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
    out: NDArray[np.uint8] | None = None,
    keep_16_bit: bool,
) -> NDArray[np.uint8] | NDArray[np.uint16]: ...


def decode(
    data: bytes,
    *,
    min_size_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
    out: NDArray[np.uint8] | None = None,
    keep_16_bit: bool = False,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode an image as it is displayed.

    The EXIF orientation is applied. What the file tells of its colors is followed where it works (sRGB itself costs
    nothing). CMYK, greyscale, palettes and 16 bits become 8-bit sRGB. Transparent parts are put on white.

    Args:
        data: bytes of the file.
        min_size_px: smallest short side that is needed (pixels; default: full size). A JPEG may then come back smaller
            by 2, 4 or 8 (DCT scaling, many times faster); other formats come back at full size.
        max_pixels: largest product of width and height (default: ``MAX_PIXELS``); larger images are refused before
            they are decoded.
        out: array to fill, ``[H, W, 3]`` uint8, C-contiguous (default: a new one), such as a place in a batch. It is
            used where the image has its shape; what it holds otherwise, or after an error, is not defined.
        keep_16_bit: whether PNG, TIFF and JPEG 2000, grey or RGB, of more than 8 bits a channel come back as uint16 at
            full precision (default: no). 65535 is white (12 bits are scaled to it); ``out`` is not used for them.

    Returns:
        ``[H, W, 3]`` uint8, sRGB; ``out`` itself or another array. With ``keep_16_bit`` perhaps uint16.

    Raises:
        ImageError: stage ``decode``: damaged, cut, not an image, or too large.
    """
    try:
        plain = _decode_plain(data, min_size_px, max_pixels, out)
        if plain is not None:
            return plain
        image, name = open_image(data, max_pixels)
        packed = jpeg_of(data) if name == "JPEGXL" else None
        if packed is not None:
            return decode(packed, min_size_px=min_size_px, max_pixels=max_pixels, out=out)
        orientation = orientation_of(image, name, data)
        if keep_16_bit or is_deep_only(image, name):
            deep = decode_deep(data, image, name, max_pixels)
            if deep is not None:
                color = color_of(image, name, data)
                wide = np.ascontiguousarray(_displayed(deep_to_srgb(deep.samples, deep.white, color), orientation))
                return wide if keep_16_bit and deep.is_deep else _placed(to_8_bits(wide), out)
        loaded = _load_jpeg(data, image, min_size_px, max_pixels) if name == "JPEG" else image
        loaded.load()
        pixels = np.array(to_srgb(loaded, name, color_of(image, name, data)), dtype=np.uint8)
        return _placed(np.ascontiguousarray(_displayed(pixels, orientation)), out)
    except DECODE_ERRORS as error:
        raise image_error("decode", error) from error


def _decode_plain(
    data: bytes, min_size_px: int | None, max_pixels: int, out: NDArray[np.uint8] | None
) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG without Pillow; None for everything else."""
    header = read_header(data)
    if header is None or not header.is_plain or header.width * header.height > max_pixels:
        return None
    if header.exif and exif_color(header.exif) is not None:
        return None
    orientation = exif_orientation(header.exif) if header.exif else 1
    rgb = decode_jpeg(data, header, "RGB", _scale(header, min_size_px), out if orientation == 1 else None)
    if rgb is None or orientation == 1:
        return rgb
    return _placed(np.ascontiguousarray(_displayed(rgb, orientation)), out)


def _scale(header: JpegHeader, min_size_px: int | None) -> int:
    """Return the largest scale at which the short side is not too small: 1, 2, 4 or 8."""
    if min_size_px is None:
        return 1
    fitting = min(header.width, header.height) // max(1, min_size_px)
    return next((scale for scale in (8, 4, 2) if fitting >= scale), 1)


def _load_jpeg(data: bytes, image: ImageFile.ImageFile, min_size_px: int | None, max_pixels: int) -> Image.Image:
    """Decode any JPEG; Pillow, which does not tell of damage, has only those that TurboJPEG does not know.

    Raises:
        ImageError: the JPEG is cut or damaged.
    """
    header = read_header(data)
    if header is None:
        raise ImageError("decode", "CutImage", "the JPEG ends before its image, or its header is damaged")
    colors = _JPEG_COLORS.get(image.mode)
    if colors is not None:
        pixels = decode_jpeg(data, header, colors, _scale(header, min_size_px))
        if pixels is not None:
            return Image.fromarray(_as_pillow(pixels), image.mode)
    check_scans(data, header)
    mended = mended_jpeg(data, header)
    images = []
    for stray in (b"", bytes(range(1, 99))):
        image, _ = open_image(mended[:-2] + stray + mended[-2:], max_pixels)
        if min_size_px is not None:
            image.draft(None, (max(1, min_size_px), max(1, min_size_px)))
        image.load()
        images.append(image)
    if images[0].tobytes() != images[1].tobytes():  # a whole image has no use for what follows it
        raise ImageError("decode", "CutImage", "the JPEG's data ends before the image does: it was cut or is damaged")
    return images[0]


def _as_pillow(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the samples of a JPEG as Pillow gives them: CMYK inverted, as Adobe's programs write it."""
    if pixels.shape[2] == 4:
        return np.subtract(255, pixels, dtype=np.uint8)
    return pixels if pixels.shape[2] == 3 else pixels[..., 0]


def _placed(rgb: NDArray[np.uint8], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if out is None or out.shape != rgb.shape:
        return rgb
    out[...] = rgb
    return out


def _displayed(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror stored pixels as the EXIF orientation says (EXIF 2.32, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
