"""Encoded images are opened by Pillow here: the format, the page, the size.

Errors are made to read the same on every run.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from condgen.errors import ImageError
from pipelines.images.jpeg import too_many_scans
from pipelines.images.libtiff import can_decompress, is_later_compression, silence, unsupported_tiff
from pipelines.images.png import png_exif
from pipelines.images.tiff_samples import TiffPage

__all__ = [
    "DECODE_ERRORS",
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
    "check_end",
    "check_pixels",
    "exif_block",
    "exif_orientation",
    "format_of",
    "image_error",
    "jp2_boxes",
    "open_image",
    "orientation_of",
]  # fmt: skip

MAX_PIXELS = 200_000_000
"""Default bound on width times height: 600 MB as an array. Larger images are refused by their headers."""

DECODE_ERRORS = (
    OSError, ValueError, TypeError, SyntaxError, LookupError, EOFError, AttributeError, ArithmeticError, MemoryError,
    RuntimeError, AssertionError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""All that Pillow, imagecodecs and their libraries were seen to raise on damaged files."""

_JPEG_END = b"\xff\xd9"
_ORIENTATION = 0x0112
_NEW_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101
_SUBFILE_TYPE, _REDUCED = 255, 2
_COMPRESSION = 259
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _PLANAR, _SEPARATE = 256, 257, 258, 284, 2
_PHOTOMETRIC, _SAMPLE_FORMAT, _TILE_WIDTH, _TILE_HEIGHT = 262, 339, 322, 323
_MAX_TILE_PIXELS = 1 << 24
_MAX_PAGES = 64
"""Pages of a TIFF that are looked at for a full image."""


class _Opener(Protocol):
    def __call__(self, fp: io.BytesIO) -> ImageFile.ImageFile: ...


# Plugins by name and not Image.open: it also opens PostScript, warns of large images once and for all threads, and
# takes a JPEG with a preview in it for an MPO.
_OPENERS: Mapping[str, _Opener] = {
    "JPEG": cast("_Opener", JpegImagePlugin.JpegImageFile),
    "PNG": cast("_Opener", PngImagePlugin.PngImageFile),
    "WEBP": cast("_Opener", WebPImagePlugin.WebPImageFile),
    "GIF": cast("_Opener", GifImagePlugin.GifImageFile),
    "TIFF": cast("_Opener", TiffPage),
    "BMP": cast("_Opener", BmpImagePlugin.BmpImageFile),
    "PPM": cast("_Opener", PpmImagePlugin.PpmImageFile),
    "JPEG2000": cast("_Opener", Jpeg2KImagePlugin.Jpeg2KImageFile),
    "AVIF": cast("_Opener", AvifImagePlugin.AvifImageFile),
}

FORMATS: Mapping[str, str] = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tif", "BMP": "bmp", "PPM": "ppm",
    "JPEG2000": "jp2", "AVIF": "avif",
}  # fmt: skip
"""The formats that are decoded, and the extension of each in a shard."""

EXTENSIONS = frozenset(
    {
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "tif", "tiff", "bmp", "dib", "ppm", "pgm", "pbm", "pnm",
        "jp2", "j2k", "jpx", "avif",
    }
)  # fmt: skip
"""Extensions, in lower case and without the dot, by which a file's name tells that it is an image."""


def open_image(data: bytes, max_pixels: int) -> tuple[ImageFile.ImageFile, str]:
    """Open an image without decoding it; of a TIFF, the page that is shown.

    Args:
        data: bytes of the file.
        max_pixels: largest product of width and height.

    Returns:
        Pillow's image, and the name of its format.

    Raises:
        ImageError: stage ``decode``: no bytes, no known format, no pixels or too many.
        Exception: one of ``DECODE_ERRORS``: the header is damaged.
    """
    if not data:
        raise ImageError("decode", "EmptyFile", "the file has no bytes")
    name = format_of(data[:32])
    if name is None:
        raise ImageError("decode", "NotAnImage", f"not an image of a known format ({', '.join(FORMATS)})")
    _hush()
    silence()
    image = _OPENERS[name](io.BytesIO(data))
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _seek_full_image(image)
        _mend_planes(image)
    check_pixels(*image.size, max_pixels)
    if isinstance(image, TiffPage):
        _check_tiles(image)
        if not image.is_readable:
            raise ImageError("decode", "UnknownLayout", f"a TIFF of {_layout(image.tag_v2)}, which is not read")
        _check_compression(image)
    return image, name


