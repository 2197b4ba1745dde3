"""The configuration of ``autoregressive``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from condgen.checks import Count, Natural, Number, Positive, Probability, check_fields
from condgen.errors import ConfigError

__all__ = ["AutoregressiveConfig"]


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """See ``condgen.families.autoregressive.model``.

    Attributes:
        condition_channels: channels of the condition's image; 0 has no image in the prefix.
        target_channels: channels of y; 2 for color (ab).
        size_px: side of y where no condition image gives its size (pixels).
        out_stride: side of the squares of y whose means are its tokens (pixels); draws are upsampled bilinearly.
        patch_px: side of the squares of x that are a token of the prefix each (pixels).
        aligned: whether y lies on the condition's image, as color does: each token of y is also told the pixels at
            its place.
        tokens: ``bins``, a token a channel of a pixel, in ``num_bins`` uniform levels; ``ab``, one token a pixel of
            the ab grid in gamut (color alone).
        num_bins: levels from -value_limit to value_limit, both included.
        value_limit: largest absolute value of y.
        grid_step: step of the ab grid (ab units).
        width: width of the transformer; a multiple of 4 and of ``heads``.
        layers, heads: layers and attention heads of the transformer.
        dropout: probability, after attention and in the feed-forward parts; 0 is none.
        num_labels, text_vocabulary, text_length, text_encoder: see ``condgen.nn.config.ModulatedConfig``.
    """

    family: ClassVar[str] = "autoregressive"

    condition_channels: Natural = 1
    target_channels: Count = 2
    size_px: Count = 32
    out_stride: Count = 8
    patch_px: Count = 8
    aligned: bool = False
    tokens: Literal["bins", "ab"] = "ab"
    num_bins: Annotated[int, Number(">= 2")] = 32
    value_limit: Positive = 1.0
    grid_step: Literal[10, 20] = 10
    width: Count = 512
    layers: Count = 12
    heads: Count = 8
    dropout: Probability = 0.0
    num_labels: Natural = 0
    text_vocabulary: Natural = 0
    text_length: Count = 32
    text_encoder: Literal["bag", "transformer"] = "transformer"

    def __post_init__(self) -> None:
        check_fields("model", self)
        if self.width % 4 or self.width % self.heads:
            raise ConfigError("model.width", self.width, f"a multiple of 4 and of model.heads ({self.heads})")
        if self.aligned and not self.condition_channels:
            raise ConfigError("model.aligned", True, "false without a condition image (model.condition_channels is 0)")
        if self.tokens == "ab" and self.target_channels != 2:
            raise ConfigError("model.tokens", "ab", "'bins' where y is no color (model.target_channels is not 2)")
