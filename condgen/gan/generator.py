"""The base of image-to-image generators, and how their dropout becomes the noise of a draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.base import SampleOptions
from condgen.errors import UnsupportedError
from condgen.gan.layers import pad_to
from condgen.noise import NoiseSource

__all__ = ["Generator", "dropout_draws", "dropout_with", "translate"]

_Size: TypeAlias = tuple[int, int]


class Generator(nn.Module, ABC):
    """x to y of the same size, in [-1, 1]: an encoder, which runs once an image, and a decoder, once a draw.

    Attributes:
        multiple: number to whose multiples sides are padded; the output is cropped back.
        smallest: smallest side that sides are padded to (pixels).
        dropout: probability of dropout in the decoder.
    """

    multiple: int = 1
    smallest: int = 1
    dropout: float = 0.0

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """Return what the decoder needs of a padded image ``[B, C, H, W]``."""

    @abstractmethod
    def decode(self, features: list[Tensor], uniforms: Sequence[Tensor] | None = None) -> Tensor:
        """Return y, ``[B, out, H, W]`` in [-1, 1], of the padded size.

        Args:
            features: what ``encode`` returned.
            uniforms: numbers of the shapes ``[B, *dropout_shapes]`` that decide what is dropped; without them dropout
                is PyTorch's, on in training and off otherwise.
        """

    def dropout_shapes(self, features: list[Tensor]) -> list[tuple[int, ...]]:  # noqa: ARG002 - none without dropout
        """Return the shape ``(C, h, w)`` of each dropout layer's input, for one draw."""
        return []

    def begin_at_identity(self) -> None:
        """Change the initial weights of a generator that learns a change of x: it begins with none."""

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, out, H, W]`` in [-1, 1], any H and W."""
        features = self.encode(pad_to(image, self.multiple, self.smallest))
        return self.decode(features)[..., : image.shape[-2], : image.shape[-1]]


def dropout_with(x: Tensor, probability: float, uniform: Tensor | None, training: bool) -> Tensor:
    """Return x with what has a uniform below ``probability`` dropped; PyTorch's dropout where ``uniform`` is None."""
    if uniform is None:
        return F.dropout(x, probability, training)
    return x * (uniform >= probability).to(x.dtype) / (1.0 - probability)


def translate(generator: Generator, image: Tensor, noise: NoiseSource | None) -> Tensor:
    """Return draws of y, ``[B, K, C, H, W]`` float32, or ``[B, 1, C, H, W]`` without noise and dropout.

    Each dropout layer has a stream of the noise of its own. Draws are decoded one after the other, so that each is
    the same bits alone and among K.
    """
    height, width = image.shape[-2:]
    features = generator.encode(pad_to(image, generator.multiple, generator.smallest))
    if noise is None:
        return generator.decode(features)[:, None, :, :height, :width].float()
    shapes = generator.dropout_shapes(features)
    uniforms = [noise.uniform(shape, stream=i).to(image.device) for i, shape in enumerate(shapes)]
    draws = [generator.decode(features, [u[:, k] for u in uniforms]) for k in range(noise.num_draws)]
    return torch.stack(draws, dim=1)[..., :height, :width].float()


def dropout_draws(
    generator: Generator, image: Tensor, noise: NoiseSource, options: SampleOptions, *, family: str, stochastic: bool
) -> Tensor:
    """Return y, ``[B, K, C, H, W]`` float32: a dropout mask a draw, or one answer (repeated for mode ``point``).

    Raises:
        UnsupportedError: more than one draw of a model without noise.
    """
    if stochastic and options.mode == "draw":
        return translate(generator, image, noise)
    if not stochastic and noise.num_draws > 1:
        raise UnsupportedError(
            f"this {family!r} model has no noise, so its {noise.num_draws} draws would be copies: ask for 1 draw, or "
            "choose a model that samples (with model.dropout_noise, or of the family cgan)"
        )
    return translate(generator, image, None).expand(-1, noise.num_draws, -1, -1, -1)
