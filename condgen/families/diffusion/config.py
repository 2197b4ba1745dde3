"""Configurations of ``diffusion``, ``cvae`` and ``autoregressive``: frozen, checked where they are built, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen._checks import check_above, check_at_least, check_between, check_choice
from condgen.errors import ConfigError
from condgen.nn.config import UNetConfig

__all__ = ["SAMPLER_NAMES", "AutoregressiveConfig", "CVAEConfig", "DiffusionConfig", "ModulatedConfig"]

SAMPLER_NAMES = ("ddim", "ddpm", "dpm-solver++", "euler", "heun")
"""The keys of ``condgen.diffusion.samplers.SAMPLERS``."""

_PARTS = ("image", "label", "text")


def _check_text(num_labels: int, vocabulary: int, length: int, encoder: str) -> None:
    check_at_least("model.num_labels", num_labels, 0)
    check_at_least("model.text_vocabulary", vocabulary, 0)
    check_at_least("model.text_length", length, 1)
    check_choice("model.text_encoder", encoder, ("bag", "transformer"))


def _check_dropped(parts: Sequence[str]) -> None:
    for part in parts:
        check_choice("model.dropped_parts", part, _PARTS)


@dataclass(frozen=True, kw_only=True)
class ModulatedConfig(UNetConfig):
    """A U-Net whose every block is modulated by a vector (a noise level, a latent), given x and maybe more.

    Attributes:
        target_channels: of y; 2 for colour (ab).
        encoder_blocks: residual blocks a level of x's own encoder, which runs once for all draws and steps.
        attention: self-attention at the coarsest level, which a text's tokens join.
        attention_heads: of it; they divide the coarsest level's channels.
        padding_mode: of the convolutions; ``circular`` for worlds on a torus.
        num_labels: classes of the condition's label; 0 takes none.
        text_vocabulary: tokens of the condition's text, 0 being padding; 0 takes no text.
        text_length: most tokens of a text.
        text_encoder: ``bag`` (the mean of its words) or ``transformer``.
    """

    target_channels: int = 2
    encoder_blocks: int = 1
    attention: bool = True
    attention_heads: int = 4
    padding_mode: Literal["zeros", "circular", "replicate"] = "zeros"
    num_labels: int = 0
    text_vocabulary: int = 0
    text_length: int = 32
    text_encoder: Literal["bag", "transformer"] = "transformer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.target_channels", self.target_channels, 1)
        check_at_least("model.encoder_blocks", self.encoder_blocks, 0)
        check_at_least("model.attention_heads", self.attention_heads, 1)
        check_choice("model.padding_mode", self.padding_mode, ("zeros", "circular", "replicate"))
        _check_text(self.num_labels, self.text_vocabulary, self.text_length, self.text_encoder)
        if self.attention and (self.width * self.multipliers[-1]) % self.attention_heads:
            allowed = f"a divisor of the coarsest level's {self.width * self.multipliers[-1]} channels"
            raise ConfigError("model.attention_heads", self.attention_heads, allowed)

    @property
    def embedding_width(self) -> int:
        """Numbers in the vector that modulates the blocks."""
        return 4 * self.width


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(ModulatedConfig):
    """See ``condgen.families.diffusion.model``. The defaults of EDM are those of Karras et al. 2022, table 1.

    ``condition_channels = 0`` is a model without a condition image (of labels, texts or nothing at all).

    Attributes:
        size_px: side of y where no condition image gives its size.
        parametrization: ``edm``; ``epsilon`` or ``v`` on the cosine schedule; ``flow`` (rectified).
        data_scale: what y is divided by before noise is added; y / data_scale should have a standard deviation
            of about ``sigma_data`` for EDM, and of about 1 for the others.
        sigma_data: of EDM, the standard deviation of y / data_scale.
        sigma_min, sigma_max, rho: of EDM's steps.
        p_mean, p_std: of ln sigma in EDM's training.
        logit_mean, logit_std: of the flow's logit-normal times in training.
        uniform_times: share of training times that are spread evenly instead (EDM: of ln sigma from sigma_min to
            sigma_max; flow: of t). The published distributions, 0, all but leave out pure noise, where a sampler's
            first step sets the modes' weights: short trainings do better with 0.1.
        condition_dropout: probability that a training sample's condition is left out; 0 has no guidance.
        dropped_parts: what is left out, together, in training and in guidance.
        few_steps: EDM's samplers walk its own path from this many steps on, and a better one with fewer; see
            ``condgen.diffusion.paths``.
        sampler: a name of ``condgen.diffusion.samplers.SAMPLERS``, where the options name none.
        steps: of the sampler, where the options have none.
        guidance_scale: where the options have none; 1 is no guidance.
        clip: largest absolute value of a denoised y; 0 does not clip.
        denoising_weight: of the denoiser's loss; 0 leaves the denoiser as it is, and trains the point head alone.
        point_head: ``bins`` has a classifier of each pixel's color on the features of a pretrained encoder
            (``condgen.nn.color_head``), which is trained along. The point prediction is its, and the denoiser is told
            its mean; ``none``: the point prediction starts from no noise.
        point_weight: of its loss.
        point_gamma: of its class weights in training, > 0 and <= 1; 1 weighs all colors alike.
        point_balance: of its point prediction: 0 is the median of p(y | x), 1 counts rare colors as much as frequent
            ones.
    """

    least_condition_channels: ClassVar[int] = 0

    size_px: int = 32
    parametrization: Literal["edm", "epsilon", "v", "flow"] = "edm"
    data_scale: float = 1.0
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    few_steps: int = 16
    p_mean: float = -1.2
    p_std: float = 1.2
    logit_mean: float = 0.0
    logit_std: float = 1.0
    uniform_times: float = 0.0
    condition_dropout: float = 0.1
    dropped_parts: tuple[Literal["image", "label", "text"], ...] = _PARTS  # type: ignore[assignment]
    sampler: Literal["ddim", "ddpm", "dpm-solver++", "euler", "heun"] = "heun"
    steps: int = 18
    guidance_scale: float = 1.0
    clip: float = 0.0
    denoising_weight: float = 1.0
    point_head: Literal["none", "bins"] = "none"
    point_weight: float = 0.1
    point_gamma: float = 0.8
    point_balance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.size_px", self.size_px, 1)
        check_choice("model.parametrization", self.parametrization, ("edm", "epsilon", "v", "flow"))
        for name in ("data_scale", "sigma_data", "sigma_min", "rho", "p_std", "logit_std"):
            check_above(f"model.{name}", getattr(self, name), 0.0)
        check_at_least("model.few_steps", self.few_steps, 0)
        check_above("model.sigma_max", self.sigma_max, self.sigma_min)
        if not 0.0 <= self.uniform_times <= 1.0:
            raise ConfigError("model.uniform_times", self.uniform_times, "a number >= 0 and <= 1")
        check_between("model.condition_dropout", self.condition_dropout, 0.0, 1.0)
        _check_dropped(self.dropped_parts)
        check_choice("model.sampler", self.sampler, SAMPLER_NAMES)
        check_at_least("model.steps", self.steps, 1)
        check_at_least("model.guidance_scale", self.guidance_scale, 0.0)
        check_at_least("model.clip", self.clip, 0.0)
        check_choice("model.point_head", self.point_head, ("none", "bins"))
        if self.point_head != "none" and (self.encoder == "none" or self.target_channels != 2):
            raise ConfigError(
                "model.point_head", self.point_head, "'none' without model.encoder, or where y is no color"
            )
        for name in ("denoising_weight", "point_weight", "point_balance"):
            check_at_least(f"model.{name}", getattr(self, name), 0.0)
        if not 0.0 < self.point_gamma <= 1.0:
            raise ConfigError("model.point_gamma", self.point_gamma, "a number > 0 and <= 1")

    @property
    def null_parts(self) -> frozenset[str]:
        """The parts of a condition that the model also knows to be absent."""
        parts = {"image": self.condition_channels, "label": self.num_labels, "text": self.text_vocabulary}
        return frozenset(p for p in self.dropped_parts if parts[p] and self.condition_dropout > 0)


@dataclass(frozen=True, kw_only=True)
class CVAEConfig(ModulatedConfig):
    """See ``condgen.families.cvae.model``.

    Attributes:
        latent_dims: numbers in z.
        prior: ``fixed``, N(0, I) whatever x is; ``learned``, a Gaussian that x decides.
        free_bits: nats of KL a dimension of z that cost nothing, so that z is used.
        kl_weight: of the KL term; 1 is the ELBO.
        kl_warmup_steps: training steps over which that weight grows from 0; 0 starts with all of it.
        variance: of the Gaussian likelihood: ``fixed``; ``learned``, a number a channel; ``pixel``, predicted.
        std: the fixed standard deviation, or the first one.
        least_std: below which a learned one does not fall.
        observation_noise: draws add the likelihood's noise, which makes them exact draws of p(y | x); without,
            they are its means, as pictures are shown.
        posterior_norm: of the mean over all places that q sees: ``layer``; or ``batch``, which takes away what is the
            same in all samples. That can be all but everything (of a small ball, 98%), and z then stays unused: batch
            normalisation keeps the KL from vanishing (Zhu et al. 2020, arXiv:2004.12585).
        first_posterior_std: of q, about, before training. Less than 1 lets the decoder see at once what z says, where
            z would else grow out of its noise, and beyond the prior.
        bound_samples: draws of z in ``log_prob``.
    """

    latent_dims: int = 16
    prior: Literal["fixed", "learned"] = "fixed"
    free_bits: float = 0.05
    kl_weight: float = 1.0
    kl_warmup_steps: int = 0
    variance: Literal["fixed", "learned", "pixel"] = "learned"
    std: float = 0.1
    least_std: float = 0.005
    observation_noise: bool = False
    posterior_norm: Literal["layer", "batch"] = "layer"
    first_posterior_std: float = 1.0
    bound_samples: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.latent_dims", self.latent_dims, 1)
        check_choice("model.prior", self.prior, ("fixed", "learned"))
        check_at_least("model.free_bits", self.free_bits, 0.0)
        check_at_least("model.kl_weight", self.kl_weight, 0.0)
        check_at_least("model.kl_warmup_steps", self.kl_warmup_steps, 0)
        check_choice("model.variance", self.variance, ("fixed", "learned", "pixel"))
        check_choice("model.posterior_norm", self.posterior_norm, ("layer", "batch"))
        check_above("model.least_std", self.least_std, 0.0)
        check_above("model.std", self.std, 0.0)
        check_above("model.first_posterior_std", self.first_posterior_std, 0.0)
        if self.std <= self.least_std:
            raise ConfigError("model.std", self.std, f"a number > model.least_std ({self.least_std})")
        check_at_least("model.bound_samples", self.bound_samples, 1)


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """See ``condgen.families.autoregressive.model``.

    Attributes:
        condition_channels: of the condition's image; 0 has no image in the prefix.
        target_channels: of y; 2 for colour (ab).
        size_px: side of y where no condition image gives its size.
        out_stride: y's tokens are those of its means over squares of this side; draws are upsampled bilinearly.
        patch_px: side of the squares of x that are a token of the prefix each.
        aligned: y lies on the condition's image, as colour does: each token of y is also told the pixels at its place.
        tokens: ``bins``, a token a channel of a pixel, in ``num_bins`` uniform levels; ``ab``, one token a pixel of
            the ab grid in gamut (colour alone).
        num_bins: levels from -value_limit to value_limit, both included.
        value_limit: largest absolute value of y.
        grid_step: of the ab grid, in ab units.
        width: of the transformer; a multiple of 4 and of ``heads``.
        layers, heads: of the transformer.
        dropout: probability, after attention and in the feed-forward parts; 0 is none.
        num_labels, text_vocabulary, text_length, text_encoder: see ``ModulatedConfig``.
    """

    condition_channels: int = 1
    target_channels: int = 2
    size_px: int = 32
    out_stride: int = 8
    patch_px: int = 8
    aligned: bool = False
    tokens: Literal["bins", "ab"] = "ab"
    num_bins: int = 32
    value_limit: float = 1.0
    grid_step: int = 10
    width: int = 512
    layers: int = 12
    heads: int = 8
    dropout: float = 0.0
    num_labels: int = 0
    text_vocabulary: int = 0
    text_length: int = 32
    text_encoder: Literal["bag", "transformer"] = "transformer"

    def __post_init__(self) -> None:
        check_at_least("model.condition_channels", self.condition_channels, 0)
        check_at_least("model.target_channels", self.target_channels, 1)
        for name in ("size_px", "out_stride", "patch_px", "width", "layers", "heads"):
            check_at_least(f"model.{name}", getattr(self, name), 1)
        check_choice("model.tokens", self.tokens, ("bins", "ab"))
        check_at_least("model.num_bins", self.num_bins, 2)
        check_above("model.value_limit", self.value_limit, 0.0)
        check_choice("model.grid_step", self.grid_step, (10, 20))
        check_between("model.dropout", self.dropout, 0.0, 1.0)
        if self.width % 4 or self.width % self.heads:
            raise ConfigError("model.width", self.width, f"a multiple of 4 and of model.heads ({self.heads})")
        if self.aligned and not self.condition_channels:
            raise ConfigError("model.aligned", True, "false without a condition image (model.condition_channels is 0)")
        if self.tokens == "ab" and self.target_channels != 2:
            raise ConfigError("model.tokens", "ab", "'bins' where y is no colour (model.target_channels is not 2)")
        _check_text(self.num_labels, self.text_vocabulary, self.text_length, self.text_encoder)
