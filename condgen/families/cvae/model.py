"""A conditional variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114; Sohn et al. 2015).

    log p(y | x) >= E_q[log p(y | x, z)] - KL(q(z | x, y) || p(z | x))         the ELBO, Sohn's eq. (4)
    log p(y | x) >= E log 1/S sum_s p(y | x, z_s) p(z_s | x) / q(z_s | x, y)   IWAE, Burda et al. 2016, eq. (8)
    KL with free bits: sum_d max(lambda, KL_d)                                  Kingma et al. 2016, eq. (15)

p(z | x) is N(0, I) unless it is learned. q sees x and y through convolutions and a global mean, and z modulates every
block of the decoder: z so comes to hold what is the same everywhere (a velocity, a color) and not where things are,
which x tells. A fully connected decoder makes no such difference. The likelihood is Gaussian, its variance shared by
all pixels of a channel by default and learned (sigma-VAE, Rybkin et al. 2021, arXiv:2006.13202), which sets the
balance of the two terms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, weighted_mean
from condgen.families.cvae.config import CVAEConfig
from condgen.nn.denoiser import Block, ConditionEncoder, Encoded, ModulatedUNet, convolution
from condgen.nn.unet import pool_to_stride, upsample_from_stride
from condgen.noise import NoiseSource, SampleId

__all__ = ["CVAE", "DiagonalGaussian"]

_NOISE_STREAM = 1
"""The stream of the likelihood's noise; z's is 0."""

_LARGEST_LOG_STD = 5.0

_STD_RATE = 10.0
"""A learned standard deviation is one number, and would follow the network's error too slowly at its rate."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """A diagonal Gaussian.

    Attributes:
        mean: mean, of any shape.
        log_std: log of the standard deviation; it broadcasts to the mean.
    """

    mean: Tensor
    log_std: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of each number, in nats."""
        z = (value - self.mean) * (-self.log_std).exp()
        return -0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)

    def shifted(self, normal: Tensor) -> Tensor:
        """Return mean + std * normal."""
        return self.mean + self.log_std.exp() * normal

    def kl_from(self, prior: DiagonalGaussian) -> Tensor:
        """Return KL(self || prior) of each number, in nats."""
        ratio = 2 * (self.log_std - prior.log_std)
        shift = ((self.mean - prior.mean) * (-prior.log_std).exp()).square()
        return 0.5 * (ratio.exp() + shift - 1 - ratio)


def _other_part(config: CVAEConfig, width: int) -> nn.Linear | None:
    """Return the layer by which a label or text adds to a mean over all places; None without either."""
    return nn.Linear(config.embedding_width, width) if config.num_labels or config.text_vocabulary else None


class _Recognition(nn.Module):
    """q(z | x, y): convolutions over y, joined at each level by x's features, and the mean over all places."""

    def __init__(self, config: CVAEConfig) -> None:
        super().__init__()
        widths = [config.width * m for m in config.multipliers]
        self.stem = convolution(config.target_channels, widths[0], config)
        self.join = nn.ModuleList(convolution(w, w, config) for w in widths)
        self.blocks = nn.ModuleList(Block(w, w, config) for w in widths)
        self.shrink = nn.ModuleList(convolution(a, b, config, stride=2) for a, b in pairwise(widths))
        normalization = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}[config.posterior_norm]
        self.norm = normalization(widths[-1])
        self.other = _other_part(config, widths[-1])
        self.head = nn.Linear(widths[-1], 2 * config.latent_dims)
        with torch.no_grad():
            self.head.bias[config.latent_dims :] += math.log(config.first_posterior_std)
        self.to(memory_format=torch.channels_last)

    def forward(self, y: Tensor, encoded: Encoded) -> DiagonalGaussian:
        """Map ``[B, C, h, w]`` at the stride to Gaussians over z, ``[B, Z]``."""
        height, width = y.shape[-2:]
        rows, columns = encoded.image[0].shape[-2:]  # of the padded size
        y = F.pad(y, (0, columns - width, 0, rows - height), mode="replicate")
        x = self.stem(y.contiguous(memory_format=torch.channels_last))
        for level, (join, block) in enumerate(zip(self.join, self.blocks, strict=True)):
            if level:
                x = self.shrink[level - 1](x)
            x = block(x + join(encoded.image[level]))
        pooled = x.mean(dim=(2, 3))
        if self.other is not None:
            pooled = pooled + self.other(encoded.other.vector)
        return _gaussian(self.head(F.silu(self.norm(pooled))).float())


