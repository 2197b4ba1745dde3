"""JPEG XL is opened from its header, before libjxl decodes it (ISO/IEC 18181-1, annexes D and E; 18181-2).

A JPEG that was packed into a JPEG XL comes out again, byte for byte, and is decoded as any other JPEG. libjxl turns an
image itself, as its header says; an orientation in EXIF is not to be followed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from condgen.errors import ImageError

__all__ = ["JpegXlImage", "decode_jpeg_xl", "jpeg_of", "jpeg_xl_boxes"]

_BARE = b"\xff\x0a"
_MAX_EXIF_BYTES = 1 << 20
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIZES, _SELECTORS = ((9, 1), (13, 1), (18, 1), (30, 1)), ((0, 0), (0, 1), (4, 2), (6, 18))
_MAX_EXTRA_CHANNELS = 8
_BLACK, _ALPHA, _SPOT, _FILTER = 4, 0, 2, 5


@dataclass(frozen=True, slots=True)
class _Header:
    """What a codestream tells of its image.

    Attributes:
        width, height: size as stored (pixels).
        orientation: EXIF orientation that the decoder applies, 1 to 8.
        bits: bits a sample.
        is_premultiplied: whether colors are multiplied by alpha.
        is_srgb: whether the colors are sRGB for certain.
        has_black: whether it is CMYK.
    """

    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    is_premultiplied: bool = False
    is_srgb: bool = True
    has_black: bool = False


class JpegXlImage(ImageFile.ImageFile):
    """A JPEG XL as Pillow opens images: the header alone, the size as displayed.

    Attributes:
        header: what the codestream tells.
    """

    format = "JPEGXL"
    format_description = "JPEG XL"

    def _open(self) -> None:
        data = self.fp.read()  # type: ignore[union-attr]
        self.header = _read_header(_codestream(data))
        self._size = (self.header.width, self.header.height)
        if self.header.orientation >= 5:
            self._size = (self.header.height, self.header.width)
        self._mode, self.tile = "RGB", []
        exif = _exif(data)
        if exif:
            self.info["exif"] = exif
        if not self.header.is_srgb:
            self.info["encoded"] = data


def jpeg_xl_boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and stop of the contents of each whole box; nothing for a bare codestream."""
    position = 0 if not data.startswith(_BARE) else len(data)
    while position + 8 <= len(data):
        length, kind, head = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        stop = position + length if length else len(data)
        if stop < position + head or stop > len(data):
            stop = len(data) if kind in (b"jxlc", b"jxlp") else 0
        if not stop:
            return
        yield kind, position + head, stop
        position = stop


def jpeg_of(data: bytes) -> bytes | None:
    """Return the JPEG that was packed into a JPEG XL; None where none was, or where it can't be made again."""
    if not any(kind == b"jbrd" for kind, _, _ in jpeg_xl_boxes(data)):
        return None
    from imagecodecs import JpegxlError, jpegxl_decode_jpeg  # 0.3 s, for the few images that need it

    try:
        return bytes(jpegxl_decode_jpeg(data, numthreads=1))
    except (JpegxlError, ValueError):
        return None


