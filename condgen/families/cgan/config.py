"""The configuration of ``cgan``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import Count, NotNegative
from condgen.errors import ConfigError
from condgen.gan.config import AdversarialConfig
from condgen.nn.config import DECODER_WIDTHS, check_encoder

__all__ = ["CganConfig"]


@dataclass(frozen=True, kw_only=True)
class CganConfig(AdversarialConfig):
    """See ``condgen.families.cgan.model``. The loss is the sum of its terms: the discriminator's is not halved.

    Attributes:
        multipliers: factors of ``width``, one a level, finest first; each level halves the size.
        blocks_per_level: residual blocks a level, down and up.
        noise_dim: length of z.
        noise_width: width of the two layers between z and what it modulates.
        l1_weight: weight of an L1 term, which takes the diversity away; 0 is none.
        diversity_weight: weight of the mode-seeking term (Mao et al. 2019); 0 is none.
        conditional_discriminator: whether the discriminator sees (x, y), or y alone.
        encoder, encoder_rate, decoder_widths: pretrained encoder of x in the generator; see
            ``condgen.nn.config.UNetConfig``.
    """

    family: ClassVar[str] = "cgan"

    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks_per_level: Count = 1
    noise_dim: Count = 64
    noise_width: Count = 128
    l1_weight: NotNegative = 0.0
    diversity_weight: NotNegative = 0.0
    conditional_discriminator: bool = True
    encoder: Literal["none", "mobilenet_v2"] = "none"
    encoder_rate: NotNegative = 0.0
    decoder_widths: tuple[int, ...] = DECODER_WIDTHS
    padding: Literal["zero", "reflect"] = "zero"
    discriminator_norm: Literal["batch", "instance", "group", "none"] = "none"
    discriminator_scale: NotNegative = 1.0
    r1_gamma: NotNegative = 1.0
    init_std: NotNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.multipliers or min(self.multipliers) < 1:
            raise ConfigError("model.multipliers", self.multipliers, "one or more whole numbers >= 1")
        check_encoder(self)
