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
from pipelines.images.heif import open_heif
from pipelines.images.jpegxl import JpegXlImage
from pipelines.images.libtiff import can_decompress, is_later_compression, silence, unsupported_tiff
from pipelines.images.png import png_exif, tidy_png
from pipelines.images.signatures import CAMERA_RAW, format_of, with_major_brand
from pipelines.images.tiff_pages import camera_raw, full_page, with_first_page
from pipelines.images.tiff_samples import TiffPage

__all__ = [
    "DECODE_ERRORS",
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
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

_ORIENTATION = 0x0112
_COMPRESSION = 259
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _PLANAR, _SEPARATE = 256, 257, 258, 284, 2
_PHOTOMETRIC, _SAMPLE_FORMAT, _TILE_WIDTH, _TILE_HEIGHT = 262, 339, 322, 323
_MAX_TILE_PIXELS = 1 << 24


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
    "HEIF": open_heif,
    "JPEGXL": cast("_Opener", JpegXlImage),
}

FORMATS: Mapping[str, str] = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tif", "BMP": "bmp", "PPM": "ppm",
    "JPEG2000": "jp2", "AVIF": "avif", "HEIF": "heic", "JPEGXL": "jxl",
}  # fmt: skip
"""The formats that are decoded, and the extension of each in a shard."""

EXTENSIONS = frozenset(
    {
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "tif", "tiff", "bmp", "dib", "ppm", "pgm", "pbm", "pnm",
        "jp2", "j2k", "jpx", "avif", "heic", "heif", "heics", "heifs", "hif", "jxl",
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
    name = format_of(data)
    if name == CAMERA_RAW:
        raise camera_raw()
    if name is None:
        raise ImageError("decode", "NotAnImage", f"not an image of a known format ({', '.join(FORMATS)})")
    _hush()
    silence()
    profile = None
    if name == "PNG":
        data, profile = tidy_png(data)
    if name in ("AVIF", "HEIF"):
        data = with_major_brand(data, name)
    page = full_page(data) if name == "TIFF" else None
    if page is not None and not page.is_first:
        data = with_first_page(data, page.offset)
    image = _OPENERS[name](io.BytesIO(data))
    if page is not None:
        image.info["inherited_orientation"] = page.orientation
    if profile is not None:
        image.info["icc_profile"] = profile
    if isinstance(image, TiffImagePlugin.TiffImageFile):
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


_NO_HANDLER = logging.NullHandler()
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _hush() -> None:
    """Keep Pillow's warnings of odd metadata from the user; catch_warnings is not safe in threads."""
    if _PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(_NO_HANDLER)  # or what it logs of damage goes to stderr; added once


def exif_block(image: ImageFile.ImageFile, name: str, data: bytes) -> bytes:
    """Return the EXIF block of an image that is open, or the whole TIFF; empty where there is none."""
    if name == "TIFF":
        return data
    block = png_exif(data) if name == "PNG" else image.info.get("exif")
    return block if isinstance(block, bytes) else b""


def orientation_of(image: ImageFile.ImageFile, name: str, data: bytes) -> int:
    """Return the EXIF orientation that is left to apply, 1 to 8; 1 where there is none or it is damaged."""
    if isinstance(image, TiffPage):  # Pillow turns a TIFF itself
        inherited = image.info.get("inherited_orientation", 1)
        value = image.tag_v2.get(_ORIENTATION, inherited) if image.is_odd else inherited
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    if name in ("HEIF", "JPEGXL"):  # their libraries turn an image as the container says, and EXIF does not count
        return 1
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
