"""Unpaired translation between two domains by cycle consistency (Zhu et al. 2017, arXiv:1703.10593).

    L_cyc(G, F) = E |F(G(a)) - a|_1 + E |G(F(b)) - b|_1                         eq. (2)
    L(G, F, D_A, D_B) = L_GAN(G, D_B) + L_GAN(F, D_A) + lambda L_cyc(G, F)       eq. (3)
    L_identity(G, F) = E |G(b) - b|_1 + E |F(a) - a|_1                          section 5.2

A batch holds independent samples: ``condition.image`` of A and ``target`` of B, row by row with nothing to do with
each other; its weight is 0 where either is padding. ``condition.label``, if there is one, is 1 in rows that are true
pairs, for ``pair_weight``. DualGAN (Yi et al. 2017) and DiscoGAN (Kim et al. 2017), found at the same time, are
other settings of the same: see the presets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image, weighted_mean
from condgen.checks import check_choice
from condgen.errors import UnsupportedError
from condgen.families.cyclegan.config import CycleGanConfig
from condgen.families.cyclegan.networks import DiscoGenerator, EncoderDiscriminator, ResidualGenerator
from condgen.gan.critic import Critic, ImagePool, absolute_error
from condgen.gan.generator import Generator, dropout_draws
from condgen.gan.layers import initialize
from condgen.gan.networks import PatchDiscriminator, SkipUNet
from condgen.noise import NoiseSource

__all__ = ["CycleGan"]

_GENERATORS: Mapping[str, Callable[[CycleGanConfig, int, int], Generator]] = MappingProxyType(
    {
        "resnet": lambda c, a, b: ResidualGenerator(c, a, b, blocks=c.blocks, global_skip=c.global_skip),
        "unet": lambda c, a, b: SkipUNet(c, a, b, depth=c.depth, dropout=c.dropout),
        "encoder_decoder": lambda c, a, b: DiscoGenerator(c, a, b, depth=c.depth),
    }
)
_DISCRIMINATORS: Mapping[str, Callable[[CycleGanConfig, int], nn.Module]] = MappingProxyType(
    {
        "patch": lambda c, channels: PatchDiscriminator(c, channels, c.patch_px),
        "encoder": EncoderDiscriminator,
    }
)


def _squared_error(y: Tensor, target: Tensor) -> Tensor:
    return (y.float() - target.float()).square().mean(dim=(1, 2, 3))


_CYCLE_ERRORS = MappingProxyType({"l1": absolute_error, "l2": _squared_error})


class CycleGan(ConditionalModel):
    """Two generators and two discriminators; ``sample`` goes either way."""

    family: ClassVar[str] = "cyclegan"
    directions: ClassVar[tuple[str, ...]] = ("a2b", "b2a")
    config: CycleGanConfig

    def __init__(self, config: CycleGanConfig) -> None:
        super().__init__(config)
        a, b, clip = config.condition_channels, config.target_channels, config.clip_weights
        build, discriminator = _GENERATORS[config.generator], _DISCRIMINATORS[config.discriminator]
        generators = {"a2b": build(config, a, b), "b2a": build(config, b, a)}
        self.generators = nn.ModuleDict(generators)
        initialize(self.generators, config.init_std)
        for generator in generators.values():
            generator.begin_at_identity()
        self.critic_a = Critic(discriminator(config, a), config, name="d_a", clip_weights=clip)
        self.critic_b = Critic(discriminator(config, b), config, name="d_b", clip_weights=clip)
        self.pool_a = ImagePool(config.pool_size, a, config.pool_px)
        self.pool_b = ImagePool(config.pool_size, b, config.pool_px)
        self.to(memory_format=torch.channels_last)  # a fifth faster on CPUs

    @property
    def is_stochastic(self) -> bool:  # type: ignore[override]
        """Whether the dropout stays on when sampling."""
        return self.config.dropout_noise

    @property
    def phases(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Both generators' turn, then both discriminators'."""
        critics = [*self.critic_a.parameters(), *self.critic_b.parameters()]
        return {"generators": list(self.generators.parameters()), "discriminators": critics}

    @property
    def phase_periods(self) -> Mapping[str, int]:
        """The generators wait for ``critic_steps`` steps of the discriminators."""
        return {"generators": self.config.critic_steps}

    @property
    def networks(self) -> Sequence[nn.Module]:
        """Both generators, and both discriminators where R1 is off."""
        return [*self.generators.values(), *self.critic_a.networks, *self.critic_b.networks]

    def forward(self, batch: Batch, phase: str = "generators") -> dict[str, Tensor]:
        """Return a phase's terms.

        ``generators``: ``g_a2b``, ``g_b2a``, ``cycle_a``, ``cycle_b``, and where weighted ``identity_a``,
        ``identity_b``, ``pairs``. ``discriminators``: ``d_a_real``, ``d_a_fake``, ``d_b_real``, ``d_b_fake``, and
        R1's. In training mode the discriminators' phase passes what was made through the pools.

        Raises:
            ConfigError: another phase.
        """
        losses = {"generators": self._generators_loss, "discriminators": self._discriminators_loss}
        check_choice("phase", phase, tuple(losses))
        return losses[phase](batch)

    def _generators_loss(self, batch: Batch) -> dict[str, Tensor]:
        config, weight = self.config, batch.weight
        a, b = condition_image(batch.condition, config.condition_channels), batch.target
        to_b, to_a = self.generators["a2b"], self.generators["b2a"]
        made_b, made_a = to_b(a), to_a(b)
        error = _CYCLE_ERRORS[config.cycle_loss]
        terms = {
            "g_a2b": self.critic_b.adversarial(made_b, weight),
            "g_b2a": self.critic_a.adversarial(made_a, weight),
        }
        if config.cycle_weight > 0.0:
            terms["cycle_a"] = config.cycle_weight * weighted_mean(error(to_a(made_b), a), weight)
            terms["cycle_b"] = config.cycle_weight * weighted_mean(error(to_b(made_a), b), weight)
        identity = config.identity_weight * config.cycle_weight
        if identity > 0.0:
            terms["identity_a"] = identity * weighted_mean(absolute_error(to_a(a), a), weight)
            terms["identity_b"] = identity * weighted_mean(absolute_error(to_b(b), b), weight)
        if config.pair_weight > 0.0:
            both = absolute_error(made_b, b) + absolute_error(made_a, a)
            terms["pairs"] = config.pair_weight * weighted_mean(both, weight * _is_pair(batch.condition))
        return terms

    def _discriminators_loss(self, batch: Batch) -> dict[str, Tensor]:
        a, b = condition_image(batch.condition, self.config.condition_channels), batch.target
        with torch.no_grad():
            made_b, made_a = self.generators["a2b"](a), self.generators["b2a"](b)
        if self.training:
            made_b = self.pool_b.exchange(made_b, batch.weight)
            made_a = self.pool_a.exchange(made_a, batch.weight)
        return self.critic_a.loss(a, made_a, batch.weight) | self.critic_b.loss(b, made_b, batch.weight)

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return the translation, ``[B, K, C, H, W]`` float32, of an image of A, or of B for the direction ``b2a``.

        With ``dropout_noise`` each draw has its own dropout; without there is one answer. The temperature changes
        nothing.

        Raises:
            UnsupportedError: K > 1 of a model without noise, or a condition without such an image.
        """
        self.require_direction(options.direction)
        channels = {"a2b": self.config.condition_channels, "b2a": self.config.target_channels}[options.direction]
        generator = self.generators[options.direction]
        image = condition_image(condition, channels)
        stochastic = self.config.dropout_noise
        return dropout_draws(generator, image, noise, options, family=self.family, stochastic=stochastic)  # type: ignore[arg-type]


def _is_pair(condition: Condition) -> Tensor:
    """Return 1 for true pairs, ``[B]`` float32."""
    if condition.label is None:
        raise UnsupportedError("model.pair_weight needs condition.label, 1 in the rows that are true pairs and else 0")
    return (condition.label == 1).float()
