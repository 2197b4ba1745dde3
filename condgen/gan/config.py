"""The adversarial families' configurations: frozen dataclasses, checked where they are built, free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from condgen._checks import check_at_least, check_between, check_choice
from condgen.errors import ConfigError
from condgen.nn.config import DECODER_WIDTHS, check_encoder

__all__ = ["AdversarialConfig", "CganConfig", "CycleGanConfig", "Pix2PixConfig"]

_NORMS = ("batch", "instance", "group", "none")
_LOSSES = ("non_saturating", "lsgan", "hinge", "wasserstein")
_PATCHES_PX = (1, 16, 34, 70, 142, 286)


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """What every adversarial family has: its channels, its networks' widths, its discriminator and its loss.

    Attributes:
        condition_channels: of x; 1 for colour (L).
        target_channels: of y, in [-1, 1]; 2 for colour (ab).
        width: the generator's channels at its finest level.
        norm: of the generator. ``batch`` is the papers', and makes a training sample depend on its batch;
            ``instance`` and ``group`` don't, and ``group`` keeps a picture's mean, which colours need.
        norm_groups: of group normalisation, lowered to what divides the channels.
        upsampling: ``transposed`` convolution, the papers', or ``resize`` (nearest, then a convolution), which
            makes no checkerboards.
        padding: of the convolutions, ``zero`` or ``reflect``.
        discriminator_width: its channels at the finest level.
        patch_px: the discriminator's receptive field, side in pixels (Isola et al. 2017, section 3.2.2).
        discriminator_norm: as ``norm``; ``none`` goes with spectral norm and R1.
        spectral_norm: divide the discriminator's weights by their largest singular value (Miyato et al. 2018).
        gan_loss: a name of ``condgen.gan.losses.GAN_LOSSES``.
        discriminator_scale: of the discriminator's loss; the papers halve it.
        r1_gamma: of R1, (gamma / 2) E |grad D|^2 on true y (Mescheder et al. 2018, eq. 9); 0 is none.
        r1_every: steps between two R1 terms, each that many times as large (Karras et al. 2020, section 3.1).
        init_std: of the normal initial weights of convolutions; 0 leaves PyTorch's.
    """

    condition_channels: int = 1
    target_channels: int = 2
    width: int = 64
    norm: Literal["batch", "instance", "group", "none"] = "group"
    norm_groups: int = 8
    upsampling: Literal["transposed", "resize"] = "resize"
    padding: Literal["zero", "reflect"] = "reflect"
    discriminator_width: int = 64
    patch_px: Literal[1, 16, 34, 70, 142, 286] = 70
    discriminator_norm: Literal["batch", "instance", "group", "none"] = "group"
    spectral_norm: bool = False
    gan_loss: Literal["non_saturating", "lsgan", "hinge", "wasserstein"] = "non_saturating"
    discriminator_scale: float = 0.5
    r1_gamma: float = 0.0
    r1_every: int = 16
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("condition_channels", "target_channels", "width", "norm_groups", "discriminator_width"):
            check_at_least(f"model.{name}", getattr(self, name), 1)
        check_choice("model.norm", self.norm, _NORMS)
        check_choice("model.upsampling", self.upsampling, ("transposed", "resize"))
        check_choice("model.padding", self.padding, ("zero", "reflect"))
        check_choice("model.patch_px", self.patch_px, _PATCHES_PX)
        check_choice("model.discriminator_norm", self.discriminator_norm, _NORMS)
        check_choice("model.gan_loss", self.gan_loss, _LOSSES)
        check_at_least("model.discriminator_scale", self.discriminator_scale, 0.0)
        check_at_least("model.r1_gamma", self.r1_gamma, 0.0)
        check_at_least("model.r1_every", self.r1_every, 1)
        check_at_least("model.init_std", self.init_std, 0.0)


@dataclass(frozen=True, kw_only=True)
class CganConfig(AdversarialConfig):
    """See ``condgen.families.cgan.model``. The loss is the sum of its terms: the discriminator's is not halved.

    Attributes:
        multipliers: of ``width``, a level each, finest first; each level halves the size.
        blocks_per_level: residual blocks a level, down and up.
        noise_dim: numbers in z.
        noise_width: of the two layers between z and what it modulates.
        l1_weight: of an L1 term, which takes the diversity away; 0 is none.
        diversity_weight: of the mode-seeking term (Mao et al. 2019); 0 is none.
        conditional_discriminator: whether the discriminator sees (x, y), or y alone.
        encoder, encoder_rate, decoder_widths: of a pretrained encoder of x in the generator; see ``UNetConfig``.
    """

    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks_per_level: int = 1
    noise_dim: int = 64
    noise_width: int = 128
    l1_weight: float = 0.0
    diversity_weight: float = 0.0
    conditional_discriminator: bool = True
    encoder: Literal["none", "mobilenet_v2"] = "none"
    encoder_rate: float = 0.0
    decoder_widths: tuple[int, ...] = DECODER_WIDTHS
    padding: Literal["zero", "reflect"] = "zero"
    discriminator_norm: Literal["batch", "instance", "group", "none"] = "none"
    discriminator_scale: float = 1.0
    r1_gamma: float = 1.0
    init_std: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.blocks_per_level", self.blocks_per_level, 1)
        check_at_least("model.noise_dim", self.noise_dim, 1)
        check_at_least("model.noise_width", self.noise_width, 1)
        check_at_least("model.l1_weight", self.l1_weight, 0.0)
        check_at_least("model.diversity_weight", self.diversity_weight, 0.0)
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
class Pix2PixConfig(AdversarialConfig):
    """See ``condgen.families.pix2pix.model``.

    Attributes:
        depth: levels of the U-Net; 8 is the paper's for 256 pixels, whose middle is 1 x 1.
        dropout: probability, in the decoder's first three layers.
        dropout_noise: keep the dropout when sampling, as the paper's noise; otherwise there is one answer.
        l1_weight: lambda of the L1 term (eq. 4).
        conditional_discriminator: whether the discriminator sees (x, y), or y alone (section 4.1).
    """

    depth: int = 8
    dropout: float = 0.5
    dropout_noise: bool = True
    l1_weight: float = 100.0
    conditional_discriminator: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.depth", self.depth, 2)
        check_between("model.dropout", self.dropout, 0.0, 1.0)
        check_at_least("model.l1_weight", self.l1_weight, 0.0)
        if self.dropout_noise and self.dropout == 0.0:
            raise ConfigError("model.dropout_noise", True, "false where model.dropout is 0: there is no other noise")


@dataclass(frozen=True, kw_only=True)
class CycleGanConfig(AdversarialConfig):
    """See ``condgen.families.cyclegan.model``. A's channels are ``condition_channels``, B's ``target_channels``.

    Attributes:
        generator: ``resnet`` (Zhu et al. 2017), ``unet`` (Isola et al. 2017; Yi et al. 2017 use it) or
            ``encoder_decoder`` (Kim et al. 2017: no skips).
        discriminator: ``patch`` of ``patch_px``, or ``encoder`` (Kim et al. 2017: four halvings, then one score).
        blocks: of the resnet; 9 for 256 pixels, 6 for 128.
        global_skip: the resnet's y is tanh(f(x) + artanh(0.99 x)), and f begins at 0: it learns a change of x, and
            needs no time to learn to copy what stays as it is. For domains that share most of an image.
        depth: levels of the other two.
        dropout: probability, in the U-Net's decoder.
        dropout_noise: keep the dropout when sampling (Yi et al. 2017).
        cycle_weight: lambda of both cycle terms.
        cycle_loss: ``l1`` or ``l2`` (Kim et al. 2017).
        identity_weight: of the identity terms, as a share of ``cycle_weight``; 0 is none.
        pair_weight: of an L1 term on the batch's true pairs, those whose condition has the label 1; 0 is none.
        pool_size: pictures that each discriminator's pool remembers; 0 is none.
        pool_px: side of the square pictures of training, which the pool must know.
        clip_weights: largest size of a critic's weights (Arjovsky et al. 2017); 0 doesn't clip.
        critic_steps: discriminator steps for one of the generators'.
    """

    condition_channels: int = 3
    target_channels: int = 3
    norm: Literal["batch", "instance", "group", "none"] = "instance"
    discriminator_norm: Literal["batch", "instance", "group", "none"] = "instance"
    gan_loss: Literal["non_saturating", "lsgan", "hinge", "wasserstein"] = "lsgan"
    generator: Literal["resnet", "unet", "encoder_decoder"] = "resnet"
    discriminator: Literal["patch", "encoder"] = "patch"
    blocks: int = 9
    global_skip: bool = False
    depth: int = 8
    dropout: float = 0.0
    dropout_noise: bool = False
    cycle_weight: float = 10.0
    cycle_loss: Literal["l1", "l2"] = "l1"
    identity_weight: float = 0.5
    pair_weight: float = 0.0
    pool_size: int = 50
    pool_px: int = 256
    clip_weights: float = 0.0
    critic_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("model.generator", self.generator, ("resnet", "unet", "encoder_decoder"))
        check_choice("model.discriminator", self.discriminator, ("patch", "encoder"))
        check_choice("model.cycle_loss", self.cycle_loss, ("l1", "l2"))
        check_between("model.dropout", self.dropout, 0.0, 1.0)
        for name, low in (("blocks", 1), ("depth", 2), ("pool_size", 0), ("pool_px", 1), ("critic_steps", 1)):
            check_at_least(f"model.{name}", getattr(self, name), low)
        for name in ("cycle_weight", "identity_weight", "pair_weight", "clip_weights"):
            check_at_least(f"model.{name}", getattr(self, name), 0.0)
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.dropout > 0.0 and self.generator != "unet":
            raise ConfigError("model.dropout", self.dropout, f"0 for the {self.generator} generator: unet has dropout")
        if self.dropout_noise and self.dropout == 0.0:
            raise ConfigError("model.dropout_noise", True, "false where model.dropout is 0: there is no other noise")
        if self.global_skip and self.generator != "resnet":
            raise ConfigError("model.global_skip", True, f"false for the {self.generator} generator: resnet has one")
        if self.global_skip and self.condition_channels != self.target_channels:
            raise ConfigError("model.global_skip", True, "false where A and B have other channels")
        if self.identity_weight > 0.0 and self.condition_channels != self.target_channels:
            raise ConfigError("model.identity_weight", self.identity_weight, "0 where A and B have other channels")