def _layout(tags: Mapping[int, Any]) -> str:
    bits, kinds = tags.get(_BITS_PER_SAMPLE, (1,)), tags.get(_SAMPLE_FORMAT, (1,))
    photometric = tags.get(_PHOTOMETRIC, 0)
    return f"photometric interpretation {photometric} with samples of {bits[0]} bits and format {kinds[0]}"


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a size without pixels, or with more than are allowed.

    Raises:
        ImageError: stage ``decode``, ``EmptyImage`` or ``TooManyPixels``.
    """
    if width < 1 or height < 1:
        raise ImageError("decode", "EmptyImage", f"{width} x {height} pixels")
    if width * height > max_pixels:
        reason = f"{width} x {height} pixels are more than the {max_pixels:,} allowed"
        raise ImageError("decode", "TooManyPixels", reason)


def _seek_full_image(image: TiffImagePlugin.TiffImageFile) -> None:
    """Go to the first page that is neither a reduced copy nor a mask (TIFF 6.0, tags 254 and 255), else the first."""
    if _is_full_image(image.tag_v2):
        return
    for page in range(1, _MAX_PAGES):
        try:
            image.seek(page)
        except EOFError:
            break
        except DECODE_ERRORS:  # a page of a kind that can't be read, or damaged
            continue
        if _is_full_image(image.tag_v2):
            return
    image.seek(0)


def _is_full_image(tags: Mapping[int, Any]) -> bool:
    kind = tags.get(_NEW_SUBFILE_TYPE)
    if isinstance(kind, int):
        return not kind & _REDUCED_OR_MASK
    return bool(tags.get(_SUBFILE_TYPE) != _REDUCED)


def _check_tiles(image: TiffImagePlugin.TiffImageFile) -> None:
    """Refuse a TIFF of tiles that are far larger than it: libtiff unpacks each of them whole."""
    tile = image.tag_v2.get(_TILE_WIDTH, 0) * image.tag_v2.get(_TILE_HEIGHT, 0)
    if tile > max(image.width * image.height, _MAX_TILE_PIXELS):
        raise ImageError("decode", "TooManyPixels", f"tiles of {tile:,} pixels are larger than the image")


def _check_compression(image: TiffImagePlugin.TiffImageFile) -> None:
    compression = image.tag_v2.get(_COMPRESSION, 1)
    if image.use_load_libtiff and not can_decompress(compression):
        raise ImageError("decode", "Unsupported", unsupported_tiff(compression))


def _mend_planes(image: TiffImagePlugin.TiffImageFile) -> None:
    """Have libtiff read planes of 16 bits: Pillow takes their bytes for samples of 8 bits where they are not packed."""
    tags = image.tag_v2
    if tags.get(_PLANAR) != _SEPARATE or max(tags.get(_BITS_PER_SAMPLE, (1,))) <= 8 or image.use_load_libtiff:
        return
    area = (0, 0, int(tags[_WIDTH]), int(tags[_HEIGHT]))
    image.use_load_libtiff = True
    image.tile = [ImageFile._Tile("libtiff", area, 0, (f"{image.mode};16N", False, tags.offset))]  # noqa: SLF001


def format_of(head: bytes) -> str | None:
    """Return the name of the format that the first 32 bytes of a file tell; None for an unknown one."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:2] == b"BM" and len(head) > 14:
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    if head.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")):
        return "JPEG2000"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF"
    return None


_NO_HANDLER = logging.NullHandler()
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _hush() -> None:
    """Keep Pillow's warnings of odd metadata from the user; catch_warnings is not safe in threads."""
    if _PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(_NO_HANDLER)  # or what it logs of damage goes to stderr; added once


