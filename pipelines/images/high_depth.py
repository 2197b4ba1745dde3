"""Images of more than 8 bits a channel are decoded at their full depth, which Pillow does for grey ones alone.

PNG and JPEG 2000 are decoded by imagecodecs (libpng, OpenJPEG). Pillow decodes a TIFF's colors twice, once for the high
byte of every sample and once for the low one. tifffile would need less code, and is not used because a damaged
file must be judged alike at 8 and 16 bits, whatever a job's output format: tifffile refuses strips that libtiff decodes
(a deflated one with bytes to spare). Everything is bounded by the header, which has been checked before.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, TiffImagePlugin

from condgen.errors import ImageError
from pipelines.images.exif import ByteOrder, Exif, TiffField, directories_to_bytes, tiff_header
from pipelines.images.formats import jp2_boxes, open_image
from pipelines.images.heif import check_heif, decode_deep_heif
from pipelines.images.icc import deep_integers
from pipelines.images.jpegxl import JpegXlImage, decode_jpeg_xl
from pipelines.images.png import tidy_png
from pipelines.images.tiff_samples import TiffPage, decode_samples

__all__ = ["DeepImage", "decode_deep", "is_deep_only"]

_LYING = "the header tells of another size or depth than the image has"
_UNKNOWN_LAYOUT = "more than 8 bits in other channels than those of grey or RGB"
_SRGB_AND_GREY = (b"\0\0\0\x10", b"\0\0\0\x11")
_SIZ = b"\xff\x4f\xff\x51"
_BITS_PER_SAMPLE, _PHOTOMETRIC, _BLACK_IS_ZERO, _ORIENTATION, _EXTRA_SAMPLES = 258, 262, 1, 274, 338
_PLANAR, _SEPARATE = 284, 2
_SHARED_TAGS = (256, 257, 259, 266, 278, 317, 322, 323)  # size, compression, fill order, rows, predictor, tiles
_PLACE_TAGS = (273, 279, 324, 325)  # offsets and sizes of strips and tiles
_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_LOW_BYTES = {f"{mode};16{a}": f"{mode};16{b}" for mode in ("RGB", "RGBA", "RGBX") for a, b in _OTHER_BYTE.items()}
"""Pillow's raw modes that keep the high byte of each sample, and those that then keep the low one."""


@dataclass(frozen=True, slots=True)
class DeepImage:
    """Decoded samples of an image.

    Attributes:
        samples: ``[H, W]`` or ``[H, W, 1 to 4]`` uint16 in 0..white: grey or RGB, perhaps with alpha.
        white: value of white, 256 to 65535.
        is_deep: whether the file itself has more than 8 bits a channel (default: yes).
    """

    samples: NDArray[np.uint16]
    white: int
    is_deep: bool = True


def decode_deep(data: bytes, image: ImageFile.ImageFile, name: str, max_pixels: int) -> DeepImage | None:
    """Decode an image of more than 8 bits a channel.

    Args:
        data: bytes of the file.
        image, name: image and format from ``open_image(data, max_pixels)``, not loaded yet.
        max_pixels: largest product of width and height, which the header was checked against.

    Returns:
        The samples, as stored but for what Pillow has turned (see ``orientation_of``). None for images of 8 bits and
        for kinds that are not supported: CMYK, YCbCr, palettes, colors multiplied by alpha, channels subsampled or of
        several depths.

    Raises:
        ImageError: stage ``decode``: the file is damaged.
        Exception: one of ``DECODE_ERRORS``: the file is damaged.
    """
    if name == "PNG":
        return _png(data, image) if data[24:25] == b"\x10" else None
    if name == "JPEG2000":
        return _jpeg2000(data, image)
    if name == "HEIF":
        check_heif(data)
        deep = decode_deep_heif(data, image)
        return None if deep is None else DeepImage(*deep)
    if isinstance(image, JpegXlImage):
        return DeepImage(*decode_jpeg_xl(data, image))
    if name != "TIFF":
        return None
    if isinstance(image, TiffPage) and image.is_odd:
        samples, is_deep = decode_samples(data, image, max_pixels)
        return DeepImage(samples, 65535, is_deep)
    if image.mode.startswith("I;16"):
        image.load()
        return DeepImage(*deep_integers(image, name))
    return _tiff_colors(data, image, max_pixels)


def is_deep_only(image: ImageFile.ImageFile, name: str) -> bool:
    """Return whether an image of more than 8 bits is decoded here even where 8 are wanted.

    Pillow shows white as black in such a JPEG 2000; a PNG and a TIFF of planes are judged alike at both depths so. For
    the samples of an odd TIFF it has no mode.
    """
    if isinstance(image, TiffPage):
        return image.is_odd or image.tag_v2.get(_PLANAR) == _SEPARATE
    return name in ("JPEG2000", "PNG", "HEIF", "JPEGXL")


def _png(data: bytes, image: ImageFile.ImageFile) -> DeepImage:
    from imagecodecs import PngError, png_decode  # 0.3 s, for the few images that need it

    try:
        samples = png_decode(tidy_png(data)[0])
    except (PngError, UnicodeError) as error:  # what libpng says is read too late, and may be anything by then
        raise ImageError("decode", "PngError", "libpng can't decode it: damaged or cut") from error
    return DeepImage(_checked(samples, image.size), 65535)


