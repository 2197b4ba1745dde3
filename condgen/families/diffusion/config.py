"""The configuration of ``diffusion``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import Count, Natural, NotNegative, Positive, PositiveShare, Probability, check_choice
from condgen.diffusion.config import PathConfig
from condgen.errors import ConfigError
from condgen.nn.config import ModulatedConfig

__all__ = ["DiffusionConfig"]

_PARTS: tuple[Literal["image", "label", "text"], ...] = ("image", "label", "text")


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(PathConfig, ModulatedConfig):
    """See ``condgen.families.diffusion.model``.

    ``condition_channels = 0`` is a model without a condition image (of labels, texts or nothing at all).

    Attributes:
        size_px: side of y where no condition image gives its size (pixels).
        condition_dropout: probability that a training sample's condition is left out; 0 has no guidance.
        dropped_parts: parts of a condition that are left out, together, in training and in guidance.
        sampler: name of ``condgen.diffusion.samplers.SAMPLERS``, where the options name none.
        steps: steps of the sampler, where the options have none.
        guidance_scale: guidance where the options have none; 1 is no guidance.
        clip: largest absolute value of a denoised y; 0 does not clip.
        denoising_weight: weight of the denoiser's loss; 0 leaves the denoiser untrained, and trains the point head
            alone.
        point_head: ``bins`` has a classifier of each pixel's color on the features of a pretrained encoder
            (``condgen.nn.color_head``), which is trained along with the denoiser. It makes the point prediction, and
            the denoiser is told its mean; with ``none`` the point prediction starts from no noise.
        point_weight: weight of the point head's loss.
        point_gamma: share of the uniform distribution in its class weights, > 0 and <= 1; 1 weights all colors alike.
        point_balance: balance of its point prediction: 0 is the median of p(y | x), 1 counts rare colors as much as
            frequent ones.
        draw_gain: factor of the draws' y, > 0. A denoiser that was trained for a short time draws too pale: its
            energy score on held-out data says which factor makes up for it. The point prediction stays as it is.
    """

    family: ClassVar[str] = "diffusion"

    condition_channels: Natural = 1
    size_px: Count = 32
    condition_dropout: Probability = 0.1
    dropped_parts: tuple[Literal["image", "label", "text"], ...] = _PARTS
    sampler: Literal["adams-bashforth", "ddim", "ddpm", "dpm-solver++", "euler", "heun"] = "heun"
    steps: Count = 18
    guidance_scale: NotNegative = 1.0
    clip: NotNegative = 0.0
    denoising_weight: NotNegative = 1.0
    point_head: Literal["none", "bins"] = "none"
    point_weight: NotNegative = 0.1
    point_gamma: PositiveShare = 0.8
    point_balance: NotNegative = 0.0
    draw_gain: Positive = 1.0

    def __post_init__(self) -> None:
        ModulatedConfig.__post_init__(self)
        PathConfig.__post_init__(self)
        for part in self.dropped_parts:
            check_choice("model.dropped_parts", part, _PARTS)
        if self.point_head != "none" and (self.encoder == "none" or self.target_channels != 2):
            raise ConfigError(
                "model.point_head", self.point_head, "'none' without model.encoder, or where y is no color"
            )

    @property
    def null_parts(self) -> frozenset[str]:
        """The parts of a condition that the model also knows to be absent."""
        parts = {"image": self.condition_channels, "label": self.num_labels, "text": self.text_vocabulary}
        return frozenset(p for p in self.dropped_parts if parts[p] and self.condition_dropout > 0)
