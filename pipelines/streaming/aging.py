"""Makes a color photograph's grey image look as old material does: other emulsions, faded prints, grain, wear.

A colorizer that is trained on the exact L of modern photographs meets other greys in an archive: plates that saw no
red, flat and faded prints, dark corners, grain, stains, scratches, a printer's screen. `Aging` says how often each is
simulated, `draw_aging` what happens to one sample in one epoch, and `AgingDraw.apply` does it, in the order of the
material's life:

    light ──> lens ──────────> emulsion ────────────────────────> print
              blur, vignette   spectral response, curve, grain    fading, stains, screen, wear

What is drawn depends on the run's seed, the epoch and the sample alone: Philox's raw words, as in
`pipelines.streaming.augmentation`, of a key of their own, so that crops are the same with aging and without. Free of
torch, like `pipelines.streaming.augmentation`.

Sizes are pixels of the square that a model is trained on, not of a scan: an archive's image is reduced to about that
size before a model sees it, which leaves little of its grain and scratches and all of its tones. Hence the effects that
are fine are weak here, and those of tone are strong.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from condgen.errors import ConfigError

__all__ = ["LUMINANCE", "Aging", "AgingDraw", "draw_aging"]

Array = npt.NDArray[np.float32]
Words = Callable[[int], npt.NDArray[np.uint64]]

LUMINANCE = (0.2126729, 0.7151522, 0.0721750)
"""The CIE Y of linear sRGB, of which L is a function: the response of the eye."""

_PANCHROMATIC = ((0.15, 0.40), (0.35, 0.70), (0.10, 0.35))
_ORTHOCHROMATIC = ((0.00, 0.04), (0.45, 0.70), (0.30, 0.55))
_BLUE_SENSITIVE = ((0.00, 0.02), (0.06, 0.25), (0.75, 0.94))
"""Weights of linear red, green and blue, drawn between these and then made to add up to 1, so that white stays white:
film since the 1930s, film and plates of about 1880 to 1930, and plates before (wet collodion, early gelatin)."""

_CODES = np.arange(256) / 255
_TO_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
_CURVE_STEPS = 4096  # of the square root of the exposure from 0 to 2
_PARAMETERS, _GRAIN, _STAINS, _WEAR = range(4)  # streams of words


@dataclass(frozen=True, kw_only=True)
class Aging:
    """How often a sample's grey image is aged, and with which effects.

    Attributes:
        share: samples that are aged, 0 to 1; the others keep their exact L. Each epoch draws anew.
        orthochromatic, blue_sensitive: aged samples with these emulsions; the rest are panchromatic.
        fading, blur, vignette, grain, unevenness, halftone, wear: aged samples that have the effect, each
            independently. Exposure, gamma and contrast vary in all of them.

    Raises:
        ConfigError: a share outside 0 to 1, or emulsions that add up to more than 1.
    """

    share: float
    orthochromatic: float = 0.25
    blue_sensitive: float = 0.25
    fading: float = 0.65
    blur: float = 0.35
    vignette: float = 0.35
    grain: float = 0.5
    unevenness: float = 0.4
    halftone: float = 0.05
    wear: float = 0.2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"aging.{name}", value, "a share from 0 to 1")
        if self.orthochromatic + self.blue_sensitive > 1.0:
            got = self.orthochromatic + self.blue_sensitive
            raise ConfigError("aging.orthochromatic", got, "shares of emulsions that add up to 1 at most")


@dataclass(frozen=True, kw_only=True)
class AgingDraw:
    """What happens to one sample in one epoch; the defaults do nothing.

    Attributes:
        key: key of the Philox words that grain, stains and wear are made of.
        response: weights of linear red, green and blue, which add up to 1.
        stops: over-exposure, in powers of 2, beside the camera's own that evens out the emulsion's mean.
        shoulder: the part of the exposure's range below white that is compressed instead of clipped, in [0, 1).
        gamma: exponent of the tones (sRGB-encoded, in [0, 1]); above 1 darkens.
        contrast: share of an S-curve (toe and shoulder) in the tones, in [-1, 1]; below 0 flattens.
        black, white: tones in the print's darkest and lightest places.
        blur_px: standard deviation of the lens's blur.
        vignette: exposure that the farthest corner lacks, in [0, 1].
        center: middle of the vignette, from -1 to 1 over the square (x, y).
        grain: standard deviation of the grain in middle tones; half of it in black and white.
        grain_px: standard deviation of the Gaussian that correlates the grain.
        stains: standard deviation of the tones' slow variation over the print.
        edge_fading: share of the way to white, or, negative, to black, that the print's edges have gone, in [-1, 1].
        halftone: amplitude of the printer's screen in middle tones.
        halftone_px, halftone_angle: period and angle (radians) of that screen.
        scratches, specks: number of each.
    """

    key: tuple[int, int] = (0, 0)
    response: tuple[float, float, float] = LUMINANCE
    stops: float = 0.0
    shoulder: float = 0.0
    gamma: float = 1.0
    contrast: float = 0.0
    black: float = 0.0
    white: float = 1.0
    blur_px: float = 0.0
    vignette: float = 0.0
    center: tuple[float, float] = (0.0, 0.0)
    grain: float = 0.0
    grain_px: float = 0.7
    stains: float = 0.0
    edge_fading: float = 0.0
    halftone: float = 0.0
    halftone_px: float = 4.0
    halftone_angle: float = math.pi / 4
    scratches: int = 0
    specks: int = 0

    def apply(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the aged grey image of a square.

        Args:
            rgb: ``[S, S, 3]`` uint8, sRGB.

        Returns:
            ``[S, S]`` uint8, sRGB-encoded grey: without any effect the code whose L is nearest to the square's.
        """
        tones = self._printed(self._developed(self._exposed(rgb)))
        codes: npt.NDArray[np.uint8] = np.rint(np.clip(tones, 0.0, 1.0) * np.float32(255)).astype(np.uint8)
        return codes

    def _exposed(self, rgb: npt.NDArray[np.uint8]) -> Array:
        """The emulsion's exposure, 1 for white: of linear light, through the lens."""
        sparse = _TO_LINEAR[rgb[::4, ::4]].mean(axis=(0, 1))
        seen, caught = float(sparse @ LUMINANCE), float(sparse @ self.response)
        # Who knew the emulsion exposed for it, if not all the way; of a black square nothing is known.
        gain = min(max(seen / max(caught, 1e-4), 0.5), 4.0) ** 0.8 * 2.0**self.stops
        red, green, blue = ((_TO_LINEAR * (gain * weight)).astype(np.float32) for weight in self.response)
        light: Array = red[rgb[..., 0]] + green[rgb[..., 1]] + blue[rgb[..., 2]]
        if self.blur_px > 0:
            light = _blurred(light, self.blur_px)
        if self.vignette > 0:
            x, y = (_across(size) - at for size, at in zip(light.shape[::-1], self.center, strict=True))
            farthest = sum((1 + abs(at)) ** 2 for at in self.center)
            light *= 1 - np.float32(self.vignette / farthest) * (x * x + (y * y)[:, None])
        return light

    def _developed(self, light: Array) -> Array:
        """Tones in [0, 1] of exposures: the characteristic curve, by a table."""
        exposure = np.linspace(0.0, 2.0, _CURVE_STEPS) ** 2
        knee = 1.0 - self.shoulder
        if self.shoulder > 0:
            above = np.maximum(exposure - knee, 0.0)
            exposure = np.minimum(exposure, knee) + self.shoulder * (1.0 - np.exp(-above / self.shoulder))
        exposure = np.minimum(exposure, 1.0)
        tones = np.where(exposure <= 0.0031308, exposure * 12.92, 1.055 * exposure ** (1 / 2.4) - 0.055) ** self.gamma
        tones += self.contrast * (tones * tones * (3.0 - 2.0 * tones) - tones)
        tones = self.black + (self.white - self.black) * tones
        places = np.sqrt(light) * np.float32((_CURVE_STEPS - 1) / 2) + np.float32(0.5)
        developed: Array = tones.astype(np.float32)[np.minimum(places.astype(np.int32), _CURVE_STEPS - 1)]
        return developed

    def _printed(self, tones: Array) -> Array:
        """Add what the material itself shows: grain, a screen, stains, faded edges, scratches."""
        height, width = tones.shape
        if self.grain > 0 or self.halftone > 0:
            middle = 4 * tones * (1 - tones)
            if self.grain > 0:
                noise = _normals(self._words(_GRAIN), (height, width))
                grain = _blurred(noise, self.grain_px) / _white_noise_left(self.grain_px)
                tones = tones + np.float32(self.grain / 2) * (1 + middle) * grain
            if self.halftone > 0:
                tones = tones + np.float32(self.halftone) * middle * self._screen(height, width)
        if self.stains > 0:
            coarse = _normals(self._words(_STAINS), (6, 6))
            slow = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            tones = tones + np.float32(self.stains) * np.asarray(slow, dtype=np.float32)
        if self.edge_fading != 0:
            edge = np.maximum(np.abs(_across(height))[:, None], np.abs(_across(width))) ** 6
            tones = _toward(tones, np.float32(self.edge_fading) * edge)
        if self.scratches or self.specks:
            tones = _toward(tones, self._wear(height, width))
        return tones

    def _screen(self, height: int, width: int) -> Array:
        """A halftone's dots, in [-1, 1]: two waves at right angles."""
        turn = 2 * math.pi / self.halftone_px
        cos, sin = np.float32(turn * math.cos(self.halftone_angle)), np.float32(turn * math.sin(self.halftone_angle))
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        dots: Array = (np.cos(x * cos + y * sin) + np.cos(y * cos - x * sin)) * np.float32(0.5)
        return dots

    def _wear(self, height: int, width: int) -> Array:
        """Scratches and specks, in [-1, 1]: how far each place goes to white, or, negative, to black."""
        scale, none = 2, 128
        sheet = Image.new("L", (scale * width, scale * height), none)
        pen = ImageDraw.Draw(sheet)
        count = 6 * (self.scratches + self.specks)
        drawn = _uniforms(self._words(_WEAR)(count)).reshape(-1, 6).tolist()
        for x, y, angle, length, strength, color in drawn[: self.scratches]:
            tone = none + round((0.25 + 0.5 * strength) * (127 if color < 0.6 else -127))
            # Most scratches run with the film or the plate's holder: about upright.
            turn, reach = (angle - 0.5) ** 3 * 4 * math.pi, (0.2 + 0.8 * length) * scale * height
            bend = (strength - 0.5) * 0.06 * reach
            step_x, step_y = math.sin(turn) * reach / 2, math.cos(turn) * reach / 2
            start = (x * scale * width, y * scale * height)
            points = [(start[0] + k * step_x + (k == 1) * bend, start[1] + k * step_y) for k in range(3)]
            for first, second in pairwise(points):
                pen.line((*first, *second), fill=tone, width=1 if length < 0.7 else 2)
        for x, y, wide, high, strength, color in drawn[self.scratches :]:
            tone = none + round((0.3 + 0.6 * strength) * (127 if color < 0.6 else -127))
            left, top = x * scale * width, y * scale * height
            pen.ellipse((left, top, left + 1 + scale * 2 * wide**2, top + 1 + scale * 2 * high**2), fill=tone)
        worn: Array = (np.asarray(sheet.reduce(scale), dtype=np.float32) - none) / np.float32(127)
        return worn

    def _words(self, stream: int) -> Words:
        return _philox(self.key, stream)


