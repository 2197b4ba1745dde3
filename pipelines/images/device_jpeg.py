"""JPEGs are encoded by torchvision: on a GPU by nvJPEG, on a CPU by libjpeg-turbo, which stands in for it in tests.

torchvision 0.26 to 0.29 (`encode_jpegs_cuda.cpp`) encodes on a stream of its own that doesn't wait for the image, one
image at a time in a process, and copies the bytes on the default stream. Here the image is waited for before, and the
bytes are fetched in that stream, in which nothing that takes long should be queued.
"""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.io import encode_jpeg

from condgen.device_stream import own_stream
from condgen.errors import ImageError, JobError
from pipelines.images.icc import SRGB_PROFILE
from pipelines.images.metadata import Metadata

__all__ = ["encode_on"]

_MAX_SIDE = 65_500  # as libjpeg-turbo has it
_START, _JFIF, _EXIF, _PROFILE = b"\xff\xd8", b"\xff\xe0", b"\xff\xe1", b"\xff\xe2"
_PROFILE_NAME = b"ICC_PROFILE\0\x01\x01"  # the first part of one
_INCH, _RATIO = 1, 0


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
        ImageError: stage ``encode``: no image that a JPEG holds.
        JobError: the device's memory is full, or it doesn't work any more.
        RuntimeError: the library refuses the image.
    """
    height, width = rgb.shape[:2]
    if not 0 < min(height, width) <= max(height, width) <= _MAX_SIDE:
        reason = f"{width} x {height} pixels are none, or more than a JPEG holds ({_MAX_SIDE:,} a side)"
        raise ImageError("encode", "Unwritable", reason)
    return _with_segments(_encode(device, rgb, quality), metadata, exif)


def _encode(device: torch.device, rgb: NDArray[np.uint8], quality: int) -> bytes:
    for attempt in range(2):
        try:
            with torch.inference_mode():
                with own_stream(device):
                    planes = torch.from_numpy(np.ascontiguousarray(rgb)).to(device).permute(2, 0, 1).contiguous()
                    if device.type == "cuda":
                        torch.cuda.current_stream(device).synchronize()
                with _default_stream(device):
                    (data,) = encode_jpeg([planes], quality)
                    return bytes(data.cpu().numpy())
        except RuntimeError as error:  # memory that runs out is one
            if attempt:
                reason = str(error).partition("\n")[0]
                if isinstance(error, torch.OutOfMemoryError) or "cuda" in reason.lower():
                    raise JobError(f"the GPU does not encode JPEGs ({reason}): see that its memory suffices") from error
                raise
        torch.cuda.empty_cache()
    raise AssertionError


def _default_stream(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.stream(torch.cuda.default_stream(device)) if device.type == "cuda" else nullcontext()


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
