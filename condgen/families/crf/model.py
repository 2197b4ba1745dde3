"""A classifier whose pixels agree: pairwise potentials over its softmax ("thinking slow"), after Krähenbühl and Koltun
2011, "Efficient inference in fully connected CRFs with Gaussian edge potentials" (arXiv:1210.5644).

    E(y | x) = - sum_i log p(y_i | x) + sum_(i<j) k_ij mu(y_i, y_j)                                  eq. (1)
    k_ij = (1 - s) exp(-|i - j|^2 / 2 a^2 - |x_i - x_j|^2 / 2 b^2) + s exp(-|i - j|^2 / 2 a^2)        eq. (3)
    mean field: Q_i(q) ~ exp(log p(q | x) - sum_(j != i) k_ij sum_q' mu(q, q') Q_j(q'))               eq. (4)

k is cut to a window (Teichmann and Cipolla 2018, "Convolutional CRFs", arXiv:1805.04777) and scaled symmetrically,
k_ij / sqrt(n_i n_j) with n the sums over windows, so that ``pairwise_weight`` is about what all neighbors weigh
together. mu(q, q') = 1 - exp(-|c_q - c_q'|^2 / 2 c^2) of the bins' centers, or Potts. 1 - mu is positive semidefinite:
it is Phi Phi^T, and messages are sums of Phi's few features in place of Q bins.

Draws perturb and maximize (Papandreou and Yuille 2011, "Perturb-and-MAP random fields", doi 10.1109/ICCV.2011.6126242):

    y = argmax_y  sum_i [log p(y_i | x) + g_i(y_i)] - sum_(i<j) k_ij mu(y_i, y_j)                     eq. (6)
    g_i(q) = max(G_cell(i)(q) + log s, e_i(q) + log(1 - s)),    G, e ~ Gumbel                        (max-stable)

A maximum of Gumbels is one: whatever the share s of the noise that all pixels of a cell (or the whole image) have
in common, each pixel alone is drawn from p(. | x). With independent noise alone (s = 0), a region's pixels would sum
up their evidence and the likelier mode win almost always, by p^n against (1 - p)^n. The maximum is sought by mean
field at falling temperatures, the last one being all but an argmax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image
from condgen.families.color_classifier.model import ColorClassifier
from condgen.families.crf.config import CrfConfig
from condgen.nn.unet import pool_to_stride
from condgen.noise import NoiseSource
from condgen.statistics import DatasetStatistics

__all__ = ["Crf", "WindowKernel", "compatibility_features", "maximize", "mean_field"]

_SHARED, _OWN = 0, 1
"""Streams of a draw's noise: a cell's, and each pixel's own."""

_LEAST_EIGENVALUE = 1e-3
"""The least eigenvalue of the compatibility, as a share of the largest; features below it are left out."""

_TEMPERATURES = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03)
"""Temperatures of the annealing, with ``steps`` / 2 updates each, at least one."""


class WindowKernel:
    """k_ij of all pixels i and their neighbors j in a square window, of an image.

    Args:
        image: image x at the model's grid, ``[B, C, h, w]``.
        config: configuration with window, widths and weight.
    """

    def __init__(self, image: Tensor, config: CrfConfig) -> None:
        radius = config.window_radius
        self.offsets = [
            (dy, dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1) if (dy, dx) != (0, 0)
        ]
        self.radius = radius
        inside = torch.ones_like(image[:, :1])
        weights = []
        for (dy, dx), there, x in zip(self.offsets, self._shifted(inside), self._shifted(image), strict=True):
            near = torch.exp(torch.tensor(-(dy * dy + dx * dx) / (2 * config.position_width**2)))
            alike = torch.exp(-(x - image).square().sum(dim=1, keepdim=True) / (2 * config.image_width**2))
            weights.append(near * there * ((1 - config.smooth_share) * alike + config.smooth_share))
        root = torch.stack(weights).sum(dim=0).clamp_min(1e-6).rsqrt()
        self.weights = [
            config.pairwise_weight * weight * root * other
            for weight, other in zip(weights, self._shifted(root), strict=True)
        ]
        """A ``[B, 1, h, w]`` for each offset."""

    def _shifted(self, values: Tensor) -> list[Tensor]:
        """Return, for each offset, what lies there from each pixel, ``[B, R, h, w]``; zeros beyond the edge."""
        r, (height, width) = self.radius, values.shape[-2:]
        padded = F.pad(values, (r, r, r, r))
        return [padded[..., r + dy : r + dy + height, r + dx : r + dx + width] for dy, dx in self.offsets]

    def __call__(self, values: Tensor) -> Tensor:
        """Return sum_j k_ij v_j, ``[B, R, h, w]``."""
        out = torch.zeros_like(values)
        for weight, value in zip(self.weights, self._shifted(values), strict=True):
            out.addcmul_(weight, value)
        return out


def compatibility_features(centers: Tensor, width: float) -> Tensor:
    """Return Phi ``[Q, R]`` float32, with 1 - mu = Phi Phi^T of bins' centers ``[Q, C]``; width 0 is Potts."""
    if width == 0.0:
        return torch.eye(len(centers))
    points = centers.double().cpu()
    alike = torch.exp(-torch.cdist(points, points).square() / (2 * width**2))
    values, vectors = torch.linalg.eigh(alike)
    is_large = values > _LEAST_EIGENVALUE * values[-1]
    features: Tensor = (vectors[:, is_large] * values[is_large].sqrt()).float()
    return features


