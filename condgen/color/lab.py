"""sRGB and CIE L*a*b* as pure tensor functions.

sRGB by IEC 61966-2-1, L*a*b* by CIE 15:2004 with the exact constants (6/29)^3 and (29/3)^3; the white point is D65
(2 degrees), taken as the sRGB matrix's own white, so that every grey has a = b = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "AB_SCALE",
    "L_SCALE",
    "RGB_TO_XYZ",
    "WHITE",
    "XYZ_TO_RGB",
    "color_pair",
    "denormalize_ab",
    "denormalize_l",
    "lab_to_rgb",
    "normalize_ab",
    "normalize_l",
    "rgb_to_lab",
]

_Matrix = tuple[tuple[float, float, float], ...]

L_SCALE = 50.0
"""L_n = L / 50 - 1 is in [-1, 1]."""

AB_SCALE = 110.0
"""ab_n = ab / 110; sRGB colors have ab in [-107.9, 98.3]."""

RGB_TO_XYZ: _Matrix = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""Linear sRGB to CIE XYZ; rows X, Y, Z. Lindbloom, "RGB/XYZ matrices", sRGB D65."""

XYZ_TO_RGB = tuple(tuple(row) for row in torch.linalg.inv(torch.tensor(RGB_TO_XYZ, dtype=torch.float64)).tolist())
"""The inverse of RGB_TO_XYZ; rows R, G, B."""

WHITE: tuple[float, ...] = tuple(sum(row) for row in RGB_TO_XYZ)
"""XYZ of (1, 1, 1): D65."""

_DELTA = 6.0 / 29.0


def _to_linear(rgb: Tensor) -> Tensor:
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def _from_linear(linear: Tensor) -> Tensor:
    low = 0.0031308
    return torch.where(linear <= low, linear * 12.92, 1.055 * linear.clamp_min(low) ** (1 / 2.4) - 0.055)


def _matrix(rows: _Matrix, x: Tensor) -> Tensor:
    """Apply a 3x3 matrix to channels, element by element: no reduction whose order could depend on shapes."""
    x0, x1, x2 = x.unbind(-3)
    return torch.stack([c0 * x0 + c1 * x1 + c2 * x2 for c0, c1, c2 in rows], dim=-3)


def _white(like: Tensor) -> Tensor:
    """Return the white point ``[3, 1, 1]``, filled on the device: a copy from the host would wait for a GPU's queue."""
    return torch.stack([like.new_full((), value) for value in WHITE])[:, None, None]


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB to Lab.

    Args:
        rgb: ``[..., 3, H, W]``, gamma-encoded, in [0, 1], float32 or float64.

    Returns:
        ``[..., 3, H, W]``: L in [0, 100]; a in [-86.2, 98.3] and b in [-107.9, 94.5].
    """
    xyz = _matrix(RGB_TO_XYZ, _to_linear(rgb))
    t = xyz / _white(xyz)
    f = torch.where(t > _DELTA**3, t.clamp_min(_DELTA**3) ** (1 / 3), t / (3 * _DELTA**2) + 4 / 29)
    fx, fy, fz = f.unbind(-3)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert Lab to sRGB, without clipping: a color outside the gamut leaves [0, 1].

    Args:
        lab: ``[..., 3, H, W]``, L in [0, 100], float32 or float64.

    Returns:
        ``[..., 3, H, W]``, gamma-encoded. Round trip of sRGB colors: within 2e-5 in float32.
    """
    lightness, a, b = lab.unbind(-3)
    fy = (lightness + 16) / 116
    f = torch.stack([fy + a / 500, fy, fy - b / 200], dim=-3)
    t = torch.where(f > _DELTA, f**3, 3 * _DELTA**2 * (f - 4 / 29))
    return _from_linear(_matrix(XYZ_TO_RGB, t * _white(t)))


def normalize_l(lightness: Tensor) -> Tensor:
    """Convert L in [0, 100] to L_n in [-1, 1]."""
    return lightness / L_SCALE - 1


def denormalize_l(l_n: Tensor) -> Tensor:
    """Convert L_n in [-1, 1] to L in [0, 100]."""
    return (l_n + 1) * L_SCALE


def normalize_ab(ab: Tensor) -> Tensor:
    """Return ab / 110."""
    return ab / AB_SCALE


def denormalize_ab(ab_n: Tensor) -> Tensor:
    """Return ab_n * 110."""
    return ab_n * AB_SCALE


def color_pair(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a color model is given and what it is to give, of squares of photographs.

    Args:
        squares: ``[B, 3, S, S]`` uint8, sRGB; or ``[B, 4, S, S]``, whose last channel is the grey code that the model
            is to see in the place of a photograph's own lightness; where it is 0 everywhere, the photograph's own.

    Returns:
        L_n ``[B, 1, S, S]`` and ab_n ``[B, 2, S, S]``, float32.
    """
    lab = rgb_to_lab(squares[:, :3].float() / 255)
    lightness = lab[:, :1]
    if squares.shape[1] == 4:
        grey = squares[:, 3:]
        codes = torch.arange(256, device=grey.device, dtype=torch.float32) / 255
        of_code = rgb_to_lab(codes.expand(3, 1, 256))[0, 0]
        aged = (grey > 0).flatten(1).any(dim=1)
        lightness = torch.where(aged[:, None, None, None], of_code[grey.long()], lightness)
    return normalize_l(lightness), normalize_ab(lab[:, 1:])
