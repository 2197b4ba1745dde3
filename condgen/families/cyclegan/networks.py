"""The generators and the discriminator that only unpaired translation has, written from their papers.

``ResidualGenerator``: Zhu et al. 2017, "Unpaired image-to-image translation using cycle-consistent adversarial
networks" (arXiv:1703.10593), section 7.2, after Johnson et al. 2016: c7s1-64, d128, d256, R256 nine times (six below
256 pixels), u128, u64, c7s1-3, with reflection padding.

``DiscoGenerator`` and ``EncoderDiscriminator``: Kim et al. 2017, "Learning to discover cross-domain relations with
generative adversarial networks" (arXiv:1703.05192): an encoder of 4 x 4 convolutions of stride 2 with leaky ReLUs and
its mirror of transposed convolutions with ReLUs, without skips; the discriminator is such an encoder and one more
convolution to a score. The paper's last sigmoids are here a tanh (images are in [-1, 1]) and part of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from condgen.gan.config import AdversarialConfig
from condgen.gan.generator import Generator
from condgen.gan.layers import conv, needs_bias, norm_layer, pad_to, upsample

__all__ = ["DiscoGenerator", "EncoderDiscriminator", "ResidualGenerator"]

_MOST = 8
_DISCRIMINATOR_LAYERS = 4
_LARGEST = 0.99  # artanh(1) has no value


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with normalization around an identity; no ReLU after the sum."""

    def __init__(self, config: AdversarialConfig, channels: int) -> None:
        super().__init__()
        bias = needs_bias(config.norm)
        self.body = nn.Sequential(
            conv(channels, channels, 3, pad=1, padding=config.padding, bias=bias),
            norm_layer(config.norm, channels, config.norm_groups),
            nn.ReLU(),
            conv(channels, channels, 3, pad=1, padding=config.padding, bias=bias),
            norm_layer(config.norm, channels, config.norm_groups),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class ResidualGenerator(Generator):
    """The paper's residual network; sides are padded to multiples of 4 and to 8.

    Args:
        config: width, normalization, upsampling and padding.
        in_channels, out_channels: channels of x and y.
        blocks: residual blocks, at a quarter of the size.
        global_skip: y is tanh(f(x) + artanh(0.99 x)) in place of tanh(f(x)): the network learns a change of x.
    """

    multiple = 4
    smallest = 8

    def __init__(
        self, config: AdversarialConfig, in_channels: int, out_channels: int, *, blocks: int, global_skip: bool = False
    ) -> None:
        super().__init__()
        self.global_skip = global_skip
        width, norm, groups, padding = config.width, config.norm, config.norm_groups, config.padding
        bias = needs_bias(norm)

        def after(channels: int) -> list[nn.Module]:
            return [norm_layer(norm, channels, groups), nn.ReLU()]

        def down(channels: int) -> list[nn.Module]:
            layer = conv(channels, 2 * channels, 3, stride=2, pad=1, padding=padding, bias=bias)
            return [layer, *after(2 * channels)]

        def up(channels: int) -> list[nn.Module]:
            half = channels // 2
            layer = upsample(channels, half, 3, upsampling=config.upsampling, padding=padding, bias=bias)
            return [layer, *after(half)]

        first = conv(in_channels, width, 7, pad=3, padding=padding, bias=bias)
        self.encoder = nn.Sequential(
            first,
            *after(width),
            *down(width),
            *down(2 * width),
            *(_Residual(config, 4 * width) for _ in range(blocks)),
        )
        last = conv(width, out_channels, 7, pad=3, padding=padding)
        self.decoder = nn.Sequential(*up(4 * width), *up(2 * width), last)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features at a quarter of the size, and the image where it is added to what is made of it."""
        features = self.encoder(image)
        return [features, image] if self.global_skip else [features]

    def decode(self, features: list[Tensor], uniforms: Sequence[Tensor] | None = None) -> Tensor:  # noqa: ARG002
        """Return tanh of the last layer, ``[B, out, H, W]``, with the image added before tanh if so configured."""
        y: Tensor = self.decoder(features[0])
        if self.global_skip:
            y = y.float() + torch.atanh(_LARGEST * features[1].float())
        return torch.tanh(y)

    def begin_at_identity(self) -> None:
        """Set the last layer's weights to 0 where there is a global skip: training begins at y = 0.99 x."""
        if self.global_skip:
            last: Any = self.decoder[-1]
            nn.init.zeros_(last.weight)


def _encoder(
    config: AdversarialConfig, widths: Sequence[int], norm: str, padding: str, spectral: bool
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for level, (a, b) in enumerate(pairwise(widths)):
        this = "none" if level == 0 else norm
        layers.append(conv(a, b, 4, stride=2, pad=1, padding=padding, bias=needs_bias(this), spectral=spectral))
        layers += [norm_layer(this, b, config.norm_groups), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


class DiscoGenerator(Generator):
    """All of x goes through its middle, at 1 / 2^depth of its size.

    Args:
        config: width, normalization, upsampling and padding.
        in_channels, out_channels: channels of x and y.
        depth: levels; the paper has 4 or 5. Sides are padded to multiples of 2^depth, the middle to 2 x 2.
    """

    def __init__(self, config: AdversarialConfig, in_channels: int, out_channels: int, *, depth: int) -> None:
        super().__init__()
        self.multiple, self.smallest = 2**depth, 2 ** (depth + 1)
        widths = [config.width * min(2**level, _MOST) for level in range(depth)]
        self.encoder = _encoder(config, [in_channels, *widths], config.norm, config.padding, spectral=False)
        layers: list[nn.Module] = []
        kinds = {"upsampling": config.upsampling, "padding": config.padding}
        for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers.append(upsample(a, b, 4, bias=needs_bias(config.norm), **kinds))
            layers += [norm_layer(config.norm, b, config.norm_groups), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, upsample(widths[0], out_channels, 4, bias=True, **kinds))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the middle's features."""
        return [self.encoder(image)]

    def decode(self, features: list[Tensor], uniforms: Sequence[Tensor] | None = None) -> Tensor:  # noqa: ARG002
        """Return tanh of the last layer, ``[B, out, H, W]``."""
        return torch.tanh(self.decoder(features[0]))


class EncoderDiscriminator(nn.Module):
    """Four halvings, then a 4 x 4 convolution to a score: one at 64 pixels, more in larger images.

    Args:
        config: ``discriminator_width``, ``discriminator_norm``, ``spectral_norm``.
        in_channels: channels of the images that it judges.
    """

    smallest = 4 * 2**_DISCRIMINATOR_LAYERS

    def __init__(self, config: AdversarialConfig, in_channels: int) -> None:
        super().__init__()
        widths = [config.discriminator_width * min(2**level, _MOST) for level in range(_DISCRIMINATOR_LAYERS)]
        norm, spectral = config.discriminator_norm, config.spectral_norm
        self.body = _encoder(config, [in_channels, *widths], norm, "zero", spectral)
        self.head = conv(widths[-1], 1, 4, spectral=spectral)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to scores ``[B, 1, h, w]``; images below 64 pixels are padded."""
        scores: Tensor = self.head(self.body(pad_to(image, 1, self.smallest)))
        return scores