def _checked(samples: NDArray[np.uint16], size: tuple[int, int]) -> NDArray[np.uint16]:
    if samples.dtype != np.uint16 or samples.shape[:2] != (size[1], size[0]):
        raise ImageError("decode", "LyingHeader", _LYING)
    return samples


def _jpeg2000(data: bytes, image: ImageFile.ImageFile) -> DeepImage | None:
    boxes = list(jp2_boxes(data))
    begin = next((start for kind, start, _ in boxes if kind == b"jp2c"), 0)
    bits = _jpeg2000_bits(data, begin, image)
    if bits is None:
        return None
    if any(_is_other_color(data[start:stop], kind) for kind, start, stop in boxes):
        raise ImageError("decode", "UnknownLayout", _UNKNOWN_LAYOUT)
    from imagecodecs import jpeg2k_decode  # 0.3 s, for the few images that need it

    # The bare codestream: of a whole file it would follow the profile too, before what is transparent is put on white.
    return DeepImage(_checked(jpeg2k_decode(data[begin:], numthreads=1), image.size), (1 << bits) - 1)


def _jpeg2000_bits(data: bytes, begin: int, image: ImageFile.ImageFile) -> int | None:
    """Return the bits of every channel, 9 to 16; None where none has more than 8.

    Raises:
        ImageError: more than 8 bits in colors other than grey and RGB, or in channels that differ, are subsampled or
            signed: there OpenJPEG's samples are no colors yet, and Pillow's are wrong (its rounding wraps at white).
    """
    if data[begin : begin + 4] != _SIZ:
        return None
    x1, y1, x0, y0 = struct.unpack_from(">IIII", data, begin + 8)
    channels = int.from_bytes(data[begin + 40 : begin + 42], "big")
    if (x1 - x0, y1 - y0) != image.size or not 1 <= channels <= 4:
        raise ImageError("decode", "LyingHeader", _LYING)
    kinds = {data[at : at + 3] for at in range(begin + 42, begin + 42 + 3 * channels, 3)}
    if all((kind[0] & 0x7F) < 8 for kind in kinds):
        return None
    bits, *steps = kinds.pop()
    bits += 1
    if kinds or steps != [1, 1] or not 8 < bits <= 16 or image.mode not in ("I;16", "LA", "RGB", "RGBA"):
        raise ImageError("decode", "UnknownLayout", _UNKNOWN_LAYOUT)
    return bits


def _is_other_color(body: bytes, kind: bytes) -> bool:
    """Whether a box tells of a palette, or by number of a color space other than sRGB (16) and grey (17)."""
    return kind == b"pclr" or (kind == b"colr" and body[:1] == b"\x01" and body[3:7] not in _SRGB_AND_GREY)


def _tiff_colors(data: bytes, image: ImageFile.ImageFile, max_pixels: int) -> DeepImage | None:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    if image.tag_v2.get(_PLANAR) == _SEPARATE:
        return _tiff_planes(data, image, max_pixels)
    other, _ = open_image(data, max_pixels)
    if not _take_low_bytes(other):
        return None
    image.load()
    other.load()
    high, low = np.asarray(image), np.asarray(other)
    samples = high.astype(np.uint16)
    samples <<= 8
    samples |= low
    return DeepImage(samples[..., :3] if image.mode == "RGBX" else samples, 65535)


def _tiff_planes(data: bytes, image: TiffImagePlugin.TiffImageFile, max_pixels: int) -> DeepImage | None:
    """Decode a TIFF of planes apart: each is a grey image once a directory says so, which is put behind the file."""
    tags = image.tag_v2
    bits, alpha = tags.get(_BITS_PER_SAMPLE, ()), 2 in tags.get(_EXTRA_SAMPLES, ())[:1]
    if len(bits) < 3 or set(bits) != {16} or image.mode not in ("RGB", "RGBA", "RGBX"):
        return None
    order: ByteOrder = "<" if tags.prefix == b"II" else ">"
    shared = {tag: _longs(order, tags[tag]) for tag in _SHARED_TAGS if isinstance(tags.get(tag), int)}
    shared[_BITS_PER_SAMPLE], shared[_PHOTOMETRIC] = _longs(order, 16), _longs(order, _BLACK_IS_ZERO)
    orientation, end = tags.get(_ORIENTATION, 1), len(data) + len(data) % 2
    planes = []
    for index in range(4 if alpha else 3):
        main = dict(shared)
        for tag in _PLACE_TAGS:
            if tag in tags:
                places = tags[tag]
                count = len(places) // len(bits)
                main[tag] = _longs(order, *places[index * count : (index + 1) * count])
        directory = directories_to_bytes(Exif(order), main, end, orientation)
        file = b"".join([tiff_header(order, end), data[8:], bytes(end - len(data)), directory])
        plane, _ = open_image(file, max_pixels)
        plane.load()
        planes.append(deep_integers(plane, "TIFF")[0])
    return DeepImage(np.stack(planes, -1), 65535)


def _longs(order: ByteOrder, *values: int) -> TiffField:
    return TiffField(4, len(values), struct.pack(f"{order}{len(values)}I", *values))


def _take_low_bytes(image: ImageFile.ImageFile) -> bool:
    """Have a TIFF's tiles unpacked to the other byte of each sample; False where they are not of 16 bits."""
    tiles = []
    for tile in image.tile:
        raw_mode, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if raw_mode not in _LOW_BYTES:
            return False
        tiles.append(tile._replace(args=(_LOW_BYTES[raw_mode], *rest)))
    image.tile = tiles
    return bool(tiles)
