"""The families' configurations: frozen dataclasses, checked where they are built, free of torch.

They live apart from the models so that a command can list, fill and check them in no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen._checks import check_above, check_at_least, check_between, check_choice
from condgen.errors import ConfigError

__all__ = [
    "DECODER_WIDTHS",
    "ENCODER_NAMES",
    "ColorClassifierConfig",
    "RegressionConfig",
    "UNetConfig",
    "check_encoder",
]


ENCODER_NAMES = ("none", "mobilenet_v2")
"""The keys of ``condgen.nn.encoders.ENCODERS``, and none."""

_MOST_BINS = 4096
"""Of a pixel, in a softmax."""

DECODER_WIDTHS = (32, 64, 96, 128, 192, 256)
"""Channels of the decoder over a pretrained encoder's features, at strides 1, 2, 4, 8, 16 and 32."""


def check_encoder(
    encoder: str, rate: float, widths: tuple[int, ...], *, norm_groups: int, condition_channels: int
) -> None:
    """Raise ConfigError unless the fields that say of a pretrained encoder are allowed."""
    check_choice("model.encoder", encoder, ENCODER_NAMES)
    check_at_least("model.encoder_rate", rate, 0.0)
    if len(widths) != len(DECODER_WIDTHS) or min(widths) < 1 or any(width % norm_groups for width in widths):
        allowed = f"{len(DECODER_WIDTHS)} multiples of model.norm_groups ({norm_groups}), for strides 1 to 32"
        raise ConfigError("model.decoder_widths", widths, allowed)
    if encoder != "none" and condition_channels != 1:
        raise ConfigError("model.encoder", encoder, "'none' unless x is a luminance (model.condition_channels is 1)")


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The conditional U-Net that both families stand on.

    Attributes:
        condition_channels: of the condition's image; 1 for colour (L).
        width: channels at the finest level, a multiple of ``norm_groups``.
        multipliers: of ``width``, a level each, finest first; each level halves the size.
        blocks_per_level: residual blocks a level, down and up.
        norm_groups: of each group normalisation.
        out_stride: 1, 2, 4 or 8. The network works and predicts at 1 / out_stride of the input's size; a
            colour is then upsampled bilinearly (Zhang et al. 2016 predict at 1/4).
        dropout: probability, in each residual block; 0 is none.
        encoder: a pretrained encoder of the luminance (``condgen.nn.encoders``) in the place of the network's own;
            ``none`` trains all from the beginning. With one, ``width`` and ``multipliers`` say nothing of the
            conditional networks that have no other input than x.
        encoder_rate: the encoder's learning rate as a share of the others'; 0 freezes it.
        decoder_widths: channels of the decoder over the encoder's features, at strides 1, 2, 4, 8, 16 and 32; those
            finer than ``out_stride`` are not used.
    """

    least_condition_channels: ClassVar[int] = 1

    condition_channels: int = 1
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks_per_level: int = 2
    norm_groups: int = 8
    out_stride: int = 4
    dropout: float = 0.0
    encoder: Literal["none", "mobilenet_v2"] = "none"
    encoder_rate: float = 0.0
    decoder_widths: tuple[int, ...] = DECODER_WIDTHS

    def __post_init__(self) -> None:
        check_at_least("model.condition_channels", self.condition_channels, self.least_condition_channels)
        check_at_least("model.width", self.width, 1)
        check_at_least("model.blocks_per_level", self.blocks_per_level, 1)
        check_at_least("model.norm_groups", self.norm_groups, 1)
        check_choice("model.out_stride", self.out_stride, (1, 2, 4, 8))
        check_between("model.dropout", self.dropout, 0.0, 1.0)
        if self.width % self.norm_groups:
            raise ConfigError("model.width", self.width, f"a multiple of model.norm_groups ({self.norm_groups})")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ConfigError("model.multipliers", self.multipliers, "one or more whole numbers >= 1")
        check_encoder(
            self.encoder,
            self.encoder_rate,
            self.decoder_widths,
            norm_groups=self.norm_groups,
            condition_channels=self.condition_channels,
        )


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(UNetConfig):
    """See ``condgen.families.regression.model``.

    Attributes:
        target_channels: of y; 2 for colour (ab).
        loss: ``l2``, the squared error, whose optimum is the mean of p(y | x); ``l1``, the absolute error, whose
            optimum is the median; ``smooth_l1``, squared within ``smooth_beta`` and absolute beyond (Huber 1964).
        smooth_beta: of ``smooth_l1``, in the target's units.
    """

    target_channels: int = 2
    loss: Literal["l2", "l1", "smooth_l1"] = "l2"
    smooth_beta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.target_channels", self.target_channels, 1)
        check_choice("model.loss", self.loss, ("l2", "l1", "smooth_l1"))
        check_above("model.smooth_beta", self.smooth_beta, 0.0)


@dataclass(frozen=True, kw_only=True)
class ColorClassifierConfig(UNetConfig):
    """See ``condgen.families.color_classifier.model``. The defaults are those of Zhang et al. 2016.

    Attributes:
        target_channels: of y; 2 for colour (ab).
        bins: ``ab``, the ab grid in gamut (colour alone); ``uniform``, ``num_bins`` levels a channel, all combinations
            of them being a pixel's bins. Uniform bins are encoded hard and weigh all alike.
        num_bins: levels from -value_limit to value_limit, both included.
        value_limit: largest absolute value of y.
        point: the point prediction: ``annealed_mean``, or ``argmax``, the likeliest bin.
        grid_step: of the ab grid, in ab units; 10 gives 313 bins.
        soft_neighbors: bins that share a pixel's soft target, the nearest ones.
        soft_sigma: of the Gaussian weights among them, in ab units.
        rebalance_gamma: share of the uniform distribution in the prior whose inverse weighs the classes; 1
            weighs all alike.
        annealing_temperature: T of the annealed mean, which is the point prediction.
    """

    target_channels: int = 2
    bins: Literal["ab", "uniform"] = "ab"
    num_bins: int = 32
    value_limit: float = 1.0
    point: Literal["annealed_mean", "argmax"] = "annealed_mean"
    grid_step: int = 10
    soft_neighbors: int = 10
    soft_sigma: float = 5.0
    rebalance_gamma: float = 0.5
    annealing_temperature: float = 0.38

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("model.grid_step", self.grid_step, (10, 20))
        check_at_least("model.target_channels", self.target_channels, 1)
        check_choice("model.bins", self.bins, ("ab", "uniform"))
        check_at_least("model.num_bins", self.num_bins, 2)
        check_above("model.value_limit", self.value_limit, 0.0)
        check_choice("model.point", self.point, ("annealed_mean", "argmax"))
        if self.bins == "ab" and self.target_channels != 2:
            raise ConfigError("model.bins", "ab", "'uniform' where y is no colour (model.target_channels is not 2)")
        if self.bins == "uniform" and self.num_bins**self.target_channels > _MOST_BINS:
            raise ConfigError("model.num_bins", self.num_bins, f"at most {_MOST_BINS} bins a pixel, over its channels")
        if not 1 <= self.soft_neighbors <= 25:
            raise ConfigError("model.soft_neighbors", self.soft_neighbors, "a whole number from 1 to 25")
        check_above("model.soft_sigma", self.soft_sigma, 0.0)
        if not 0.0 < self.rebalance_gamma <= 1.0:
            raise ConfigError("model.rebalance_gamma", self.rebalance_gamma, "a number > 0 and <= 1")
        check_above("model.annealing_temperature", self.annealing_temperature, 0.0)
