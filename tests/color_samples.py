"""Images that tell their colors, and what sRGB shows of them by the formulas of the standards."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.images.decoding import decode

Floats = NDArray[np.float64]

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (24, 32, 3), dtype=np.uint16)
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
ALPHA = np.random.default_rng(2).integers(0, 256, (24, 32), dtype=np.uint8)

XYZ_TO_SRGB = np.array([
    [3.2409699, -1.5373832, -0.4986108], [-0.9692436, 1.8759675, 0.0415551], [0.0556301, -0.2039770, 1.0569715],
])  # fmt: skip
TO_XYZ = {
    "srgb": np.linalg.inv(XYZ_TO_SRGB),
    "adobe": np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]),
    "p3": np.array([[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0, 0.0451134, 1.0439444]]),
    "bt2020": np.array([[0.636958, 0.1446169, 0.168881], [0.2627002, 0.6779981, 0.0593017], [0, 0.0280727, 1.060985]]),
    "prophoto": np.array([
        [0.9554735, -0.0230985, 0.0632593], [-0.0283697, 1.0099955, 0.0210414], [0.0123140, -0.0205077, 1.3303659],
    ]) @ np.array([[0.7977666, 0.1351813, 0.0313477], [0.2880748, 0.7118352, 0.0000899], [0, 0, 0.8251046]]),
}  # fmt: skip
CHROMATICITIES = {  # white, red, green, blue: the order of cHRM
    "srgb": (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    "adobe": (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000),
    "p3": (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
    "bt2020": (31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600),
    "prophoto": (34567, 35850, 73470, 26530, 15960, 84040, 3660, 10),
}


def srgb_signal(linear: Floats) -> Floats:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_light(signal: Floats) -> Floats:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def shown(samples: NDArray[Any], to_xyz: str, light: Callable[[Floats], Floats]) -> Floats:
    """What sRGB shows of RGB samples, in the samples' own codes."""
    white = np.iinfo(samples.dtype).max
    linear = light(samples / white)
    return srgb_signal(linear @ (XYZ_TO_SRGB @ TO_XYZ[to_xyz]).T if to_xyz != "srgb" else linear) * white


def power(exponent: float) -> Callable[[Floats], Floats]:
    return lambda signal: signal**exponent


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels: NDArray[Any] | Image.Image, *chunks: bytes, behind: bytes = b"", **options: Any) -> bytes:
    if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint16:
        data = bytes(imagecodecs.png_encode(pixels))
    else:
        data = saved(pixels, "PNG", **options)
    return data[:33] + b"".join(chunks) + data[33:-12] + behind + data[-12:]


def saved(pixels: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


def gamma_chunk(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def chromaticities_chunk(name: str) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *CHROMATICITIES[name]))


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> bytes:
    return chunk(b"cICP", bytes([primaries, transfer, matrix, full]))


def profile_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))


def off(data: bytes, expected: Floats, *, deep: bool = False) -> float:
    """The largest difference from the expected, in 8-bit codes."""
    rgb = decode(data, keep_16_bit=deep)
    assert rgb.dtype == (np.uint16 if deep else np.uint8)
    if expected.ndim == 2:
        expected = expected[..., None]
    return float(np.abs(rgb - np.broadcast_to(expected, rgb.shape)).max()) / (257 if deep else 1)


def profile_of(name: str, gamma: float) -> bytes:
    """A profile made by LittleCMS."""
    white_x, white_y, *primaries = (value / 100_000 for value in CHROMATICITIES[name])
    ends = [value for x, y in zip(primaries[::2], primaries[1::2], strict=True) for value in (x, y, 1.0)]
    return bytes(imagecodecs.cms_profile("rgb", whitepoint=[white_x, white_y, 1.0], gamma=gamma, primaries=ends))


ADOBE_PROFILE = profile_of("adobe", 563 / 256)
LINEAR_PROFILES = {"GRAY": bytes(imagecodecs.cms_profile("gray", gamma=1.0)), "RGB": profile_of("srgb", 1.0)}
