"""The fields that the configurations of all adversarial families have. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import Count, NotNegative, check_fields

__all__ = ["AdversarialConfig"]


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Every adversarial family's channels, its networks' widths, its discriminator and its loss.

    Attributes:
        condition_channels: channels of x; 1 for color (L).
        target_channels: channels of y, which is in [-1, 1]; 2 for color (ab).
        width: channels of the generator at its finest level.
        norm: normalization of the generator. ``batch`` is the papers', and makes a training sample depend on its batch;
            ``instance`` and ``group`` don't, and ``group`` keeps an image's mean, which colors need.
        norm_groups: groups of group normalization, lowered to what divides the channels.
        upsampling: ``transposed`` convolution, the papers', or ``resize`` (nearest, then a convolution), which
            makes no checkerboards.
        padding: padding of the convolutions, ``zero`` or ``reflect``.
        discriminator_width: channels of the discriminator at its finest level.
        patch_px: side of the discriminator's receptive field (pixels; Isola et al. 2017, section 3.2.2).
        discriminator_norm: normalization of the discriminator; ``none`` goes with spectral norm and R1.
        spectral_norm: whether the discriminator's weights are divided by their largest singular value (Miyato et al.
            2018).
        gan_loss: name of ``condgen.gan.losses.GAN_LOSSES``.
        discriminator_scale: factor of the discriminator's loss; the papers halve it.
        r1_gamma: weight of R1, (gamma / 2) E |grad D|^2 on true y (Mescheder et al. 2018, eq. 9); 0 is none.
        r1_every: steps between two R1 terms, each that many times as large (Karras et al. 2020, section 3.1).
        init_std: standard deviation of the convolutions' initial weights; 0 leaves PyTorch's.
    """

    family: ClassVar[str]

    condition_channels: Count = 1
    target_channels: Count = 2
    width: Count = 64
    norm: Literal["batch", "instance", "group", "none"] = "group"
    norm_groups: Count = 8
    upsampling: Literal["transposed", "resize"] = "resize"
    padding: Literal["zero", "reflect"] = "reflect"
    discriminator_width: Count = 64
    patch_px: Literal[1, 16, 34, 70, 142, 286] = 70
    discriminator_norm: Literal["batch", "instance", "group", "none"] = "group"
    spectral_norm: bool = False
    gan_loss: Literal["non_saturating", "lsgan", "hinge", "wasserstein"] = "non_saturating"
    discriminator_scale: NotNegative = 0.5
    r1_gamma: NotNegative = 0.0
    r1_every: Count = 16
    init_std: NotNegative = 0.02

    def __post_init__(self) -> None:
        check_fields("model", self)
