"""Configurations of the networks that families share: frozen dataclasses, checked where they are built. Free of torch.

They live apart from the networks so that a command can list, fill and check them in no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import check_at_least, check_between, check_choice
from condgen.errors import ConfigError

__all__ = ["DECODER_WIDTHS", "ENCODER_NAMES", "ModulatedConfig", "UNetConfig", "check_encoder", "check_text"]

ENCODER_NAMES = ("none", "mobilenet_v2")
"""The keys of ``condgen.nn.encoders.ENCODERS``, and none."""

DECODER_WIDTHS = (32, 64, 96, 128, 192, 256)
"""Channels of the decoder over a pretrained encoder's features, at strides 1, 2, 4, 8, 16 and 32."""


def check_encoder(
    encoder: str, rate: float, widths: tuple[int, ...], *, norm_groups: int, condition_channels: int
) -> None:
    """Raise ConfigError unless the fields that describe a pretrained encoder are allowed."""
    check_choice("model.encoder", encoder, ENCODER_NAMES)
    check_at_least("model.encoder_rate", rate, 0.0)
    if len(widths) != len(DECODER_WIDTHS) or min(widths) < 1 or any(width % norm_groups for width in widths):
        allowed = f"{len(DECODER_WIDTHS)} multiples of model.norm_groups ({norm_groups}), for strides 1 to 32"
        raise ConfigError("model.decoder_widths", widths, allowed)
    if encoder != "none" and condition_channels != 1:
        raise ConfigError("model.encoder", encoder, "'none' unless x is a luminance (model.condition_channels is 1)")


def check_text(num_labels: int, vocabulary: int, length: int, encoder: str) -> None:
    """Raise ConfigError unless the fields that describe labels and texts are allowed."""
    check_at_least("model.num_labels", num_labels, 0)
    check_at_least("model.text_vocabulary", vocabulary, 0)
    check_at_least("model.text_length", length, 1)
    check_choice("model.text_encoder", encoder, ("bag", "transformer"))


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The conditional U-Net that predicts y at a fraction of the image's size.

    Attributes:
        family: name of the family whose configuration this is.
        condition_channels: channels of the condition's image; 1 for color (L).
        width: channels at the finest level, a multiple of ``norm_groups``.
        multipliers: factors of ``width``, one a level, finest first; each level halves the size.
        blocks_per_level: residual blocks a level, down and up.
        norm_groups: groups of each group normalization.
        out_stride: 1, 2, 4 or 8. The network works and predicts at 1 / out_stride of the input's size; a
            color is then upsampled bilinearly (Zhang et al. 2016 predict at 1/4).
        dropout: probability in each residual block; 0 is none.
        encoder: pretrained encoder of the luminance (``condgen.nn.encoders``) that replaces the network's own;
            ``none`` trains everything from random weights. With an encoder, ``width`` and ``multipliers`` are
            ignored by conditional networks that have no input other than x.
        encoder_rate: learning rate of the encoder as a share of the others'; 0 freezes it.
        decoder_widths: channels of the decoder over the encoder's features, at strides 1, 2, 4, 8, 16 and 32; those
            finer than ``out_stride`` are not used.
    """

    family: ClassVar[str]
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
class ModulatedConfig(UNetConfig):
    """A U-Net whose every block is modulated by a vector (a noise level, a latent), given x and maybe more.

    Attributes:
        target_channels: channels of y; 2 for color (ab).
        encoder_blocks: residual blocks a level of x's own encoder, which runs once for all draws and steps.
        attention: whether pixels of the coarsest level attend to each other and to a text's tokens.
        attention_heads: heads of that attention; they divide the coarsest level's channels.
        padding_mode: padding of the convolutions; ``circular`` suits worlds on a torus.
        num_labels: classes of the condition's label; 0 takes no label.
        text_vocabulary: tokens of the condition's text, 0 being padding; 0 takes no text.
        text_length: largest number of tokens in a text.
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
        check_text(self.num_labels, self.text_vocabulary, self.text_length, self.text_encoder)
        if self.attention and (self.width * self.multipliers[-1]) % self.attention_heads:
            allowed = f"a divisor of the coarsest level's {self.width * self.multipliers[-1]} channels"
            raise ConfigError("model.attention_heads", self.attention_heads, allowed)

    @property
    def embedding_width(self) -> int:
        """Length of the vector that modulates the blocks."""
        return 4 * self.width
