"""Damage to images: of any file, and of each format, so that its reader believes it."""

import random
import struct
from collections.abc import Callable

from whole_images import png_chunk, whole_images

__all__ = ["GENERAL", "OF_FORMAT", "Mutation"]

Mutation = Callable[[bytes, random.Random], bytes]

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


# Mutations of any file.


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _cut_and_filled(data: bytes, rng: random.Random) -> bytes:
    cut = _cut(data, rng)
    return cut + rng.choice((b"\0", b"\xff")) * (len(data) - len(cut))


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _swapped(data: bytes, rng: random.Random) -> bytes:
    size = rng.choice((1, 2, 4, 16, 64))
    first, second = (rng.randrange(max(1, len(data) - size)) for _ in range(2))
    changed = bytearray(data)
    changed[first : first + size] = data[second : second + size]
    changed[second : second + size] = data[first : first + size]
    return bytes(changed)


def _lost(data: bytes, rng: random.Random) -> bytes:
    return data[: (start := rng.randrange(len(data)))] + data[start + rng.choice((1, 2, 16, 256)) :]


def _inserted(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.choice((1, 2, 16, 256))) + data[start:]


def _lying(data: bytes, rng: random.Random) -> bytes:
    """An extreme number somewhere near the start."""
    return _with_extreme(data, rng.randrange(min(len(data), 512)), rng, rng.choice("<>"))


def _with_extreme(data: bytes, position: int, rng: random.Random, order: str, size: int | None = None) -> bytes:
    size = size or rng.choice((1, 2, 4))
    value = rng.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    return data[:position] + value.to_bytes(size, "little" if order == "<" else "big") + data[position + size :]


def _joined(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice(list(whole_images().values()))


def _spliced(data: bytes, rng: random.Random) -> bytes:
    other = rng.choice(list(whole_images().values()))
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


GENERAL: dict[str, Mutation] = {
    "cut": _cut, "cut-filled": _cut_and_filled, "flipped": _flipped, "swapped": _swapped, "lost": _lost,
    "flipped-header": lambda data, rng: _flipped(data[:64], rng) + data[64:],
    "inserted": _inserted, "lying": _lying, "joined": _joined, "spliced": _spliced,
}  # fmt: skip


# Mutations that know the format, so that its reader believes them.


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def _png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind[:4].ljust(4, b"x"), body) for kind, body in chunks)


def _png_lie(data: bytes, rng: random.Random) -> bytes:
    """A header or a chunk changed, its checksum right."""
    chunks = _png_chunks(data)
    index = rng.choice((0, 0, rng.randrange(len(chunks)))) if chunks else 0
    if not chunks or not chunks[index][1]:
        return data
    kind, body = chunks[index]
    chunks[index] = (kind, _with_extreme(body, rng.randrange(min(len(body), 64)), rng, ">")[: len(body) + 3])
    return _png_of(chunks)


def _png_shuffled(data: bytes, rng: random.Random) -> bytes:
    """A chunk left out, given twice, or put elsewhere."""
    chunks = _png_chunks(data)
    if len(chunks) < 2:
        return data
    what = rng.randrange(3)
    chunk = chunks[rng.randrange(len(chunks))] if what == 1 else chunks.pop(rng.randrange(len(chunks)))
    if what:
        chunks.insert(rng.randrange(len(chunks) + 1), chunk)
    return _png_of(chunks)


def _tiff_lie(data: bytes, rng: random.Random) -> bytes:
    """A directory's entry with another type, count or value, or a directory that goes on at itself."""
    order = "<" if data[:1] == b"I" else ">"
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    if data[2:4] not in (b"*\0", b"\0*") or not 8 <= offset < len(data) - 14:
        return _lying(data, rng)
    (count,) = struct.unpack_from(f"{order}H", data, offset)
    if rng.random() < 0.1:
        end = offset + 2 + 12 * count
        return data[:end] + struct.pack(f"{order}I", rng.choice((8, offset, len(data) - 6))) + data[end + 4 :]
    entry = offset + 2 + 12 * rng.randrange(max(1, min(count, 40)))
    place, size = rng.choice(((0, 2), (2, 2), (4, 4), (8, 2), (8, 4), (8, 4)))
    if rng.random() < 0.3:
        return data[: entry + 8] + struct.pack(f"{order}I", rng.randrange(len(data) + 16)) + data[entry + 12 :]
    return _with_extreme(data, entry + place, rng, order, size)


def _jpeg_lie(data: bytes, rng: random.Random) -> bytes:
    """A segment's length or one of its first bytes changed, or a segment left out or given twice."""
    segments, position = [], 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xD9:
        stop = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segments.append((position, stop))
        if data[position + 1] == 0xDA:
            break
        position = stop
    if not segments:
        return _lying(data, rng)
    start, stop = rng.choice(segments)
    what = rng.randrange(4)
    if what == 0:
        return data[:start] + data[stop:]
    if what == 1:
        return data[:stop] + data[start:stop] * rng.choice((1, 2, 50)) + data[stop:]
    return _with_extreme(data, start + rng.choice((2, 3, 4, 5, 7, 9, 10, 11, 13)), rng, ">")


def _place_lie(first: int, stop: int, order: str) -> Mutation:
    """An extreme number between two offsets."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        return _with_extreme(data, rng.randrange(first, min(stop, len(data))), rng, order)

    return mutate


OF_FORMAT: dict[str, dict[str, Mutation]] = {
    "png": {"lie": _png_lie, "lies": _png_lie, "shuffled": _png_shuffled},
    "tiff": {"lie": _tiff_lie, "lies": _tiff_lie, "more-lies": _tiff_lie},
    "jpeg": {"lie": _jpeg_lie, "lies": _jpeg_lie},
    "webp": {"lie": _place_lie(4, 60, "<")},
    "gif": {"lie": _place_lie(6, 60, "<")},
    "jp2": {"lie": _place_lie(12, 200, ">")},
    "bmp": {"lie": _place_lie(2, 54, "<")},
    "heif": {"lie": _place_lie(8, 500, ">")},
    "jxl": {"lie": _place_lie(2, 60, "<")},
}
