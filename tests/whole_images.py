"""A small whole image of every kind that is read, made when a test asks for it."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms
from samples import saved

__all__ = ["png", "png_chunk", "textured", "whole_images", "with_chunk"]

_FILES = Path(__file__).parent / "pipelines" / "images" / "data"
_WIDE = (31_270, 32_900, 70_800, 29_200, 17_000, 79_700, 13_100, 4_600)


def textured(width: int, height: int) -> NDArray[np.uint8]:
    """Edges and colors in every direction."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(x / 3) + np.cos(y / 7), np.sin((x + y) / 5), (x // 9 + y // 11) % 2 * 2 - 1.0]
    return ((np.stack(planes, -1) / 4 + 0.5) * 255).clip(0, 255).astype(np.uint8)


@cache
def whole_images() -> dict[str, bytes]:
    """Return a small whole image of every kind, by `format-kind`."""
    pixels = textured(40, 28)
    image, deep = Image.fromarray(pixels), _deep(pixels)
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
        **_tiffs(image, exif, icc),
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


def _tiff(pixels: NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"photometric": "rgb", "metadata": None, "software": False, **options})
    return buffer.getvalue()


def _deep(pixels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """16 bits, none of which follow from others."""
    return pixels.astype(np.uint16) * 257 ^ 0x55


def _tiffs(image: Image.Image, exif: Image.Exif, icc: bytes) -> dict[str, bytes]:
    pixels = np.array(image)
    deep = _deep(pixels)
    separate = np.moveaxis(deep, -1, 0).copy()
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        for index, page in enumerate((pixels[::4, ::4].copy(), pixels, pixels[:5].copy())):
            writer.write(page, photometric="rgb", subfiletype=int(index == 0), metadata=None, software=False)
    return {
        "tiff-strips": _tiff(pixels, rowsperstrip=5),
        "tiff-tiles": _tiff(pixels, tile=(16, 16), compression="lzw"),
        "tiff-lzw": saved(image, "tiff", compression="tiff_lzw"),
        "tiff-deflate": saved(image, "tiff", compression="tiff_adobe_deflate", icc_profile=icc, dpi=(300, 300)),
        "tiff-jpeg": saved(image, "tiff", compression="jpeg"),
        "tiff-fax": saved(image.convert("1"), "tiff", compression="group4"),
        "tiff-palette": saved(image.quantize(16), "tiff"),
        "tiff-deep": _tiff(deep, byteorder=">"),
        "tiff-deep-tiles": _tiff(deep, tile=(16, 16), compression="zlib", predictor=True),
        "tiff-deep-planes": _tiff(separate, planarconfig="separate"),
        "tiff-deep-grey": _tiff(deep[..., 0].copy(), photometric="minisblack"),
        "tiff-floats": _tiff(pixels.astype(np.float32) / 255, compression="zlib", predictor=True),
        "tiff-signed": _tiff((separate >> 1).astype(np.int16), planarconfig="separate", byteorder=">"),
        "tiff-exif": saved(image, "tiff", exif=exif.tobytes()),
        "tiff-pages": pages.getvalue(),
        "tiff-big": _tiff(pixels, bigtiff=True),
    }


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, color: int, data: bytes, laced: int = 0) -> bytes:
    """A PNG by hand, for what Pillow does not write; ``data`` is its compressed rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, laced)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one chunk more, behind its header."""
    return data[:33] + png_chunk(kind, body) + data[33:]


def _told(image: Image.Image, **chunks: bytes) -> bytes:
    data = saved(image, "png")
    return data[:33] + b"".join(png_chunk(kind.encode(), body) for kind, body in chunks.items()) + data[33:]


def _interlaced(grey: NDArray[np.uint8]) -> bytes:
    """Adam7, which Pillow does not write (PNG 1.2, section 2.6)."""
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    rows = b"".join(b"\0" + row.tobytes() for y, dy, x, dx in passes for row in grey[y::dy, x::dx])
    return png(grey.shape[1], grey.shape[0], 8, 0, zlib.compress(rows), laced=1)


def _with_texts(png: bytes) -> bytes:
    texts = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a comment" * 50))
    texts += png_chunk(b"iTXt", b"Title\0\1\0en\0\0" + zlib.compress(b"a title" * 50))
    texts += png_chunk(b"tEXt", b"Author\0A. N.")
    return png[:33] + texts + png[33:]
