"""A discriminator with its loss, and the pool of earlier images that it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from condgen.base import weighted_mean
from condgen.errors import ConfigError
from condgen.gan.config import AdversarialConfig
from condgen.gan.layers import initialize
from condgen.gan.losses import GAN_LOSSES, r1_penalty

__all__ = ["Critic", "ImagePool", "absolute_error", "frozen"]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients from ``module``'s parameters, but not from its inputs, in what it computes within."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def absolute_error(y: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error of each sample, ``[B]`` float32."""
    return (y.float() - target.float()).abs().mean(dim=(1, 2, 3))


class Critic(nn.Module):
    """A discriminator and both sides of its loss.

    Args:
        net: network from images to scores ``[B, 1, h, w]``.
        config: configuration with the loss, its scale, R1 and the initial weights.
        name: name of the discriminator, with which the names of its terms begin.
        judges_pairs: whether it sees the pairs (x, y), or y alone.
        clip_weights: limit within which its weights are kept, where it is > 0.
    """

    steps: Tensor

    def __init__(
        self,
        net: nn.Module,
        config: AdversarialConfig,
        *,
        name: str = "d",
        judges_pairs: bool = False,
        clip_weights: float = 0.0,
    ) -> None:
        super().__init__()
        self.net = net
        initialize(net, config.init_std)
        self._config = config
        self._loss = GAN_LOSSES[config.gan_loss]
        self._name, self._judges_pairs, self._clip = name, judges_pairs, clip_weights
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # of training, for the lazy R1
        self._known_steps: int | None = None  # the same, so that a step need not ask the device

    def forward(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """Return the scores of y, or of the pairs (x, y), ``[B, 1, h, w]``."""
        scores: Tensor = self.net(torch.cat([x, y], dim=1) if x is not None and self._judges_pairs else y)
        return scores

    def loss(self, real: Tensor, fake: Tensor, weight: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
        """Return the discriminator's terms ``d_real`` and ``d_fake``, and ``d_r1`` (0 in the steps that have none)."""
        self.clip()
        scale, name = self._config.discriminator_scale, self._name
        terms = {
            f"{name}_real": scale * self._mean(self._loss.real(self(real, x).float()), weight),
            f"{name}_fake": scale * self._mean(self._loss.fake(self(fake.detach(), x).float()), weight),
        }
        if self._config.r1_gamma > 0.0:
            terms[f"{name}_r1"] = self._lazy_r1(real, weight, x)
        return terms

    def adversarial(self, fake: Tensor, weight: Tensor, x: Tensor | None = None) -> Tensor:
        """Return the generator's term; it has no gradients for the critic's parameters."""
        self.clip()
        with frozen(self):
            return self._mean(self._loss.generator(self(fake, x).float()), weight)

    @property
    def networks(self) -> list[nn.Module]:
        """The critic itself, unless R1 takes the gradient of its gradient, for ``ConditionalModel.networks``."""
        return [self] if self._config.r1_gamma == 0.0 else []

    @torch.no_grad()
    def clip(self) -> None:
        """Clip the weights where they are used, so that whoever steps them need not know."""
        if self._clip > 0.0:
            for parameter in self.parameters():
                parameter.clamp_(-self._clip, self._clip)

    def _lazy_r1(self, real: Tensor, weight: Tensor, x: Tensor | None) -> Tensor:
        every, gamma = self._config.r1_every, self._config.r1_gamma
        if self._known_steps is None:
            self._known_steps = int(self.steps)
        if not self.training or self._known_steps % every:
            term = torch.zeros((), device=real.device)
        else:
            penalty = r1_penalty(lambda y: self(y, x), real)
            term = every * gamma / 2 * weighted_mean(penalty, weight)
        if self.training:
            self.steps += 1
            self._known_steps += 1
        return term

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._known_steps = None

    @staticmethod
    def _mean(values: Tensor, weight: Tensor) -> Tensor:
        return weighted_mean(values.mean(dim=(1, 2, 3)), weight)


class ImagePool(nn.Module):
    """Images generated earlier, shown to a discriminator in half of the cases (Shrivastava et al. 2017, section 2.3).

    The pool is kept with the model, in float16, so that a run goes on with the pool that it had; its choices are drawn
    from torch's generator, which the training loop seeds at each step.

    Args:
        size: number of images; 0 keeps none.
        channels, side_px: channels and side of each image (pixels).
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, channels: int, side_px: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, channels, side_px, side_px, dtype=torch.float16))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, made: Tensor, weight: Tensor) -> Tensor:
        """Return as many images as were ``made``, some of them earlier ones; images of weight 0 are left alone.

        While the pool fills, each image is kept and returned. Then, in half of the cases, an earlier one is
        returned and the new one takes its place.

        Args:
            made: ``[B, C, side_px, side_px]``.
            weight: ``[B]``.

        Raises:
            ConfigError: images of another size than the pool's.
        """
        if self.size == 0:
            return made
        if made.shape[1:] != self.images.shape[1:]:
            raise ConfigError("model.pool_px", self.images.shape[-1], f"the images' size, {list(made.shape[-2:])}")
        out, present = made.clone(), weight > 0
        for i, (coin, place) in enumerate(torch.rand(len(made), 2).tolist()):
            # All of it on the device: to ask what is there would wait for the whole step.
            fills = self.filled < self.size
            at = torch.where(fills, self.filled, int(place * self.size))[None]
            earlier = self.images.index_select(0, at)[0]
            swaps = present[i] & ~fills & (coin < 0.5)
            out[i] = torch.where(swaps, earlier.to(made.dtype), made[i])
            keeps = swaps | (present[i] & fills)
            self.images.index_copy_(0, at, torch.where(keeps, made[i].to(earlier.dtype), earlier)[None])
            self.filled += present[i] & fills
        return out
