"""Of the images in a TIFF, the one is found that it is about: not a reduced copy of it, and not a mask.

A page may have others below it (``SubIFDs``; TIFF technical note 1): scanners and cameras put the full image there, and
a small copy in the first page. What cameras put there is mostly the sensor's own data, which must be developed first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from condgen.errors import ImageError

__all__ = ["FullPage", "camera_raw", "full_page", "with_first_page"]

_NEW_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101
_SUBFILE_TYPE, _REDUCED = 255, 2
_WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION, _SUB_PAGES, _DNG_VERSION = 256, 257, 262, 274, 330, 50706
_OF_SENSORS = (32803, 34892)
"""Photometric interpretations: color filter array, linear raw (TIFF/EP; DNG 1.7)."""
_MAX_PAGES = 64
"""Pages that are looked at for a full image."""
_MAX_THUMBNAIL_PX = 640
_SAME_SHAPE = 0.03
_BIG = (b"II+\0", b"MM\0+")


@dataclass(frozen=True, slots=True)
class FullPage:
    """A page of a TIFF.

    Attributes:
        offset: offset of its directory (bytes).
        is_first: whether it is the first page.
        orientation: orientation that a page below the first page takes from it, 1 to 8; 1 for all others.
    """

    offset: int
    is_first: bool
    orientation: int


def camera_raw() -> ImageError:
    """Return the error of a file that has a sensor's data in place of an image."""
    reason = "a camera's raw file: develop it first, for example to TIFF or JPEG with darktable or RawTherapee"
    return ImageError("decode", "CameraRaw", reason)


def full_page(data: bytes) -> FullPage | None:
    """Return the page that a TIFF is about; None where its directories can't be read.

    It is the first page that is no reduced copy and no mask (TIFF 6.0, tags 254 and 255). A small page that is not
    marked as a copy is one if a far larger page has its shape. Where all are marked, it is the largest.

    Raises:
        ImageError: stage ``decode``, ``CameraRaw``: the full image is the data of a sensor.
    """
    pages = list(_pages(data))
    if not pages:
        return None
    if any(_first(tags, _PHOTOMETRIC, 0) in _OF_SENSORS for _, tags, _ in pages):
        raise camera_raw()
    full = [page for page in pages if _is_full(page[1])]
    if not full:
        if _DNG_VERSION in pages[0][1]:
            raise camera_raw()
        chosen = max(pages, key=lambda page: _area(page[1]))
    else:
        chosen = full[0]
        larger = [page for page in full if _is_copy(chosen[1], page[1])]
        if larger:
            chosen = max(larger, key=lambda page: _area(page[1]))
    offset, tags, is_below = chosen
    orientation = _first(pages[0][1], _ORIENTATION, 1) if is_below and _ORIENTATION not in tags else 1
    return FullPage(offset, offset == pages[0][0], orientation if 1 <= orientation <= 8 else 1)


def with_first_page(data: bytes, offset: int) -> bytes:
    """Return a TIFF whose first page is the one at an offset (bytes)."""
    order = "<" if data[:1] == b"I" else ">"
    if data[:4] in _BIG:
        return data[:8] + struct.pack(f"{order}Q", offset) + data[16:]
    return data[:4] + struct.pack(f"{order}I", offset) + data[8:]


_Tags = Mapping[int, tuple[int, ...]]
_Page = tuple[int, _Tags, bool]
_TAGS = frozenset({
    _NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION, _SUB_PAGES, _DNG_VERSION,
})  # fmt: skip
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types of unsigned numbers and offsets (TIFF 6.0, section 2; technical note 1; BigTIFF)."""


def _pages(data: bytes) -> Iterator[_Page]:
    """Yield offset and tags of each page, and whether it is below another; those below a page come before the next.

    Pages without a size are passed over; nothing comes past damage.
    """
    order, is_big = "<" if data[:1] == b"I" else ">", data[:4] in _BIG
    if len(data) < 16:
        return
    (first,) = struct.unpack_from(f"{order}Q", data, 8) if is_big else struct.unpack_from(f"{order}I", data, 4)
    seen: set[int] = set()
    waiting = [(first, False)]
    while waiting and len(seen) < _MAX_PAGES:
        offset, is_below = waiting.pop(0)
        if offset in seen:
            continue
        seen.add(offset)
        try:
            tags, following = _directory(data, offset, order, is_big=is_big)
        except struct.error:
            continue
        if not is_below:
            waiting.append((following, False))
        waiting[:0] = [(below, True) for below in tags.get(_SUB_PAGES, ())[:_MAX_PAGES]]
        if _area(tags):
            yield offset, tags, is_below


def _directory(data: bytes, offset: int, order: str, *, is_big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """Read the tags that matter of a directory, and the offset of the next one.

    Raises:
        struct.error: it does not lie within the file.
    """
    counter, entry, field, room = ("Q", 20, "Q", 8) if is_big else ("H", 12, "I", 4)
    if not 8 <= offset < len(data):
        raise struct.error
    (count,) = struct.unpack_from(f"{order}{counter}", data, offset)
    start, tags = offset + struct.calcsize(counter), {}
    if start + count * entry > len(data):
        raise struct.error
    for position in range(start, start + entry * count, entry):
        tag, kind, length = struct.unpack_from(f"{order}HH{field}", data, position)
        if tag not in _TAGS or kind not in _NUMBERS or not 0 < length <= _MAX_PAGES:
            continue
        place = position + entry - room
        if length * struct.calcsize(f"={_NUMBERS[kind]}") > room:
            (place,) = struct.unpack_from(f"{order}{field}", data, place)
        if place < len(data):
            tags[tag] = struct.unpack_from(f"{order}{length}{_NUMBERS[kind]}", data, place)
    end = start + entry * count
    return tags, struct.unpack_from(f"{order}{field}", data, end)[0] if end + room <= len(data) else 0


def _first(tags: _Tags, tag: int, default: int) -> int:
    return tags[tag][0] if tag in tags else default


def _is_full(tags: _Tags) -> bool:
    if _NEW_SUBFILE_TYPE in tags:
        return not _first(tags, _NEW_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK
    return _first(tags, _SUBFILE_TYPE, 0) != _REDUCED


def _area(tags: _Tags) -> int:
    return _first(tags, _WIDTH, 0) * _first(tags, _HEIGHT, 0)


def _is_copy(small: _Tags, large: _Tags) -> bool:
    """Return whether a page is a thumbnail of another by their sizes: far smaller, and of the same shape."""
    (width,), (height,) = small[_WIDTH][:1], small[_HEIGHT][:1]
    across, down = _first(large, _WIDTH, 0) / width, _first(large, _HEIGHT, 0) / height
    is_same_shape = abs(across / down - 1) < _SAME_SHAPE + 1 / min(width, height)
    return max(width, height) <= _MAX_THUMBNAIL_PX and min(across, down) >= 2 and is_same_shape
