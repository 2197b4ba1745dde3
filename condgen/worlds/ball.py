"""World "ball": x is one frame of a moving ball, y the next one; the velocity is hidden.

    y = a ball at position + velocity,  velocity ~ N(0, s^2) pixels a frame in either direction

On a torus what leaves on one side comes in on the other, so that p(velocity | x) is the same for every x, and nothing
about y is told by where the ball is alone. Between walls the ball bounces: near them different velocities lead to the
same next frame, and the velocity is no more what both frames tell. With the torus's s = 1.5 its mean given both has an
R^2 of 0.80 alone; between walls s is therefore 0.8: that mean's R^2 is 0.89, the displacement's 0.85. A ball is
a soft disc at any place, not only at whole pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.base import Batch, Condition

__all__ = [
    "RADIUS_PX",
    "SIZE_PX",
    "SPEED_PX",
    "WALLED_SPEED_PX",
    "Balls",
    "ball_errors",
    "centers",
    "circular",
    "draw_balls",
    "linear_r2",
    "render",
    "shortest",
]

SIZE_PX = 16
RADIUS_PX = 2.5
SPEED_PX = 1.5
"""Standard deviation of either coordinate of the velocity, on the torus."""
WALLED_SPEED_PX = 0.8
"""And between walls."""
_SOFTNESS_PX = 0.35
_FASTEST_PX = 6.0
"""Longer steps are drawn again: on a torus of 16 pixels they would look like short ones the other way."""


@dataclass(frozen=True, kw_only=True)
class Balls:
    """Some samples of the world.

    Attributes:
        frame: x, ``[B, 1, 16, 16]`` float32 in [-1, 1], the ball bright.
        following: y, the same a frame later.
        position: the ball's center in x, ``[B, 2]`` float32: (row, column) in pixels, a pixel's center being whole.
        velocity: ``[B, 2]`` float32, in pixels a frame, before any bounce.
    """

    frame: Tensor
    following: Tensor
    position: Tensor
    velocity: Tensor

    def batch(self) -> Batch:
        """Return training samples of weight 1."""
        weight = torch.ones(self.frame.shape[0])
        return Batch(condition=Condition(image=self.frame), target=self.following, weight=weight)


def draw_balls(count: int, generator: torch.Generator, *, walls: bool = False) -> Balls:
    """Draw samples.

    Args:
        count: B.
        generator: source of all that is random.
        walls: whether the ball bounces within the image; otherwise it is on a torus.
    """
    speed = WALLED_SPEED_PX if walls else SPEED_PX
    velocity = speed * torch.randn(count, 2, generator=generator)
    while (long := velocity.abs() > _FASTEST_PX).any():
        velocity = torch.where(long, speed * torch.randn(count, 2, generator=generator), velocity)
    start = torch.rand(count, 2, generator=generator)
    if walls:
        low, high = RADIUS_PX - 0.5, SIZE_PX - 0.5 - RADIUS_PX
        position = low + start * (high - low)
        after = (position + velocity - low) % (2 * (high - low))
        after = low + torch.minimum(after, 2 * (high - low) - after)
    else:
        position = start * SIZE_PX
        after = (position + velocity) % SIZE_PX
    return Balls(frame=render(position), following=render(after), position=position, velocity=velocity)


def shortest(offset: Tensor) -> Tensor:
    """Return offsets on the torus as those of the shortest way, in [-8, 8)."""
    return (offset + SIZE_PX / 2) % SIZE_PX - SIZE_PX / 2


def render(position: Tensor) -> Tensor:
    """Return images ``[..., 1, 16, 16]`` in [-1, 1] of balls at ``[..., 2]``, on a torus."""
    line = torch.arange(SIZE_PX, dtype=torch.float32)
    away = shortest(line - position[..., None])  # [..., 2, 16]
    distance = (away[..., 0, :, None].square() + away[..., 1, None, :].square()).sqrt()
    return torch.tanh((RADIUS_PX - distance) / (2 * _SOFTNESS_PX))[..., None, :, :]


def centers(images: Tensor) -> Tensor:
    """Return the places ``[..., 2]`` in [0, 16) of the balls in ``[..., 1, 16, 16]``: the circular mean of brightness.

    It is the center of anything symmetric, wherever on the torus it is.
    """
    brightness = (images[..., 0, :, :] + 1) / 2
    angle = 2 * math.pi / SIZE_PX * torch.arange(SIZE_PX)
    sides = torch.stack([brightness.sum(-1), brightness.sum(-2)], dim=-2)  # [..., 2, 16]: of rows, of columns
    at = torch.atan2((sides * angle.sin()).sum(-1), (sides * angle.cos()).sum(-1))
    return (at * SIZE_PX / (2 * math.pi)) % SIZE_PX


def ball_errors(images: Tensor) -> Tensor:
    """Return how far images ``[..., 1, 16, 16]`` are from a ball where they have their center, ``[...]``.

    The sum of absolute differences over that from an empty image: 0 is a ball, 1 and more is none.
    """
    nearest = render(centers(images))
    difference = (images - nearest).abs().sum(dim=(-3, -2, -1))
    return difference / (nearest + 1).sum(dim=(-3, -2, -1))


def circular(position: Tensor) -> Tensor:
    """Return positions ``[B, 2]`` as ``[B, 4]``, sine and cosine of both: what a linear map can give on a torus."""
    angle = 2 * math.pi / SIZE_PX * position
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def linear_r2(inputs: Tensor, outputs: Tensor) -> float:
    """Return R^2 of the least-squares linear map (with a constant) of half of the samples, on the other half.

    The mean over the outputs' columns, none below 0.

    Args:
        inputs: ``[B, N]``.
        outputs: ``[B, M]``.
    """
    known = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
    outputs, half = outputs.double(), len(inputs) // 2
    weights = torch.linalg.lstsq(known[:half], outputs[:half], driver="gelsd").solution
    error = (outputs[half:] - known[half:] @ weights).square().mean(dim=0)
    share = 1 - error / outputs[half:].var(dim=0, unbiased=False)
    return float(share.clamp_min(0).mean())
