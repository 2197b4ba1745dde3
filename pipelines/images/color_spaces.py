"""Color spaces told by primaries and a transfer function are converted to sRGB; profiles are in ``icc.py``.

Code points are those of ITU-T H.273, which PNG's ``cICP`` and the ``nclx`` of AVIF and HEIF use. Another white than D65
is adapted as ICC does it (Bradford). What is brighter than white, in PQ and HLG alone, is compressed, not clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ADOBE_RGB",
    "PRIMARIES",
    "SRGB",
    "SRGB_XY",
    "Chromaticities",
    "ColorSpace",
    "Power",
    "Table",
    "Transfer",
    "color_space",
    "is_sound",
    "space_to_srgb",
]  # fmt: skip

Floats = NDArray[np.float64]
Transfer = Callable[[Floats], Floats]
"""Takes signals in 0..1 to linear light: 1 is white, and for PQ and HLG diffuse white is (ITU-R BT.2408)."""

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of red, green, blue and white (CIE 1931)."""

_D65, _C, _E = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3)
SRGB_XY: Chromaticities = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65)
_BT601_525: Chromaticities = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)

PRIMARIES: Mapping[int, Chromaticities] = {
    1: SRGB_XY,
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: _BT601_525,
    7: _BT601_525,
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_C),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    10: (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, *_E),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
"""Chromaticities by ColourPrimaries (H.273, table 2); 2 is unspecified, all others are reserved."""

_UNSPECIFIED = 2
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_PQ_WHITE_NITS, _HLG_PEAK_NITS, _HLG_SYSTEM_GAMMA = 203.0, 1000.0, 1.2
_BAND_PIXELS = 1 << 19
"""Pixels that are converted at a time: bounds the memory of what lies between."""


@dataclass(frozen=True, slots=True)
class Power:
    """A transfer function that is a power of the signal.

    Attributes:
        exponent: exponent, above 0.
    """

    exponent: float

    def __call__(self, signal: Floats) -> Floats:
        return np.asarray(signal**self.exponent)


@dataclass(frozen=True, slots=True)
class Table:
    """A transfer function that is given by its values.

    Attributes:
        values: linear light in 0..65535 at signals evenly spaced from 0 to 1, as native uint16.
    """

    values: bytes

    def __call__(self, signal: Floats) -> Floats:
        values = np.frombuffer(self.values, np.uint16)
        return np.interp(signal, np.linspace(0, 1, len(values)), values / 65535)


@dataclass(frozen=True, slots=True)
class ColorSpace:
    """What the samples of an RGB or grey image mean.

    Attributes:
        chromaticities: chromaticities of the primaries and of white.
        transfers: transfer functions of red, green and blue.
        is_full_range: whether 0 and the largest code are black and white; otherwise 16 and 235 are, at 8 bits.
    """

    chromaticities: Chromaticities
    transfers: tuple[Transfer, Transfer, Transfer]
    is_full_range: bool = True

    @property
    def is_srgb(self) -> bool:
        """Whether nothing is to be converted."""
        return self.is_full_range and self.chromaticities == SRGB_XY and set(self.transfers) == {_srgb}


def color_space(primaries: int, transfer: int, *, is_full_range: bool = True) -> ColorSpace | None:
    """Return the color space of two code points of H.273; None where neither, or one that is reserved, is told.

    Args:
        primaries: ColourPrimaries; sRGB's for 2, unspecified.
        transfer: TransferCharacteristics; sRGB's for 2, unspecified.
        is_full_range: VideoFullRangeFlag of samples that are RGB (default: yes).
    """
    if primaries == transfer == _UNSPECIFIED:
        return None
    chromaticities = PRIMARIES.get(1 if primaries == _UNSPECIFIED else primaries)
    curve = _TRANSFERS.get(13 if transfer == _UNSPECIFIED else transfer)
    if chromaticities is None or curve is None:
        return None
    return ColorSpace(chromaticities, (curve, curve, curve), is_full_range)


