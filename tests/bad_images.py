"""Files that an archive of ten million photographs holds somewhere: made by mutation from whole ones, from a seed.

    bad_images(2400)                      # name, bytes: the same at every call with the same versions
    write_bad_archive(folder, 500)        # loose files, every tenth of them whole; the names of those

Nothing of it is stored: whole pictures of each kind are made, then cut, flipped, swapped, made to lie about their
sizes, counts and offsets (with PNG's checksums mended, so that the lie is believed), put together, and given wrong
names. Bombs and loops, which no mutation would find, are written by hand.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms
from samples import saved

__all__ = ["BadImage", "bad_images", "bombs", "png", "textured", "whole_images", "with_chunk", "write_bad_archive"]

Mutation = Callable[[bytes, random.Random], bytes]

EXTENSIONS = {
    "jpeg": "jpg", "png": "png", "webp": "webp", "tiff": "tif", "gif": "gif", "jp2": "jp2", "bmp": "bmp", "ppm": "ppm",
    "avif": "avif", "heif": "heic", "jxl": "jxl",
}  # fmt: skip
_FILES = Path(__file__).parent / "pipelines" / "images" / "data"
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


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
        choices = [*_GENERAL.items(), *_OF_FORMAT.get(family, {}).items()]
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


def textured(width: int, height: int) -> NDArray[np.uint8]:
    """Edges and colors in every direction."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(x / 3) + np.cos(y / 7), np.sin((x + y) / 5), (x // 9 + y // 11) % 2 * 2 - 1.0]
    return ((np.stack(planes, -1) / 4 + 0.5) * 255).clip(0, 255).astype(np.uint8)


def _tiff(pixels: NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"photometric": "rgb", "metadata": None, "software": False, **options})
    return buffer.getvalue()


@cache
def whole_images() -> dict[str, bytes]:
    """A small whole picture of every kind, by `format-kind`."""
    pixels = textured(40, 28)
    image, deep = Image.fromarray(pixels), pixels.astype(np.uint16) * 257 ^ 0x55
    exif = Image.Exif()
    exif[271], exif[274], exif[270] = "Maker", 6, "described at some length"
    exif.get_ifd(34665)[36867] = "2001:02:03 04:05:06"
    exif.get_ifd(34665)[37500] = b"maker's notes" * 9
    adobe = Image.Exif()
    adobe.get_ifd(34665)[40961], adobe.get_ifd(34665)[40965] = 65535, {1: "R03"}
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)  # its date
    icc = bytes(profile).replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
    frames = [Image.fromarray(np.roll(pixels, 5 * i, 1)) for i in range(3)]
    palette = image.quantize(16)
    separate = np.moveaxis(deep, -1, 0).copy()
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        for index, page in enumerate((pixels[::4, ::4].copy(), pixels, pixels[:5].copy())):
            writer.write(page, photometric="rgb", subfiletype=int(index == 0), metadata=None, software=False)
    animation = {"save_all": True, "append_images": frames[1:], "duration": 50, "loop": 0}
    return {
        "jpeg-baseline": saved(image, "jpeg", quality=80),
        "jpeg-progressive": saved(image, "jpeg", progressive=True),
        "jpeg-cmyk": saved(image.convert("CMYK"), "jpeg"),
        "jpeg-metadata": saved(image, "jpeg", exif=exif, icc_profile=icc, dpi=(300, 300)),
        "jpeg-adobe-rgb": saved(image, "jpeg", exif=adobe),
        "jpeg-restarts": saved(image.convert("L"), "jpeg", restart_marker_blocks=2),
        "png-rgb": saved(image, "png"),
        "png-palette": saved(palette, "png", transparency=3),
        "png-deep": bytes(imagecodecs.png_encode(deep)),
        "png-deep-grey": bytes(imagecodecs.png_encode(deep[..., 0].copy())),
        "png-interlaced": _interlaced(pixels[..., 0]),
        "png-gamma": _told(image, gAMA=struct.pack(">I", 60_000), cHRM=struct.pack(">8I", *_WIDE)),
        "png-code-points": _told(image.convert("RGBA"), cICP=b"\x09\x10\0\1"),
        "png-metadata": _with_texts(saved(image, "png", icc_profile=icc, exif=exif, dpi=(72, 72))),
        "webp-lossy": saved(image, "webp", exif=exif, icc_profile=icc),
        "webp-lossless": saved(image.convert("RGBA"), "webp", lossless=True),
        "webp-animated": saved(frames[0], "webp", **animation),
        "tiff-strips": _tiff(pixels, rowsperstrip=5),
        "tiff-tiles": _tiff(pixels, tile=(16, 16), compression="lzw"),
        "tiff-lzw": saved(image, "tiff", compression="tiff_lzw"),
        "tiff-deflate": saved(image, "tiff", compression="tiff_adobe_deflate", icc_profile=icc, dpi=(300, 300)),
        "tiff-jpeg": saved(image, "tiff", compression="jpeg"),
        "tiff-fax": saved(image.convert("1"), "tiff", compression="group4"),
        "tiff-palette": saved(palette, "tiff"),
        "tiff-deep": _tiff(deep, byteorder=">"),
        "tiff-deep-tiles": _tiff(deep, tile=(16, 16), compression="zlib", predictor=True),
        "tiff-deep-planes": _tiff(separate, planarconfig="separate"),
        "tiff-deep-grey": _tiff(deep[..., 0].copy(), photometric="minisblack"),
        "tiff-floats": _tiff(pixels.astype(np.float32) / 255, compression="zlib", predictor=True),
        "tiff-signed": _tiff((separate >> 1).astype(np.int16), planarconfig="separate", byteorder=">"),
        "tiff-exif": saved(image, "tiff", exif=exif.tobytes()),
        "tiff-pages": pages.getvalue(),
        "tiff-big": _tiff(pixels, bigtiff=True),
        "gif-animated": saved(frames[0], "gif", **animation),
        "gif-plain": saved(palette, "gif", transparency=1),
        "jp2-rgb": saved(image, "jpeg2000"),
        "jp2-deep": bytes(imagecodecs.jpeg2k_encode(deep, 0, reversible=True, codecformat="jp2")),
        "jp2-deep-grey": bytes(imagecodecs.jpeg2k_encode(deep[..., 0] >> 4, 0, bitspersample=12, codecformat="j2k")),
        "bmp-plain": saved(image, "bmp"),
        "ppm-plain": saved(image, "ppm"),
        "avif-code-points": bytes(imagecodecs.avif_encode(pixels, speed=10, primaries=12, transfer=13)),
        "heif-plain": (_FILES / "grid.heic").read_bytes(),
        "heif-deep": (_FILES / "ten.heic").read_bytes(),
        "jxl-plain": (_FILES / "profile-lossy.jxl").read_bytes(),
        "jxl-deep": (_FILES / "deep.jxl").read_bytes(),
        "jxl-jpeg": bytes(imagecodecs.jpegxl_encode_jpeg(saved(image, "jpeg", quality=80))),
        "avif-plain": saved(image, "avif", speed=10, icc_profile=icc, exif=exif),
    }


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, color: int, data: bytes, laced: int = 0) -> bytes:
    """A PNG by hand, for what Pillow does not write; ``data`` is its compressed rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, laced)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one chunk more, behind its header."""
    return data[:33] + _chunk(kind, body) + data[33:]


