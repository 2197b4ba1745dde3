"""EXIF blocks are read entry by entry and written anew, as are the TIFF directories that they are made of.

A block that is copied as it is would lie about the image that it is put into: it holds a small copy of the old image,
its orientation, and maker's notes whose offsets are wrong as soon as anything moves. So only the entries that describe
the photograph are taken (EXIF 2.32 and TIFF 6.0 name the tags), byte for byte, and laid out again.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

__all__ = [
    "MAX_EXIF_BYTES",
    "ByteOrder",
    "Exif",
    "TiffField",
    "checked_resolution",
    "directories_to_bytes",
    "read_color_entries",
    "read_directory",
    "read_exif",
    "resolution_entries",
    "tiff_header",
]  # fmt: skip

MAX_EXIF_BYTES = 65_000
"""Larger blocks are dropped: a JPEG's segment ends at 65,533 bytes."""

ByteOrder = Literal["<", ">"]

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_MAX_ENTRIES = 1_000
_EXIF_POINTER, _GPS_POINTER, _ORIENTATION, _COLOR_SPACE = 34665, 34853, 274, 40961
_INTEROPERABILITY_POINTER = 40965
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_INCH, _CENTIMETRE, _CM_PER_INCH = 2, 3, 2.54
_MAX_DPI = 100_000
# Description, make, model, software, dates, artist, computer, rating, copyright, the titles that Windows writes.
_KEPT = frozenset({270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 36867, 36868, *range(40091, 40096)})
# How the old file was coded, its size and gamma, the pointer to its interoperability, maker's notes, padding.
_DROPPED = frozenset({37121, 37122, 37500, 40962, 40963, 40965, 42240, 59932, 59933})


@dataclass(frozen=True, slots=True)
class TiffField:
    """One entry of a TIFF directory.

    Attributes:
        kind: TIFF's number of the values' type, 1 to 12.
        count: number of values.
        value: bytes of the values, in the block's byte order.
    """

    kind: int
    count: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Exif:
    """The entries of an EXIF block that describe the photograph.

    Attributes:
        order: byte order, ``<`` or ``>``.
        main: entries of the first directory, by tag.
        exif: entries of the EXIF directory, by tag.
        gps: entries of the GPS directory, by tag.
        resolution_dpi: resolution across and down (pixels an inch); None where the block has none.
    """

    order: ByteOrder = "<"
    main: Mapping[int, TiffField] = field(default_factory=dict)
    exif: Mapping[int, TiffField] = field(default_factory=dict)
    gps: Mapping[int, TiffField] = field(default_factory=dict)
    resolution_dpi: tuple[float, float] | None = None

    def to_bytes(self, resolution_dpi: tuple[float, float] | None = None) -> bytes:
        r"""Return the block without ``Exif\0\0``, with orientation 1; empty where there is nothing to tell.

        Args:
            resolution_dpi: resolution across and down (pixels an inch; default: none).
        """
        if not (self.main or self.exif or self.gps or resolution_dpi):
            return b""
        main = {**self.main, **resolution_entries(self.order, resolution_dpi)}
        return tiff_header(self.order, 8) + directories_to_bytes(self, main, 8)


def read_exif(block: bytes) -> Exif:
    r"""Take what describes the photograph from an EXIF block, or from a whole TIFF file; damaged entries are left out.

    Args:
        block: bytes of the block, with or without ``Exif\0\0`` before it.
    """
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] not in (b"II*\0", b"MM\0*") or len(block) < 8:
        return Exif()
    order: ByteOrder = "<" if block[:1] == b"I" else ">"
    entries = read_directory(block, struct.unpack_from(f"{order}I", block, 4)[0], order)
    exif = {
        tag: entry
        for tag, entry in read_directory(block, _pointer(entries, _EXIF_POINTER, order), order).items()
        if tag not in _DROPPED
    }
    if _COLOR_SPACE in exif:
        exif[_COLOR_SPACE] = _short(order, 1)  # sRGB is what the pixels are now
    return Exif(
        order=order,
        main={tag: entry for tag, entry in entries.items() if tag in _KEPT},
        exif=exif,
        gps=read_directory(block, _pointer(entries, _GPS_POINTER, order), order),
        resolution_dpi=_resolution(entries, order),
    )


def read_color_entries(block: bytes) -> tuple[ByteOrder, Mapping[int, TiffField]]:
    r"""Return the byte order of an EXIF block and all entries that may tell of color, by tag.

    They are those of the first directory, the EXIF directory and the interoperability directory, whose tags differ.

    Args:
        block: bytes of the block, with or without ``Exif\0\0`` before it, or of a whole TIFF file.
    """
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] not in (b"II*\0", b"MM\0*") or len(block) < 8:
        return "<", {}
    order: ByteOrder = "<" if block[:1] == b"I" else ">"
    main = read_directory(block, struct.unpack_from(f"{order}I", block, 4)[0], order)
    exif = read_directory(block, _pointer(main, _EXIF_POINTER, order), order)
    return order, {**read_directory(block, _pointer(exif, _INTEROPERABILITY_POINTER, order), order), **exif, **main}


