"""Small parts that families share."""

from __future__ import annotations

from torch import Tensor

from condgen.base import Condition
from condgen.errors import UnsupportedError

__all__ = ["condition_image", "weighted_mean"]


def condition_image(condition: Condition, channels: int) -> Tensor:
    """Return the condition's image, ``[B, channels, H, W]``.

    Raises:
        UnsupportedError: there is none, or it has other channels.
    """
    image = condition.image
    if image is None:
        raise UnsupportedError("this family is conditioned on an image, and the condition has none")
    if image.ndim != 4 or image.shape[1] != channels:
        raise UnsupportedError(
            f"the condition's image is {list(image.shape)}, and this model takes [B, {channels}, H, W]"
        )
    return image


def weighted_mean(per_sample: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of ``[B]`` weighted by ``[B]``; 0 (with gradients of 0) where all weights are 0."""
    return (per_sample * weight).sum() / weight.sum().clamp_min(1e-8)
