"""Classifying pixels into color bins: Zhang et al. 2016 (arXiv:1603.08511), eqs. (2) to (5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.color.ab_bins import AbBins
from condgen.color.lab import denormalize_ab, normalize_ab
from condgen.statistics import DatasetStatistics

__all__ = ["PointHead", "class_weights", "rebalanced_cross_entropy"]

_SOFT_NEIGHBORS = 5
_SOFT_SIGMA = 5.0


def class_weights(prior: Tensor, gamma: float) -> Tensor:
    """Return w of eq. (4), ``[Q]`` float32: how much a pixel of each bin counts.

    Args:
        prior: the training set's distribution over the bins, ``[Q]``.
        gamma: the uniform distribution's share in what is inverted; 1 weighs all bins alike.
    """
    weights = 1.0 / ((1 - gamma) * prior + gamma / len(prior))
    return weights / (prior * weights).sum()


def rebalanced_cross_entropy(logits: Tensor, index: Tensor, soft: Tensor, weights: Tensor) -> Tensor:
    """Return eq. (2) as a mean over pixels, in nats, ``[B]`` float32.

    Args:
        logits: ``[B, h, w, Q]``.
        index, soft: the soft target's bins and their weights, ``[B, h, w, k]`` (``AbBins.soft_encode``).
        weights: w of eq. (4), ``[Q]``.
    """
    # sum_q Z_q log Zhat_q, with sum_q Z_q = 1, from the few q where Z is not 0: no dense target is made.
    log_likelihood = (logits.gather(-1, index) * soft).sum(dim=-1) - logits.logsumexp(dim=-1)
    brightest = index.gather(-1, soft.argmax(dim=-1, keepdim=True))[..., 0]
    return -(weights[brightest] * log_likelihood).mean(dim=(1, 2))


class PointHead(nn.Module):
    """A classifier of each pixel's ab bin on another network's features: its point prediction and its likelihood.

    It learns w_q p(q | x) up to a constant, as ``color_classifier`` does. Its point prediction is the geometric median
    of w_q^balance p(q | x): with a balance of 0 that of p(q | x); more gives rare, vivid colors their due.

    Args:
        channels: channels of the features.
        gamma: share of the uniform distribution in the class weights of training; see ``class_weights``.
        balance: balance of the point prediction, 0 to 1.
    """

    prior: Tensor

    def __init__(self, channels: int, *, gamma: float, balance: float) -> None:
        super().__init__()
        self.bins = AbBins(10, num_neighbors=_SOFT_NEIGHBORS, sigma=_SOFT_SIGMA)
        self.gamma, self.balance = gamma, balance
        self.head = nn.Conv2d(channels, len(self.bins), 1)
        self.register_buffer("prior", torch.full((len(self.bins),), 1.0 / len(self.bins)))

    def fit_statistics(self, statistics: DatasetStatistics) -> None:
        """Set the prior from the training set's colors.

        Raises:
            DatasetError: the statistics hold no colors.
        """
        self.prior.copy_(self.bins.smoothed_prior(statistics, _SOFT_SIGMA).float())

    def logits(self, features: Tensor) -> Tensor:
        """Return the rebalanced logits, ``[B, h, w, Q]`` float32, of features ``[B, C, h, w]``."""
        self.bins.to(self.prior.device)
        logits: Tensor = self.head(features)
        return logits.permute(0, 2, 3, 1).float()

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return log p(q | x), ``[B, h, w, Q]`` float32, with rebalancing divided out."""
        return F.log_softmax(logits - class_weights(self.prior, self.gamma).log(), dim=-1)

    @torch.no_grad()
    def categories(self, features: Tensor, ab_n: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(q | x) and the bins of ab_n ``[B, 2, h, w]``, ``[B, h w, Q]`` and ``[B, h w]``."""
        log_p = self.log_probabilities(self.logits(features[..., : ab_n.shape[-2], : ab_n.shape[-1]]))
        bins: Tensor = self.bins.nearest(denormalize_ab(ab_n))
        return log_p.flatten(1, 2), bins.flatten(1)

    def loss(self, features: Tensor, ab_n: Tensor) -> Tensor:
        """Return the rebalanced cross entropy of ab_n ``[B, 2, h, w]`` in nats a pixel, ``[B]`` float32.

        In training one pixel of each 2 x 2 counts, the same one of all: neighbors tell nearly the same, and a softmax
        over 313 bins costs more than the network below it.
        """
        features = features[..., : ab_n.shape[-2], : ab_n.shape[-1]]
        if self.training and min(ab_n.shape[-2:]) > 1:
            row, column = torch.randint(2, (2,)).tolist()
            features, ab_n = features[..., row::2, column::2], ab_n[..., row::2, column::2]
        index, soft = self.bins.soft_encode(denormalize_ab(ab_n))
        return rebalanced_cross_entropy(self.logits(features), index, soft, class_weights(self.prior, self.gamma))

    @torch.no_grad()
    def coarse_mean(self, features: Tensor) -> Tensor:
        """Return the mean of p(q | x) as ab_n, ``[B, 2, h, w]``, told from means of features over 2 x 2 pixels."""
        logits = self.logits(F.avg_pool2d(features, 2, ceil_mode=True))
        mean = normalize_ab(self.bins.decode_mean(self.log_probabilities(logits).exp()))
        wide = F.interpolate(mean, scale_factor=2.0, mode="bilinear", align_corners=False)
        return wide[..., : features.shape[-2], : features.shape[-1]]

    def point(self, features: Tensor) -> Tensor:
        """Return the point prediction as ab_n, ``[B, 2, h, w]``."""
        log_p = self.log_probabilities(self.logits(features))
        tilted = log_p + self.balance * class_weights(self.prior, self.gamma).log()
        return normalize_ab(self.bins.decode_median(F.softmax(tilted, dim=-1)))
