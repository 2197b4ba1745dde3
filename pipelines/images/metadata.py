"""Metadata of photographs is read here, to be put into the images made from them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from condgen.errors import ImageError
from pipelines.images.exif import MAX_EXIF_BYTES, checked_resolution, read_exif
from pipelines.images.formats import DECODE_ERRORS, MAX_PIXELS, open_image
from pipelines.images.jpegxl import jpeg_of
from pipelines.images.png import png_chunks, png_exif
from pipelines.images.signatures import format_of

__all__ = ["Metadata", "read_metadata"]

_INCHES_PER_METRE, _CM_PER_INCH = 1 / 0.0254, 2.54
_JFIF_UNITS = {1: 1.0, 2: _CM_PER_INCH}
_PNG_METRE = 1


@dataclass(frozen=True, slots=True)
class Metadata:
    r"""The part of a photograph's metadata that is kept.

    Attributes:
        exif: EXIF block without ``Exif\0\0`` before it, at most 65,000 bytes; empty where there is none. It is
            normalized: orientation 1, no thumbnail (it shows the old image), no maker's notes (their offsets would
            be wrong), nothing of the old file's coding, and no resolution, which is apart.
        resolution_dpi: resolution across and down (pixels an inch); None where the file has none.
        has_profile: whether the file has an ICC profile; images made from it have sRGB's then.
    """

    exif: bytes = b""
    resolution_dpi: tuple[float, float] | None = None
    has_profile: bool = False


class _Finder(Protocol):
    """Finds metadata in a file of one format; the EXIF block as it is there, or the TIFF itself."""

    def __call__(self, data: bytes) -> Metadata: ...


def read_metadata(data: bytes) -> Metadata:
    """Read an image's metadata from its headers alone; nothing is decoded, and damaged metadata is left out.

    EXIF is taken from JPEG, PNG, WebP, TIFF (its first page) and AVIF, the resolution from JPEG, PNG, TIFF, BMP,
    JPEG 2000 and EXIF. XMP, IPTC and comments are not taken. A file that is no image has none.

    Args:
        data: bytes of the file.
    """
    name = format_of(data)
    if name is None:
        return Metadata()
    try:
        raw = _FINDERS.get(name, _by_pillow)(data)
        exif = read_exif(raw.exif)
        block = exif.to_bytes()
    except (ImageError, *DECODE_ERRORS):
        return Metadata()
    resolution_dpi = raw.resolution_dpi or exif.resolution_dpi
    return Metadata(block if len(block) <= MAX_EXIF_BYTES else b"", resolution_dpi, raw.has_profile)


def _of_jpeg(data: bytes) -> Metadata:
    exif, resolution_dpi, has_profile = b"", None, False
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], data[position + 2] << 8 | data[position + 3]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in (0xD9, 0xDA) or length < 2:
            break
        start, stop = position + 4, position + 2 + length
        if marker == 0xE0 and data.startswith(b"JFIF\0", start) and length >= 14:
            across, down = struct.unpack_from(">HH", data, start + 8)
            unit = _JFIF_UNITS.get(data[start + 7])
            resolution_dpi = checked_resolution(across * unit, down * unit) if unit else None
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", start) and not exif:
            exif = data[start:stop]
        elif marker == 0xE2 and data.startswith(b"ICC_PROFILE\0", start):
            has_profile = True
        position = stop
    return Metadata(exif, resolution_dpi, has_profile)


def _of_png(data: bytes) -> Metadata:
    resolution_dpi, has_profile = None, False
    for kind, start, stop in png_chunks(data):
        if kind == b"iCCP":
            has_profile = True
        elif kind == b"pHYs" and stop - start == 9 and data[start + 8] == _PNG_METRE:
            across, down = struct.unpack_from(">II", data, start)
            resolution_dpi = checked_resolution(across / _INCHES_PER_METRE, down / _INCHES_PER_METRE)
    return Metadata(png_exif(data), resolution_dpi, has_profile)


def _of_webp(data: bytes) -> Metadata:
    exif, has_profile = b"", False
    for kind, start, stop in _riff_chunks(data):
        if kind == b"EXIF":
            exif = data[start:stop]
        elif kind == b"ICCP":
            has_profile = True
    return Metadata(exif, None, has_profile)


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and stop of each whole chunk of a RIFF file."""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        start, stop = position + 8, position + 8 + length
        if stop > len(data):
            return
        yield kind, start, stop
        position = stop + length % 2


def _of_tiff(data: bytes) -> Metadata:
    has_profile = False
    if data[:4] in (b"II*\0", b"MM\0*"):
        image, _ = open_image(data, MAX_PIXELS)
        has_profile = isinstance(image.info.get("icc_profile"), bytes)
    return Metadata(data, None, has_profile)


def _of_jpeg_xl(data: bytes) -> Metadata:
    jpeg = jpeg_of(data)
    return _by_pillow(data) if jpeg is None else _of_jpeg(jpeg)


def _by_pillow(data: bytes) -> Metadata:
    image, _ = open_image(data, MAX_PIXELS)
    exif, profile = image.info.get("exif"), image.info.get("icc_profile")
    dpi = image.info.get("dpi")
    resolution_dpi = None
    if isinstance(dpi, tuple) and len(dpi) == 2:
        resolution_dpi = checked_resolution(float(dpi[0]), float(dpi[1]))
    return Metadata(exif if isinstance(exif, bytes) else b"", resolution_dpi, isinstance(profile, bytes))


_FINDERS: Mapping[str, _Finder] = {
    "JPEG": _of_jpeg,
    "PNG": _of_png,
    "WEBP": _of_webp,
    "TIFF": _of_tiff,
    "JPEGXL": _of_jpeg_xl,
}
