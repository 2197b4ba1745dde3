"""Boxes of the files of ISO/IEC 14496-12, and the items that they tell of (ISO/IEC 14496-12, 8.11; 23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["boxes", "coded_extents", "primary_item"]


def boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and stop of the contents of each whole box between two offsets."""
    while start + 8 <= stop:
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1 and start + 16 <= stop:
            (length,), head = struct.unpack_from(">Q", data, start + 8), 16
        end = stop if length == 0 else start + length
        if end < start + head or end > stop:
            return
        yield kind, start + head, end
        start = end


def primary_item(data: bytes, needed: bytes) -> tuple[int, dict[bytes, tuple[int, int]]]:
    """Return the number of a file's primary item, and start and stop of each box of its ``meta``.

    Of a file without a primary item, or without a box of the kind ``needed``, it is 0 and no box.
    """
    meta = next((box for box in boxes(data, 0, len(data)) if box[0] == b"meta"), None)
    parts = {kind: (start, stop) for kind, start, stop in boxes(data, meta[1] + 4, meta[2])} if meta else {}
    if b"pitm" not in parts or needed not in parts:
        return 0, {}
    start, _ = parts[b"pitm"]
    return int.from_bytes(data[start + 4 : start + (8 if data[start] else 6)], "big"), parts


def coded_extents(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the coded data of the primary item, or of each tile that it is made of.

    Items whose data is not told by offsets in the file, or is told in a damaged box, are passed over.
    """
    primary, parts = primary_item(data, b"iloc")
    if not parts:
        return
    tiles = _parts_of(data, primary, *parts[b"iref"]) if b"iref" in parts else []
    try:
        places = dict(_places(data, *parts[b"iloc"]))
    except struct.error:
        return
    for item in tiles or [primary]:
        yield from places.get(item, ())


def _parts_of(data: bytes, item: int, start: int, stop: int) -> list[int]:
    """Return the items that one is derived from, from the contents of ``iref``."""
    size = 4 if data[start] else 2
    for kind, first, last in boxes(data, start + 4, stop):
        numbers = [
            int.from_bytes(data[place : place + size], "big") for place in (first, *range(first + size + 2, last, size))
        ]
        if kind == b"dimg" and numbers[0] == item:
            return numbers[1:]
    return []


def _places(data: bytes, start: int, stop: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield each item and the start and stop of each of its extents, from the contents of ``iloc``."""
    version, sizes = data[start], data[start + 4 : start + 6]
    offset_size, length_size, base_size, index_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4, sizes[1] & 15
    position = start + 6

    def take(size: int) -> int:
        nonlocal position
        position += size
        if position > stop:
            raise struct.error
        return int.from_bytes(data[position - size : position], "big")

    for _ in range(take(4 if version == 2 else 2)):
        item = take(4 if version == 2 else 2)
        method = take(2) & 15 if version else 0
        take(2)
        base, extents = take(base_size), []
        for _ in range(take(2)):
            take(index_size if version else 0)
            first = base + take(offset_size)
            extents.append((first, first + take(length_size)))
        yield item, extents if method == 0 else []