def draw_aging(aging: Aging, *, seed: int, epoch: int, source: str, key: str) -> AgingDraw | None:
    """Return what happens to a sample in an epoch of a run; None where it is not aged."""
    text = json.dumps([seed, epoch, source, key, "aging"], ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("ascii")).digest()
    philox_key = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    # Every effect takes its numbers whether it happens or not: a change of one effect's share leaves the others.
    numbers = iter(_uniforms(_philox(philox_key, _PARAMETERS)(64)).tolist())

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(next(numbers))

    def happens(share: float) -> bool:
        return float(next(numbers)) < share

    def rarely(share: float, low: float, high: float, otherwise: float = 0.0) -> float:
        chosen, value = happens(share), between(low, high)
        return value if chosen else otherwise

    if not happens(aging.share):
        return None
    return AgingDraw(
        key=philox_key,
        response=_response(aging, between),
        stops=between(-0.5, 0.6),
        shoulder=between(0.05, 0.4),
        gamma=2.0 ** between(-0.45, 0.45),
        contrast=between(-0.4, 0.6),
        black=rarely(aging.fading, 0.0, 0.22),
        white=rarely(aging.fading, 0.58, 0.98, otherwise=1.0),
        blur_px=rarely(aging.blur, 0.35, 1.1),
        vignette=rarely(aging.vignette, 0.15, 0.65),
        center=(between(-0.25, 0.25), between(-0.25, 0.25)),
        grain=rarely(aging.grain, 0.004, 0.025),
        grain_px=between(0.4, 1.1),
        stains=rarely(aging.unevenness, 0.01, 0.05),
        edge_fading=rarely(aging.unevenness, -0.4, 0.5),
        halftone=rarely(aging.halftone, 0.03, 0.12),
        halftone_px=between(2.3, 5.0),
        halftone_angle=between(math.pi / 12, 5 * math.pi / 12),
        scratches=int(rarely(aging.wear, 0.0, 4.0)),
        specks=int(rarely(aging.wear, 1.0, 13.0)),
    )


