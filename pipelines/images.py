"""Encoded pictures to sRGB arrays and back, with Pillow.

Whatever a photographer's disk holds is decoded as a viewer shows it, or refused with an ``ImageError`` that says why:
a picture is never half there, never clipped, and a header is believed only below a bound of pixels. Of a file with
several pictures (an animation, a TIFF of pages) it is the first.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from condgen.errors import ConfigError, ImageError
from pipelines.jpegs import decode_plain, plain_jpeg

__all__ = ["EXTENSIONS", "FORMATS", "MAX_PIXELS", "ImageInfo", "decode", "encode", "probe"]

MAX_PIXELS = 200_000_000
"""Default bound on width times height: 600 MB as an array. Larger pictures are refused by their headers."""

_JPEG_END = b"\xff\xd9"
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
# All that Pillow and its codecs were seen to raise on damaged files.
_DECODE_ERRORS = (
    OSError, ValueError, TypeError, SyntaxError, LookupError, EOFError, AttributeError, ArithmeticError, MemoryError,
    RuntimeError, AssertionError, struct.error, zlib.error,
)  # fmt: skip


class _Opener(Protocol):
    def __call__(self, fp: io.BytesIO) -> ImageFile.ImageFile: ...


# Plugins by name and not Image.open: it also opens PostScript, warns of large pictures once and for all threads, and
# takes a JPEG with a preview in it for an MPO.
_OPENERS: Mapping[str, _Opener] = {
    "JPEG": cast("_Opener", JpegImagePlugin.JpegImageFile),
    "PNG": cast("_Opener", PngImagePlugin.PngImageFile),
    "WEBP": cast("_Opener", WebPImagePlugin.WebPImageFile),
    "GIF": cast("_Opener", GifImagePlugin.GifImageFile),
    "TIFF": cast("_Opener", TiffImagePlugin.TiffImageFile),
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
"""Extensions, in lower case and without the dot, by which a file's name tells that it is a picture."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a picture's header says.

    Attributes:
        width, height: in pixels, as displayed (after the EXIF orientation).
        format: one of ``FORMATS``.
        mode: Pillow's, as stored: ``RGB``, ``CMYK``, ``P``, ``I;16``...
    """

    width: int
    height: int
    format: str
    mode: str


def probe(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Read a picture's header, without decoding it.

    Raises:
        ImageError: stage ``decode``: not a picture of a known format, or one of more than ``max_pixels``.
    """
    try:
        image, name = _open(data, max_pixels)
        width, height = image.size
        if _orientation(image, name) >= 5:
            width, height = height, width
        return ImageInfo(width, height, name, image.mode)
    except _DECODE_ERRORS as error:
        raise _image_error("decode", error) from error