def space_to_srgb(samples: NDArray[Any], white: int, space: ColorSpace) -> NDArray[Any]:
    """Convert samples to sRGB.

    Args:
        samples: ``[H, W, 1 or 3]`` uint8 or uint16 in 0..white.
        white: largest value of a sample, 255 or 65535.
        space: color space of the samples.

    Returns:
        ``[H, W, 3]`` of the same type, in 0..white.
    """
    height, width = samples.shape[:2]
    codes = np.arange(white + 1, dtype=np.float64)
    unit = (white + 1) // 256
    signals = codes / white if space.is_full_range else np.clip((codes - 16 * unit) / (219 * unit), 0, 1)
    light = np.stack([curve(signals) for curve in space.transfers]).astype(np.float32)
    matrix = _to_srgb_matrix(space.chromaticities).astype(np.float32)
    is_hlg = _hlg in space.transfers
    luminance = _to_xyz(space.chromaticities)[1].astype(np.float32)
    brightest = float(light[:, int(samples.max(initial=0))].max())
    peak = brightest**_HLG_SYSTEM_GAMMA * _HLG_PEAK_NITS / _PQ_WHITE_NITS if is_hlg else brightest
    out = np.empty((height, width, 3), samples.dtype)
    rows = max(1, _BAND_PIXELS // max(1, width))
    for top in range(0, height, rows):
        band = np.broadcast_to(samples[top : top + rows], (*samples[top : top + rows].shape[:2], 3))
        linear = np.stack([light[channel][band[..., channel]] for channel in range(3)], -1)
        if is_hlg:
            linear = _hlg_displayed(linear, luminance)
        if peak > 1:
            linear = _compressed(linear, peak)
        srgb = _srgb_signal(np.clip(linear @ matrix.T, 0, 1))
        out[top : top + rows] = np.rint(srgb * np.float32(white))
    return out


def _to_xyz(chromaticities: Chromaticities) -> Floats:
    """Return the matrix from linear RGB to XYZ, white's Y being 1 (SMPTE RP 177)."""
    xy = np.array(chromaticities).reshape(4, 2)
    red, green, blue, white = (np.array([x, y, 1 - x - y]) for x, y in xy)
    columns = np.stack([red, green, blue], -1)
    return np.asarray(columns * np.linalg.solve(columns, white / white[1]))


def _to_srgb_matrix(chromaticities: Chromaticities) -> Floats:
    """Return the matrix from linear RGB to that of sRGB, white to white (Bradford's adaptation, ICC.1:2010 annex E)."""
    to_xyz, of_srgb = _to_xyz(chromaticities), _to_xyz(SRGB_XY)
    cones, srgb_cones = _BRADFORD @ to_xyz.sum(1), _BRADFORD @ of_srgb.sum(1)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(srgb_cones / cones) @ _BRADFORD
    return np.asarray(np.linalg.inv(of_srgb) @ adaptation @ to_xyz)


def is_sound(chromaticities: Chromaticities) -> bool:
    """Return whether chromaticities span colors, with white among them."""
    xy = np.array(chromaticities)
    if not np.isfinite(xy).all() or xy.min() < -1 or xy.max() > 2 or xy[7] <= 0:
        return False
    try:
        matrix = _to_xyz(chromaticities)
        return bool(np.isfinite(matrix).all() and matrix[1].min() > -0.5 and np.linalg.cond(matrix) < 1e4)
    except np.linalg.LinAlgError:
        return False


# Transfer functions: signals to linear light (H.273, table 3, inverted where it gives the camera's).


def _bt709(signal: Floats) -> Floats:
    alpha, beta = 1.099296826809442, 0.018053968510807
    return np.where(signal < 4.5 * beta, signal / 4.5, ((signal + alpha - 1) / alpha) ** (1 / 0.45))


def _smpte_240m(signal: Floats) -> Floats:
    alpha, beta = 1.111572195921731, 0.022821585529445
    return np.where(signal < 4 * beta, signal / 4, ((signal + alpha - 1) / alpha) ** (1 / 0.45))


def _log_100(signal: Floats) -> Floats:
    return np.where(signal > 0, 10 ** (2 * (signal - 1)), 0)


def _log_316(signal: Floats) -> Floats:
    return np.where(signal > 0, 10 ** (2.5 * (signal - 1)), 0)


def _srgb(signal: Floats) -> Floats:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _pq(signal: Floats) -> Floats:
    root = signal ** (32 / 2523)
    nits = 10_000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
    return np.asarray(nits / _PQ_WHITE_NITS)


def _smpte_428(signal: Floats) -> Floats:
    return np.asarray(np.minimum(signal**2.6 * (52.37 / 48), 1))


def _hlg(signal: Floats) -> Floats:
    """Return the scene's light in 0..1; that of the display follows from all three channels."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((np.maximum(signal, 0.5) - c) / a) + b) / 12)


_TRANSFERS: Mapping[int, Transfer] = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), _bt709), 4: Power(2.2), 5: Power(2.8), 7: _smpte_240m, 8: Power(1.0),
    9: _log_100, 10: _log_316, 13: _srgb, 16: _pq, 17: _smpte_428, 18: _hlg,
}  # fmt: skip


def _hlg_displayed(scene: NDArray[np.float32], luminance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply HLG's system gamma on a display of 1,000 cd/m² (ITU-R BT.2100, table 5), in units of diffuse white."""
    gain = np.maximum(scene @ luminance, np.float32(1e-6)) ** np.float32(_HLG_SYSTEM_GAMMA - 1)
    return np.asarray(scene * gain[..., None] * np.float32(_HLG_PEAK_NITS / _PQ_WHITE_NITS))


def _compressed(linear: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    """Bring 0..peak to 0..1 with the hue unchanged (Reinhard et al. 2002, equation 4, on the largest channel)."""
    largest = linear.max(-1, keepdims=True)
    return np.asarray(linear * ((1 + largest / np.float32(peak**2)) / (1 + largest)))


def _srgb_signal(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** np.float32(1 / 2.4) - 0.055)


SRGB = ColorSpace(SRGB_XY, (_srgb, _srgb, _srgb))
ADOBE_RGB = ColorSpace((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65), (Power(563 / 256),) * 3)
"""Adobe RGB (1998), whose gamma is 2.19921875."""
