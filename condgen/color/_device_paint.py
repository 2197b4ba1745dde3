"""``condgen.color._paint.paint`` by PyTorch's operations, for a GPU: the same arithmetic in the same order.

Each operation is a kernel of its own, so that nothing is contracted to FMA; sums, products, quotients and roots are
rounded as IEEE says. The bytes are those of ``paint``: on a CPU the tests compare them, on a GPU ``tests/gpu`` does.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.color._tables import Lerp, matrix, tables
from condgen.device_stream import own_stream

__all__ = ["paint_on"]

_DELTA = 6.0 / 29.0
_SLOPE = float(np.float32(3.0 * (6.0 / 29.0) ** 2))
_TOP = 65535.0
_ROOT_TOP = float(np.float32(65535**0.5))
_LAST = 65534
_TINY = float(np.float32(1e-6))
_STRIP_PIXELS = 1_000_000
"""Most pixels of all draws that are painted at once, which takes some 100 bytes of the device's memory each."""


class _DeviceTables(NamedTuple):
    """The tables of ``condgen.color._tables`` on a device, and the matrix by its columns, ``[3, 1, 1, 1]`` each."""

    luminance: Tensor
    fy: Tensor
    codes: Tensor
    columns: tuple[Tensor, ...]


@cache
def _tables_on(top: int, device: torch.device) -> _DeviceTables:
    table = tables(top)
    luminance, fy, codes = (torch.from_numpy(one).to(device) for one in (table.luminance, table.fy, table.codes))
    columns = torch.from_numpy(matrix()).to(device).T.reshape(3, 3, 1, 1, 1)
    return _DeviceTables(luminance, fy, codes, tuple(columns))


def paint_on(
    device: torch.device,
    rgb: NDArray[Any],
    ab: NDArray[np.float32],
    lightness: NDArray[np.float32],
    columns: Lerp,
    rows: Lerp,
) -> NDArray[Any]:
    """Return K colorings of an image, ``[K, H, W, 3]`` of its type: see ``condgen.color._paint.paint``.

    Args:
        device: device that computes them, strip by strip.
        rgb, ab, lightness, columns, rows: the arguments of ``paint``.
    """
    height, width = rgb.shape[:2]
    num_draws = ab.shape[0]
    out = np.empty((num_draws, *rgb.shape), rgb.dtype)
    step = max(1, _STRIP_PIXELS // (num_draws * width))
    with torch.inference_mode(), own_stream(device):
        table = _tables_on(int(np.iinfo(rgb.dtype).max), device)
        across = _to(device, columns)
        wide = _between(_pick(torch.from_numpy(ab).to(device), across, -1), across[2])
        local = torch.from_numpy(lightness).to(device)
        wide_lightness = _between(_pick(local, across, -1), across[2]) if ab.shape[1] > 2 else None
        for top in range(0, height, step):
            strip = slice(top, top + step)
            down = _to(device, Lerp(rows.low[strip], rows.high[strip], rows.weight[strip]))
            pixels = rgb[strip]
            codes = torch.from_numpy(pixels.astype(np.int32) if rgb.itemsize > 1 else pixels.copy()).to(device)
            y, f = _lightness(codes, table)
            offsets = _between(_pick(wide, down, -2), down[2][:, None])
            if wide_lightness is not None:
                offsets = _follow(offsets, f, _between(_pick(wide_lightness, down, -2), down[2][:, None])[0])
            painted = _encode(_linear(y, f, offsets, table.columns), table)
            out[:, strip] = painted.permute(1, 2, 3, 0).cpu().numpy()
    return out


def _to(device: torch.device, lerp: Lerp) -> tuple[Tensor, Tensor, Tensor]:
    low, high, weight = (torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in lerp)
    return low, high, weight


def _pick(values: Tensor, lerp: tuple[Tensor, Tensor, Tensor], axis: int) -> tuple[Tensor, Tensor]:
    return values.index_select(axis, lerp[0]), values.index_select(axis, lerp[1])


def _between(ends: tuple[Tensor, Tensor], weight: Tensor) -> Tensor:
    return (ends[1] - ends[0]) * weight + ends[0]


def _smooth(table: Tensor, value: Tensor) -> Tensor:
    """Look a linear value in [0, 65535] up in a table by its root, between whose entries is interpolated.

    (PyTorch's root of float32 is not always the nearest number on CPUs; rounded from float64 it is.)
    """
    at = value.double().sqrt().float() * _ROOT_TOP
    low = at.to(torch.int64).clamp(max=_LAST)
    found: Tensor = table[low] + (table[low + 1] - table[low]) * (at - low)
    return found


def _lightness(codes: Tensor, table: _DeviceTables) -> tuple[Tensor, Tensor]:
    """Return Y in table units and f(Y) of ``[H, W, 3]`` codes, ``[H, W]`` float32 each."""
    red, green, blue = (table.luminance[channel][codes[..., channel].long()] for channel in range(3))
    y = ((red + green + blue) * _TOP).clamp(max=_TOP)
    fine = table.luminance.shape[1] > 256
    return y, _smooth(table.fy, y) if fine else table.fy[(y + 0.5).long()]


def _follow(lines: Tensor, f: Tensor, local: Tensor) -> Tensor:
    """Return offsets ``[K, 2, H, W]`` of lines ``[K, 4, H, W]`` at f held to its local range ``[3, H, W]``."""
    mean, low, high = local
    detail: Tensor = torch.minimum(torch.maximum(f, low), high) - mean
    offsets: Tensor = lines[:, :2] + lines[:, 2:] * detail
    return offsets


def _f_inverse(f: Tensor) -> Tensor:
    """CIE's inverse of f: t^3 above 6/29, below it that curve's tangent."""
    curved = f.clamp(min=_DELTA)
    return curved * curved * curved + (f - curved) * _SLOPE


def _linear(y: Tensor, f: Tensor, offsets: Tensor, columns: tuple[Tensor, ...]) -> Tensor:
    """Return linear RGB inside the gamut, ``[3, K, H, W]``; see ``condgen.color._paint._linear``."""
    x, z = _f_inverse(offsets[:, 0] + f), _f_inverse(offsets[:, 1] + f)
    linear: Tensor = columns[0] * x + columns[1] * y + columns[2] * z
    high, low = linear.amax(0), linear.amin(0)
    share = torch.minimum((_TOP - y) / (high - y).clamp(min=_TINY), y / (y - low).clamp(min=_TINY)).clamp(0.0, 1.0)
    inside = (high <= _TOP) & (low >= 0.0)
    return torch.where(inside, linear, (y + share * (linear - y)).clamp(0.0, _TOP))


def _encode(linear: Tensor, table: _DeviceTables) -> Tensor:
    """Return sRGB codes of linear RGB: uint8, or int32 where they have 16 bits."""
    if table.luminance.shape[1] > 256:
        return (_smooth(table.codes, linear) + 0.5).to(torch.int32)
    return table.codes[(linear + 0.5).long()]
