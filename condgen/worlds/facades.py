"""World "facades": 64 x 64 images of house fronts; a layout tells what is where, and not of what it is made.

After the CMP facades of Isola et al. 2017, section 4, for tasks and tests that must run without that set. Drawn from a
random layout (storeys, columns of windows, a door, sills, a cornice, sky) and random materials (color of wall, frames,
door and sky; plaster or bricks; windows lit or dark): p(photo | layout) has them all. The same fronts have a label map,
a depth and edges, for the tasks in other directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CLASSES", "CLASS_COLORS", "SIZE_PX", "Facades", "draw_facades", "edges"]

SIZE_PX = 64
CLASSES = ("sky", "wall", "cornice", "window", "frame", "sill", "door", "base")
CLASS_COLORS = (
    (0, 0, 170), (0, 0, 255), (0, 255, 255), (0, 85, 255), (85, 255, 170), (170, 255, 85), (255, 170, 0), (170, 0, 0)
)  # fmt: skip
"""Colors of a layout drawn as an image, uint8 sRGB, after CMP's."""
_SKY, _WALL, _CORNICE, _WINDOW, _FRAME, _SILL, _DOOR, _BASE = range(len(CLASSES))
_DEPTHS = (1.0, 0.0, -0.5, 0.4, 0.1, -0.3, 0.3, -0.1)
"""Of each class, in [-1, 1]: the wall's is 0, what stands out is nearer."""
_WALLS = ((168, 82, 62), (206, 160, 108), (232, 222, 200), (150, 152, 156), (196, 120, 96), (128, 140, 118))
_SKIES = ((140, 180, 230), (205, 214, 222), (240, 196, 160))
_DOORS = ((70, 40, 24), (30, 70, 50), (120, 24, 24), (40, 44, 60))
_LIT, _DARK = (250, 214, 120), (38, 48, 66)
_NOISE = 0.02


@dataclass(frozen=True, kw_only=True)
class Facades:
    """Some samples of the world.

    Attributes:
        photo: ``[B, 3, 64, 64]`` float32 sRGB in [-1, 1].
        labels: ``[B, 64, 64]`` int64, indices of ``CLASSES``.
        depth: ``[B, 1, 64, 64]`` float32 in [-1, 1], larger is further.
    """

    photo: Tensor
    labels: Tensor
    depth: Tensor

    @property
    def layout(self) -> Tensor:
        """The labels as an image, ``[B, 3, 64, 64]`` float32 in [-1, 1]."""
        return _signed(torch.tensor(CLASS_COLORS))[self.labels].movedim(-1, 1)


def _signed(colors: Tensor) -> Tensor:
    return colors.float() / 127.5 - 1


