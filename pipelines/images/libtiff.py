"""Pillow's libtiff: it is kept from writing to the terminal, and asked what it can decompress."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache

from PIL import _imaging

__all__ = ["can_decompress", "is_later_compression", "silence", "unsupported_tiff"]

_NAMES: Mapping[int, str] = {
    22610: "JPEG XR", 32809: "ThunderScan", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG",
    34712: "JPEG 2000", 34715: "JBIG2", 34887: "LERC", 34892: "JPEG of a DNG", 34933: "PNG", 34934: "JPEG XR",
    48124: "Jetraw", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
"""Names of compressions (tag 259) that not every libtiff knows."""

_LATER = 22610
"""The least number of a compression that came after TIFF 6.0."""


@cache
def silence() -> None:
    """Keep libtiff's own lines about damaged files off stderr: what is wrong is an error of the image."""
    library = _library()
    if library is not None:
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def can_decompress(compression: int) -> bool:
    """Return whether libtiff was built with a compression; True where it can't be asked."""
    library = _library()
    return library is None or bool(library.TIFFIsCODECConfigured(ctypes.c_uint16(compression)))


def is_later_compression(tag: object) -> bool:
    """Return whether a value is the number of a compression that came after TIFF 6.0."""
    return isinstance(tag, int) and tag >= _LATER


def unsupported_tiff(compression: int) -> str:
    """Return the message for a TIFF with a compression that is not decoded."""
    name = _NAMES.get(compression, f"compression {compression}")
    return f"a TIFF with {name} inside, which is not decoded: save it with another compression"


@cache
def _library() -> ctypes.CDLL | None:
    """Return the libtiff that Pillow is linked to, found through Pillow; None of a Pillow without."""
    library = ctypes.CDLL(_imaging.__file__)
    return library if hasattr(library, "TIFFIsCODECConfigured") else None