class _Prior(nn.Module):
    """p(z | x), from the mean of x's coarsest features."""

    def __init__(self, config: CVAEConfig) -> None:
        super().__init__()
        width = config.width * config.multipliers[-1]
        self.norm = nn.LayerNorm(width)
        self.other = _other_part(config, width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 2 * config.latent_dims)

    def forward(self, encoded: Encoded) -> DiagonalGaussian:
        """Return Gaussians over z, ``[B, Z]``."""
        pooled = encoded.image[-1].mean(dim=(2, 3))
        if self.other is not None:
            pooled = pooled + self.other(encoded.other.vector)
        return _gaussian(self.head(F.silu(self.hidden(self.norm(pooled)))).float())


def _gaussian(parameters: Tensor) -> DiagonalGaussian:
    mean, log_std = parameters.chunk(2, dim=1)
    return DiagonalGaussian(mean, log_std.clamp(-_LARGEST_LOG_STD, _LARGEST_LOG_STD))


class CVAE(ConditionalModel):
    """p(y | x) as a mixture over z, at 1 / ``out_stride`` of the image; draws are upsampled bilinearly from there."""

    family: ClassVar[str] = "cvae"
    is_stochastic: ClassVar[bool] = True
    config: CVAEConfig
    trained_steps: Tensor

    def __init__(self, config: CVAEConfig) -> None:
        super().__init__(config)
        outputs = config.target_channels * (2 if config.variance == "pixel" else 1)
        self.encoder = ConditionEncoder(config)
        self.recognition = _Recognition(config)
        self.prior_net = _Prior(config) if config.prior == "learned" else None
        width = config.embedding_width
        self.embed = nn.Sequential(nn.Linear(config.latent_dims, width), nn.SiLU(), nn.Linear(width, width))
        self.decoder = ModulatedUNet(config, 0, outputs)
        log_std = torch.full((config.target_channels, 1, 1), self._inverse_std(config.std))
        if config.variance == "learned":
            self.raw_std = nn.Parameter(log_std)
        else:
            self.register_buffer("raw_std", log_std)
        self.register_buffer("trained_steps", torch.zeros((), dtype=torch.int64))

    def encode(self, condition: Condition) -> Encoded:
        """Return the encoded condition, which all z share."""
        none = torch.zeros(condition.num_samples, dtype=torch.bool, device=self.trained_steps.device)
        encoded: Encoded = self.encoder(condition, none)
        return encoded

    def prior(self, encoded: Encoded) -> DiagonalGaussian:
        """Return p(z | x), ``[B, Z]``."""
        if self.prior_net is not None:
            learned: DiagonalGaussian = self.prior_net(encoded)
            return learned
        zero = self.trained_steps.new_zeros(encoded.other.vector.shape[0], self.config.latent_dims, dtype=torch.float32)
        return DiagonalGaussian(zero, zero)

    def posterior(self, encoded: Encoded, y: Tensor) -> DiagonalGaussian:
        """Return q(z | x, y), ``[B, Z]``.

        Args:
            encoded: x.
            y: ``[B, C, h, w]`` at the stride (see ``pooled``).
        """
        q: DiagonalGaussian = self.recognition(y, encoded)
        return q

    def decode(self, encoded: Encoded, z: Tensor) -> DiagonalGaussian:
        """Return p(y | x, z), ``[B, K, C, h, w]``, of z ``[B, K, Z]``."""
        num, draws = z.shape[:2]
        vector = encoded.other.vector[:, None] + self.embed(z)
        out: Tensor = self.decoder(None, vector.flatten(0, 1), encoded)
        out = torch.unflatten(out, 0, (num, draws))
        if self.config.variance != "pixel":
            return DiagonalGaussian(out, self._log_std(self.raw_std))
        mean, raw = out.chunk(2, dim=2)
        return DiagonalGaussian(mean, self._log_std(raw / _STD_RATE + self.raw_std))

    def pooled(self, y: Tensor) -> Tensor:
        """Return y ``[B, C, H, W]`` at the model's grid, ``[B, C, h, w]``."""
        return pool_to_stride(y, self.config.out_stride)

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:  # noqa: ARG002 - one phase
        """Return ``nll`` and ``kl``, in nats a number of y: their sum is the negative ELBO over its size.

        ``kl`` is what is above the free bits, which the batch's mean of a dimension has (as in the paper).
        """
        encoded = self.encode(batch.condition)
        y = self.pooled(batch.target)
        q, prior = self.posterior(encoded, y), self.prior(encoded)
        z = q.shifted(torch.randn_like(q.mean))
        log_p = self.decode(encoded, z[:, None]).log_prob(y[:, None]).mean(dim=(1, 2, 3, 4))
        kl = q.kl_from(prior)
        mean = (kl * batch.weight[:, None]).sum(dim=0) / batch.weight.sum().clamp_min(1e-8)
        above = (mean - self.config.free_bits).clamp_min(0).sum() / y[0].numel()
        return {"nll": weighted_mean(-log_p, batch.weight), "kl": self._kl_weight() * above}

    def _kl_weight(self) -> float | Tensor:
        config = self.config
        if not (self.training and config.kl_warmup_steps):
            return config.kl_weight
        self.trained_steps += 1
        return config.kl_weight * (self.trained_steps / config.kl_warmup_steps).clamp_max(1.0)

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]`` float32.

        ``temperature`` scales z's spread (and the likelihood's noise, where draws have it); ``point`` is p(z | x)'s
        mean, decoded.

        Raises:
            UnsupportedError: a direction back, or a condition that doesn't fit.
        """
        self.require_direction(options.direction)
        config = self.config
        encoded = self.encode(condition)
        prior = self.prior(encoded)
        spread = options.temperature if options.mode == "draw" else 0.0
        normal = noise.normal((config.latent_dims,)).to(prior.mean.device) * spread
        z = DiagonalGaussian(prior.mean[:, None], prior.log_std[:, None]).shifted(normal)
        decoded = self.decode(encoded, z)
        y = decoded.mean
        if config.observation_noise:
            y = decoded.shifted(noise.normal(y.shape[2:], stream=_NOISE_STREAM).to(y.device) * spread)
        return upsample_from_stride(y, config.out_stride, encoded.size)

    @torch.no_grad()
    def log_prob(self, condition: Condition, y: Tensor, *, num_samples: int | None = None) -> Tensor:
        """Return a lower bound of the log density of y's means at the model's grid: nats, ``[B]`` float32.

        IWAE's, with fixed draws of z; in expectation it rises with their number, to log p(y | x).

        Args:
            condition: condition of B samples.
            y: ``[B, C, H, W]`` float32.
            num_samples: draws of z; None is ``config.bound_samples``.
        """
        encoded = self.encode(condition)
        y = self.pooled(y)
        q, prior = self.posterior(encoded, y), self.prior(encoded)
        count = num_samples or self.config.bound_samples
        source = NoiseSource(0, [SampleId("log_prob", "")], range(count))
        normals = source.normal((self.config.latent_dims,)).to(y.device)  # [1, S, Z]
        parts = [self._log_weights(encoded, y, q, prior, some) for some in torch.split(normals, 16, dim=1)]
        return torch.cat(parts, dim=1).logsumexp(dim=1) - math.log(count)

    def _log_weights(
        self, encoded: Encoded, y: Tensor, q: DiagonalGaussian, prior: DiagonalGaussian, normal: Tensor
    ) -> Tensor:
        """Return log p(y, z | x) / q(z | x, y), ``[B, S]``."""
        q = DiagonalGaussian(q.mean[:, None], q.log_std[:, None])
        z = q.shifted(normal)
        ratio = DiagonalGaussian(prior.mean[:, None], prior.log_std[:, None]).log_prob(z) - q.log_prob(z)
        return self.decode(encoded, z).log_prob(y[:, None]).sum(dim=(2, 3, 4)) + ratio.sum(dim=2)

    def _inverse_std(self, std: float) -> float:
        """Return the number that ``_log_std`` turns into ``std``."""
        above = std - self.config.least_std
        return (above + math.log(-math.expm1(-above))) / _STD_RATE

    def _log_std(self, raw: Tensor) -> Tensor:
        """Return ln(least_std + softplus(rate * raw))."""
        return (self.config.least_std + F.softplus(_STD_RATE * raw)).log()