_WIDE = (31_270, 32_900, 70_800, 29_200, 17_000, 79_700, 13_100, 4_600)


def _told(image: Image.Image, **chunks: bytes) -> bytes:
    data = saved(image, "png")
    return data[:33] + b"".join(_chunk(kind.encode(), body) for kind, body in chunks.items()) + data[33:]


def _interlaced(grey: NDArray[np.uint8]) -> bytes:
    """Adam7, which Pillow does not write (PNG 1.2, section 2.6)."""
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    rows = b"".join(b"\0" + row.tobytes() for y, dy, x, dx in passes for row in grey[y::dy, x::dx])
    return png(grey.shape[1], grey.shape[0], 8, 0, zlib.compress(rows), laced=1)


def _with_texts(png: bytes) -> bytes:
    texts = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a comment" * 50))
    texts += _chunk(b"iTXt", b"Title\0\1\0en\0\0" + zlib.compress(b"a title" * 50)) + _chunk(b"tEXt", b"Author\0A. N.")
    return png[:33] + texts + png[33:]


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
    value = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
    return data[:position] + value.to_bytes(size, "little" if order == "<" else "big") + data[position + size :]


def _joined(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice(list(whole_images().values()))


def _spliced(data: bytes, rng: random.Random) -> bytes:
    other = rng.choice(list(whole_images().values()))
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


_GENERAL: dict[str, Mutation] = {
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
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind[:4].ljust(4, b"x"), body) for kind, body in chunks)


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


_OF_FORMAT: dict[str, dict[str, Mutation]] = {
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
        "many-ztxt.png": rgb[:33] + _chunk(b"zTXt", b"C\0\0" + zlib.compress(bytes(1 << 20))) * 100 + rgb[33:],
        "itxt.png": with_chunk(rgb, b"iTXt", b"C\0\1\0\0\0" + zeros),
        "iccp.png": with_chunk(rgb, b"iCCP", b"icc\0\0" + zeros),
        "many-chunks.png": rgb[:33] + _chunk(b"abCd", b"") * 20_000 + rgb[33:],
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
