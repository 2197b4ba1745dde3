"""World "shirts": 16 x 16 images, x the luminance, y the ab of a shirt that has one of two colors.

    p(color = MODES[0] | x) = 0.65,  the same for all of a shirt's pixels;  every channel has noise of 0.03

The weights are not even, so that the L1 optimum (the median) is unique: the more frequent color.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.base import Batch, Condition

__all__ = [
    "MODES", "NOISE", "SIZE_PX", "WEIGHTS", "ModeShares", "Shirts", "draw_shirts", "entropy", "entropy_of_levels",
    "flips", "log_prob_of_levels", "mode_shares",
]  # fmt: skip

SIZE_PX = 16
MODES = ((0.7, 0.5), (-0.3, -0.7))
WEIGHTS = (0.65, 0.35)
NOISE = 0.03
OFF_MODE = 0.2
"""A pixel further than this from both modes is off-mode."""
_BACKGROUND = -0.5


@dataclass(frozen=True, kw_only=True)
class Shirts:
    """Some samples of the world.

    Attributes:
        luminance: x, ``[B, 1, 16, 16]`` float32 in [-1, 1].
        ab: y, ``[B, 2, 16, 16]`` float32; zero but for noise outside the shirt.
        mask: ``[B, 16, 16]`` bool, the shirt's pixels.
        odds: p(MODES[0] | x), ``[B]`` float32.
    """

    luminance: Tensor
    ab: Tensor
    mask: Tensor
    odds: Tensor

    def batch(self) -> Batch:
        """Return training samples of weight 1."""
        weight = torch.ones(self.luminance.shape[0])
        return Batch(condition=Condition(image=self.luminance), target=self.ab, weight=weight)


def draw_shirts(
    count: int, generator: torch.Generator, *, odds: float | None = WEIGHTS[0], shading: float = 0.0
) -> Shirts:
    """Draw samples: a rectangle of 6 to 11 pixels a side, of a random luminance in [0.3, 0.7].

    Args:
        count: B.
        generator: source of all that is random.
        odds: p(MODES[0] | x); None makes it the luminance's share of its range, 0 to 1, so that it crosses 0.5.
        shading: difference in brightness between a shirt's right edge and its left one; the mean stays.
    """
    size = torch.randint(6, 12, (count, 2), generator=generator)
    corner = (torch.rand(count, 2, generator=generator) * (SIZE_PX - size + 1)).long()
    line = torch.arange(SIZE_PX)
    rows, columns = ((line >= corner[:, [i]]) & (line < (corner + size)[:, [i]]) for i in (0, 1))
    mask = rows[:, :, None] & columns[:, None, :]
    level = torch.rand(count, generator=generator)
    chances = level if odds is None else torch.full((count,), odds)
    first = torch.rand(count, generator=generator) < chances
    color = torch.where(first[:, None], torch.tensor(MODES[0]), torch.tensor(MODES[1]))
    inside = mask[:, None].float()
    across = (line - corner[:, [1]]) / (size[:, [1]] - 1) - 0.5
    shaded = (0.3 + 0.4 * level)[:, None, None, None] + shading * across[:, None, None, :]
    plain = inside * shaded + (1 - inside) * _BACKGROUND
    noise = NOISE * torch.randn(count, 3, SIZE_PX, SIZE_PX, generator=generator)
    return Shirts(
        luminance=plain + noise[:, :1], ab=inside * color[:, :, None, None] + noise[:, 1:], mask=mask, odds=chances
    )


@dataclass(frozen=True, kw_only=True)
class ModeShares:
    """What draws look like on the shirts.

    Attributes:
        first: share of each draw's shirt pixels that are nearer to ``MODES[0]``, ``[B, K]`` float32.
        off_mode: share of all shirt pixels that are further than 0.2 from both modes.
        agreement: mean probability that two different pixels of a shirt of one draw are nearest the same mode.
    """

    first: Tensor
    off_mode: float
    agreement: float

    @property
    def weight(self) -> float:
        """Of the first mode, over all pixels of all draws."""
        return float(self.first.mean())

    @property
    def both(self) -> float:
        """Share of inputs with draws of both colors, a draw's color being that of most of its pixels."""
        major = (self.first > 0.5).float().mean(dim=1)
        return float(((major > 0) & (major < 1)).float().mean())


