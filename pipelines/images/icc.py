"""Images become sRGB, whatever colors they are stored in: what tells their colors is followed, then white put behind.

Pillow and its LittleCMS do it at 8 bits; NumPy and imagecodecs' LittleCMS do the same at 16 bits a channel. Colors are
converted before transparent parts are put on white, as browsers do it.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipelines.images.color_spaces import ColorSpace, space_to_srgb
from pipelines.images.color_tags import Color, profile_kind

__all__ = ["SRGB_PROFILE", "deep_integers", "deep_to_srgb", "to_8_bits", "to_srgb"]

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_BAND_PIXELS = 1 << 22
"""Pixels that are composited at a time: bounds the memory of what lies between."""
_SAME_CODES = 2
"""A profile that changes no color by more codes of 8 bits is sRGB's."""
_CMS_NO_OPTIMIZE = 0x0100


def to_srgb(image: Image.Image, name: str, color: Color | None) -> Image.Image:
    """Convert a loaded image to 8-bit ``RGB``.

    Args:
        image: Pillow's image, loaded.
        name: name of its format.
        color: what tells its colors, from ``color_of``; None for sRGB.
    """
    if image.mode.startswith("I"):
        image = Image.fromarray(_scaled(*deep_integers(image, name), 255).astype(np.uint8))
    if name == "BMP" and image.mode == "RGBA" and image.getchannel(3).getextrema() == (0, 0):
        image = image.convert("RGB")  # programs that know of no alpha leave it at 0, and viewers show it opaque
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        is_grey = image.mode in ("1", "L", "LA", "La")
        rgb = _followed(rgba.getchannel(0) if is_grey else rgba.convert("RGB"), color)
        rgb.putalpha(rgba.getchannel(3))
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgb).convert("RGB")
    if image.mode in ("1", "P", "YCbCr", "RGBX", "HSV"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return _followed(image, "LAB" if image.mode == "LAB" else color)


def deep_integers(image: Image.Image, name: str) -> tuple[NDArray[np.uint16], int]:
    """Return the samples of a loaded grey image of more than 8 bits, with 0 as black, and the value of white.

    Returns:
        ``[H, W]`` uint16 in 0..white, and white, at most 65535.
    """
    tags: Any = getattr(image, "tag_v2", {}) if name == "TIFF" else {}
    white = (1 << tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
    values = np.clip(np.asarray(image), 0, white).astype(np.uint16)
    return (white - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values), white


def _scaled(values: NDArray[np.uint16], white: int, to: int) -> NDArray[np.uint32]:
    """Scale 0..white to 0..to, rounded; Pillow's own conversion clips."""
    return (values.astype(np.uint32) * np.uint32(to) + np.uint32(white // 2)) // np.uint32(white)


def deep_to_srgb(samples: NDArray[np.uint16], white: int, color: Color | None) -> NDArray[np.uint16]:
    """Convert samples of more than 8 bits to sRGB at 16 bits.

    Args:
        samples: ``[H, W]`` or ``[H, W, C]`` uint16 in 0..white: grey, grey and alpha, RGB, or RGB and alpha.
        white: value of white and of opaque, 256 to 65535.
        color: what tells the colors, from ``color_of``; None for sRGB.

    Returns:
        ``[H, W, 3]`` uint16, 0..65535.
    """
    height, width = samples.shape[:2]
    rows = max(1, _BAND_PIXELS // width)
    colors = 1 if samples.ndim == 2 or samples.shape[2] < 3 else 3
    flat = samples.reshape(height, width, -1)
    rgb = np.empty((height, width, 3), np.uint16)
    for top in range(0, height, rows):
        band = flat[top : top + rows]
        if white != 65535:
            band = _scaled(band, white, 65535).astype(np.uint16)
        band_rgb = _deep_followed(np.ascontiguousarray(band[..., :colors]), color)
        rgb[top : top + rows] = band_rgb if band.shape[2] == colors else _on_white(band_rgb, band[..., colors:])
    return rgb


def to_8_bits(rgb: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Round samples in 0..65535 to 0..255; samples of 8 bits are returned as they are."""
    if rgb.dtype == np.uint8:
        return rgb.astype(np.uint8, copy=False)
    small = np.empty(rgb.shape, np.uint8)
    rows = max(1, _BAND_PIXELS // max(1, rgb.shape[1]))
    for top in range(0, len(rgb), rows):
        small[top : top + rows] = _scaled(rgb[top : top + rows].astype(np.uint16, copy=False), 65535, 255)
    return small


def _on_white(colors: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Composite ``[H, W, C]`` over white by ``[H, W, 1]``, 65535 being opaque; rounded."""
    shortfall = (65535 - colors).astype(np.uint32) * alpha
    return (65535 - (shortfall + 32767) // 65535).astype(np.uint16)


def _deep_followed(band: NDArray[np.uint16], color: Color | None) -> NDArray[np.uint16]:
    """Follow what tells the colors, unless it is sRGB; ``[H, W, 1 or 3]`` to ``[H, W, 1 or 3]``."""
    if color is None:
        return band
    if isinstance(color, ColorSpace):
        return cast("NDArray[np.uint16]", space_to_srgb(band, 65535, color))
    if profile_kind(color) == "GRAY":
        curve = _grey_curve(color) if band.shape[2] == 1 or _is_neutral(band) else None
        return band if curve is None else curve[band]
    rgb = np.ascontiguousarray(np.broadcast_to(band, (*band.shape[:2], 3)))
    return band if _transform(color, "RGB") is None else _by_littlecms(rgb, color, "rgb")


def _by_littlecms(samples: NDArray[np.uint16], profile: bytes, space: str) -> NDArray[np.uint16]:
    """Convert ``[H, W]`` grey or ``[H, W, 3]`` to sRGB; samples that can't be converted are returned as they are.

    LittleCMS is made to compute every sample in full. Its tables, at 16 bits, are off by up to 10 codes of 8 bits in
    dark grey, and by 20 in saturated colors.
    """
    from imagecodecs import CmsError, cms_transform  # 0.3 s, for the few images that need it

    try:
        rgb = cms_transform(
            samples, profile, SRGB_PROFILE,
            colorspace=space, outcolorspace="rgb", intent=0, flags=_CMS_NO_OPTIMIZE,
        )  # fmt: skip
    except (CmsError, ValueError):
        return samples
    return cast("NDArray[np.uint16]", rgb)


@lru_cache(maxsize=16)
def _grey_curve(profile: bytes) -> NDArray[np.uint16] | None:
    """Return the sRGB level of each grey level at 16 bits; None where none is far from it."""
    ramp = np.arange(65536, dtype=np.uint16)
    curve = _by_littlecms(ramp[None], profile, "gray").reshape(65536, -1)[:, 0]
    return None if np.abs(curve.astype(np.int32) - ramp).max() <= _SAME_CODES * 257 else curve


def _is_neutral(rgb: NDArray[Any]) -> bool:
    """Return whether all pixels are grey."""
    return bool((rgb == rgb[..., :1]).all())


def _followed(image: Image.Image, color: Color | Literal["LAB"] | None) -> Image.Image:
    """Follow what tells the colors of an image of mode ``L``, ``RGB``, ``CMYK`` or ``LAB``; to ``RGB``."""
    if isinstance(color, ColorSpace):
        samples = np.asarray(image if image.mode == "L" else image.convert("RGB"))
        return Image.fromarray(space_to_srgb(samples.reshape(*samples.shape[:2], -1), 255, color))
    if isinstance(color, bytes) and image.mode in ("L", "RGB"):
        if profile_kind(color) == "GRAY":
            curve = _grey_curve(color) if image.mode == "L" or _is_neutral(np.asarray(image)) else None
            levels = [] if curve is None else to_8_bits(curve[None, ::257])[0].tolist() * len(image.getbands())
            return (image.point(levels) if levels else image).convert("RGB")
        image = image.convert("RGB")
    transform = None if color is None else _transform(color, image.mode)
    if transform is None:
        return image.convert("RGB")
    try:
        return cast("Image.Image", ImageCms.applyTransform(image, transform))
    except (ImageCms.PyCMSError, ValueError):
        return image.convert("RGB")


@lru_cache(maxsize=16)
def _transform(profile: bytes | str, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile to sRGB; None where it is sRGB, broken, or of another kind of image."""
    try:
        source: Any = (
            ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if isinstance(profile, bytes)
            else ImageCms.createProfile("LAB")
        )
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "RGB":
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        colors = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
        shown = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), transform), dtype=np.int16)
        if np.abs(shown - colors).max() <= _SAME_CODES:
            return None
    return transform


SRGB_PROFILE = Path(__file__).with_name("srgb.icc").read_bytes()
"""ICC profile of sRGB (version 4, ICC.1:2010; IEC 61966-2-1), 480 bytes, CC0: the file beside this module."""