def _response(aging: Aging, between: Callable[[float, float], float]) -> tuple[float, float, float]:
    """An emulsion's weights of linear red, green and blue, which add up to 1."""
    kind = between(0.0, 1.0)
    ranges = _PANCHROMATIC
    if kind < aging.orthochromatic + aging.blue_sensitive:
        ranges = _BLUE_SENSITIVE if kind < aging.blue_sensitive else _ORTHOCHROMATIC
    red, green, blue = (between(low, high) for low, high in ranges)
    total = red + green + blue
    return red / total, green / total, blue / total


def _philox(key: tuple[int, int], stream: int) -> Words:
    """A stream of Philox's raw 64-bit words: asked for n, it gives the first n."""
    counter = np.array([0, stream, 0, 0], dtype=np.uint64)

    def words(count: int) -> npt.NDArray[np.uint64]:
        return np.random.Philox(counter=counter, key=np.array(key, dtype=np.uint64)).random_raw(count)

    return words


def _uniforms(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), one a word."""
    return (words >> np.uint64(11)).astype(np.float64) * np.float64(2.0**-53)


def _normals(words: Words, shape: tuple[int, int]) -> Array:
    """Nearly standard normals: sums of four bytes (Irwin and Hall), which blurring makes yet more normal."""
    count = shape[0] * shape[1]
    halves = words(-(-count // 2)).astype("<u8", copy=False).view("<u4")[:count]
    odd, even = (halves >> np.uint32(8)) & np.uint32(0x00FF00FF), halves & np.uint32(0x00FF00FF)
    pairs = odd + even
    sums = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
    deviation = math.sqrt(4 * (256**2 - 1) / 12)
    normals: Array = ((sums.astype(np.float32) - np.float32(510)) / np.float32(deviation)).reshape(shape)
    return normals


def _taps(sigma: float) -> npt.NDArray[np.float64]:
    radius = max(1, math.ceil(2.5 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights: npt.NDArray[np.float64] = taps / taps.sum()
    return weights


def _blurred(values: Array, sigma: float) -> Array:
    """Convolve ``[H, W]`` with a Gaussian of `sigma` pixels; the edges go on beyond themselves."""
    taps = _taps(sigma)
    radius = len(taps) // 2
    for _ in range(2):
        padded = np.concatenate([values[:1].repeat(radius, 0), values, values[-1:].repeat(radius, 0)])
        rows = len(values)
        total = padded[radius : radius + rows] * np.float32(taps[radius])
        for k in range(radius):  # symmetric: two rows a weight
            far = 2 * radius - k
            total += (padded[k : k + rows] + padded[far : far + rows]) * np.float32(taps[k])
        values = np.ascontiguousarray(total.T)
    return values


def _white_noise_left(sigma: float) -> np.float32:
    """The standard deviation that `_blurred` leaves of white noise."""
    return np.float32((_taps(sigma) ** 2).sum())


def _across(size: int) -> Array:
    """Pixels' middles from -1 to 1."""
    middles: Array = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
    return middles


def _toward(tones: Array, amount: Array) -> Array:
    """Move tones by a share of their way to white, or, where it is negative, to black."""
    moved: Array = tones + amount * np.where(amount > 0, 1 - tones, tones)
    return moved
