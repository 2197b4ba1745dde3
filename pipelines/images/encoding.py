"""sRGB arrays are encoded, with the metadata of the photograph that they were made from.

TIFF files are written here and not by tifffile, which lays the same image out in other bytes: results would change.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condgen.checks import check_choice
from condgen.errors import ImageError
from pipelines.images.exif import ByteOrder, TiffField, directories_to_bytes, read_exif, resolution_entries, tiff_header
from pipelines.images.formats import DECODE_ERRORS, image_error
from pipelines.images.icc import SRGB_PROFILE, to_8_bits
from pipelines.images.metadata import Metadata

if TYPE_CHECKING:
    import torch

__all__ = ["SUFFIXES", "encode"]

SUFFIXES: Mapping[str, str] = {"jpeg": "jpg", "png": "png", "webp": "webp", "tiff": "tif"}
"""Extensions of files by the formats that are written."""

_ZLIB_LEVEL = 6
_STRIP_BYTES = 1 << 18
_METRES_PER_INCH = 0.0254
_PNG_HEADER_BYTES = 8 + 25
_TIFF_LIMIT_BYTES = 0xFFFF_FFFF - (1 << 20)

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


class _Encoder(Protocol):
    def __call__(self, rgb: Pixels, quality: int, metadata: Metadata) -> bytes: ...


def encode(
    rgb: Pixels,
    format: str = "jpeg",  # noqa: A002
    quality: int = 95,
    metadata: Metadata | None = None,
    *,
    beside_threads: bool = False,
    device: torch.device | None = None,
) -> bytes:
    """Encode an image; the same input gives the same bytes with the same versions of the libraries.

    Args:
        rgb: ``[H, W, 3]`` uint8 or uint16 (65535 is white), sRGB. PNG and TIFF keep 16 bits, the others round to 8.
        format: ``jpeg``, ``png``, ``webp`` or ``tiff`` (deflated strips; default: ``jpeg``).
        quality: quality of ``jpeg`` and ``webp`` (1 to 100; default: 95). From 90 on, JPEG keeps colors at full
            resolution.
        metadata: metadata from ``read_metadata`` to put into the file (default: none): EXIF, the resolution, and
            sRGB's profile where the original had one.
        beside_threads: whether other threads have work to do meanwhile (default: False). A JPEG of the same bytes is
            then encoded without Python's lock, which takes some 5 % longer.
        device: device that a JPEG is encoded on, with colors at full resolution (default: the CPU). Its kind decides
            the bytes as well.

    Returns:
        The bytes of the file.

    Raises:
        ConfigError: the format is another, or one that the device doesn't encode.
        JobError: the device's memory is full, or it doesn't work.
        ImageError: stage ``encode``: an image that the format can't hold (JPEG ends at 65,500 pixels a side).
    """
    encoders = _BESIDE_THREADS if beside_threads else _ENCODERS
    if device is not None:
        encoders = {"jpeg": partial(_jpeg_on, device)}
    check_choice("format", format, encoders)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype not in (np.uint8, np.uint16):
        reason = f"an image is [H, W, 3] uint8 or uint16, not {list(rgb.shape)} {rgb.dtype}"
        raise ImageError("encode", "Unwritable", reason)
    try:
        return encoders[format](rgb, quality, metadata or Metadata())
    except DECODE_ERRORS as error:
        raise image_error("encode", error) from error


def _exif(metadata: Metadata) -> bytes:
    return read_exif(metadata.exif).to_bytes(metadata.resolution_dpi)


def _jpeg(rgb: Pixels, quality: int, metadata: Metadata, *, unlocked: bool = False) -> bytes:
    extras: dict[str, object] = {}
    if metadata.exif:
        extras["exif"] = b"Exif\0\0" + _exif(metadata)
    if metadata.resolution_dpi:
        extras["dpi"] = tuple(min(65535, max(1, round(value))) for value in metadata.resolution_dpi)
    if metadata.has_profile:
        extras["icc_profile"] = SRGB_PROFILE
    image, subsampling = Image.fromarray(to_8_bits(rgb)), 0 if quality >= 90 else 2
    if unlocked and hasattr(os, "memfd_create"):  # Linux has it
        # Pillow holds Python's lock while it encodes into anything but a file that has a descriptor.
        with os.fdopen(os.memfd_create("image"), "w+b", buffering=0) as file:
            image.save(file, "jpeg", quality=quality, subsampling=subsampling, **extras)
            return os.pread(file.fileno(), file.seek(0, os.SEEK_END), 0)
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality, subsampling=subsampling, **extras)
    return buffer.getvalue()


def _jpeg_on(device: torch.device, rgb: Pixels, quality: int, metadata: Metadata) -> bytes:
    from pipelines.images.device_jpeg import encode_on

    exif = _exif(metadata) if metadata.exif else b""
    return encode_on(device, to_8_bits(rgb), quality, metadata, exif)


def _webp(rgb: Pixels, quality: int, metadata: Metadata) -> bytes:
    extras: dict[str, object] = {}
    if metadata.exif or metadata.resolution_dpi:  # it has no other place for a resolution
        extras["exif"] = _exif(metadata)
    if metadata.has_profile:
        extras["icc_profile"] = SRGB_PROFILE
    buffer = io.BytesIO()
    Image.fromarray(to_8_bits(rgb)).save(buffer, "webp", quality=quality, method=4, **extras)
    return buffer.getvalue()


def _png(rgb: Pixels, quality: int, metadata: Metadata) -> bytes:  # noqa: ARG001 (lossless)
    if rgb.dtype == np.uint16:
        from imagecodecs import png_encode  # 0.3 s, for the few images that need it

        data = bytes(png_encode(np.ascontiguousarray(rgb), level=_ZLIB_LEVEL))
    else:
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "png", compress_level=_ZLIB_LEVEL)
        data = buffer.getvalue()
    extras = b""
    if metadata.has_profile:
        extras += _png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB_PROFILE, 9))
    if metadata.resolution_dpi:
        across, down = (round(value / _METRES_PER_INCH) for value in metadata.resolution_dpi)
        extras += _png_chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.exif:
        extras += _png_chunk(b"eXIf", _exif(metadata))
    return data[:_PNG_HEADER_BYTES] + extras + data[_PNG_HEADER_BYTES:]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiff(rgb: Pixels, quality: int, metadata: Metadata) -> bytes:  # noqa: ARG001 (lossless)
    """Write a TIFF 6.0 of RGB in deflated strips of horizontal differences (Adobe's TIFF Technical Notes)."""
    height, width, _ = rgb.shape
    if not height or not width or rgb.nbytes > _TIFF_LIMIT_BYTES:
        raise ImageError("encode", "Unwritable", f"{width} x {height} pixels are none, or more than a TIFF holds")
    exif = read_exif(metadata.exif)
    rows = min(height, max(1, _STRIP_BYTES // (rgb.itemsize * width * 3)))
    strips = [_tiff_strip(rgb[top : top + rows], exif.order) for top in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    *offsets, end = accumulate(sizes, initial=8)

    def shorts(*values: int) -> TiffField:
        return TiffField(3, len(values), struct.pack(f"{exif.order}{len(values)}H", *values))

    def longs(*values: int) -> TiffField:
        return TiffField(4, len(values), struct.pack(f"{exif.order}{len(values)}I", *values))

    main = {
        **exif.main, 256: longs(width), 257: longs(height), 258: shorts(*[8 * rgb.itemsize] * 3), 259: shorts(8),
        262: shorts(2), 273: longs(*offsets), 277: shorts(3), 278: longs(rows), 279: longs(*sizes), 284: shorts(1),
        317: shorts(2), **resolution_entries(exif.order, metadata.resolution_dpi),
    }  # fmt: skip
    if metadata.has_profile:
        main[34675] = TiffField(7, len(SRGB_PROFILE), SRGB_PROFILE)
    end += end % 2
    body = b"".join(strips).ljust(end - 8, b"\0")
    return tiff_header(exif.order, end) + body + directories_to_bytes(exif, main, end)


def _tiff_strip(rows: Pixels, order: ByteOrder) -> bytes:
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]
    return zlib.compress(differences.astype(rows.dtype.newbyteorder(order)).tobytes(), _ZLIB_LEVEL)


_ENCODERS: Mapping[str, _Encoder] = {"jpeg": _jpeg, "png": _png, "webp": _webp, "tiff": _tiff}
_BESIDE_THREADS: Mapping[str, _Encoder] = {**_ENCODERS, "jpeg": partial(_jpeg, unlocked=True)}
