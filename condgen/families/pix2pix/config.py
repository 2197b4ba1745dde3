"""The configuration of ``pix2pix``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from condgen.checks import NotNegative, Number, Probability
from condgen.errors import ConfigError
from condgen.gan.config import AdversarialConfig

__all__ = ["Pix2PixConfig"]


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(AdversarialConfig):
    """See ``condgen.families.pix2pix.model``.

    Attributes:
        depth: levels of the U-Net; 8 is the paper's for 256 pixels, whose middle is 1 x 1.
        dropout: probability in the decoder's first three layers.
        dropout_noise: whether to keep the dropout when sampling, as the paper's noise; otherwise there is one answer.
        l1_weight: lambda of the L1 term (eq. 4).
        conditional_discriminator: whether the discriminator sees (x, y), or y alone (section 4.1).
    """

    family: ClassVar[str] = "pix2pix"

    depth: Annotated[int, Number(">= 2")] = 8
    dropout: Probability = 0.5
    dropout_noise: bool = True
    l1_weight: NotNegative = 100.0
    conditional_discriminator: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout_noise and self.dropout == 0.0:
            raise ConfigError("model.dropout_noise", True, "false where model.dropout is 0: there is no other noise")
