"""Files are told apart by their first bytes, and those of boxes by all of their brands."""

from __future__ import annotations

import struct

__all__ = ["CAMERA_RAW", "format_of", "with_major_brand"]

CAMERA_RAW = "a camera's raw file"
"""Format of files that hold a sensor's data, as far as their first bytes tell."""

_SIGNATURES = (
    (b"\xff\xd8", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"), (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x0a", "JPEGXL"), (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEGXL"),
    (b"FUJIFILMCCD-RAW", CAMERA_RAW), (b"IIU\0", CAMERA_RAW), (b"IIRO", CAMERA_RAW), (b"IIRS", CAMERA_RAW),
    (b"MMOR", CAMERA_RAW), (b"FOVb", CAMERA_RAW), (b"\0MRM", CAMERA_RAW),
)  # fmt: skip
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_BRANDS = 64
_OF_AV1 = frozenset({b"avif", b"avis"})
_OF_HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_OF_EITHER = frozenset({b"mif1", b"mif2", b"msf1", b"miaf", b"1pic"})


def format_of(data: bytes) -> str | None:
    """Return the format that a file's first bytes tell, one of ``FORMATS`` or ``CAMERA_RAW``; None for no known format.

    Args:
        data: bytes of the file.
    """
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in _TIFF:
        return CAMERA_RAW if data[8:10] == b"CR" else "TIFF"
    if data[6:14] == b"HEAPCCDR":
        return CAMERA_RAW
    if data[:2] == b"BM" and len(data) > 14:
        return "BMP"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "PPM"
    return _of_brands(data)


def _of_brands(data: bytes) -> str | None:
    """Return the format of a file of boxes (ISO/IEC 14496-12, 4.3): any brand counts, the first one first."""
    if data[4:8] != b"ftyp":
        return None
    (length,) = struct.unpack_from(">I", data)
    start = 16 if length == 1 else 8
    stop = min(int.from_bytes(data[8:16], "big") if length == 1 else length, start + 4 * _MAX_BRANDS, len(data))
    brands = [data[start : start + 4], *(data[place : place + 4] for place in range(start + 8, stop - 3, 4))]
    if brands[0] == b"crx ":
        return CAMERA_RAW
    for brand in brands:
        if brand in _OF_AV1:
            return "AVIF"
        if brand in _OF_HEVC:
            return "HEIF"
    if _OF_EITHER.isdisjoint(brands):
        return None
    return "AVIF" if b"av1C" in data[: 1 << 20] and b"hvcC" not in data[: 1 << 20] else "HEIF"


def with_major_brand(data: bytes, name: str) -> bytes:
    """Return a file of boxes whose first brand is one that its library knows: some look at that one alone.

    Args:
        data: bytes of the file.
        name: its format, ``AVIF`` or ``HEIF``.
    """
    known, usual = (_OF_AV1, b"avif") if name == "AVIF" else (_OF_HEVC, b"heic")
    place = 16 if data[:4] == b"\0\0\0\1" else 8
    return data if data[place : place + 4] in known else data[:place] + usual + data[place + 4 :]
