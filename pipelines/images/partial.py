"""Damaged images are decoded as far as they go, for a person who wants to see what failed.

Nothing that makes draws uses this: a job takes an image whole or not at all (`pipelines.images.decoding`).
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from condgen.errors import ImageError
from pipelines.images.decoding import decode
from pipelines.images.formats import DECODE_ERRORS, format_of, open_image

__all__ = ["decode_partly"]

_MAX_PIXELS = 50_000_000
_PIECE_BYTES = 64
_JPEG_END = b"\xff\xd9"
_PNG_MARK = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def decode_partly(data: bytes, *, min_size_px: int | None = None, max_pixels: int = _MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an image, or of a JPEG or PNG that is cut or damaged the part before the damage.

    What is missing is black or grey. The colors of a part are taken for sRGB.

    Args:
        data: bytes of the file.
        min_size_px: smallest short side that is needed, as in `decode` (pixels; default: full size).
        max_pixels: largest product of width and height (default: 50 million).

    Returns:
        ``[H, W, 3]`` uint8, sRGB.

    Raises:
        ImageError: no part of it can be decoded; the error is that of `decode`.
    """
    try:
        return decode(data, min_size_px=min_size_px, max_pixels=max_pixels)
    except ImageError as error:
        part: NDArray[np.uint8] | None = None
        try:
            name = format_of(data)
            if name == "JPEG":
                part = _part_of_jpeg(data, min_size_px, max_pixels)
            elif name == "PNG":
                part = _part_of_png(data, max_pixels)
        except (ImageError, ValueError, IndexError, zlib.error, *DECODE_ERRORS):
            part = None
        if part is None:
            raise error from None
        return part


def _part_of_jpeg(data: bytes, min_size_px: int | None, max_pixels: int) -> NDArray[np.uint8]:
    image, _ = open_image(data + _JPEG_END, max_pixels)  # libjpeg fills what is missing with grey
    if min_size_px is not None:
        image.draft(None, (min_size_px, min_size_px))
    image.load()
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _part_of_png(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Decode a PNG whose compressed data is cut or damaged: rows without data become zeros."""
    header, compressed, others = b"", bytearray(), bytearray()
    place = len(_PNG_MARK)
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + size]
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            compressed += body
        elif kind in (b"PLTE", b"tRNS"):
            others += _png_chunk(kind, body)
        place += 12 + size
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, color, is_interlaced = header[8], header[9], header[12]
    if is_interlaced or not 0 < width * height <= max_pixels:
        return None
    row_bytes = 1 + (width * depth * _PNG_CHANNELS[color] + 7) // 8
    rows = _inflated(bytes(compressed), height * row_bytes)
    # Each row begins with its filter, 0 to 4: anything else is damage.
    damaged = next((start for start in range(0, len(rows), row_bytes) if rows[start] > 4), len(rows))
    rows = rows[:damaged]
    if len(rows) < row_bytes:
        return None
    whole = zlib.compress(rows.ljust(height * row_bytes, b"\0"), 1)
    chunks = _png_chunk(b"IHDR", header) + bytes(others) + _png_chunk(b"IDAT", whole) + _png_chunk(b"IEND", b"")
    return decode(_PNG_MARK + chunks, max_pixels=max_pixels)


def _inflated(data: bytes, most: int) -> bytes:
    """Return what can be decompressed before the damage, at most `most` bytes."""
    stream, out = zlib.decompressobj(), bytearray()
    try:
        for place in range(0, len(data), _PIECE_BYTES):
            out += stream.decompress(data[place : place + _PIECE_BYTES], most - len(out) + 1)
            if len(out) > most:
                break
    except zlib.error:
        pass
    return bytes(out[:most])


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
