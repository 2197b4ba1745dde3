"""World "stripes": 32 x 32 images in four quadrants; x says of each which way its stripes go, or that it is plain.

    kind of a quadrant: upright, plain or level, even;  phase of its stripes: even over the period, not told by x
    y = +-0.8, a stripe of each for 4 px, anti-aliased at the edges, noise 0.03;  plain: 0, with the noise

Of a quadrant's stripes every pixel is as often bright as dark, so that L1's best answer is grey; a pixel's value alone
says nothing of structure, and half a period away it is the opposite: autocorrelation -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["KINDS", "PERIOD_PX", "SIZE_PX", "Stripes", "Structure", "draw_stripes", "histogram_error", "structure"]

SIZE_PX = 32
QUADRANT_PX = 16
PERIOD_PX = 8
LEVEL = 0.8
NOISE = 0.03
KINDS = ("upright", "plain", "level")
BRIGHT = 0.3
"""A pixel further than this from 0 is bright or dark: of true stripes 0.91 are."""
_PLAIN = 0.1
"""A quadrant whose mean square is less is plain; that of stripes is 0.53."""


@dataclass(frozen=True, kw_only=True)
class Stripes:
    """Some samples of the world.

    Attributes:
        condition: x, ``[B, 3, 32, 32]`` float32: a channel a kind, 1 where it is wanted and -1 elsewhere, so that no
            kind is nearer to x than another.
        target: y, ``[B, 1, 32, 32]`` float32 in about [-0.9, 0.9].
        kind: kind of each quadrant, ``[B, 2, 2]`` int64, by row and column.
    """

    condition: Tensor
    target: Tensor
    kind: Tensor


def draw_stripes(count: int, generator: torch.Generator) -> Stripes:
    """Draw samples.

    Args:
        count: B.
        generator: source of all that is random.
    """
    kind = torch.randint(len(KINDS), (count, 2, 2), generator=generator)
    phase = PERIOD_PX * torch.rand(count, 2, 2, 1, generator=generator)
    # Of a square wave's integral: the mean over a pixel is a difference.
    edges = torch.arange(QUADRANT_PX + 1) + phase
    inside = torch.remainder(edges, PERIOD_PX)
    ramp = torch.minimum(inside, PERIOD_PX - inside)
    wave = (ramp[..., 1:] - ramp[..., :-1])[..., None, :].expand(-1, -1, -1, QUADRANT_PX, -1)
    chosen = kind[..., None, None]
    flat = torch.zeros_like(wave)
    quadrants = LEVEL * torch.where(chosen == 0, wave, torch.where(chosen == 2, wave.transpose(-1, -2), flat))
    target = quadrants.permute(0, 1, 3, 2, 4).reshape(count, 1, SIZE_PX, SIZE_PX)
    target = target + NOISE * torch.randn(target.shape, generator=generator)
    wanted = 2.0 * F.one_hot(kind, len(KINDS)).permute(0, 3, 1, 2) - 1
    condition = F.interpolate(wanted, scale_factor=QUADRANT_PX, mode="nearest")
    return Stripes(condition=condition, target=target, kind=kind)


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What images show where stripes were asked for, and where they leave what was asked for.

    Attributes:
        bright_or_dark: share of pixels further than 0.3 from 0.
        autocorrelation: correlation of pixels half a period apart across the stripes, in [-1, 1]; -1 of true stripes.
        mismatch: share of all quadrants that are not of the kind that was asked for.
    """

    bright_or_dark: float
    autocorrelation: float
    mismatch: float


def histogram_error(images: Tensor, stripes: Stripes) -> float:
    """Return how far the values of pixels where stripes were asked for are from the true ones, whatever their places.

    It is the Wasserstein-1 distance of the two histograms, in units of y: the mean distance of the sorted values. Grey
    is 0.7 away, pixels that are all bright 0.8.

    Args:
        images: ``[B, 1, 32, 32]``, asked for with ``stripes``' conditions.
        stripes: whose targets are the truth.
    """
    striped = stripes.kind != KINDS.index("plain")
    inside = striped.repeat_interleave(QUADRANT_PX, 1).repeat_interleave(QUADRANT_PX, 2)
    values, true_values = (y[:, 0][inside].sort().values for y in (images, stripes.target))
    return float((values - true_values).abs().mean())


def structure(images: Tensor, kind: Tensor) -> Structure:
    """Measure images ``[B, 1, 32, 32]`` that were asked for with ``kind``, ``[B, 2, 2]``."""
    size = QUADRANT_PX
    quadrants = images.reshape(-1, 2, size, 2, size).permute(0, 1, 3, 2, 4).reshape(-1, size, size)
    asked = kind.flatten()
    # Stripes that lie level are turned, so that all of them vary from left to right.
    striped = torch.cat([quadrants[asked == 0], quadrants[asked == 2].transpose(-1, -2)])
    half = PERIOD_PX // 2
    first, second = striped[..., :-half], striped[..., half:]
    power = (first.square() + second.square()).mean() / 2
    across, along = (quadrants.mean(dim=d).var(dim=-1) for d in (-2, -1))
    measured = torch.where(across > along, 0, 2)
    measured = torch.where(quadrants.square().mean(dim=(-1, -2)) < _PLAIN, 1, measured)
    return Structure(
        bright_or_dark=float((striped.abs() > BRIGHT).float().mean()),
        autocorrelation=float((first * second).mean() / power.clamp_min(1e-9)),
        mismatch=float((measured != asked).float().mean()),
    )
