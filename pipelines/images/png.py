"""Chunks of PNG files are walked here, and the EXIF block is found wherever programs put it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from pipelines.images.exif import MAX_EXIF_BYTES

__all__ = ["png_chunks", "png_exif"]

_RAW_PROFILES = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
_RAW_PROFILE = re.compile(rb"\s*[^\n]*\n\s*\d+\s*\n([0-9a-fA-F\s]*)")
_MAX_TEXT_BYTES = 4 * MAX_EXIF_BYTES
"""A block as hexadecimal digits, with line ends; longer texts are no block that is kept."""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind of each whole chunk, and start and stop of its contents (bytes)."""
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        start, stop = position + 8, position + 8 + length
        if stop > len(data):
            return
        yield kind, start, stop
        position = stop + 4


def png_exif(data: bytes) -> bytes:
    r"""Return the EXIF block of a PNG, as it is there; empty where there is none.

    It is an ``eXIf`` chunk before or behind the pixels, or else a text ``Raw profile type exif`` of hexadecimal digits,
    as ImageMagick and ExifTool wrote it before that chunk was defined.
    """
    text = None
    for kind, start, stop in png_chunks(data):
        if kind == b"eXIf":
            return data[start:stop]
        if kind in (b"tEXt", b"zTXt", b"iTXt") and text is None and data.startswith(_RAW_PROFILES, start):
            text = _text(kind, data[start:stop].partition(b"\0")[2])  # of the first one alone: each may be large
    match = _RAW_PROFILE.match(text or b"")
    digits = b"".join(match[1].split()) if match else b""
    block = bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    return block if block.startswith((b"Exif\0\0", b"II*\0", b"MM\0*")) else b""


def _text(kind: bytes, rest: bytes) -> bytes:
    """Return the text of a chunk from what follows its keyword; empty for one that is damaged or too long."""
    is_packed = kind == b"zTXt" or rest[:1] == b"\1"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        rest = rest[2:].split(b"\0", 2)[-1]  # method, language, translated keyword
    if is_packed and kind != b"tEXt":
        try:
            rest = zlib.decompressobj().decompress(rest, _MAX_TEXT_BYTES)
        except zlib.error:
            return b""
    return rest if len(rest) <= _MAX_TEXT_BYTES else b""
