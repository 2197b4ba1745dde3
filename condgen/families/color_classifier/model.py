"""A softmax over quantized ab at every pixel (Zhang et al. 2016, "Colorful Image Colorization", arXiv:1603.08511).

    L(Zhat, Z) = - sum_hw v(Z_hw) sum_q Z_hwq log Zhat_hwq                      eq. (2)
    v = w_q*,  q* = argmax_q Z_hwq                                              eq. (3)
    w ~ ((1 - lambda) p + lambda / Q)^-1,  sum_q p_q w_q = 1                    eq. (4)
    annealed mean: the mean of softmax(log Z / T), T = 0.38                     eq. (5)

Other y than color has uniform bins, ``num_bins`` levels a channel (van den Oord et al. 2016, arXiv:1601.06759).

Rebalancing weighs rare colors up, so that the network learns w_q p(q | x) up to a constant. The point prediction
uses it as it is, as the paper does. Draws and ``log_prob`` divide w out again: they are p(q | x).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image, weighted_mean
from condgen.color.ab_bins import AbBins
from condgen.color.lab import denormalize_ab, normalize_ab
from condgen.color.uniform_bins import UniformBins
from condgen.families.color_classifier.config import ColorClassifierConfig
from condgen.nn.color_head import class_weights, rebalanced_cross_entropy
from condgen.nn.unet import conditional_unet, pool_to_stride, upsample_from_stride
from condgen.noise import NoiseSource
from condgen.statistics import DatasetStatistics

__all__ = ["ColorClassifier"]


class ColorClassifier(ConditionalModel):
    """p(ab bin | L), independent from pixel to pixel of a grid at 1 / ``out_stride`` of the image.

    The target is averaged over the grid's squares; draws are upsampled bilinearly from it.
    """

    family: ClassVar[str] = "color_classifier"
    is_stochastic: ClassVar[bool] = True
    config: ColorClassifierConfig
    prior: Tensor

    def __init__(self, config: ColorClassifierConfig) -> None:
        super().__init__(config)
        self.bins: AbBins | UniformBins
        if config.bins == "ab":
            self.bins = AbBins(config.grid_step, num_neighbors=config.soft_neighbors, sigma=config.soft_sigma)
        else:
            self.bins = UniformBins(config.num_bins, config.target_channels, limit=config.value_limit)
        self.net = conditional_unet(config, len(self.bins))
        self.register_buffer("prior", torch.full((len(self.bins),), 1.0 / len(self.bins)))

    @property
    def needs_statistics(self) -> bool:
        """Whether the bins are colors, whose weights are the training set's."""
        return isinstance(self.bins, AbBins)

    def fit_statistics(self, statistics: DatasetStatistics) -> None:
        """Set the prior from the training set's colors, smoothed by a Gaussian of ``soft_sigma``; uniform bins stay.

        Raises:
            DatasetError: the statistics hold no colors.
        """
        if isinstance(self.bins, UniformBins):
            return
        self.prior.copy_(self.bins.smoothed_prior(statistics, self.config.soft_sigma).float())

    def class_weights(self) -> Tensor:
        """Return w of eq. (4), ``[Q]`` float32: how much a pixel of each bin counts in the loss."""
        return class_weights(self.prior, self.config.rebalance_gamma)

    def logits(self, condition: Condition) -> Tensor:
        """Return the network's (rebalanced) logits, ``[B, h, w, Q]`` float32."""
        self.bins.to(self.prior.device)
        image = condition_image(condition, self.config.condition_channels)
        logits: Tensor = self.net(image)
        return logits.permute(0, 2, 3, 1).float()

    def log_probabilities(self, condition: Condition) -> Tensor:
        """Return log p(q | x), ``[B, h, w, Q]`` float32, with rebalancing divided out."""
        return F.log_softmax(self.logits(condition) - self.class_weights().log(), dim=-1)

    def pooled_ab(self, y: Tensor) -> Tensor:
        """Return y ``[..., C, H, W]`` at the model's grid in the bins' units, ``[..., C, h, w]``: ab's, or its own."""
        pooled = pool_to_stride(y, self.config.out_stride)
        return denormalize_ab(pooled) if self.config.bins == "ab" else pooled

    def restored(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """Return values at the model's grid in the bins' units as y ``[..., C, H, W]`` of ``size``."""
        y = normalize_ab(values) if self.config.bins == "ab" else values
        return upsample_from_stride(y, self.config.out_stride, size)

    def decode_point(self, logits: Tensor) -> Tensor:
        """Return the point prediction of logits ``[..., h, w, Q]`` in the bins' units, ``[..., C, h, w]``."""
        if self.config.point == "argmax":
            return self.bins.decode(logits.argmax(dim=-1))
        return self.bins.decode_mean(F.softmax(logits / self.config.annealing_temperature, dim=-1))

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:  # noqa: ARG002 - one phase
        """Return ``cross_entropy``, eq. (2) as a mean over pixels, in nats."""
        logits = self.logits(batch.condition)
        index, soft = self.bins.soft_encode(self.pooled_ab(batch.target))
        loss = rebalanced_cross_entropy(logits, index, soft, self.class_weights())
        return {"cross_entropy": weighted_mean(loss, batch.weight)}

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]`` float32, from one pass of the network for all K.

        ``draw`` inverts the CDF of softmax(log p / temperature) at one uniform a grid pixel; ``point`` repeats
        the annealed mean (or the likeliest bin), which the temperature does not change.

        Raises:
            UnsupportedError: a direction back.
        """
        self.require_direction(options.direction)
        image = condition_image(condition, self.config.condition_channels)
        if options.mode == "point":
            point = self.decode_point(self.logits(condition))
            values = point[:, None].expand(-1, noise.num_draws, -1, -1, -1)
        else:
            values = self.bins.decode(self.draw_bins(condition, noise, options.temperature))
        return self.restored(values, (image.shape[-2], image.shape[-1]))

    def draw_bins(self, condition: Condition, noise: NoiseSource, temperature: float = 1.0) -> Tensor:
        """Return drawn bins, ``[B, K, h, w]`` int64."""
        log_p = self.log_probabilities(condition)
        _, height, width, num_bins = log_p.shape
        cdf = F.softmax(log_p / temperature, dim=-1).cumsum(dim=-1)
        uniform = noise.uniform((height, width)).to(cdf.device).movedim(1, -1).contiguous()
        bins = torch.searchsorted(cdf, uniform * cdf[..., -1:], right=True)
        return bins.clamp_max(num_bins - 1).movedim(-1, 1)

    def log_prob(self, condition: Condition, y: Tensor) -> Tensor:
        """Return the log probability of y's bins at the model's grid, summed over it: nats, ``[B]`` float32.

        Args:
            condition: condition of B samples.
            y: target y, ``[B, C, H, W]`` float32; ab_n for color.
        """
        log_p, bins = self.categories(condition, y)
        return log_p.gather(-1, bins[..., None])[..., 0].sum(dim=1)

    def categories(self, condition: Condition, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(q | x) and y's bins at the model's grid, ``[B, h w, Q]`` and ``[B, h w]``."""
        log_p = self.log_probabilities(condition)
        bins: Tensor = self.bins.nearest(self.pooled_ab(y))
        return log_p.flatten(1, 2), bins.flatten(1)
