"""World "two sets": two sets of images, unpaired. Both hold discs on black: A's are red, green or blue, B's yellow,
cyan or magenta.

    p(color = i) = 1 / 3 in either set;  the disc's place and size are free, and alike in both

Each of A's colors is as far from all of B's but its opposite, and every permutation of the colors takes A's
distribution exactly to B's: nothing in the two sets tells which is right. The true map, known to those who see pairs,
is ``TRUE_MAP``; a disc stays where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "COLORS_A",
    "COLORS_B",
    "MODES",
    "SIZE_PX",
    "TRUE_MAP",
    "Discs",
    "ModeMap",
    "draw_discs",
    "kinds",
    "mode_map",
    "render",
]

SIZE_PX = 16
MODES = 3
BRIGHT, DARK = 0.9, -0.9
COLORS_A = ((BRIGHT, DARK, DARK), (DARK, BRIGHT, DARK), (DARK, DARK, BRIGHT))
COLORS_B = ((BRIGHT, BRIGHT, DARK), (DARK, BRIGHT, BRIGHT), (BRIGHT, DARK, BRIGHT))
TRUE_MAP = (1, 2, 0)
"""Color i of A is color TRUE_MAP[i] of B: its opposite."""
OFF_MODE = 0.35
"""An image whose absolute difference, summed over its pixels and divided by its disc's, is more is of no kind."""
ONE_TO_ONE = 0.9
_LEAST_PIXELS = 10


@dataclass(frozen=True, kw_only=True)
class Discs:
    """What some images show.

    Attributes:
        kind: number of the color in its set, ``[B]`` int64.
        center: (row, column) in pixels, ``[B, 2]`` float32.
        radius: radii (pixels), ``[B]`` float32.
    """

    kind: Tensor
    center: Tensor
    radius: Tensor


def draw_discs(count: int, generator: torch.Generator) -> Discs:
    """Draw discs of a radius of 4 to 6 pixels that are wholly, but for a pixel, in the image."""
    radius = 4 + 2 * torch.rand(count, generator=generator)
    room = (SIZE_PX + 1 - 2 * radius)[:, None]
    center = radius[:, None] - 1 + room * torch.rand(count, 2, generator=generator)
    kind = torch.randint(MODES, (count,), generator=generator)
    return Discs(kind=kind, center=center, radius=radius)


def render(discs: Discs, colors: Sequence[Sequence[float]]) -> Tensor:
    """Return the images of discs of a set's colors, ``[B, 3, 16, 16]`` in [-1, 1]."""
    line = torch.arange(SIZE_PX, dtype=torch.float32)
    away = (line - discs.center[..., None]).square()  # [B, 2, 16]
    distance = (away[:, 0, :, None] + away[:, 1, None, :]).sqrt()
    inside = torch.sigmoid((discs.radius[:, None, None] - distance) / 0.35)[:, None]
    color = torch.tensor(colors)[discs.kind][:, :, None, None]
    return inside * color + (1 - inside) * DARK


def kinds(images: Tensor, colors: Sequence[Sequence[float]]) -> Tensor:
    """Return the number of the set's color that each image's disc is nearest to, ``[B]`` int64; -1 is none.

    The pixels with a channel above 0 tell a disc's place and size; the image has to be within ``OFF_MODE`` of that
    disc on black in the color.

    Args:
        images: ``[B, 3, 16, 16]`` in [-1, 1].
        colors: colors of the set.
    """
    inside = (images.amax(dim=1) > 0).float()
    area = inside.sum(dim=(1, 2))
    line = torch.arange(SIZE_PX, dtype=torch.float32)
    along = torch.stack([inside.sum(dim=2) @ line, inside.sum(dim=1) @ line], dim=1)
    center, radius = along / area.clamp_min(1)[:, None], (area / math.pi).sqrt()
    errors = []
    for number in range(len(colors)):
        disc = Discs(kind=torch.full((len(images),), number), center=center, radius=radius)
        errors.append((images - render(disc, colors)).abs().mean(dim=1).sum(dim=(1, 2)) / area.clamp_min(1))
    error, nearest = torch.stack(errors).min(dim=0)
    return torch.where((error <= OFF_MODE) & (area >= _LEAST_PIXELS), nearest, -1)


@dataclass(frozen=True, kw_only=True)
class ModeMap:
    """Where a translation takes each kind.

    Attributes:
        to: the kind that most images of kind i become, by i.
        share: share of kind i's images that do so, the smallest over i.
    """

    to: tuple[int, ...]
    share: float

    @property
    def one_to_one(self) -> bool:
        """Each kind becomes one kind in >= 0.9 of its images, and all kinds are reached."""
        return self.share >= ONE_TO_ONE and sorted(self.to) == list(range(MODES))


def mode_map(before: Tensor, after: Tensor) -> ModeMap:
    """Return the map of kinds ``[B]`` to kinds ``[B]``, -1 being no kind, which never is what a kind becomes."""
    counts = torch.zeros(MODES, MODES)
    some = after >= 0
    counts.index_put_((before[some], after[some]), torch.ones(int(some.sum())), accumulate=True)
    totals = torch.bincount(before, minlength=MODES).clamp_min(1)
    most, to = counts.max(dim=1)
    return ModeMap(to=tuple(to.tolist()), share=float((most / totals).min()))
