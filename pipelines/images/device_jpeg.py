"""JPEGs are encoded by torchvision: on a GPU by nvJPEG, on a CPU by libjpeg-turbo, which stands in for it in tests.

torchvision 0.26 to 0.29 has one encoder a process, which does one image at a time in a stream of its own. Before each
it waits for the stream that was current when the encoder was made, and after it that stream waits for the bytes.
So encoding has a stream here in which nothing else is ever queued, neither a model nor what a user's functions do.
"""

from __future__ import annotations

import re
import struct
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.io import encode_jpeg

from condgen.device_stream import own_stream
from condgen.errors import ImageError, JobError
from pipelines.images.icc import SRGB_PROFILE
from pipelines.images.metadata import Metadata

__all__ = ["encode_on", "prepare"]

_MAX_SIDE = 65_500  # as libjpeg-turbo has it
_START, _JFIF, _EXIF, _PROFILE = b"\xff\xd8", b"\xff\xe0", b"\xff\xe1", b"\xff\xe2"
_PROFILE_NAME = b"ICC_PROFILE\0\x01\x01"  # the first part of one
_INCH, _RATIO = 1, 0
_REFUSED = re.compile("image encoding failed: [2349]$")
"""nvJPEG's numbers for an image that it can't encode; its others tell of memory and of the device."""


def encode_on(
    device: torch.device, rgb: NDArray[np.uint8], quality: int, metadata: Metadata, exif: bytes = b""
) -> bytes:
    """Encode an image as a JPEG on a device (4:4:4 on a GPU); safe to call from several threads.

    Args:
        device: device that encodes it.
        rgb: ``[H, W, 3]`` uint8, sRGB.
        quality: quality (1 to 100).
        metadata: metadata that is put into the file.
        exif: its EXIF block, with the resolution.

    Raises:
        ImageError: stage ``encode``: no image that a JPEG holds, or one that the library refuses.
        JobError: the device's memory is full, or it doesn't work.
    """
    height, width = rgb.shape[:2]
    if not 0 < min(height, width) <= max(height, width) <= _MAX_SIDE:
        reason = f"{width} x {height} pixels are none, or more than a JPEG holds ({_MAX_SIDE:,} a side)"
        raise ImageError("encode", "Unwritable", reason)
    return _with_segments(_encode(device, rgb, quality), metadata, exif)


def prepare(device: torch.device) -> None:
    """Have the encoder be made, in the right stream: before anybody else's code has one made in another.

    Raises:
        ImportError, AttributeError: torchvision has none any more.
        JobError: it does not work.
    """
    encode_on(device, np.zeros((16, 16, 3), np.uint8), 95, Metadata())


def _encode(device: torch.device, rgb: NDArray[np.uint8], quality: int) -> bytes:
    with suppress(RuntimeError):  # once more with all the memory there is
        return _encode_once(device, rgb, quality)
    try:
        torch.cuda.empty_cache()
        return _encode_once(device, rgb, quality)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        if _REFUSED.search(reason):
            raise ImageError("encode", "Unwritable", reason) from error
        hint = "--encode-on cpu, in another RESULTS folder, needs no GPU for it"
        raise JobError(f"JPEGs can't be encoded on the GPU: {reason} ({hint})") from error


def _encode_once(device: torch.device, rgb: NDArray[np.uint8], quality: int) -> bytes:
    with torch.inference_mode():
        with own_stream(device):
            planes = torch.from_numpy(np.require(rgb, requirements=["C", "W"])).to(device).permute(2, 0, 1).contiguous()
            if device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()
        with _encoders_stream(device):
            (data,) = encode_jpeg([planes], quality)
            return bytes(data.cpu().numpy())


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


def _encoders_stream(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.stream(_stream(device)) if device.type == "cuda" else nullcontext()


def _with_segments(data: bytes, metadata: Metadata, exif: bytes) -> bytes:
    """Return a JPEG with a JFIF segment of its resolution in the place of its own, and segments of the metadata."""
    position = len(_START)
    if data.startswith(_JFIF, position):
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    unit, density = (_INCH, metadata.resolution_dpi) if metadata.resolution_dpi else (_RATIO, (1, 1))
    across, down = (min(65535, max(1, round(value))) for value in density)
    parts = [_START, _segment(_JFIF, struct.pack(">5sHBHHBB", b"JFIF\0", 0x0101, unit, across, down, 0, 0))]
    if exif:
        parts.append(_segment(_EXIF, b"Exif\0\0" + exif))
    if metadata.has_profile:
        parts.append(_segment(_PROFILE, _PROFILE_NAME + SRGB_PROFILE))
    return b"".join([*parts, data[position:]])


def _segment(marker: bytes, body: bytes) -> bytes:
    return marker + struct.pack(">H", 2 + len(body)) + body