def read_directory(block: bytes, offset: int, order: ByteOrder) -> dict[int, TiffField]:
    """Read the entries of a TIFF directory that lie whole within the block and are not too long.

    Args:
        block: bytes of the block.
        offset: offset of the directory (bytes); none is there at 0.
        order: byte order.

    Returns:
        The entries by tag.
    """
    entries: dict[int, TiffField] = {}
    if not 8 <= offset <= len(block) - 2:
        return entries
    count = min(int(struct.unpack_from(f"{order}H", block, offset)[0]), _MAX_ENTRIES, (len(block) - offset - 2) // 12)
    for position in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", block, position)
        length = _SIZES.get(kind, 0) * values
        if not 0 < length <= MAX_EXIF_BYTES or tag in entries:
            continue
        start = position + 8 if length <= 4 else int(struct.unpack_from(f"{order}I", block, position + 8)[0])
        if start + length <= len(block):
            entries[tag] = TiffField(kind, values, block[start : start + length])
    return entries


def tiff_header(order: ByteOrder, offset: int) -> bytes:
    """Return the eight bytes before the contents of a TIFF whose first directory is at an offset."""
    return (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, offset)


def directories_to_bytes(exif: Exif, main: Mapping[int, TiffField], offset: int, orientation: int = 1) -> bytes:
    """Lay out a first directory with the EXIF and GPS directories behind it; the same input gives the same bytes.

    Args:
        exif: block that gives the byte order and the EXIF and GPS directories.
        main: entries of the first directory; the orientation and the pointers are added to them.
        offset: offset in the file at which the directories will lie (bytes, even).
        orientation: EXIF orientation, 1 to 8 (default: 1).
    """
    entries, order = {**main, _ORIENTATION: _short(exif.order, orientation)}, exif.order
    parts = {_EXIF_POINTER: exif.exif, _GPS_POINTER: exif.gps}
    parts = {pointer: part for pointer, part in parts.items() if part}
    for pointer in parts:
        entries[pointer] = TiffField(_LONG, 1, bytes(4))  # its room
    behind = offset + len(_directory(entries, offset, order))
    laid_out = b""
    for pointer, part in parts.items():
        entries[pointer] = TiffField(_LONG, 1, struct.pack(f"{order}I", behind + len(laid_out)))
        laid_out += _directory(part, behind + len(laid_out), order)
    return _directory(entries, offset, order) + laid_out


def resolution_entries(order: ByteOrder, resolution_dpi: tuple[float, float] | None) -> dict[int, TiffField]:
    """Return the three entries that tell a resolution (pixels an inch); no entries for None."""
    if resolution_dpi is None:
        return {}
    across, down = (Fraction(value).limit_denominator(1_000) for value in resolution_dpi)
    return {
        _X_RESOLUTION: TiffField(_RATIONAL, 1, struct.pack(f"{order}II", *across.as_integer_ratio())),
        _Y_RESOLUTION: TiffField(_RATIONAL, 1, struct.pack(f"{order}II", *down.as_integer_ratio())),
        _RESOLUTION_UNIT: _short(order, _INCH),
    }


def checked_resolution(across: float, down: float) -> tuple[float, float] | None:
    """Return a resolution (pixels an inch) rounded to thousandths; None where it is out of all bounds."""
    if not all(math.isfinite(value) and 0.01 <= value <= _MAX_DPI for value in (across, down)):
        return None
    return round(across, 3), round(down, 3)


def _directory(entries: Mapping[int, TiffField], offset: int, order: ByteOrder) -> bytes:
    table, values = struct.pack(f"{order}H", len(entries)), b""
    behind = offset + 2 + 12 * len(entries) + 4
    for tag, entry in sorted(entries.items()):
        table += struct.pack(f"{order}HHI", tag, entry.kind, entry.count)
        if len(entry.value) <= 4:
            table += entry.value.ljust(4, b"\0")
        else:
            table += struct.pack(f"{order}I", behind + len(values))
            values += entry.value + bytes(len(entry.value) % 2)
    return table + bytes(4) + values


def _short(order: ByteOrder, value: int) -> TiffField:
    return TiffField(_SHORT, 1, struct.pack(f"{order}H", value))


def _pointer(entries: Mapping[int, TiffField], tag: int, order: ByteOrder) -> int:
    entry = entries.get(tag)
    if entry is None or entry.kind != _LONG or entry.count != 1:
        return 0
    return int(struct.unpack(f"{order}I", entry.value)[0])


def _resolution(entries: Mapping[int, TiffField], order: ByteOrder) -> tuple[float, float] | None:
    resolution = []
    for tag in (_X_RESOLUTION, _Y_RESOLUTION):
        entry = entries.get(tag)
        if entry is None or (entry.kind, entry.count) != (_RATIONAL, 1):
            return None
        numerator, denominator = struct.unpack(f"{order}II", entry.value)
        resolution.append(numerator / denominator if denominator else 0.0)
    unit = entries.get(_RESOLUTION_UNIT, _short(order, _INCH))
    if unit == _short(order, _CENTIMETRE):
        resolution = [value * _CM_PER_INCH for value in resolution]
    elif unit != _short(order, _INCH):
        return None
    return checked_resolution(resolution[0], resolution[1])
