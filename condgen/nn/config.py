"""Configurations of the networks that families share: frozen dataclasses, checked where they are built. Free of torch.

They live apart from the networks so that a command can list, fill and check them in no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from condgen.checks import Count, Natural, NotNegative, Probability, check_fields
from condgen.errors import ConfigError

__all__ = ["DECODER_WIDTHS", "ModulatedConfig", "UNetConfig", "check_encoder"]

DECODER_WIDTHS = (32, 64, 96, 128, 192, 256)
"""Channels of the decoder over a pretrained encoder's features, at strides 1, 2, 4, 8, 16 and 32."""


def check_encoder(config: Any) -> None:
    """Raise ConfigError unless the fields of a configuration that describe a pretrained encoder go together."""
    widths, groups = config.decoder_widths, config.norm_groups
    if len(widths) != len(DECODER_WIDTHS) or min(widths) < 1 or any(width % groups for width in widths):
        allowed = f"{len(DECODER_WIDTHS)} multiples of model.norm_groups ({groups}), for strides 1 to 32"
        raise ConfigError("model.decoder_widths", widths, allowed)
    if config.encoder != "none" and config.condition_channels != 1:
        allowed = "'none' unless x is a luminance (model.condition_channels is 1)"
        raise ConfigError("model.encoder", config.encoder, allowed)


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

    condition_channels: Count = 1
    width: Count = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks_per_level: Count = 2
    norm_groups: Count = 8
    out_stride: Literal[1, 2, 4, 8] = 4
    dropout: Probability = 0.0
    encoder: Literal["none", "mobilenet_v2"] = "none"
    encoder_rate: NotNegative = 0.0
    decoder_widths: tuple[int, ...] = DECODER_WIDTHS

    def __post_init__(self) -> None:
        check_fields("model", self)
        if self.width % self.norm_groups:
            raise ConfigError("model.width", self.width, f"a multiple of model.norm_groups ({self.norm_groups})")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ConfigError("model.multipliers", self.multipliers, "one or more whole numbers >= 1")
        check_encoder(self)


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

    target_channels: Count = 2
    encoder_blocks: Natural = 1
    attention: bool = True
    attention_heads: Count = 4
    padding_mode: Literal["zeros", "circular", "replicate"] = "zeros"
    num_labels: Natural = 0
    text_vocabulary: Natural = 0
    text_length: Count = 32
    text_encoder: Literal["bag", "transformer"] = "transformer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention and (self.width * self.multipliers[-1]) % self.attention_heads:
            allowed = f"a divisor of the coarsest level's {self.width * self.multipliers[-1]} channels"
            raise ConfigError("model.attention_heads", self.attention_heads, allowed)

    @property
    def embedding_width(self) -> int:
        """Length of the vector that modulates the blocks."""
        return 4 * self.width
