"""HEIC and other HEIF files of HEVC images are opened by libheif, and decoded by libde265.

The primary image counts, whatever else is there: a burst, thumbnails, a depth map. libheif puts the tiles of a grid
together and turns and mirrors the image as the file says; an orientation in EXIF is not to be followed (ISO/IEC
23008-12, 6.5.10).
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from condgen.errors import ImageError
from pipelines.images.boxes import coded_extents

if TYPE_CHECKING:
    from PIL import ImageFile

__all__ = ["check_heif", "decode_deep_heif", "open_heif"]

_IMPOSSIBLE = re.compile(rb"\0\0[\0-\2]")
"""Bytes that no unit of HEVC has within (ITU-T H.265, 7.4.2.1): a 3 is put in between."""


def open_heif(fp: io.BytesIO) -> ImageFile.ImageFile:
    """Open a HEIF as Pillow opens images: the header alone, the size as displayed."""
    from pi_heif import HeifImageFile, options  # for the few images that need it

    options.DECODE_THREADS = 1  # workers share the cores
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return cast("ImageFile.ImageFile", HeifImageFile(fp))


def check_heif(data: bytes) -> None:
    """Refuse a HEIF whose coded data is not all there: libde265 shows what it finds, and grey for the rest.

    The data is a row of units, each with its length before it. Zeros in place of data end the row, or can't be in it.

    Args:
        data: bytes of the file.

    Raises:
        ImageError: stage ``decode``, ``DamagedImage``.
    """
    for start, stop in coded_extents(data):
        while start < stop:
            first = start + 4
            start = first + int.from_bytes(data[start:first], "big")
            if not first < start <= stop or _IMPOSSIBLE.search(data, first, start):
                raise ImageError("decode", "DamagedImage", "parts of the HEIC's data are missing or are not its own")


def decode_deep_heif(data: bytes, image: ImageFile.ImageFile) -> tuple[NDArray[np.uint16], int] | None:
    """Decode a HEIF of more than 8 bits a channel; None where it has 8.

    Args:
        data: bytes of the file.
        image: image from ``open_heif``.

    Returns:
        ``[H, W]`` or ``[H, W, 2 to 4]`` uint16 as displayed, and the value of white.

    Raises:
        ImageError: stage ``decode``: the header lies about the size.
    """
    bits = image.info.get("bit_depth", 8)
    if bits <= 8:
        return None
    from pi_heif import open_heif as open_file  # for the few images that need it

    file = open_file(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    samples, white = np.asarray(file), (1 << bits) - 1
    if samples.dtype != np.uint16 or samples.shape[:2] != (image.height, image.width):
        raise ImageError("decode", "LyingHeader", "the header tells of another size or depth than the image has")
    if file.premultiplied_alpha:
        alpha = np.maximum(samples[..., -1:], 1).astype(np.uint32)
        straight = np.minimum(samples[..., :-1].astype(np.uint32) * white // alpha, white)
        samples = np.concatenate([straight.astype(np.uint16), samples[..., -1:]], -1)
    return np.minimum(samples, white), white