def decode_jpeg_xl(data: bytes, image: JpegXlImage) -> tuple[NDArray[np.uint16], int, bool]:
    """Decode the first frame.

    Args:
        data: bytes of the file.
        image: the image, open; its color profile is put into ``info`` where it is not sRGB.

    Returns:
        ``[H, W]`` or ``[H, W, 2 to 4]`` uint16 as displayed, white's value, and whether more than 8 bits are stored.

    Raises:
        ImageError: stage ``decode``: damaged, cut, or CMYK.
    """
    from imagecodecs import JpegxlError, jpegxl_decode  # 0.3 s, for the few images that need it

    if image.header.has_black:
        raise ImageError("decode", "UnknownLayout", "a JPEG XL of CMYK, which is not read")
    try:
        samples = np.asarray(jpegxl_decode(data, index=0, numthreads=1))
    except (JpegxlError, ValueError, RuntimeError) as error:
        raise ImageError("decode", "JpegxlError", "libjxl can't decode it: damaged or cut") from error
    if samples.shape[:2] != (image.height, image.width) or samples.ndim > 3:
        raise ImageError("decode", "LyingHeader", "the header tells of another size than the image has")
    is_deep = samples.dtype != np.uint8
    white = 65535 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
    if samples.dtype.kind == "f":
        samples = (samples.astype(np.float32).clip(0, 1) * white).round()
    wide = samples.astype(np.uint16)
    if image.header.is_premultiplied:
        alpha = np.maximum(wide[..., -1:], 1).astype(np.uint64)
        wide[..., :-1] = np.minimum(wide[..., :-1] * np.uint64(white) // alpha, white)
    profile = _profile(image.info.pop("encoded", b""))
    if profile:
        image.info["icc_profile"] = profile
    return wide, int(white), is_deep


def _profile(data: bytes) -> bytes | None:
    """Return the ICC profile of an image that may not be sRGB. imagecodecs does not tell it."""
    if not data:
        return None
    from pillow_jxl.JpegXLImagePlugin import JXLImageFile  # for the few images that need it

    profile = JXLImageFile(io.BytesIO(data)).info.get("icc_profile")
    return profile if isinstance(profile, bytes) else None


def _codestream(data: bytes) -> bytes:
    """Return the first bytes of the codestream, which may lie in several boxes."""
    if data.startswith(_BARE):
        return data[:4096]
    parts = [
        data[start + (4 if kind == b"jxlp" else 0) : stop][:4096]
        for kind, start, stop in jpeg_xl_boxes(data)
        if kind in (b"jxlc", b"jxlp")
    ]
    return b"".join(parts)[:4096]


def _exif(data: bytes) -> bytes:
    for kind, start, stop in jpeg_xl_boxes(data):
        body = b""
        if kind == b"Exif":
            body = data[start:stop]
        elif kind == b"brob" and data[start : start + 4] == b"Exif":
            body = _unpacked(data[start + 4 : stop])
        if len(body) > 4:
            return body[4 + int.from_bytes(body[:4], "big") :]
    return b""


def _unpacked(packed: bytes) -> bytes:
    from imagecodecs import BrotliError, brotli_decode  # 0.3 s, for the few images that need it

    try:
        return bytes(brotli_decode(packed, out=_MAX_EXIF_BYTES))
    except (BrotliError, ValueError):
        return b""


class _Bits:
    """Reads the fields of a codestream's header, the lowest bit of each byte first.

    Args:
        data: first bytes of the codestream.
    """

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise ImageError("decode", "CutImage", "the JPEG XL ends within its header")
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        return value

    def choose(self, kinds: tuple[tuple[int, int], ...]) -> int:
        """Return a number that is told in one of four ways, each of some bits and an offset (``U32`` in annex B)."""
        count, offset = kinds[self.take(2)]
        return self.take(count) + offset


def _read_header(codestream: bytes) -> _Header:
    bits = _Bits(codestream[2:])
    if not codestream.startswith(_BARE):
        raise ImageError("decode", "CutImage", "the JPEG XL has no image")
    width, height = _size(bits)
    if bits.take(1):  # all fields have their defaults
        return _Header(width, height)
    orientation = 1
    if bits.take(1):
        orientation = bits.take(3) + 1
        _skip_extras(bits)
    depth = _depth(bits)
    bits.take(1)
    extra = bits.choose(((0, 0), (0, 1), (4, 2), (12, 1)))
    if extra > _MAX_EXTRA_CHANNELS:
        raise ImageError(
            "decode", "UnknownLayout", f"a JPEG XL of {extra} channels beside its colors, which is not read"
        )
    kinds = [_extra_channel(bits) for _ in range(extra)]
    bits.take(1)
    is_srgb = bool(bits.take(1))
    return _Header(
        width,
        height,
        orientation=orientation,
        bits=depth,
        is_premultiplied=(_ALPHA, True) in kinds,
        is_srgb=is_srgb,
        has_black=(_BLACK, False) in kinds,
    )


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if is_small else bits.choose(_SIZES)
    ratio = bits.take(3)
    if not ratio:
        return (8 * (bits.take(5) + 1) if is_small else bits.choose(_SIZES)), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _skip_extras(bits: _Bits) -> None:
    """Pass over the intrinsic size, the size of a preview, and the timing of an animation."""
    if bits.take(1):
        _size(bits)
    if bits.take(1):
        kinds = ((0, 16), (0, 32), (5, 1), (9, 33)) if bits.take(1) else ((6, 1), (8, 65), (10, 321), (12, 1345))
        bits.choose(kinds)
        if not bits.take(3):
            bits.choose(kinds)
    if bits.take(1):
        bits.choose(((0, 100), (0, 1000), (10, 1), (30, 1)))
        bits.choose(((0, 1), (0, 1001), (8, 1), (10, 1)))
        bits.choose(((0, 0), (3, 0), (16, 0), (32, 0)))
        bits.take(1)


def _depth(bits: _Bits) -> int:
    if not bits.take(1):
        return bits.choose(((0, 8), (0, 10), (0, 12), (6, 1)))
    depth = bits.choose(((0, 32), (0, 16), (0, 24), (6, 1)))
    bits.take(4)
    return depth


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """Return the kind of a channel beside the colors, and whether these are multiplied by it."""
    if bits.take(1):
        return _ALPHA, False
    kind = bits.choose(_SELECTORS)
    _depth(bits)
    bits.choose(((0, 0), (0, 3), (0, 4), (3, 1)))
    bits.take(8 * bits.choose(((0, 0), (4, 0), (5, 16), (10, 48))))
    is_premultiplied = kind == _ALPHA and bool(bits.take(1))
    if kind == _SPOT:
        bits.take(64)
    if kind == _FILTER:
        bits.choose(((0, 1), (2, 0), (4, 3), (8, 19)))
    return kind, is_premultiplied
