"""How a file tells what its colors mean, format by format; what tells nothing is sRGB.

PNG     ``cICP``, then ``iCCP``, ``sRGB``, ``gAMA`` and ``cHRM`` (PNG specification, third edition, section 4.3)
AVIF, HEIF  an ICC profile, then the code points of ``colr`` (ISO/IEC 23008-12, ISO/IEC 14496-12)
TIFF    an ICC profile, then ``PrimaryChromaticities``, ``WhitePoint`` and ``TransferFunction`` (TIFF 6.0, section 20)
BMP     the profile in a header of version 5, or the endpoints and gammas in one of version 4
others  an ICC profile

Where none of these tells anything, EXIF may: by ``ColorSpace`` and the interoperability index (DCF 2.0, 4.3).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ImageCms, ImageFile

from pipelines.images.boxes import boxes, primary_item
from pipelines.images.color_spaces import (
    ADOBE_RGB,
    SRGB,
    SRGB_XY,
    Chromaticities,
    ColorSpace,
    Power,
    Table,
    Transfer,
    color_space,
    is_sound,
)
from pipelines.images.exif import TiffField, read_color_entries
from pipelines.images.formats import exif_block, jp2_boxes
from pipelines.images.png import png_chunks

__all__ = ["Color", "color_of", "exif_color", "profile_kind"]

Color = bytes | ColorSpace
"""What tells the colors of an image: an ICC profile, or primaries and a transfer function."""

_MAX_PROFILE_BYTES = 1 << 24
"""Larger profiles are ignored: a JPEG can't hold them, and the last ones are remembered."""
_SRGB_TRANSFER = SRGB.transfers[0]
_SRGB_GAMMA, _GAMMA_TOLERANCE = 1 / 2.2, 0.02
"""PNG's stand-in for sRGB's curve (section 11.3.2.5), which many programs write alone."""


def color_of(image: ImageFile.ImageFile, name: str, data: bytes) -> Color | None:
    """Return what tells the colors of an image; None for sRGB, for what tells nothing, and for what can't be followed.

    Args:
        image, name: image and format from ``open_image``.
        data: bytes of the file.
    """
    tell = _TELLERS.get(name)
    color = (tell(image, data) if tell else None) or _profile(image) or _exif_of(image, name, data)
    return None if isinstance(color, ColorSpace) and color.is_srgb else color


@lru_cache(maxsize=16)
def profile_kind(profile: bytes) -> str | None:
    """Return LittleCMS's word for the channels that a profile is for, such as ``RGB``; None for a broken profile."""
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _profile(image: ImageFile.ImageFile) -> bytes | None:
    return _usable(image, image.info.get("icc_profile"))


def _usable(image: ImageFile.ImageFile, profile: object) -> bytes | None:
    """Return a profile that is sound and of the image's channels; grey images may have one of RGB.

    One of grey may come with RGB, too: WebP, and AVIF with alpha, store grey so.
    """
    if not isinstance(profile, bytes) or len(profile) > _MAX_PROFILE_BYTES:
        return None
    kind = profile_kind(profile)
    return profile if kind in (("CMYK",) if image.mode == "CMYK" else ("GRAY", "RGB")) else None


# PNG


def _of_png(image: ImageFile.ImageFile, data: bytes) -> Color | None:
    chunks = _png_color_chunks(data)
    cicp = chunks.get(b"cICP", b"")
    if len(cicp) == 4 and cicp[2] == 0:
        space = color_space(cicp[0], cicp[1], is_full_range=cicp[3] != 0)
        if space is not None:
            return space
    profile, is_grey = _profile(image), data[25:26] in (b"\0", b"\4")
    if profile is not None and (is_grey or profile_kind(profile) == "RGB"):
        return profile
    if b"sRGB" in chunks:
        return SRGB
    return _of_gamma(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""))


def _png_color_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the whole chunks before the pixels that tell of color in a few bytes; of two of a kind, the first."""
    chunks: dict[bytes, bytes] = {}
    for kind, start, stop in png_chunks(data):
        if kind == b"IDAT":
            break
        is_of_color = kind in (b"cICP", b"sRGB", b"gAMA", b"cHRM") and stop - start <= 32 and kind not in chunks
        if is_of_color and zlib.crc32(data[start - 4 : stop]) == int.from_bytes(data[stop : stop + 4], "big"):
            chunks[kind] = data[start:stop]
    return chunks


def _of_gamma(gamma_chunk: bytes, chromaticities_chunk: bytes) -> ColorSpace | None:
    gamma = int.from_bytes(gamma_chunk, "big") / 100_000 if len(gamma_chunk) == 4 else 0.0
    xy = None
    if len(chromaticities_chunk) == 32:
        white_x, white_y, *primaries = (value / 100_000 for value in struct.unpack(">8i", chromaticities_chunk))
        xy = _sound((*primaries, white_x, white_y))
    return _space_of(xy, Power(1 / gamma) if 0.05 <= gamma <= 20 else None)


def _sound(values: tuple[float, ...]) -> Chromaticities | None:
    """Return chromaticities if colors can be made of them; sRGB's own for those that were rounded from them."""
    red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y = values
    xy = (red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y)
    if not is_sound(xy):
        return None
    return SRGB_XY if np.abs(np.subtract(xy, SRGB_XY)).max() < 0.001 else xy


