"""A diffusion model: a denoiser given (y_t, t, x), and a sampler that goes from noise to y by it.

    y_t = alpha(t) y_0 + sigma(t) eps                     the path
    loss = E |F(c_in y_t; c_noise(t), x) - F*|^2          F*: what the parametrization predicts
    D_w = D(no x) + w (D(x) - D(no x))                    guidance, Ho and Salimans 2022 (arXiv:2207.12598), eq. (6)

Paths and parametrizations are in ``condgen.diffusion.paths``, samplers in ``condgen.diffusion.samplers``. In eq. (6) of
the paper, w is 1 + its own w. x's encoder runs once for all draws and steps.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, weighted_mean
from condgen.diffusion.config import SAMPLER_NAMES
from condgen.diffusion.paths import PARAMETRIZATIONS, Path
from condgen.diffusion.samplers import find_sampler
from condgen.errors import UnsupportedError
from condgen.families.diffusion.config import DiffusionConfig
from condgen.nn.color_head import PointHead
from condgen.nn.conditioners import ConditionerSet
from condgen.nn.denoiser import ConditionEncoder, Encoded, ModulatedUNet
from condgen.nn.encoders import DECODER_STRIDES
from condgen.nn.transformer import sinusoids
from condgen.nn.unet import pool_to_stride, upsample_from_stride
from condgen.noise import NoiseSource
from condgen.statistics import DatasetStatistics

__all__ = ["Diffusion"]

_TIME_FEATURES = 64


class Diffusion(ConditionalModel):
    """p(y | x) by denoising, at 1 / ``out_stride`` of the image; draws are upsampled bilinearly from there.

    Args:
        config: configuration of the family.
        conditioners: conditioners of labels and texts (such as pretrained ones) that replace those of the
            configuration; a checkpoint is then loaded into a model that was built the same way.
    """

    family: ClassVar[str] = "diffusion"
    is_stochastic: ClassVar[bool] = True
    sample_options: ClassVar[tuple[str, ...]] = ("steps", "guidance_scale", "sampler")
    samplers: ClassVar[tuple[str, ...]] = SAMPLER_NAMES
    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig, conditioners: ConditionerSet | None = None) -> None:
        super().__init__(config)
        self.parametrization = PARAMETRIZATIONS[config.parametrization](config)
        self.encoder = ConditionEncoder(
            config, size_px=config.size_px, null_parts=config.null_parts, conditioners=conditioners
        )
        self.net = ModulatedUNet(config, config.target_channels, config.target_channels)
        width = config.embedding_width
        self.time = nn.Sequential(nn.Linear(_TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.point_head: PointHead | None = None
        if config.point_head == "bins":
            channels = config.decoder_widths[DECODER_STRIDES.index(config.out_stride)]
            self.point_head = PointHead(channels, gamma=config.point_gamma, balance=config.point_balance)
            self.told = nn.Conv2d(config.target_channels, config.width * config.multipliers[0], 1)

    @property
    def needs_statistics(self) -> bool:
        """Whether there is a point head, whose prior is counted on the training set."""
        return self.point_head is not None

    def fit_statistics(self, statistics: DatasetStatistics) -> None:
        """Set the point head's prior from the training set's colors.

        Raises:
            DatasetError: the statistics hold no colors.
        """
        if self.point_head is not None:
            self.point_head.fit_statistics(statistics)

    def encode(self, condition: Condition, dropped: Tensor | None = None) -> Encoded:
        """Return the encoded condition; ``dropped`` ``[B]`` bool says where its null parts are left out."""
        if dropped is None:
            dropped = torch.zeros(condition.num_samples, dtype=torch.bool, device=self._device())
        encoded: Encoded = self.encoder(condition, dropped)
        return encoded

    def _told(self, encoded: Encoded, dropped: Tensor | None = None) -> Encoded:
        """Return the encoded condition as the denoiser sees it, told the point head's mean where there is one."""
        if self.point_head is None or encoded.decoded is None:
            return encoded
        mean = self.point_head.coarse_mean(encoded.decoded) / self.config.data_scale
        if dropped is not None and "image" in self.config.null_parts:
            mean = torch.where(dropped[:, None, None, None], 0.0, mean)
        return replace(encoded, image=(encoded.image[0] + self.told(mean), *encoded.image[1:]))

    def raw(self, y: Tensor, t: Tensor, encoded: Encoded) -> Tensor:
        """Return F(c_in y; c_noise), ``[B * K, C, h, w]`` float32.

        Args:
            y: y_t / data_scale at the stride, ``[B * K, C, h, w]``.
            t: times, ``[B * K]``, or ``[1]`` for all.
            encoded: the condition of B samples.
        """
        coefficients = self.parametrization.coefficients(t)
        embedding = self.time(sinusoids(coefficients.noise, _TIME_FEATURES, low=0.5, high=100.0))
        vector = encoded.other.vector
        times = y.shape[0] // vector.shape[0]
        embedding = embedding.expand(y.shape[0], -1) + vector.repeat_interleave(times, dim=0)
        out: Tensor = self.net(coefficients.input[:, None, None, None] * y, embedding, encoded)
        return out

    def denoise(self, y: Tensor, t: Tensor, encoded: Encoded) -> Tensor:
        """Return D(y; t), the estimate of E[y_0 | y_t, x]; shapes as in ``raw``."""
        coefficients = self.parametrization.coefficients(t)
        skip, out = coefficients.skip[:, None, None, None], coefficients.out[:, None, None, None]
        denoised = skip * y + out * self.raw(y, t, encoded)
        limit = self.config.clip / self.config.data_scale
        return denoised.clamp(-limit, limit) if limit > 0 else denoised

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:  # noqa: ARG002 - one phase
        """Return ``denoising``, the mean squared error of F, at times and noise from torch's generator.

        With a point head, its loss is the term ``cross_entropy``.
        """
        config = self.config
        y0 = pool_to_stride(batch.target, config.out_stride)
        t = self.parametrization.training_times(batch.num_samples, y0.device)
        noise = torch.randn_like(y0)
        dropped = torch.zeros(batch.num_samples, dtype=torch.bool, device=y0.device)
        if self.training and config.null_parts:
            dropped = torch.rand(batch.num_samples, device=y0.device) < config.condition_dropout
        encoded = self.encode(batch.condition, dropped)
        terms = {}
        if config.denoising_weight > 0:
            error = self._denoising_error(y0 / config.data_scale, t, noise, self._told(encoded, dropped))
            terms["denoising"] = config.denoising_weight * weighted_mean(error, batch.weight)
        if self.point_head is not None and encoded.decoded is not None:
            loss = self.point_head.loss(encoded.decoded, y0)
            terms["cross_entropy"] = config.point_weight * weighted_mean(loss, batch.weight)
        return terms

    def _denoising_error(self, y0: Tensor, t: Tensor, noise: Tensor, encoded: Encoded) -> Tensor:
        """Return F's mean squared error ``[B]`` for y0 / data_scale and its noise ``[B, C, h, w]`` at times ``[B]``."""
        alpha, sigma = (v[:, None, None, None] for v in self.parametrization.path.alpha_sigma(t))
        y = alpha * y0 + sigma * noise
        coefficients = self.parametrization.coefficients(t)
        skip, out = coefficients.skip[:, None, None, None], coefficients.out[:, None, None, None]
        error = self.raw(y, t, encoded) - (y0 - skip * y) / out
        return error.square().mean(dim=(1, 2, 3))

    @torch.no_grad()
    def categories(self, condition: Condition, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the point head says of each pixel at the stride, and its bin: ``[B, N, Q]`` and ``[B, N]``.

        Raises:
            UnsupportedError: there is no point head.
        """
        decoded = self.encode(condition).decoded
        if self.point_head is None or decoded is None:
            return super().categories(condition, y)
        categories: tuple[Tensor, Tensor] = self.point_head.categories(
            decoded, pool_to_stride(y, self.config.out_stride)
        )
        return categories

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]`` float32.

        ``temperature`` scales all noise, the first and what DDPM adds: a usual way to trade diversity for
        likeliness, not p(y | x)^(1 / T). ``point`` is the point head's prediction; without one it starts from no noise
        at all, the limit of temperature 0.

        Raises:
            ConfigError: an unknown sampler.
            UnsupportedError: guidance by a model that was trained without dropout, a direction back, or a condition
                that doesn't fit.
        """
        self.require_direction(options.direction)
        config = self.config
        sampler = find_sampler(options.sampler or config.sampler)
        scale = config.guidance_scale if options.guidance_scale is None else options.guidance_scale
        encoded = self.encode(condition)
        if options.mode == "point" and self.point_head is not None and encoded.decoded is not None:
            point = self.point_head.point(encoded.decoded)[:, None].expand(-1, noise.num_draws, -1, -1, -1)
            return upsample_from_stride(point, config.out_stride, encoded.size)
        encoded = self._told(encoded)
        null = self._null(condition) if scale != 1.0 else None
        shape = (config.target_channels, *(-(-side // config.out_stride) for side in encoded.size))
        spread = options.temperature if options.mode == "draw" else 0.0

        def normal(step: int) -> Tensor:
            return noise.normal(shape, step=step).flatten(0, 1).to(self._device()) * spread

        steps = options.steps or config.steps
        path = self.parametrization.sampling_path(steps)
        denoise = partial(self._guided, path=path, encoded=encoded, null=null, scale=scale)
        first = path.at(path.times(steps)[0])[1] * normal(0)
        y = sampler(denoise, path, steps, first, normal) * config.data_scale
        if options.mode == "draw":
            y = y * config.draw_gain
        draws = torch.unflatten(y, 0, (noise.num_samples, noise.num_draws))
        return upsample_from_stride(draws, config.out_stride, encoded.size)

    def _guided(
        self, y: Tensor, t: float, *, path: Path, encoded: Encoded, null: Encoded | None, scale: float
    ) -> Tensor:
        y, own = self.parametrization.onto_own(y, t, path)
        times = torch.tensor([own], dtype=torch.float32, device=y.device)
        if null is None:
            return self.denoise(y, times, encoded)
        without = self.denoise(y, times, null)
        return without if scale == 0.0 else without + scale * (self.denoise(y, times, encoded) - without)

    def _null(self, condition: Condition) -> Encoded:
        if not self.config.null_parts:
            raise UnsupportedError(
                "guidance needs a model that also knows its condition to be absent: train with "
                "model.condition_dropout > 0, or leave guidance_scale at 1"
            )
        dropped = torch.ones(condition.num_samples, dtype=torch.bool, device=self._device())
        return self._told(self.encode(condition, dropped), dropped)

    def _device(self) -> torch.device:
        return next(self.parameters()).device
