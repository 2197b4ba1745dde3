"""A conditional GAN whose noise is used: y = G(x, z), judged in the pair (x, y) (Mirza & Osindero 2014).

    min_G max_D  E log D(x, y) + E log(1 - D(x, G(x, z)))        Isola et al. 2017, eq. (1), and other losses by name

Nothing ties G to one answer, so that it can have the whole of p(y | x): an L1 term or a noise that is easily ignored
would take that away. Here z modulates every block of the decoder, R1 (Mescheder et al. 2018) keeps the two-player
game convergent, and a mode-seeking term (Mao et al. 2019) can be added where modes are still missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image, weighted_mean
from condgen.checks import check_choice
from condgen.families.cgan.config import CganConfig
from condgen.families.cgan.network import NoiseUNet
from condgen.gan.critic import Critic, absolute_error
from condgen.gan.layers import initialize
from condgen.gan.losses import mode_seeking
from condgen.gan.networks import PatchDiscriminator
from condgen.noise import NoiseSource

__all__ = ["Cgan"]


class Cgan(ConditionalModel):
    """p(y | x) as what G makes of x and normal z; it has no likelihood."""

    family: ClassVar[str] = "cgan"
    is_stochastic: ClassVar[bool] = True
    config: CganConfig

    def __init__(self, config: CganConfig) -> None:
        super().__init__(config)
        self.generator = NoiseUNet(config)
        initialize(self.generator, config.init_std)
        judged_channels = config.target_channels + config.condition_channels * config.conditional_discriminator
        discriminator = PatchDiscriminator(config, judged_channels, config.patch_px)
        self.critic = Critic(discriminator, config, judges_pairs=config.conditional_discriminator)
        self.to(memory_format=torch.channels_last)  # a fifth faster on CPUs

    @property
    def phases(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """The discriminator's turn, then the generator's."""
        return {"discriminator": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The generator, and the discriminator where R1 is off."""
        return [self.generator, *self.critic.networks]

    def forward(self, batch: Batch, phase: str = "generator") -> dict[str, Tensor]:
        """Return a phase's terms: ``d_real``, ``d_fake``, ``d_r1``; or ``g_adversarial``, ``l1``, ``mode_seeking``.

        Raises:
            ConfigError: another phase.
        """
        losses = {"discriminator": self._discriminator_loss, "generator": self._generator_loss}
        check_choice("phase", phase, tuple(losses))
        return losses[phase](batch)

    def _discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        x = condition_image(batch.condition, self.config.condition_channels)
        with torch.no_grad():
            fake = self.generator(x, self._training_noise(x))
        return self.critic.loss(batch.target, fake, batch.weight, x)

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        x = condition_image(batch.condition, config.condition_channels)
        features, z = self.generator.encode(x), self._training_noise(x)
        fake = self._decoded(features, z, x)
        terms = {"g_adversarial": self.critic.adversarial(fake, batch.weight, x)}
        if config.l1_weight > 0.0:
            terms["l1"] = config.l1_weight * weighted_mean(absolute_error(fake, batch.target), batch.weight)
        if config.diversity_weight > 0.0:
            other_z = self._training_noise(x)
            other = self._decoded(features, other_z, x)
            ratio = mode_seeking(fake, other, z, other_z)
            terms["mode_seeking"] = config.diversity_weight * weighted_mean(ratio, batch.weight)
        return terms

    def _training_noise(self, x: Tensor) -> Tensor:
        return torch.randn(x.shape[0], self.config.noise_dim, device=x.device)

    def _decoded(self, features: list[Tensor], z: Tensor, x: Tensor) -> Tensor:
        return self.generator.decode(features, z)[..., : x.shape[-2], : x.shape[-1]]

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return G(x, temperature * z), ``[B, K, C, H, W]`` float32; ``point`` is G(x, 0), K times.

        The condition is encoded once; draws are decoded one after the other, so that each is the same bits alone.

        Raises:
            UnsupportedError: a condition without such an image, or a direction back.
        """
        self.require_direction(options.direction)
        x = condition_image(condition, self.config.condition_channels)
        features = self.generator.encode(x)
        if options.mode == "point":
            zero = torch.zeros(x.shape[0], self.config.noise_dim, device=x.device)
            point = self._decoded(features, zero, x).float()
            return point[:, None].expand(-1, noise.num_draws, -1, -1, -1)
        z = options.temperature * noise.normal((self.config.noise_dim,)).to(x.device)
        draws = [self._decoded(features, z[:, k], x).float() for k in range(noise.num_draws)]
        return torch.stack(draws, dim=1)
