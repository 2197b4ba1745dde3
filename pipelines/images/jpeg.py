"""JPEGs are decoded whole, by libjpeg-turbo straight into an array, or refused.

Pillow decodes with the same library, into an image of its own that is copied twice on the way to an array, which takes
2 to 3 times as long on photographs of 256 px. It also passes over what the library warns of, and shows grey where data
is missing. Here a warning is an error, unless a copy that lacks nothing but harmless extras decodes without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from condgen.errors import ImageError

__all__ = ["Colors", "JpegHeader", "check_scans", "decode_jpeg", "mended_jpeg", "read_header"]

Colors: TypeAlias = Literal["RGB", "GRAY", "CMYK"]

_START, _END = b"\xff\xd8", b"\xff\xd9"
_HUFFMAN, _SCAN, _EXIF, _PROFILE, _ADOBE, _END_OF_IMAGE = 0xC4, 0xDA, 0xE1, 0xE2, 0xEE, 0xD9
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_PLAIN_FRAMES = (0xC0, 0xC2)
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that no length follows; decoders pass over them before a scan."""
_LONG_GAP = bytes(24)
_MAX_SCANNED_PIXELS = 10**10
"""Fifty scans of the largest image that is allowed; programs write up to some twenty."""
_SMALL_PX = 16
"""Below this side two scales can give the same size, and the library would choose."""
_DAMAGED = "parts of the JPEG's data are missing or are not its own"
_ALL = (1 << 64) - 1
"""Mask of a block's coefficients."""

_NEXT_MARKER = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")
_STRAY = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MAX_STRAY_BYTES = 4
"""Cameras leave some bytes of their buffer before the end marker; damage leaves more."""
_ZERO_PADDING = re.compile(rb"(\xff\0|[^\0\xff])\0+(?=\xff+[^\0\xff])")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    r"""Segments of a JPEG before its first scan.

    Attributes:
        width, height: size as stored, before the EXIF orientation (pixels).
        exif: first EXIF segment from ``Exif\0\0`` on; empty where there is none.
        is_plain: whether it is grey or YCbCr of 8 bits, baseline or progressive, without a profile, Adobe's marker or
            several EXIF segments: what it shows needs nothing but the decoder.
        frame: marker of the frame, which is the coding process.
        bits: bits a sample.
        components: ids of the channels.
        scan: offset of the first scan's marker (bytes).
    """

    width: int
    height: int
    exif: bytes
    is_plain: bool
    frame: int
    bits: int
    components: bytes
    scan: int

    @property
    def is_progressive(self) -> bool:
        """Whether a coefficient may be told in several scans."""
        return self.frame in _PROGRESSIVE


@dataclass(frozen=True, slots=True)
class _Scans:
    """The scans of a JPEG.

    Attributes:
        count: number of scans.
        repeated: start and stop of scans that tell nothing new (bytes).
        stop: offset of what follows the last scan: an end marker, another file, or nothing (bytes).
        is_complete: whether every coefficient is drawn.
    """

    count: int
    repeated: list[tuple[int, int]]
    stop: int
    is_complete: bool