def mean_field(
    log_unary: Tensor, kernel: WindowKernel, features: Tensor, *, steps: int, temperature: float = 1.0,
    start: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return Q, ``[B, h, w, Q]``, after parallel updates of eq. (4), each half of the way.

    Args:
        log_unary: log p(q | x) or any other score, ``[B, h, w, Q]``.
        kernel: kernel of the same B images.
        features: Phi, ``[Q, R]``.
        steps: number of updates.
        temperature: temperature of the Boltzmann distribution exp(-E / T) that Q approximates.
        start: initial Q; None is the softmax of the unaries.
    """
    q = F.softmax(log_unary / temperature, dim=-1) if start is None else start
    for _ in range(steps):
        message = kernel((q @ features).permute(0, 3, 1, 2)).permute(0, 2, 3, 1) @ features.T
        q = 0.5 * (q + F.softmax((log_unary + message) / temperature, dim=-1))
    return q


def maximize(log_unary: Tensor, kernel: WindowKernel, features: Tensor, *, steps: int) -> Tensor:
    """Return the likeliest bins, ``[B, h, w]`` int64, by mean field at falling temperatures; shapes as there."""
    q = None
    for temperature in _TEMPERATURES:
        q = mean_field(
            log_unary, kernel, features, steps=max(1, steps // 2), temperature=temperature, start=q
        )  # fmt: skip
    assert q is not None  # noqa: S101 - there are temperatures
    return q.argmax(dim=-1)


class Crf(ConditionalModel):
    """p(y | x) as a conditional random field over a classifier's bins, at 1 / ``out_stride`` of the image.

    The classifier is trained, by its own loss; the pairwise potentials are configured. ``log_prob`` would need the
    partition function, and there is none.
    """

    family: ClassVar[str] = "crf"
    is_stochastic: ClassVar[bool] = True
    config: CrfConfig

    def __init__(self, config: CrfConfig) -> None:
        super().__init__(config)
        self.classifier = ColorClassifier(config)
        features = compatibility_features(self.classifier.bins.centers, config.compatibility_width)
        self.register_buffer("features", features, persistent=False)
        self.features: Tensor

    @property
    def phases(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """The classifier's phases."""
        return self.classifier.phases

    def fit_statistics(self, statistics: DatasetStatistics) -> None:
        """Set the classifier's prior."""
        self.classifier.fit_statistics(statistics)

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
        """Return the classifier's ``cross_entropy``."""
        terms: dict[str, Tensor] = self.classifier(batch, phase)
        return terms

    def kernel(self, condition: Condition) -> WindowKernel:
        """Return k of the condition's images at the model's grid."""
        image = condition_image(condition, self.config.condition_channels)
        return WindowKernel(pool_to_stride(image, self.config.out_stride).float(), self.config)

    @torch.no_grad()
    def marginals(self, condition: Condition) -> Tensor:
        """Return mean field's Q, ``[B, h, w, Q]`` float32, of the classifier's (rebalanced) softmax."""
        log_p = F.log_softmax(self.classifier.logits(condition), dim=-1)
        return mean_field(log_p, self.kernel(condition), self.features, steps=self.config.steps)

    @torch.no_grad()
    def categories(self, condition: Condition, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean field's log marginals, rebalancing divided out, and y's bins, ``[B, h w, Q]``, ``[B, h w]``."""
        log_p = self.classifier.log_probabilities(condition)
        marginals = mean_field(log_p, self.kernel(condition), self.features, steps=self.config.steps)
        bins: Tensor = self.classifier.bins.nearest(self.classifier.pooled_ab(y))
        return marginals.clamp_min(1e-30).log().flatten(1, 2), bins.flatten(1)

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]`` float32, from one pass of the network for all K.

        ``draw`` is perturb-and-MAP of log p / temperature, one draw after the other, so that each is the same bits
        alone; ``point`` decodes mean field's marginals as the classifier does its own, K times.

        Raises:
            UnsupportedError: a direction back.
        """
        self.require_direction(options.direction)
        image = condition_image(condition, self.config.condition_channels)
        size = (image.shape[-2], image.shape[-1])
        if options.mode == "point":
            point = self.classifier.decode_point(self.marginals(condition).clamp_min(1e-30).log())
            return self.classifier.restored(point[:, None].expand(-1, noise.num_draws, -1, -1, -1), size)
        log_p = self.classifier.log_probabilities(condition) / options.temperature
        kernel = self.kernel(condition)
        bins = []
        for k in noise.draws:
            perturbed = log_p + self._perturbation(noise.of_draw(k), log_p)
            bins.append(maximize(perturbed, kernel, self.features, steps=self.config.steps))
        return self.classifier.restored(self.classifier.bins.decode(torch.stack(bins, dim=1)), size)

    def _perturbation(self, noise: NoiseSource, like: Tensor) -> Tensor:
        """Return g of one draw, ``[B, h, w, Q]``."""
        height, width, num_bins = like.shape[1:]
        cell, share = self.config.cell_px or max(height, width), torch.tensor(self.config.shared_noise)
        rows, columns = -(-height // cell), -(-width // cell)
        shared = _gumbel(noise.uniform((rows, columns, num_bins), stream=_SHARED)[:, 0])
        shared = shared.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, :height, :width]
        own = _gumbel(noise.uniform((height, width, num_bins), stream=_OWN)[:, 0])
        return torch.maximum(shared + share.log(), own + torch.log1p(-share)).to(like.device)


def _gumbel(uniform: Tensor) -> Tensor:
    """Return Gumbels of uniforms k / 2^24, each moved to its interval's middle: float32 would round the last to 1."""
    return -torch.log(-torch.log(uniform.double() + 2.0**-25)).float()