def check_end(data: bytes, pixels: int) -> None:
    """Refuse a JPEG without its end marker, and one of so many scans that it would be decoded for hours.

    A JPEG that was cut would otherwise be decoded without a complaint, with grey in place of the rest.

    Args:
        data: bytes of the file.
        pixels: product of width and height; each scan goes over all of them.

    Raises:
        ImageError: stage ``decode``, ``CutImage`` or ``TooManyScans``.
    """
    position = 2
    while data[position : position + 1] == b"\xff":
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker == 0xDA:  # the scan's bytes hold no other end marker than their own
            break
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    if data.rfind(_JPEG_END, position) < 0:
        raise ImageError("decode", "CutImage", "the JPEG has no end marker: it was cut")
    if too_many_scans(data, position, pixels):
        raise ImageError("decode", "TooManyScans", "the JPEG has far more scans than any program writes")


def exif_block(image: ImageFile.ImageFile, name: str, data: bytes) -> bytes:
    """Return the EXIF block of an image that is open, or the whole TIFF; empty where there is none."""
    if name == "TIFF":
        return data
    block = png_exif(data) if name == "PNG" else image.info.get("exif")
    return block if isinstance(block, bytes) else b""


def orientation_of(image: ImageFile.ImageFile, name: str, data: bytes) -> int:
    """Return the EXIF orientation that is left to apply, 1 to 8; 1 where there is none or it is damaged."""
    if isinstance(image, TiffPage):  # Pillow turns a TIFF itself
        value = image.tag_v2.get(_ORIENTATION, 1) if image.is_odd else 1
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    block = exif_block(image, name, data)
    return exif_orientation(block) if block else 1


def exif_orientation(data: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1 where there is none or it is damaged."""
    _hush()
    exif = Image.Exif()
    try:
        exif.load(data)
        value = exif.get(_ORIENTATION, 1)
    except DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def jp2_boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walk the boxes of a JP2 file and those in its header box (ISO/IEC 15444-1, annex I).

    Yields:
        Kind of each box, and start and stop of its contents (bytes); nothing for a bare codestream or past damage.
    """
    end, position = len(data), 0
    while position + 8 <= end:
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        start = position + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), position + 16
        stop = position + length if length else end
        if stop < start or stop > end:
            return
        yield kind, start, stop
        position = start if kind == b"jp2h" else stop


_STUMBLES = (TypeError, LookupError, AttributeError, AssertionError, UnicodeError, struct.error)
_ADDRESS = re.compile(r"\s*(at )?0x[0-9a-fA-F]+")
_DECODER_NUMBER = re.compile(r"(decoder|encoder) error -?\d+( when (reading|writing) image file)?")
_OBJECT = re.compile(r"<[^<>]*>")


def image_error(stage: str, error: BaseException) -> ImageError:
    """Return a library's error as one that reads the same on every run."""
    if isinstance(error, ImageError):
        return error
    text = _ADDRESS.sub("", _OBJECT.sub("the file", str(error)))
    text = " ".join(text.split())[:300] or "no reason was given"
    cause = error.__cause__
    stumble = cause if cause is not None and str(cause) == str(error) else error  # Pillow wraps what it stumbles over
    if isinstance(stumble, KeyError) and is_later_compression(stumble.args[0]):  # of a TIFF that may be sound
        return ImageError(stage, "Unsupported", unsupported_tiff(stumble.args[0]))
    if stumble.__cause__ is None and isinstance(stumble, _STUMBLES):  # their words are about Python, not the image
        text = "the header is damaged"
    if _DECODER_NUMBER.fullmatch(text):
        text = "the image's data is cut or damaged"
    return ImageError(stage, _error_name(error, stage), text)


def _error_name(error: BaseException, stage: str) -> str:
    """Return what went wrong in a word: the classes of Python and its libraries say nothing about an image."""
    if isinstance(error, MemoryError):
        return "OutOfMemory"
    if isinstance(error, Image.DecompressionBombError):
        return "TooManyPixels"
    if isinstance(error, NotImplementedError):
        return "Unsupported"
    return "Damaged" if stage == "decode" else "Unwritable"
