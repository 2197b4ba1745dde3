"""PNGs: chunks are walked, EXIF is found wherever programs put it, and decoders are spared what viewers pass over.

A viewer passes over an ancillary chunk whose checksum is wrong, and over texts of any length (PNG 3rd edition, 13.2).
Pillow refuses both, and profiles of more than 1 MiB.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from condgen.errors import ImageError
from pipelines.images.exif import MAX_EXIF_BYTES

__all__ = ["png_chunks", "png_exif", "tidy_png"]

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_PROFILE_BYTES = 1 << 24
_PILLOWS_LIMIT_BYTES = 1 << 20

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
        if kind == b"eXIf" and _is_whole(data, start, stop):
            return data[start:stop]
        if kind in _TEXTS and text is None and data.startswith(_RAW_PROFILES, start) and _is_whole(data, start, stop):
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


def tidy_png(data: bytes) -> tuple[bytes, bytes | None]:
    """Return a PNG without texts and without ancillary chunks that viewers pass over.

    Args:
        data: bytes of the file.

    Returns:
        The bytes, the same where nothing is left out, and the color profile if it is too large for Pillow.

    Raises:
        ImageError: stage ``decode``, ``DamagedImage``: the checksum of a chunk that the image needs is wrong.
    """
    parts, position, profile = [], 0, b""
    for kind, start, stop in png_chunks(data):
        if kind == b"IEND" or stop + 4 > len(data):
            break
        is_whole = _is_whole(data, start, stop)
        if not is_whole and kind[0] < ord("a"):  # a capital letter is that of a critical chunk
            name = kind.decode("ascii") if kind.isalpha() else "unknown"
            raise ImageError("decode", "DamagedImage", f"the checksum of the PNG's {name} chunk is wrong")
        large = _large_profile(data[start:stop]) if kind == b"iCCP" and is_whole else None
        if not is_whole or kind in _TEXTS or large is not None:
            parts.append(data[position : start - 8])
            position = stop + 4
            profile = profile or large or b""
    return (b"".join([*parts, data[position:]]) if parts else data), profile or None


def _is_whole(data: bytes, start: int, stop: int) -> bool:
    """Return whether the checksum of a chunk is right."""
    with memoryview(data) as view:
        return zlib.crc32(view[start - 4 : stop]) == int.from_bytes(view[stop : stop + 4], "big")


def _large_profile(body: bytes) -> bytes | None:
    """Return the profile in an iCCP chunk if it is too large for Pillow; empty if it is too large for anybody."""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(body[body.find(b"\0") + 2 :], _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    if inflater.unconsumed_tail:
        return b""
    return profile if len(profile) > _PILLOWS_LIMIT_BYTES else None
