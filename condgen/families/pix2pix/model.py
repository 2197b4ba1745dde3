"""Paired translation: a conditional GAN and an L1 term (Isola et al. 2017, arXiv:1611.07004).

    G* = arg min_G max_D  L_cGAN(G, D) + lambda L_L1(G)                         eq. (4)
    L_L1 = E |y - G(x, z)|_1                                                    eq. (3)

lambda is 100 and the discriminator's loss is halved (section 3.3). z is the dropout of the decoder, which stays on
when sampling; the paper found that it changes little, and with it off (``dropout_noise``) there is one answer. The
family ``cgan`` has noise that is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image, weighted_mean
from condgen.checks import check_choice
from condgen.families.pix2pix.config import Pix2PixConfig
from condgen.gan.critic import Critic, absolute_error
from condgen.gan.generator import dropout_draws
from condgen.gan.layers import initialize
from condgen.gan.networks import PatchDiscriminator, SkipUNet
from condgen.noise import NoiseSource

__all__ = ["Pix2Pix"]


class Pix2Pix(ConditionalModel):
    """y = G(x, dropout), by the paper's U-Net and PatchGAN."""

    family: ClassVar[str] = "pix2pix"
    config: Pix2PixConfig

    def __init__(self, config: Pix2PixConfig) -> None:
        super().__init__(config)
        x, y = config.condition_channels, config.target_channels
        self.generator = SkipUNet(config, x, y, depth=config.depth, dropout=config.dropout)
        initialize(self.generator, config.init_std)
        judged_channels = y + x * config.conditional_discriminator
        discriminator = PatchDiscriminator(config, judged_channels, config.patch_px)
        self.critic = Critic(discriminator, config, judges_pairs=config.conditional_discriminator)
        self.to(memory_format=torch.channels_last)  # a fifth faster on CPUs

    @property
    def is_stochastic(self) -> bool:  # type: ignore[override]
        """Whether the dropout stays on when sampling."""
        return self.config.dropout_noise

    @property
    def phases(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """The discriminator's turn, then the generator's."""
        return {"discriminator": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The generator, and the discriminator where R1 is off."""
        return [self.generator, *self.critic.networks]

    def forward(self, batch: Batch, phase: str = "generator") -> dict[str, Tensor]:
        """Return a phase's terms: ``d_real``, ``d_fake``, ``d_r1``; or ``g_adversarial`` and ``l1``.

        Raises:
            ConfigError: another phase.
        """
        losses = {"discriminator": self._discriminator_loss, "generator": self._generator_loss}
        check_choice("phase", phase, tuple(losses))
        return losses[phase](batch)

    def _discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        x = condition_image(batch.condition, self.config.condition_channels)
        with torch.no_grad():
            fake = self.generator(x)
        return self.critic.loss(batch.target, fake, batch.weight, x)

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        x = condition_image(batch.condition, self.config.condition_channels)
        fake = self.generator(x)
        l1 = weighted_mean(absolute_error(fake, batch.target), batch.weight)
        return {
            "g_adversarial": self.critic.adversarial(fake, batch.weight, x),
            "l1": self.config.l1_weight * l1,
        }

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]`` float32, each draw with its own dropout; ``point`` is without any, K times.

        The temperature changes nothing.

        Raises:
            UnsupportedError: K > 1 of a model without noise, a condition without such an image, a direction back.
        """
        self.require_direction(options.direction)
        x = condition_image(condition, self.config.condition_channels)
        return dropout_draws(
            self.generator, x, noise, options, family=self.family, stochastic=self.config.dropout_noise
        )