def _space_of(xy: Chromaticities | None, transfer: Transfer | None) -> ColorSpace | None:
    """Return the color space of chromaticities and a transfer function, sRGB's in place of those that are not told.

    A gamma of 2.2 with sRGB's primaries stands for sRGB: so do the programs that write it mean it, and those that
    show it.
    """
    if xy is None and transfer is None:
        return None
    xy = xy or SRGB_XY
    is_near = isinstance(transfer, Power) and abs(1 / transfer.exponent - _SRGB_GAMMA) < _GAMMA_TOLERANCE * _SRGB_GAMMA
    if transfer is None or (xy == SRGB_XY and is_near):
        transfer = _SRGB_TRANSFER
    return ColorSpace(xy, (transfer, transfer, transfer))


# AVIF and HEIF


def _of_heif(image: ImageFile.ImageFile, data: bytes) -> Color | None:
    profile = _profile(image)
    if profile is not None:
        return profile
    for kind, body in _item_properties(data):
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 11:
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return color_space(primaries, transfer)
    return None


def _item_properties(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and contents of the properties of a file's primary item (ISO/IEC 23008-12, 9.3)."""
    primary, parts = primary_item(data, b"iprp")
    if not parts:
        return
    inner = list(boxes(data, *parts[b"iprp"]))
    properties = [part for kind, *place in inner if kind == b"ipco" for part in boxes(data, *place)]
    for kind, start, stop in inner:
        if kind == b"ipma":
            for index in _associated(data[start:stop], primary):
                if 0 < index <= len(properties):
                    name, first, last = properties[index - 1]
                    yield name, data[first:last]


def _associated(body: bytes, item: int) -> list[int]:
    """Return the numbers, from 1, of the properties of an item; none for a box that is damaged."""
    version, is_wide = body[0], bool(body[3] & 1)
    (count,) = struct.unpack_from(">I", body, 4)
    position, id_bytes, width = 8, 4 if version else 2, 2 if is_wide else 1
    mask = 0x7FFF if is_wide else 0x7F
    for _ in range(min(count, len(body))):
        number = int.from_bytes(body[position : position + id_bytes], "big")
        associations = body[position + id_bytes] if position + id_bytes < len(body) else 0
        first = position + id_bytes + 1
        position = first + associations * width
        if number == item:
            places = range(first, min(position, len(body) - width + 1), width)
            return [int.from_bytes(body[at : at + width], "big") & mask for at in places]
    return []


# TIFF


_PHOTOMETRIC, _BITS_PER_SAMPLE, _TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES = 262, 258, 301, 318, 319
_GREY_OR_RGB, _RGB = (0, 1, 2), 2


def _of_tiff(image: ImageFile.ImageFile, data: bytes) -> Color | None:  # noqa: ARG001 (as the others)
    profile = _profile(image)
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    photometric = tags.get(_PHOTOMETRIC)
    if profile is not None or photometric not in _GREY_OR_RGB:
        return profile
    curves = _curves(tags.get(_TRANSFER_FUNCTION), tags.get(_BITS_PER_SAMPLE, (1,))[0], photometric == _RGB)
    xy = _tiff_chromaticities(tags.get(_PRIMARIES), tags.get(_WHITE_POINT)) if photometric == _RGB else None
    if curves is None:
        return _space_of(xy, Power(2.2) if xy else None)  # TIFF 6.0's default with primaries
    return ColorSpace(xy or SRGB_XY, curves)


def _tiff_chromaticities(primaries: object, white: object) -> Chromaticities | None:
    try:
        values = tuple(float(value) for value in (*primaries, *(white or SRGB_XY[6:])))  # type: ignore[misc]
        return _sound(values)
    except (TypeError, ValueError, ArithmeticError):
        return None


def _curves(values: object, bits: int, is_rgb: bool) -> tuple[Transfer, Transfer, Transfer] | None:
    """Return TIFF's TransferFunction: one table of 2 ** bits values for all channels, or three."""
    size = 1 << bits
    if bits > 16 or not isinstance(values, tuple) or len(values) not in (size, 3 * size):
        return None
    if not all(isinstance(value, int) and 0 <= value <= 65535 for value in values):
        return None
    count = len(values) // size
    if count == 3 and not is_rgb:
        return None
    tables = [Table(np.array(values[i * size : (i + 1) * size], np.uint16).tobytes()) for i in range(count)]
    return tables[0], tables[count // 2], tables[-1]


# BMP and JPEG 2000


def _of_bmp(image: ImageFile.ImageFile, data: bytes) -> Color | None:
    size = int.from_bytes(data[14:18], "little")
    kind = data[70:74] if size >= 108 else b""
    if kind == b"DEBM" and size >= 124:  # PROFILE_EMBEDDED, little-endian
        offset, length = struct.unpack_from("<II", data, 126)
        return _usable(image, data[14 + offset : 14 + offset + length])
    if kind == bytes(4) and len(data) >= 122:  # LCS_CALIBRATED_RGB
        ends = np.array(struct.unpack_from("<9I", data, 74)).reshape(3, 3) / (1 << 30)
        gammas = [value / 65536 for value in struct.unpack_from("<3I", data, 110)]
        if (ends.sum(1) > 0).all() and all(0.2 <= gamma <= 10 for gamma in gammas):
            white = ends.sum(0)
            is_xy = np.abs(ends.sum(1) - 1).max() < 0.01  # chromaticities, which say nothing of white
            xy = [*(ends / ends.sum(1, keepdims=True))[:, :2].ravel()]
            xy += SRGB_XY[6:] if is_xy else (white / white.sum())[:2]
            chromaticities = _sound(tuple(float(value) for value in xy))
            if chromaticities is not None:
                spaces = [_space_of(chromaticities, Power(gamma)) for gamma in gammas]
                red, green, blue = (space.transfers[0] for space in spaces if space is not None)
                return ColorSpace(chromaticities, (red, green, blue))
    return None


def _of_jpeg2000(image: ImageFile.ImageFile, data: bytes) -> Color | None:
    """Return the profile of a JPEG 2000 file, which Pillow leaves aside: restricted (2) or any (3, of JPX)."""
    for kind, start, stop in jp2_boxes(data):
        if kind == b"colr" and data[start : start + 1] in (b"\x02", b"\x03"):
            return _usable(image, data[start + 3 : stop])
    return None


_TELLERS: Mapping[str, Callable[[ImageFile.ImageFile, bytes], Color | None]] = {
    "PNG": _of_png, "AVIF": _of_heif, "HEIF": _of_heif, "TIFF": _of_tiff, "BMP": _of_bmp, "JPEG2000": _of_jpeg2000,
}  # fmt: skip


# EXIF


_COLOR_SPACE, _INTEROPERABILITY_INDEX, _GAMMA = 40961, 1, 42240
_IS_SRGB, _IS_ADOBE_RGB, _UNCALIBRATED = 1, 2, 65535


def _exif_of(image: ImageFile.ImageFile, name: str, data: bytes) -> ColorSpace | None:
    return None if image.mode in ("CMYK", "LAB") else exif_color(exif_block(image, name, data))


def exif_color(block: bytes) -> ColorSpace | None:
    r"""Return the color space that an EXIF block tells; None for sRGB, for an unknown one, and for none.

    Args:
        block: bytes of the block, with or without ``Exif\0\0`` before it, or a whole TIFF.
    """
    order, entries = read_color_entries(block)
    (space, *_), index = _numbers(entries.get(_COLOR_SPACE), order) or (0,), entries.get(_INTEROPERABILITY_INDEX)
    code = index.value[:3] if index is not None else b""
    if space == _IS_ADOBE_RGB or (space != _IS_SRGB and code == b"R03"):
        return ADOBE_RGB
    if space != _UNCALIBRATED or code == b"R98":
        return None
    primaries, white = (_numbers(entries.get(tag), order) for tag in (_PRIMARIES, _WHITE_POINT))
    if len(primaries) != 6 or len(white) != 2:
        return None
    gamma = _numbers(entries.get(_GAMMA), order)
    space_of_tags = _space_of(_sound((*primaries, *white)), Power(gamma[0] if gamma and 0.2 <= gamma[0] <= 10 else 2.2))
    return None if space_of_tags is None or space_of_tags.is_srgb else space_of_tags


def _numbers(entry: TiffField | None, order: str) -> tuple[float, ...]:
    """Return the values of an entry of shorts, longs or rationals; none of another kind."""
    if entry is None or entry.kind not in (3, 4, 5) or entry.count > 6:
        return ()
    if entry.kind != 5:
        return struct.unpack(f"{order}{entry.count}{'H' if entry.kind == 3 else 'I'}", entry.value)
    values = struct.unpack(f"{order}{2 * entry.count}I", entry.value)
    return tuple(a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=True))