def mode_shares(draws: Tensor, mask: Tensor) -> ModeShares:
    """Judge draws ``[B, K, 2, 16, 16]`` on the shirts ``[B, 16, 16]``."""
    inside = mask[:, None].float()
    distance = torch.stack([(draws - torch.tensor(m)[:, None, None]).square().sum(2).sqrt() for m in MODES])
    count = inside.sum(dim=(2, 3))
    near_first = ((distance[0] < distance[1]).float() * inside).sum(dim=(2, 3))
    off = ((distance.amin(0) > OFF_MODE).float() * inside).sum() / (count.sum() * draws.shape[1])
    near_second = count - near_first
    same = (near_first * (near_first - 1) + near_second * (near_second - 1)) / (count * (count - 1))
    return ModeShares(first=near_first / count, off_mode=float(off), agreement=float(same.mean()))


def entropy(mask: Tensor) -> Tensor:
    """Return the entropy of p(y | x) in nats, ``[B]``: of the noise in each number, and of the color.

    The modes are 66 standard deviations apart: the color is told for certain by y.
    """
    numbers = 2 * SIZE_PX**2
    gaussian = 0.5 * math.log(2 * math.pi * math.e * NOISE**2)
    color = -sum(w * math.log(w) for w in WEIGHTS)
    return torch.full((mask.shape[0],), numbers * gaussian + color)


def flips(draws: Tensor, mask: Tensor) -> float:
    """Return the share of neighboring pixels of the shirts that are nearest to different modes.

    Args:
        draws: ``[B, K, 2, 16, 16]``.
        mask: ``[B, 16, 16]``.
    """
    distance = torch.stack([(draws - torch.tensor(m)[:, None, None]).square().sum(2) for m in MODES])
    first, inside = distance[0] < distance[1], mask[:, None].expand(-1, draws.shape[1], -1, -1)
    changes = pairs = 0.0
    for dim in (2, 3):
        length = SIZE_PX - 1
        both = inside.narrow(dim, 0, length) & inside.narrow(dim, 1, length)
        differ = first.narrow(dim, 0, length) != first.narrow(dim, 1, length)
        changes, pairs = changes + float((differ & both).sum()), pairs + float(both.sum())
    return changes / pairs


def _log_masses(centers: Tensor, num: int, limit: float) -> Tensor:
    """Return each level's log probability for numbers around ``centers`` with the world's noise, ``[..., num]``."""
    edges = torch.linspace(-limit, limit, num, dtype=torch.float64)[:-1] + limit / (num - 1)
    z = (edges - centers.double()[..., None]) / NOISE
    low = torch.nn.functional.pad(z, (1, 0), value=-torch.inf)
    high = torch.nn.functional.pad(z, (0, 1), value=torch.inf)
    # The upper tail's difference loses all its digits: there, the mirrored one.
    flipped = low > 0
    low, high = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    masses: Tensor = torch.special.ndtr(high) - torch.special.ndtr(low)
    return masses.clamp_min(1e-300).log()


def _log_masses_of_colors(num: int, limit: float) -> Tensor:
    """Return the log masses of the two modes and the background: ``[3, 2, num]``."""
    return _log_masses(torch.tensor([*MODES, (0.0, 0.0)]), num, limit)


def entropy_of_levels(mask: Tensor, num: int, limit: float = 1.0) -> Tensor:
    """Return the entropy of y rounded to ``num`` levels from -limit to limit, given x: nats, ``[B]`` float64.

    The color is still told for certain where the modes' levels are far apart.
    """
    log_p = _log_masses_of_colors(num, limit)
    first, second, background = (-(log_p.exp() * log_p).sum(dim=(1, 2))).unbind()
    inside = mask.sum(dim=(1, 2)).double()
    shirt = WEIGHTS[0] * first + WEIGHTS[1] * second
    color = -sum(w * math.log(w) for w in WEIGHTS)
    return inside * shirt + (SIZE_PX**2 - inside) * background + color


def log_prob_of_levels(shirts: Shirts, num: int, limit: float = 1.0) -> Tensor:
    """Return the true log probability of y rounded to levels, given x and the shirt's place: ``[B]`` float64."""
    levels = ((shirts.ab + limit) * ((num - 1) / (2 * limit))).round().clamp(0, num - 1).long()
    log_p = _log_masses_of_colors(num, limit)
    channel = torch.arange(2)[:, None, None]
    each = torch.stack([one[channel, levels].sum(dim=1) for one in log_p])  # [3, B, 16, 16]
    inside = shirts.mask
    modes = torch.stack([(each[i] * inside).sum(dim=(1, 2)) + math.log(WEIGHTS[i]) for i in (0, 1)])
    return modes.logsumexp(dim=0) + (each[2] * ~inside).sum(dim=(1, 2))