def decode(
    data: bytes,
    *,
    min_size_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Decode a picture as it is displayed.

    The EXIF orientation is applied; an embedded colour profile is followed where it works (sRGB itself costs nothing);
    CMYK, greyscale, palettes and 16 bits become 8-bit sRGB; what is transparent is put on white.

    Args:
        data: the file's bytes.
        min_size_px: a JPEG may come back smaller by 2, 4 or 8 (DCT scaling, many times faster), its short side at
            least this; other formats, and None, come back at full size.
        max_pixels: larger pictures are refused before they are decoded.
        out: ``[H, W, 3]`` uint8, C-contiguous, to be filled and returned where the picture has just its shape; a
            place in a batch, which saves a copy. What it holds otherwise, or after an error, is not defined.

    Returns:
        ``[H, W, 3]`` uint8, sRGB; ``out`` itself or another array.

    Raises:
        ImageError: stage ``decode``: damaged, cut, not a picture, or too large.
    """
    try:
        plain = _decode_plain(data, min_size_px, max_pixels, out)
        if plain is not None:
            return plain
        image, name = _open(data, max_pixels)
        if name == "JPEG":
            _check_end(data)
            if min_size_px is not None:
                image.draft(None, (max(1, min_size_px), max(1, min_size_px)))
        orientation = _orientation(image, name)
        image.load()
        pixels = np.array(_to_srgb(image, name), dtype=np.uint8)
        return _placed(np.ascontiguousarray(_displayed(pixels, orientation)), out)
    except _DECODE_ERRORS as error:
        raise _image_error("decode", error) from error


def _decode_plain(
    data: bytes, min_size_px: int | None, max_pixels: int, out: NDArray[np.uint8] | None
) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG without Pillow; None for everything else."""
    header = plain_jpeg(data)
    if header is None or header.width * header.height > max_pixels:
        return None
    scale = 1
    if min_size_px is not None:
        fitting = min(header.width, header.height) // max(1, min_size_px)
        scale = next((s for s in (8, 4, 2) if fitting >= s), 1)
    orientation = _exif_orientation(header.exif) if header.exif else 1
    rgb = decode_plain(data, header, scale, out if orientation == 1 else None)
    if rgb is None or orientation == 1:
        return rgb
    return _placed(np.ascontiguousarray(_displayed(rgb, orientation)), out)


def _placed(rgb: NDArray[np.uint8], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if out is None or out.shape != rgb.shape:
        return rgb
    out[...] = rgb
    return out


def encode(rgb: NDArray[np.uint8], format: str = "jpeg", quality: int = 95) -> bytes:  # noqa: A002
    """Encode a picture; the same pixels give the same bytes with the same Pillow.

    Args:
        rgb: ``[H, W, 3]`` uint8, sRGB.
        format: ``jpeg``, ``png`` or ``webp``.
        quality: of ``jpeg`` (from 90 on with colours at full resolution) and ``webp``, 1 to 100.

    Raises:
        ConfigError: another format.
        ImageError: stage ``encode``: a picture that the format can't hold (JPEG ends at 65,535 pixels a side).
    """
    options = {
        "jpeg": {"quality": quality, "subsampling": 0 if quality >= 90 else 2},
        "png": {"compress_level": 6},
        "webp": {"quality": quality, "method": 4},
    }
    if format not in options:
        raise ConfigError.unknown("format", format, options)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ImageError("encode", "ValueError", f"a picture is [H, W, 3] uint8, not {list(rgb.shape)} {rgb.dtype}")
    buffer = io.BytesIO()
    try:
        Image.fromarray(rgb).save(buffer, format, **options[format])
    except _DECODE_ERRORS as error:
        raise _image_error("encode", error) from error
    return buffer.getvalue()


def _open(data: bytes, max_pixels: int) -> tuple[ImageFile.ImageFile, str]:
    if not data:
        raise ImageError("decode", "EmptyFile", "the file has no bytes")
    name = _format_of(data[:32])
    if name is None:
        raise ImageError("decode", "NotAnImage", f"not a picture of a known format ({', '.join(FORMATS)})")
    _hush()
    image = _OPENERS[name](io.BytesIO(data))
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError("decode", "EmptyImage", f"{width} x {height} pixels")
    if width * height > max_pixels:
        reason = f"{width} x {height} pixels are more than the {max_pixels:,} allowed"
        raise ImageError("decode", "TooManyPixels", reason)
    return image, name


def _format_of(head: bytes) -> str | None:
    """Return the format that the first 32 bytes tell of."""
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


_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _hush() -> None:
    """Keep Pillow's warnings of odd metadata from the user; catch_warnings is not safe in threads."""
    if _PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _check_end(data: bytes) -> None:
    """Refuse a JPEG without its end marker: zeros after a cut are decoded as grey without a complaint."""
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


def _orientation(image: ImageFile.ImageFile, name: str) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it is damaged."""
    data = image.info.get("exif")
    if name == "TIFF" or not isinstance(data, bytes):  # Pillow turns a TIFF itself
        return 1
    return _exif_orientation(data)


def _exif_orientation(data: bytes) -> int:
    _hush()
    exif = Image.Exif()
    try:
        exif.load(data)
        value = exif.get(_ORIENTATION, 1)
    except _DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _displayed(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror stored pixels as the EXIF orientation says (EXIF 2.32, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _to_srgb(image: Image.Image, name: str) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        image = _from_integers(image, name)
    if image.mode == "F":
        raise ImageError("decode", "UnknownRange", "floating-point samples: what is white is not known")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    elif image.mode in ("1", "P", "YCbCr", "RGBX", "HSV", "LA", "La", "PA"):
        image = image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")
    if image.mode == "LAB":
        return _apply_profile(image, "LAB")
    if isinstance(profile, bytes) and image.mode in ("RGB", "L", "CMYK"):
        image = _apply_profile(image, profile)
    return image.convert("RGB")


def _from_integers(image: Image.Image, name: str) -> Image.Image:
    """Scale 16-bit grey to 8 bits, rounded; Pillow's own conversion clips."""
    tags: Any = getattr(image, "tag_v2", {}) if name == "TIFF" else {}
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    if bits > 16:
        raise ImageError("decode", "UnknownRange", f"{bits}-bit integer samples: what is white is not known")
    white = (1 << bits) - 1
    values = np.clip(np.asarray(image).astype(np.int64), 0, white)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = white - values
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes | str) -> Image.Image:
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    try:
        return cast("Image.Image", ImageCms.applyTransform(image, transform))
    except (ImageCms.PyCMSError, ValueError):
        return image


@lru_cache(maxsize=64)
def _transform(profile: bytes | str, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile to sRGB; None where it is sRGB, broken, or of another kind of picture."""
    try:
        source: Any = (
            ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if isinstance(profile, bytes)
            else ImageCms.createProfile("LAB")
        )
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode in ("RGB", "L"):
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
        probe_image = Image.fromarray(colours if mode == "RGB" else np.ascontiguousarray(colours[..., 0]))
        shown = np.asarray(ImageCms.applyTransform(probe_image, transform), dtype=np.int16)
        if np.abs(shown - np.asarray(probe_image.convert("RGB"), dtype=np.int16)).max() <= 2:
            return None
    return transform


_ADDRESS = re.compile(r"\s*(at )?0x[0-9a-fA-F]+")
_OBJECT = re.compile(r"<[^<>]*>")


def _image_error(stage: str, error: BaseException) -> ImageError:
    """Return Pillow's error as one that reads the same on every run."""
    if isinstance(error, ImageError):
        return error
    text = _ADDRESS.sub("", _OBJECT.sub("the file", str(error)))
    text = " ".join(text.split())[:300] or "no reason was given"
    return ImageError(stage, type(error).__name__, text)
