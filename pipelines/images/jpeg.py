"""Plain JPEGs, which are nearly all, are decoded by libjpeg-turbo straight into an array.

Pillow decodes with the same library, into an image of its own that is copied twice on the way to an array: that takes
2 to 3 times as long on photographs of 256 px. Whatever is not plain (profiles, CMYK, Adobe's transforms, 12 bits,
several EXIF blocks, what the library warns of) is left to Pillow, which alone judges damaged files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

__all__ = ["PlainJpeg", "decode_plain", "plain_jpeg", "too_many_scans"]

_END = b"\xff\xd9"
_SCAN, _EXIF, _PROFILE, _ADOBE = 0xDA, 0xE1, 0xE2, 0xEE
_PROGRESSIVE = 0xC2
_BASELINE_AND_PROGRESSIVE = (0xC0, _PROGRESSIVE)
_MAX_SCANNED_PIXELS = 10**10
"""Fifty scans of the largest image that is allowed; programs write up to some twenty."""
_OTHER_FRAMES = frozenset(range(0xC1, 0xD0)) - {0xC2, 0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xDA)})  # no length follows: out of place before a scan
_SMALL_PX = 64
"""Below this side two scales can give the same size, and the library would choose."""


@dataclass(frozen=True, slots=True)
class PlainJpeg:
    r"""Header of a plain JPEG, from the segments before its scan.

    Attributes:
        width, height: size as stored, before the EXIF orientation (pixels).
        exif: EXIF segment from ``Exif\0\0`` on; empty where there is none.
    """

    width: int
    height: int
    exif: bytes


def plain_jpeg(data: bytes) -> PlainJpeg | None:
    """Return the header of a plain JPEG that has its end marker, or None for what Pillow is to judge."""
    if data[:2] != b"\xff\xd8":
        return None
    position, exif, size, progressive = 2, b"", None, False
    while True:
        head = data[position : position + 4]
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker, length = head[1], head[2] << 8 | head[3]
        if marker == _SCAN:
            break
        start, stop = position + 4, position + 2 + length
        if marker == 0xFF or marker in _BARE or marker in _OTHER_FRAMES or marker == _ADOBE:
            return None
        if length < 2 or stop > len(data):
            return None
        if marker in _BASELINE_AND_PROGRESSIVE:
            if size is not None or length < 8 or data[start] != 8 or data[start + 5] not in (1, 3):
                return None
            progressive = marker == _PROGRESSIVE
            size = (data[start + 3] << 8 | data[start + 4], data[start + 1] << 8 | data[start + 2])
        elif marker == _EXIF and data.startswith(b"Exif\0\0", start):
            if exif:
                return None
            exif = data[start:stop]
        elif marker == _PROFILE and data.startswith(b"ICC_PROFILE\0", start):
            return None
        position = stop
    if size is None or min(size) < 1 or data.rfind(_END, position) < 0:
        return None
    if progressive and too_many_scans(data, position, size[0] * size[1]):
        return None
    return PlainJpeg(*size, exif)


def too_many_scans(data: bytes, position: int, pixels: int) -> bool:
    """Return whether the scans go over more pixels than is reasonable, taken together.

    Args:
        data: bytes of the file.
        position: offset of the first scan's marker (bytes).
        pixels: product of width and height.
    """
    return data.count(b"\xff\xda", position, data.find(_END, position)) * pixels > _MAX_SCANNED_PIXELS


def decode_plain(
    data: bytes, header: PlainJpeg, scale: int = 1, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG, bit for bit as Pillow does.

    Args:
        data: bytes of the file.
        header: header from ``plain_jpeg(data)``.
        scale: divisor of the sides, which are rounded up: 1, 2, 4 or 8 (DCT scaling; default: 1).
        out: array to fill, ``[H, W, 3]`` uint8, C-contiguous, used where the image has its shape (default: a new one).

    Returns:
        ``[H, W, 3]`` uint8 RGB as stored; None where the library complains of anything, or has no such scale.
    """
    if scale > 1 and min(header.width, header.height) < _SMALL_PX * scale:
        return None
    width, height = -(-header.width // scale), -(-header.height // scale)
    fits = out is not None and out.shape == (height, width, 3) and out.flags.c_contiguous
    options = {} if scale == 1 else {"min_height": height, "min_width": width}
    try:
        rgb: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", buffer=out if fits else None, **options)
    except (ValueError, MemoryError, OverflowError):
        return None
    return rgb if rgb.shape == (height, width, 3) else None
