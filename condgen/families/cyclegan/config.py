"""The configuration of ``cyclegan``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from condgen.checks import Count, Natural, NotNegative, Number, Probability
from condgen.errors import ConfigError
from condgen.gan.config import AdversarialConfig

__all__ = ["CycleGanConfig"]


@dataclass(frozen=True, kw_only=True)
class CycleGanConfig(AdversarialConfig):
    """See ``condgen.families.cyclegan.model``. A's channels are ``condition_channels``, B's ``target_channels``.

    Attributes:
        generator: ``resnet`` (Zhu et al. 2017), ``unet`` (Isola et al. 2017; Yi et al. 2017 use it) or
            ``encoder_decoder`` (Kim et al. 2017: no skips).
        discriminator: ``patch`` of ``patch_px``, or ``encoder`` (Kim et al. 2017: four halvings, then one score).
        blocks: residual blocks of the resnet; 9 for 256 pixels, 6 for 128.
        global_skip: whether the resnet's y is tanh(f(x) + artanh(0.99 x)), and f begins at 0: it learns a change of x,
            and needs no time to learn to copy what stays as it is. It suits domains that share most of an image.
        depth: levels of the other two generators.
        dropout: probability in the U-Net's decoder.
        dropout_noise: whether to keep the dropout when sampling (Yi et al. 2017).
        cycle_weight: lambda of both cycle terms.
        cycle_loss: ``l1`` or ``l2`` (Kim et al. 2017).
        identity_weight: weight of the identity terms, as a share of ``cycle_weight``; 0 is none.
        pair_weight: weight of an L1 term on the batch's true pairs, those whose condition has the label 1; 0 is none.
        pool_size: images that each discriminator's pool remembers; 0 is none.
        pool_px: side of the square images of training, which the pool must know.
        clip_weights: largest size of a critic's weights (Arjovsky et al. 2017); 0 doesn't clip.
        critic_steps: discriminator steps for one of the generators'.
    """

    family: ClassVar[str] = "cyclegan"

    condition_channels: Count = 3
    target_channels: Count = 3
    norm: Literal["batch", "instance", "group", "none"] = "instance"
    discriminator_norm: Literal["batch", "instance", "group", "none"] = "instance"
    gan_loss: Literal["non_saturating", "lsgan", "hinge", "wasserstein"] = "lsgan"
    generator: Literal["resnet", "unet", "encoder_decoder"] = "resnet"
    discriminator: Literal["patch", "encoder"] = "patch"
    blocks: Count = 9
    global_skip: bool = False
    depth: Annotated[int, Number(">= 2")] = 8
    dropout: Probability = 0.0
    dropout_noise: bool = False
    cycle_weight: NotNegative = 10.0
    cycle_loss: Literal["l1", "l2"] = "l1"
    identity_weight: NotNegative = 0.5
    pair_weight: NotNegative = 0.0
    pool_size: Natural = 50
    pool_px: Count = 256
    clip_weights: NotNegative = 0.0
    critic_steps: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
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
