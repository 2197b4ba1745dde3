"""World "shapes": 16 x 16 RGB images of one of four shapes in one of four colors, anywhere, of any size.

    c = 4 shape + color,  even over the 16 kinds;  p(y | c): radius even in [4, 6.5] px, center even over the places
    where the shape fits;  every number has noise of 0.03

A kind is told by its label c, by a caption ("a red circle"), or by an outline and a caption of the color alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.nn.tokens import tokenize

__all__ = [
    "COLORS",
    "NUM_KINDS",
    "SHAPES",
    "SIZE_PX",
    "TEXT_LENGTH",
    "VOCABULARY",
    "ShapeClassifier",
    "Shapes",
    "captions",
    "color_captions",
    "draw_shapes",
    "foreground",
    "train_judge",
]

SIZE_PX = 16
BACKGROUND = -0.3
"""Of all three channels."""
COLORS = {"red": (0.9, -0.7, -0.7), "green": (-0.7, 0.6, -0.7), "blue": (-0.6, -0.5, 0.9), "yellow": (0.9, 0.8, -0.7)}
SHAPES = ("circle", "square", "triangle", "cross")
NUM_KINDS = len(SHAPES) * len(COLORS)
NOISE = 0.03
RADIUS_PX = (4.0, 6.5)
VOCABULARY = 128
"""Of the captions' tokens; all their words have different ones."""
TEXT_LENGTH = 5
_FINER = 3
_CAPTIONS = ("a {color} {shape}", "{shape} in {color}", "one {shape} that is {color}")
_COLOR_CAPTIONS = ("{color}", "paint it {color}", "in {color}")

_INSIDE: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda u, v: u.square() + v.square() <= 0.9,
    lambda u, v: torch.maximum(u.abs(), v.abs()) <= 0.85,
    lambda u, v: (v <= 0.85) & (u.abs() <= (v + 1) / 1.85),
    lambda u, v: (torch.minimum(u.abs(), v.abs()) <= 0.33) & (torch.maximum(u.abs(), v.abs()) <= 1.0),
)
"""Of each shape in a square of side 2, u to the right and v down."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Some samples of the world.

    Attributes:
        image: y, ``[B, 3, 16, 16]`` float32 in about [-1, 1].
        outline: ``[B, 1, 16, 16]`` float32 in [-1, 1], the shape's edge, about a pixel wide, within the shape.
        kind: c, ``[B]`` int64.
        cover: the shape's share of each pixel, ``[B, 16, 16]`` float32.
        center: row and column in pixels, ``[B, 2]`` float32.
    """

    image: Tensor
    outline: Tensor
    kind: Tensor
    cover: Tensor
    center: Tensor


def draw_shapes(count: int, generator: torch.Generator, *, kind: Tensor | None = None) -> Shapes:
    """Draw samples.

    Args:
        count: B.
        generator: source of all that is random.
        kind: c, ``[B]``, where it isn't to be drawn.
    """
    if kind is None:
        kind = torch.randint(NUM_KINDS, (count,), generator=generator)
    low, high = RADIUS_PX
    radius = low + (high - low) * torch.rand(count, generator=generator)
    room = (SIZE_PX - 2 * radius)[:, None]
    center = radius[:, None] + room * torch.rand(count, 2, generator=generator)
    line = (torch.arange(SIZE_PX * _FINER) + 0.5) / _FINER
    v, u = ((line - center[:, [i]]) / radius[:, None] for i in (0, 1))
    shape = torch.div(kind, len(COLORS), rounding_mode="floor")
    fine = torch.zeros(count, 1, SIZE_PX * _FINER, SIZE_PX * _FINER)
    for number, inside in enumerate(_INSIDE):
        rows = (shape == number).nonzero().flatten()
        fine[rows, 0] = inside(u[rows, None, :], v[rows, :, None]).float()
    eroded = -F.max_pool2d(-fine, (2 * _FINER + 1, 1), stride=1, padding=(_FINER, 0))
    eroded = -F.max_pool2d(-eroded, (1, 2 * _FINER + 1), stride=1, padding=(0, _FINER))
    cover, outline = F.avg_pool2d(fine, _FINER), F.avg_pool2d(fine - eroded, _FINER)
    color = torch.tensor(list(COLORS.values()))[kind % len(COLORS)][:, :, None, None]
    noise = NOISE * torch.randn(count, 3, SIZE_PX, SIZE_PX, generator=generator)
    image = BACKGROUND + cover * (color - BACKGROUND) + noise
    return Shapes(image=image, outline=2 * outline - 1, kind=kind, cover=cover[:, 0], center=center)


def _texts(templates: Sequence[str]) -> Tensor:
    """Return tokens of every kind by every template, ``[kinds, templates, TEXT_LENGTH]``."""
    kinds = [(shape, color) for shape in SHAPES for color in COLORS]
    rows = [[tokenize(t.format(shape=s, color=c), vocabulary=VOCABULARY, length=TEXT_LENGTH) for t in templates]
            for s, c in kinds]  # fmt: skip
    return torch.tensor([[row.tolist() for row in kind] for kind in rows])


_TEXTS = _texts(_CAPTIONS)
_COLOR_TEXTS = _texts(_COLOR_CAPTIONS)


def captions(kind: Tensor, generator: torch.Generator) -> Tensor:
    """Return tokens ``[B, TEXT_LENGTH]`` of a caption of shape and color, in one of three wordings."""
    return _TEXTS[kind, torch.randint(len(_CAPTIONS), kind.shape, generator=generator)]


def color_captions(kind: Tensor, generator: torch.Generator) -> Tensor:
    """Return tokens ``[B, TEXT_LENGTH]`` of a caption of the color alone, in one of three wordings."""
    return _COLOR_TEXTS[kind, torch.randint(len(_COLOR_CAPTIONS), kind.shape, generator=generator)]


def foreground(images: Tensor) -> Tensor:
    """Return which pixels are nearer to a color than to the background, ``[..., 3, H, W]`` to ``[..., H, W]`` bool."""
    palette = torch.tensor([(BACKGROUND,) * 3, *COLORS.values()])[:, :, None, None]
    distance = torch.stack([(images - color).square().sum(dim=-3) for color in palette])
    return distance.argmin(0) > 0


class ShapeClassifier(nn.Module):
    """A small network that tells the kind of an image, whatever made it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.GroupNorm(6, 48),
            nn.SiLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
        )
        self.head = nn.Linear(64 * (SIZE_PX // 4) ** 2, NUM_KINDS)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, 3, 16, 16]`` to scores of the kinds, ``[N, 16]``."""
        scores: Tensor = self.head(self.features(images).flatten(1))
        return scores

    @torch.no_grad()
    def kinds(self, images: Tensor) -> Tensor:
        """Return the likeliest kind of each image, ``[..., 3, 16, 16]`` to ``[...]`` int64."""
        flat = images.flatten(0, -4)
        kinds = torch.cat([self(part).argmax(1) for part in torch.split(flat, 512)])
        return torch.unflatten(kinds, 0, images.shape[:-3])


def train_judge(seed: int = 0, *, steps: int = 700) -> ShapeClassifier:
    """Train a judge on true images, blurred ever so little by noise so that it looks at shapes and not at noise."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    judge = ShapeClassifier()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        shapes = draw_shapes(64, generator)
        noise = torch.randn(shapes.image.shape, generator=generator)
        level = 0.1 * torch.rand(64, 1, 1, 1, generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(judge(shapes.image + level * noise), shapes.kind))
        optimizer.step()
        schedule.step()
    return judge.eval()