class _Dice:
    """Whole numbers and coins of one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def between(self, low: int, high: int) -> int:
        """Return an even whole number from low to high, both included."""
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def coin(self, probability: float = 0.5) -> bool:
        """Return True with a probability."""
        return float(torch.rand(1, generator=self.generator)) < probability


def draw_facades(count: int, generator: torch.Generator) -> Facades:
    """Draw samples.

    Args:
        count: B.
        generator: source of all that is random.
    """
    dice = _Dice(generator)
    fronts = [_front(dice) for _ in range(count)]
    labels = torch.stack([labels for labels, _ in fronts])
    panes = torch.stack([panes for _, panes in fronts])
    photo = torch.stack([_paint(one, lit, dice) for one, lit in zip(labels, panes, strict=True)])
    return Facades(photo=photo, labels=labels, depth=torch.tensor(_DEPTHS)[labels][:, None])


def _front(dice: _Dice) -> tuple[Tensor, Tensor]:
    """Return a layout: labels, and the number of each window, ``[64, 64]`` both; 0 where there is none."""
    labels = torch.full((SIZE_PX, SIZE_PX), _SKY)
    panes = torch.zeros(SIZE_PX, SIZE_PX, dtype=torch.int64)
    top, left, right = dice.between(4, 14), dice.between(0, 8), SIZE_PX - dice.between(0, 8)
    base, cornice = dice.between(2, 5), dice.between(2, 4)
    labels[top:, left:right] = _WALL
    labels[top : top + cornice, max(0, left - 1) : right + 1] = _CORNICE
    labels[SIZE_PX - base :, left:right] = _BASE
    storeys, columns = dice.between(2, 4), dice.between(2, 4)
    high, wide = (SIZE_PX - base - top - cornice) // storeys, (right - left) // columns
    window_high, window_wide = high * dice.between(50, 65) // 100, wide * dice.between(40, 65) // 100
    has_sills, has_frames = dice.coin(), dice.coin(0.7)
    door = dice.between(0, columns - 1)
    for storey in range(storeys):
        for column in range(columns):
            y = top + cornice + storey * high + (high - window_high) // 2
            x = left + column * wide + (wide - window_wide) // 2
            if storey == storeys - 1 and column == door:
                labels[y : SIZE_PX - base // 2, x : x + window_wide] = _DOOR
                continue
            labels[y : y + window_high, x : x + window_wide] = _WINDOW
            panes[y : y + window_high, x : x + window_wide] = 1 + storey * columns + column
            if has_frames:
                labels[y, x : x + window_wide] = labels[y + window_high - 1, x : x + window_wide] = _FRAME
                labels[y : y + window_high, x] = labels[y : y + window_high, x + window_wide - 1] = _FRAME
            if has_sills:
                labels[y + window_high, max(0, x - 1) : x + window_wide + 1] = _SILL
    return labels, panes


def _paint(labels: Tensor, panes: Tensor, dice: _Dice) -> Tensor:
    """Return a photo of a layout whose materials are drawn, ``[3, 64, 64]`` in [-1, 1]."""
    wall = torch.tensor(_WALLS[dice.between(0, len(_WALLS) - 1)]).float()
    trim = wall * 0.7 if dice.coin() else torch.tensor((236.0, 234.0, 228.0))
    sky = torch.tensor(_SKIES[dice.between(0, len(_SKIES) - 1)]).float()
    door = torch.tensor(_DOORS[dice.between(0, len(_DOORS) - 1)]).float()
    colors = torch.stack([sky, wall, trim, torch.tensor(_DARK).float(), trim, trim * 0.95, door, wall * 0.6])
    photo = colors[labels]
    for pane in sorted(set(panes.flatten().tolist()) - {0}):
        if dice.coin(0.35):
            photo[(panes == pane) & (labels == _WINDOW)] = torch.tensor(_LIT).float()
    rows = torch.arange(SIZE_PX)
    if dice.coin():  # bricks: darker joints, each course shifted by half a brick
        joints = (rows[:, None] % 3 == 2) | ((rows[None, :] + 2 * (rows[:, None] // 3 % 2)) % 4 == 0)
        photo[joints & (labels == _WALL)] *= 0.86
    photo = photo * torch.where(labels == _SKY, 1.0, 1.05 - 0.15 * rows[:, None] / SIZE_PX)[..., None]
    noise = _NOISE * torch.randn(SIZE_PX, SIZE_PX, 3, generator=dice.generator)
    return (_signed(photo) + noise).clamp(-1, 1).movedim(-1, 0)


def edges(photo: Tensor, threshold: float = 0.12) -> Tensor:
    """Return white lines on black where the luma changes: Sobel's gradient above a threshold.

    Args:
        photo: ``[B, 3, H, W]`` in [-1, 1].
        threshold: least length of the gradient at an edge (luma a pixel).

    Returns:
        ``[B, 1, H, W]`` float32, -1 or 1.
    """
    luma = (photo * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([across, across.T])[:, None]
    gradient = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), kernels)
    return torch.where(gradient.norm(dim=1, keepdim=True) > threshold, 1.0, -1.0)