def read_header(data: bytes) -> JpegHeader | None:
    """Return the header of a JPEG, or None where its segments can't be followed to a scan."""
    exif, is_plain, frame, scan = b"", True, None, 0
    for marker, start, stop in _segments(data):
        if marker in _FRAMES:
            if frame is not None or stop - start < 6 or stop - start != 6 + 3 * data[start + 5]:
                return None
            frame = (marker, start)
        elif marker == _EXIF and data.startswith(b"Exif\0\0", start):
            is_plain, exif = is_plain and not exif, exif or data[start:stop]
        elif marker == _ADOBE or (marker == _PROFILE and data.startswith(b"ICC_PROFILE\0", start)):
            is_plain = False
        elif marker == _SCAN and stop - start >= 4:
            scan = start - 4
    if frame is None or not scan:
        return None
    marker, start = frame
    height, width = data[start + 1] << 8 | data[start + 2], data[start + 3] << 8 | data[start + 4]
    components = data[start + 6 : start + 6 + 3 * data[start + 5] : 3]
    is_plain = is_plain and marker in _PLAIN_FRAMES and data[start] == 8 and len(components) in (1, 3)
    if min(width, height) < 1:
        return None
    return JpegHeader(width, height, exif, is_plain, marker, data[start], components, scan)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and stop of each whole segment, to that of the first scan; nothing past damage."""
    position, marker = 2, 0
    while marker != _SCAN:
        head = data[position : position + 4]
        if len(head) < 4 or head[0] != 0xFF:
            return
        marker = head[1]
        if marker == 0xFF or marker in _BARE:
            position += 1 if marker == 0xFF else 2
            continue
        start, stop = position + 4, position + 2 + (head[2] << 8 | head[3])
        if not start <= stop <= len(data):
            return
        yield marker, start, stop
        position = stop


def _read_scans(data: bytes, header: JpegHeader) -> _Scans:
    """Walk the scans and the tables between them, as decoders do, up to the first marker of anything else."""
    drawn = {component: [0] * 16 for component in header.components}
    count, repeated, position, start = 0, [], header.scan, -1  # start: of the last scan, where it repeats another
    while True:
        match = _NEXT_MARKER.search(data, position)
        stop = match.start() if match else len(data)
        if start >= 0:
            repeated.append((start, stop))
        start = -1
        marker = data[match.end() - 1] if match else _END_OF_IMAGE
        if match is None or marker in _FRAMES or not (0xC4 <= marker <= 0xCC or 0xDA <= marker <= 0xFE):
            break
        if marker == _SCAN:
            count += 1
            if not _draw(drawn, data[match.end() + 2 : match.end() + 14], header.is_progressive):
                start = stop
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    return _Scans(count, repeated, stop, all(masks[0] == _ALL for masks in drawn.values()))


def _draw(drawn: dict[int, list[int]], head: bytes, is_progressive: bool) -> bool:
    """Note the coefficients that a scan tells of; False where they were told as finely before.

    Args:
        drawn: for each component, by how many low bits may be missing, a mask of the coefficients; it is changed.
        head: segment of the scan, after its length.
        is_progressive: whether the scan may tell of some coefficients and bits alone (ITU-T T.81, G.1.1.1).
    """
    channels = head[0] if head else 0
    parameters = head[1 + 2 * channels : 4 + 2 * channels]
    if len(parameters) < 3:
        return True
    mask, high, low = _ALL, 0, 0
    if is_progressive:
        mask = (2 << min(parameters[1], 63)) - (1 << min(parameters[0], 63))
        high, low = parameters[2] >> 4, parameters[2] & 15
    is_new = False
    for component in head[1 : 1 + 2 * channels : 2]:
        masks = drawn.get(component, [_ALL] * 16)
        gained = mask & ~masks[low]
        is_new = is_new or bool(gained)
        for level in range(low, 16 if gained else 0):
            masks[level] |= gained & (masks[high] if high else _ALL)
    return is_new


def _is_one_scan(data: bytes, header: JpegHeader) -> bool:
    """Return whether the first scan tells everything, so that the others need not be looked for."""
    return not header.is_progressive and data[header.scan + 4] == len(header.components)


def check_scans(data: bytes, header: JpegHeader) -> None:
    """Refuse a JPEG of which scans are missing, and one of so many that it would be decoded for hours.

    Raises:
        ImageError: stage ``decode``, ``CutImage`` or ``TooManyScans``.
    """
    if _is_one_scan(data, header):
        return
    scans = _read_scans(data, header)
    if scans.count * header.width * header.height > _MAX_SCANNED_PIXELS:
        raise ImageError("decode", "TooManyScans", "the JPEG has far more scans than any program writes")
    if not scans.is_complete:
        raise ImageError("decode", "CutImage", "the JPEG lacks scans that complete the image: it was cut or is damaged")


def _ends_in_zeros(data: bytes, header: JpegHeader) -> bool:
    """Return whether zeros that are none of its own end the scan, and refuse a JPEG that has such zeros within.

    Zeros are the shortest code again and again. It ends a block where most are plain. Elsewhere it is a coefficient of
    -1, and no image has sixty of these after each other, which a decoder may not notice.

    Raises:
        ImageError: stage ``decode``, ``DamagedImage``.
    """
    position = data.find(_LONG_GAP, header.scan)
    if position < 0 or not _is_one_scan(data, header) or _ends_blocks_with_zeros(data, header):
        return False
    stop = _read_scans(data, header).stop
    if not data[position:stop].strip(b"\0"):
        return position < stop
    raise ImageError("decode", "DamagedImage", _DAMAGED)


def _ends_blocks_with_zeros(data: bytes, header: JpegHeader) -> bool:
    """Return whether the code of zeros ends a block, in all Huffman tables of the first scan (ITU-T T.81, F.1.2.2)."""
    first_symbols: dict[int, int] = {}
    for kind, start, stop in _segments(data):
        while kind == _HUFFMAN and start + 17 < stop:
            first_symbols[data[start]] = data[start + 17]
            start += 17 + sum(data[start + 1 : start + 17])
    place, channels = header.scan + 5, data[header.scan + 4]
    used = {0x10 | table & 15 for table in data[place + 1 : place + 2 * channels : 2]}
    return all(first_symbols.get(table, 0) == 0 for table in used)


def mended_jpeg(data: bytes, header: JpegHeader) -> bytes:
    """Return a JPEG without what may stand behind its scans, without scans that repeat others, and with its end marker.

    Args:
        data: bytes of the file.
        header: header from ``read_header(data)``.
    """
    scans, parts, position = _read_scans(data, header), [], 0
    for start, stop in scans.repeated:
        parts.append(data[position:start])
        position = stop
    whole = b"".join([*parts, data[position : scans.stop].rstrip(b"\xff"), _END])  # fill bytes, if any
    if header.frame not in _SEQUENTIAL:
        return whole
    place = header.scan + 5 + 2 * data[header.scan + 4]  # some cameras write other than the one right value here
    return whole[:place] + b"\0\x3f\0" + whole[place + 3 :]


def decode_jpeg(
    data: bytes,
    header: JpegHeader,
    colors: Colors = "RGB",
    scale: int = 1,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8] | None:
    """Decode a JPEG, bit for bit as Pillow does.

    Args:
        data: bytes of the file.
        header: header from ``read_header(data)``.
        colors: channels to decode to; CMYK for such files alone, as stored (default: RGB).
        scale: divisor of the sides, which are rounded up: 1, 2, 4 or 8 (DCT scaling; default: 1).
        out: array to fill, ``[H, W, C]`` uint8, C-contiguous, used where the image has its shape (default: a new one).

    Returns:
        ``[H, W, 1, 3 or 4]`` uint8 as stored; None where the library knows no such JPEG (12 bits, rare subsampling) or
        has no such scale.

    Raises:
        ImageError: stage ``decode``: the JPEG is cut or damaged, or has too many scans.
    """
    check_scans(data, header)
    if header.bits != 8:
        return None
    is_padded = _ends_in_zeros(data, header)
    try:
        if not is_padded:
            return _decode(data, header, colors, scale, out)
    except ValueError:
        pass
    try:
        simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    mended, reason = mended_jpeg(data, header), ""
    head, scans = mended[: header.scan], mended[header.scan :]
    for zeros in (rb"\1", b"\\1\0") if is_padded else (None, rb"\1", b"\\1\0"):  # a last byte may be zero by itself
        candidate = mended if zeros is None else head + _ZERO_PADDING.sub(zeros, scans)
        try:
            return _decode(candidate, header, colors, scale, out)
        except ValueError as error:
            reason = str(error)
    stray = _STRAY.search(reason)
    if stray is not None and int(stray[1]) <= _MAX_STRAY_BYTES:
        return _decode(mended, header, colors, scale, out, strict=False)
    if "premature end" in reason:
        raise ImageError("decode", "CutImage", "the JPEG's data ends before the image does: it was cut or is damaged")
    raise ImageError("decode", "DamagedImage", _DAMAGED)


def _decode(
    data: bytes, header: JpegHeader, colors: Colors, scale: int, out: NDArray[np.uint8] | None, *, strict: bool = True
) -> NDArray[np.uint8] | None:
    """Decode as ``decode_jpeg`` does; a warning is a ``ValueError`` if strict."""
    is_small = scale > 1 and min(header.width, header.height) < _SMALL_PX
    width, height = -(-header.width // scale), -(-header.height // scale)
    shape = (height, width, {"RGB": 3, "GRAY": 1, "CMYK": 4}[colors])
    fits = out is not None and out.shape == shape and out.flags.c_contiguous
    options = {} if scale == 1 or is_small else {"min_height": height, "min_width": width}
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colors, buffer=out if fits else None, strict=strict, **options
        )
    except (MemoryError, OverflowError):
        return None
    return pixels if pixels.shape == shape else None
