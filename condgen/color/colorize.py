"""A photograph into a model's square, and a model's colors back onto the photograph.

Both are used by training and by the batch job. They have no randomness and do elementwise arithmetic alone, so
that ``recolor`` gives the same bytes on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from condgen.color._tables import Lerp, lerp, matrix, tables
from condgen.color.lab import AB_SCALE, normalize_ab, normalize_l, rgb_to_lab
from condgen.errors import ConfigError

if TYPE_CHECKING:
    from condgen.color.guide import Guide

__all__ = ["Fitted", "Region", "fit_square", "recolor", "resize"]

Rgb = NDArray[np.uint8] | NDArray[np.uint16]

_LARGEST_AB_N = np.float32(1000)  # far outside any color, and far from where float32 would overflow


class Region(NamedTuple):
    """Where an image lies in its square, in the square's pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An image as a model sees it.

    Attributes:
        l_n: ``[1, S, S]`` float32, L / 50 - 1.
        ab_n: ``[2, S, S]`` float32, ab / 110.
        region: the image's part of the square; around it its edge is repeated.
    """

    l_n: NDArray[np.float32]
    ab_n: NDArray[np.float32]
    region: Region


def _check_rgb(rgb: Rgb) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype not in (np.uint8, np.uint16) or rgb.size == 0:
        raise ConfigError("rgb", f"{rgb.dtype} {list(rgb.shape)}", "uint8 or uint16 [H, W, 3] with H, W >= 1")


def resize(rgb: Rgb, height: int, width: int) -> Tensor:
    """Return an image ``[H, W, 3]`` at another size, ``[3, height, width]``: bilinear, antialiased.

    It has codes as its values: uint8 for uint8; float32, not rounded, for uint16.
    """
    deep = rgb.dtype == np.uint16
    pixels = torch.from_numpy(np.ascontiguousarray(rgb, np.float32 if deep else None)).permute(2, 0, 1)[None]
    if pixels.shape[2:] == (height, width):
        return pixels[0]
    if height == width == 1:
        mean = pixels.float().mean(dim=(2, 3), keepdim=True)[0]
        return mean if deep else mean.round().to(torch.uint8)
    if width == 1:  # torch 2.15 gives wrong values for columns of one pixel, and right ones for rows
        return resize(rgb.swapaxes(0, 1), width, height).transpose(1, 2)
    return F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)[0]


def fit_square(rgb: Rgb, size_px: int) -> Fitted:
    """Fit an image into a square: its longer side becomes the square's, its aspect stays.

    Args:
        rgb: ``[H, W, 3]`` uint8 or uint16, sRGB.
        size_px: S, the square's side, >= 1.

    Raises:
        ConfigError: not such an array, or not such a size.
    """
    _check_rgb(rgb)
    if size_px < 1:
        raise ConfigError("size_px", size_px, "a whole number >= 1")
    height, width = rgb.shape[:2]
    scale = size_px / max(height, width)
    inner_h, inner_w = max(1, round(height * scale)), max(1, round(width * scale))
    lab = rgb_to_lab(resize(rgb, inner_h, inner_w).float() / float(np.iinfo(rgb.dtype).max))
    top, left = (size_px - inner_h) // 2, (size_px - inner_w) // 2
    pad = (left, size_px - inner_w - left, top, size_px - inner_h - top)
    square = F.pad(lab[None], pad, mode="replicate")[0]
    return Fitted(
        l_n=normalize_l(square[:1]).numpy(),
        ab_n=normalize_ab(square[1:]).numpy(),
        region=Region(top, left, inner_h, inner_w),
    )


def recolor(
    rgb: Rgb,
    ab_n: NDArray[np.float32] | Tensor,
    region: Region | tuple[int, int, int, int],
    *,
    guide: Guide | None = None,
    device: torch.device | None = None,
) -> NDArray[Any]:
    """Put K predictions of color onto a photograph's own lightness, at its own size.

    The photograph's L is kept: of a color outside the gamut, chroma is given up instead. What is left is the rounding
    of codes (8 bits: L within 0.3 of the original's; 16 bits: within 0.002). The arithmetic is IEEE float32 and tables
    alone, so that the bytes are the same on any machine. Beyond the result, memory is that of some rows. The loops are
    compiled when they are first used (see ``condgen.color._compile``): 1 s, or 7 s where nothing is cached yet.

    Args:
        rgb: ``[H, W, 3]`` uint8 or uint16, sRGB.
        ab_n: ``[K, 2, S, S]`` float32 on the CPU, ab / 110 in the square of ``fit_square``, finite.
        region: the photograph's part of the square, ``Fitted.region``.
        guide: made by ``condgen.color.guide.make_guide`` of the same photograph and region: color follows the
            photograph's edges. None interpolates it bilinearly from the square.
        device: device that does the arithmetic by PyTorch's operations, to the same bytes: for a GPU beside which CPUs
            are few. None is the CPU, by the compiled loops, which on a CPU are much faster.

    Returns:
        ``[K, H, W, 3]`` of rgb's type, sRGB.

    Raises:
        ConfigError: arrays of other shapes, values that are not finite, a region outside the square, or a guide of
            another photograph.
    """
    _check_rgb(rgb)
    values, region = np.asarray(ab_n, dtype=np.float32), Region(*region)
    _check_square(values, region)
    values = np.clip(values, -_LARGEST_AB_N, _LARGEST_AB_N)
    lines, lightness, rows, columns = _planes(values, region, rgb.shape, guide)
    if device is not None:
        from condgen.color._device_paint import paint_on

        return paint_on(device, rgb, lines, lightness, columns, rows)
    from condgen.color._paint import paint

    table = tables(int(np.iinfo(rgb.dtype).max))
    out = np.empty((values.shape[0], *rgb.shape), rgb.dtype)
    paint(
        np.ascontiguousarray(rgb),
        lines,
        lightness,
        (columns.low, columns.high, columns.weight),
        (rows.low, rows.high, rows.weight),
        table.luminance,
        table.fy,
        matrix(),
        table.codes,
        out,
    )
    return out


def _check_square(values: NDArray[np.float32], region: Region) -> None:
    if values.ndim != 4 or values.shape[1] != 2:
        raise ConfigError("ab_n", list(values.shape), "[K, 2, S, S]")
    if not np.isfinite(values).all():
        raise ConfigError("ab_n", "NaN or infinite values", "finite numbers")
    bottom, right = region.top + region.height, region.left + region.width
    inside = 0 <= region.top < bottom <= values.shape[2] and 0 <= region.left < right <= values.shape[3]
    if not inside:
        raise ConfigError("region", tuple(region), f"a part of the square {list(values.shape[2:])}")


def _planes(
    values: NDArray[np.float32], region: Region, shape: tuple[int, ...], guide: Guide | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], Lerp, Lerp]:
    """Return what ``paint`` takes as ab and lightness, and how their rows and columns are interpolated."""
    scale = np.array([AB_SCALE / 500, -AB_SCALE / 200], np.float32)  # to offsets of f(X) and f(Z) from f(Y)
    height, width = shape[:2]
    if guide is None:
        inner = values[:, :, region.top : region.top + region.height, region.left : region.left + region.width]
        lines = np.ascontiguousarray(inner * scale[:, None, None])
        return lines, np.zeros((1, 3, 1, 1), np.float32), lerp(region.height, height), lerp(region.width, width)
    size = guide.rows.low.size, guide.columns.low.size
    if size != (height, width):
        raise ConfigError("guide", list(size), f"the guide of this photograph, {[height, width]}")
    return guide.lines(values, scale), guide.lightness, guide.rows, guide.columns
