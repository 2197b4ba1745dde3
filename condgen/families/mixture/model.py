"""N Gaussians a pixel: a mixture density network (Bishop 1994, "Mixture density networks", NCRG/94/004).

    p(y_hw | x) = sum_n pi_n N(y_hw; mu_n, L_n L_n^T)                            eq. (22), with a covariance

It has all modes of a pixel, and nothing of what pixels have in common: each draws its mode by itself.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image, weighted_mean
from condgen.families.mixture.config import MixtureConfig, PixelMixtureConfig
from condgen.nn.unet import conditional_unet, pool_to_stride, upsample_from_stride
from condgen.noise import NoiseSource

__all__ = ["Components", "Mixture", "PixelMixture"]

_LOG_2_PI = math.log(2.0 * math.pi)
_UNIFORM, _NORMAL = 0, 1
"""Streams of a draw's noise: which component, and where in it."""


class Components(NamedTuple):
    """The Gaussians of each pixel of the model's grid.

    Attributes:
        log_weight: log pi, ``[B, N, h, w]``, normalized over N.
        mean: mu, ``[B, N, C, h, w]``.
        scale: L, ``[B, N, C, C, h, w]``, lower triangular with a positive diagonal.
    """

    log_weight: Tensor
    mean: Tensor
    scale: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        """Return log p(y), ``[B, h, w]`` nats a pixel, of ``[B, C, h, w]``."""
        rest = y[:, None] - self.mean
        solved: list[Tensor] = []  # L^-1 (y - mu), row by row: C is small
        for row in range(rest.shape[2]):
            known = sum((self.scale[:, :, row, k] * solved[k] for k in range(row)), torch.zeros_like(rest[:, :, 0]))
            solved.append((rest[:, :, row] - known) / self.scale[:, :, row, row])
        z = torch.stack(solved, dim=2)
        log_det = torch.diagonal(self.scale, dim1=2, dim2=3).log().sum(dim=-1)
        log_normal = -0.5 * (z.square().sum(dim=2) + rest.shape[2] * _LOG_2_PI) - log_det
        return torch.logsumexp(self.log_weight + log_normal, dim=1)


class PixelMixture(ConditionalModel):
    """p(y | x) as Gaussians at each pixel of a grid at 1 / ``out_stride`` of the image.

    The target is averaged over the grid's squares; draws are upsampled bilinearly from it.

    Args:
        config: configuration of the family.
        components: N.
        covariance: ``diagonal`` or ``full``.
    """

    is_stochastic: ClassVar[bool] = True
    config: PixelMixtureConfig

    def __init__(self, config: PixelMixtureConfig, components: int, covariance: str) -> None:
        super().__init__(config)
        channels, count = config.target_channels, components
        self.num_components = count
        self._below = [(i, j) for i in range(channels) for j in range(i)] if covariance == "full" else []
        self.net = conditional_unet(config, count * (1 + 2 * channels + len(self._below)))
        # Components that begin at one place get one gradient: they begin apart.
        self.start = nn.Parameter(0.5 * torch.randn(count, channels))

    def components(self, condition: Condition) -> Components:
        """Return the Gaussians of each pixel."""
        config = self.config
        outputs: Tensor = self.net(condition_image(condition, config.condition_channels)).float()
        batch, _, height, width = outputs.shape
        channels, count = config.target_channels, self.num_components
        parts = outputs.reshape(batch, count, -1, height, width)
        logits, mean, spread, below = torch.split(parts, [1, channels, channels, len(self._below)], dim=2)
        diagonal = config.min_std + F.softplus(spread - 1.0)
        scale = torch.diag_embed(diagonal.movedim(2, -1)).movedim((-2, -1), (2, 3))
        if self._below:
            scale = scale.clone()
            for place, (row, column) in enumerate(self._below):
                scale[:, :, row, column] = below[:, :, place]
        mean = mean + self.start[:, :, None, None]
        return Components(F.log_softmax(logits[:, :, 0], dim=1), mean, scale)

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:  # noqa: ARG002 - one phase
        """Return ``nll``, -log p(y | x) as a mean over the grid's pixels, in nats."""
        log_p = self.components(batch.condition).log_prob(pool_to_stride(batch.target, self.config.out_stride))
        return {"nll": weighted_mean(-log_p.mean(dim=(1, 2)), batch.weight)}

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]``, from one pass of the network for all K.

        ``draw`` takes at each pixel a component and a place in it, of p ** (1 / temperature) each; ``point`` repeats
        the mean of the component with the most weight.

        Raises:
            UnsupportedError: a direction back.
        """
        self.require_direction(options.direction)
        image = condition_image(condition, self.config.condition_channels)
        components = self.components(condition)
        if options.mode == "point":
            index = components.log_weight.argmax(dim=1, keepdim=True).expand(-1, noise.num_draws, -1, -1)
            y = _take(components.mean, index)
        else:
            y = self._draw(components, noise, options.temperature)
        return upsample_from_stride(y, self.config.out_stride, (image.shape[-2], image.shape[-1]))

    def _draw(self, components: Components, noise: NoiseSource, temperature: float) -> Tensor:
        height, width = components.log_weight.shape[-2:]
        device = components.mean.device
        cdf = F.softmax(components.log_weight / temperature, dim=1).cumsum(dim=1)
        uniform = noise.uniform((height, width), stream=_UNIFORM).to(device)
        index = (uniform[:, :, None] >= (cdf / cdf[:, -1:])[:, None]).sum(dim=2)
        index = index.clamp_max(self.num_components - 1)
        normal = noise.normal((self.config.target_channels, height, width), stream=_NORMAL).to(device)
        scale = _take(components.scale.flatten(2, 3), index)
        scale = scale.reshape(*scale.shape[:2], *components.scale.shape[2:])
        offset: Tensor = (scale * normal[:, :, None]).sum(dim=3)
        return _take(components.mean, index) + math.sqrt(temperature) * offset

    def log_prob(self, condition: Condition, y: Tensor) -> Tensor:
        """Return the log density of y averaged over the grid's squares, summed over the grid: nats, ``[B]``."""
        log_p = self.components(condition).log_prob(pool_to_stride(y, self.config.out_stride))
        return log_p.sum(dim=(1, 2))


class Mixture(PixelMixture):
    """N Gaussians a pixel."""

    family: ClassVar[str] = "mixture"
    config: MixtureConfig

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__(config, config.components, config.covariance)


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Return of ``[B, N, D, h, w]`` the components ``[B, K, h, w]``: ``[B, K, D, h, w]``."""
    index = index[:, :, None].expand(-1, -1, values.shape[2], -1, -1)
    return values.gather(1, index)
