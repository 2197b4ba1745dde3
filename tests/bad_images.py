"""Files that an archive of ten million photographs holds somewhere: made by mutation from whole ones, from a seed.

    bad_images(2400)                      # name, bytes: the same at every call with the same versions
    write_bad_archive(folder, 500)        # loose files, every tenth of them whole; the names of those

Nothing of it is stored: whole pictures of each kind are made, then cut, flipped, swapped, made to lie about their
sizes, counts and offsets (with PNG's checksums mended, so that the lie is believed), put together, and given wrong
names. Bombs and loops, which no mutation would find, are written by hand.
"""

import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mutations import GENERAL, OF_FORMAT
from whole_images import png, png_chunk, whole_images, with_chunk

__all__ = ["BadImage", "bad_images", "bombs", "write_bad_archive"]

EXTENSIONS = {
    "jpeg": "jpg", "png": "png", "webp": "webp", "tiff": "tif", "gif": "gif", "jp2": "jp2", "bmp": "bmp", "ppm": "ppm",
    "avif": "avif", "heif": "heic", "jxl": "jxl",
}  # fmt: skip


class BadImage(NamedTuple):
    """A file: its name, the last part of which may lie, and its bytes."""

    name: str
    data: bytes


def bad_images(count: int, seed: int = 0) -> Iterator[BadImage]:
    """Make this many files: the bombs first, then mutations of every whole picture in turn."""
    made = 0
    for name, data in list(bombs().items())[:count]:
        yield BadImage(f"{made:05d}-bomb-{name}", data)
        made += 1
    rng = random.Random(seed)
    wholes = list(whole_images().items())
    while made < count:
        kind, data = wholes[made % len(wholes)]
        family = kind.split("-")[0]
        choices = [*GENERAL.items(), *OF_FORMAT.get(family, {}).items()]
        title, mutate = rng.choice(choices)
        changed = mutate(data, rng)
        for _ in range(rng.choice((0, 0, 1, 3))):
            changed = rng.choice(choices)[1](changed, rng) if len(changed) > 64 else changed
        extension = rng.choice(list(EXTENSIONS.values())) if rng.random() < 0.05 else EXTENSIONS[family]
        yield BadImage(f"{made:05d}-{kind}-{title}.{extension}", changed)
        made += 1


def write_bad_archive(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Write a folder of this many loose files, every tenth a whole picture; return the names of the whole ones."""
    folder.mkdir(parents=True, exist_ok=True)
    wholes, good = list(whole_images().items()), []
    for index, bad in enumerate(bad_images(count, seed)):
        name, data = bad.name, bad.data
        if index % 10 == 9:
            kind, data = wholes[index // 10 % len(wholes)]
            name = f"{index:05d}-{kind}-whole.{EXTENSIONS[kind.split('-')[0]]}"
            good.append(name)
        (folder / name).write_bytes(data)
    return good


@cache
def bombs() -> dict[str, bytes]:
    """What is small and claims, or unpacks to, far more; and what is no picture at all."""
    rgb, jpeg = whole_images()["png-rgb"], whole_images()["jpeg-progressive"]
    zeros = zlib.compress(bytes(64 << 20), 9)
    strips = whole_images()["tiff-strips"]
    scan = jpeg.rindex(b"\xff\xda")
    tall = struct.pack("<HHI", 40_000, 40_000, 0)

    def directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
        body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)

    def one_strip(width: int, height: int, compression: int, data: bytes, *more: tuple[int, int, int, int]) -> bytes:
        entries = [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
            (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data)), *more,
        ]  # fmt: skip
        offset = 8 + len(data) + len(data) % 2
        return b"II*\0" + struct.pack("<I", offset) + data + bytes(len(data) % 2) + directory(*sorted(entries))

    pages = b"".join(directory((254, 4, 1, 1), following=8 + 18 * (i + 1)) for i in range(20_000))
    return {
        "empty.jpg": b"",
        "text.jpg": b"These are notes about my photographs.\n" * 20,
        "zeros.tif": bytes(5000),
        "name-only.png": b"\x89PNG\r\n\x1a\n",
        "claimed.png": png(60_000, 60_000, 8, 2, zlib.compress(b"")),
        "claimed-deep.png": png(0x7FFFFFFF, 0x7FFFFFFF, 16, 6, zlib.compress(b"")),
        "real.png": png(8_000, 8_000, 8, 0, zeros),
        "small-but-long.png": png(40, 40, 8, 0, zeros),
        "deep-small-but-long.png": png(40, 40, 16, 2, zeros),
        "ztxt.png": with_chunk(rgb, b"zTXt", b"Comment\0\0" + zeros),
        "many-ztxt.png": rgb[:33] + png_chunk(b"zTXt", b"C\0\0" + zlib.compress(bytes(1 << 20))) * 100 + rgb[33:],
        "itxt.png": with_chunk(rgb, b"iTXt", b"C\0\1\0\0\0" + zeros),
        "iccp.png": with_chunk(rgb, b"iCCP", b"icc\0\0" + zeros),
        "many-chunks.png": rgb[:33] + png_chunk(b"abCd", b"") * 20_000 + rgb[33:],
        "claimed.jpg": jpeg.replace(struct.pack(">HH", 28, 40), b"\xff\xff\xff\xff"),
        "scans.jpg": jpeg[:scan] + jpeg[scan:-2] * 30_000 + jpeg[-2:],
        "padding.jpg": b"\xff\xd8" + b"\xff" * 300_000,
        "comments.jpg": jpeg[:2] + b"\xff\xfe\0\x02" * 100_000 + jpeg[2:],
        "claimed.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b"," + bytes(4) + tall,
        "frame.gif": b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6) + b"," + bytes(4) + tall + b"\2\0;",
        "claimed.webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6 + b"VP8 \4\0\0\0" + bytes(4),
        "claimed.tif": one_strip(0xFFFFFFFF, 0xFFFFFFFF, 1, b""),
        "real.tif": one_strip(8_000, 8_000, 8, zeros),
        "small-but-long.tif": one_strip(40, 40, 8, zeros),
        "tile.tif": one_strip(40, 40, 1, b"", (322, 4, 1, 0xFFFFFFF0), (323, 4, 1, 0xFFFFFFF0), (324, 4, 1, 8)),
        "tile-deflate.tif": one_strip(40, 40, 8, zeros, (322, 4, 1, 32_768), (323, 4, 1, 32_768), (324, 4, 1, 8)),
        "samples.tif": strips[:-4] + b"\xff\xff\0\0",
        "count.tif": one_strip(40, 40, 1, bytes(1600), (270, 2, 0x7FFFFFFF, 8), (700, 7, 0xFFFFFFFF, 8)),
        "looping.tif": b"II*\0\x08\0\0\0" + directory((254, 4, 1, 1), (34665, 4, 1, 8), following=8),
        "pages.tif": b"II*\0\x08\0\0\0" + pages,
        "claimed.jp2": whole_images()["jp2-rgb"].replace(struct.pack(">II", 28, 40), b"\x7f\xff\xff\xff" * 2),
        "codestream.jp2": whole_images()["jp2-rgb"].replace(struct.pack(">II", 40, 28), b"\0\0\xea\x60" * 2),
        "claimed.bmp": b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0) + bytes(20),
        "claimed.ppm": b"P6 99999999 99999999 255\n",
        "digits.ppm": b"P6 " + b"9" * 100_000,
    }  # fmt: skip
