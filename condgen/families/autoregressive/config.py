"""The configuration of ``autoregressive``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import check_above, check_at_least, check_between, check_choice
from condgen.errors import ConfigError
from condgen.nn.config import check_text

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
            raise ConfigError("model.tokens", "ab", "'bins' where y is no color (model.target_channels is not 2)")
        check_text(self.num_labels, self.text_vocabulary, self.text_length, self.text_encoder)
