"""A conditional U-Net whose decoder is modulated by noise everywhere, so that the noise can't be ignored cheaply.

z goes through two layers to w. At the middle w is given as channels, the same at every place; in every residual block
of the decoder it scales and shifts the normalized features (Perez et al. 2018, FiLM; the idea of Karras et al. 2019's
styles). Only the decoder depends on z: the condition is encoded once for all draws.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.families.cgan.config import CganConfig
from condgen.gan.layers import conv, norm_layer, pad_to, upsample
from condgen.nn.encoders import EncodedLevels

__all__ = ["NoiseUNet"]


class _Block(nn.Module):
    """Two 3 x 3 convolutions, each after normalization and SiLU, around an identity; the second one modulated by w."""

    def __init__(self, a: int, b: int, config: CganConfig, *, modulated: bool) -> None:
        super().__init__()
        self.norm_in = norm_layer(config.norm, a, config.norm_groups)
        self.conv_in = conv(a, b, 3, pad=1, padding=config.padding)
        self.norm_out = norm_layer(config.norm, b, config.norm_groups)
        self.conv_out = conv(b, b, 3, pad=1, padding=config.padding)
        self.skip = conv(a, b, 1) if a != b else nn.Identity()
        self.modulation = nn.Linear(config.noise_width, 2 * b) if modulated else None

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """Map ``[B, a, h, w]`` and ``[B, noise_width]`` to ``[B, b, h, w]``."""
        h = self.norm_out(self.conv_in(F.silu(self.norm_in(x))))
        if self.modulation is not None:
            scale, shift = self.modulation(w)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.conv_out(F.silu(h))
        return out


class NoiseUNet(nn.Module):
    """G(x, z): ``config.condition_channels`` to ``config.target_channels``, in [-1, 1], any size.

    Args:
        config: widths, levels and noise.
    """

    def __init__(self, config: CganConfig) -> None:
        super().__init__()
        widths = [config.width * m for m in config.multipliers]
        count = config.blocks_per_level
        self.multiple = 2 ** (len(widths) - 1)
        self.mapping = nn.Sequential(
            nn.Linear(config.noise_dim, config.noise_width),
            nn.SiLU(),
            nn.Linear(config.noise_width, config.noise_width),
            nn.SiLU(),
        )
        self.encoded: EncodedLevels | None = None
        if config.encoder == "none":
            self.stem = conv(config.condition_channels, widths[0], 3, pad=1, padding=config.padding)
            self.down = nn.ModuleList(
                nn.ModuleList(_Block(w, w, config, modulated=False) for _ in range(count)) for w in widths[:-1]
            )
            self.shrink = nn.ModuleList(
                conv(a, b, 3, stride=2, pad=1, padding=config.padding) for a, b in pairwise(widths)
            )
        else:
            self.encoded = EncodedLevels(config, 1, tuple(widths))
        inner = [widths[-1] + config.noise_width] + [widths[-1]] * count
        self.middle = nn.ModuleList(_Block(a, b, config, modulated=True) for a, b in pairwise(inner))
        self.grow = nn.ModuleList(
            upsample(b, a, 4, upsampling=config.upsampling, padding=config.padding, bias=True)
            for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.ModuleList(_Block(a, b, config, modulated=True) for a, b in pairwise([2 * w] + [w] * count))
            for w in widths[:-1]
        )
        self.head_norm = norm_layer(config.norm, widths[0], config.norm_groups)
        self.head = conv(widths[0], config.target_channels, 3, pad=1, padding=config.padding)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return each level's features of ``[B, C, H, W]``, finest first."""
        if self.encoded is not None:
            return list(self.encoded(image)[0])
        # Reflection needs two pixels at the coarsest level.
        x = self.stem(pad_to(image, self.multiple, 2 * self.multiple))
        features = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
            features.append(x)
            x = shrink(x)
        return [*features, x]

    def decode(self, features: list[Tensor], z: Tensor) -> Tensor:
        """Return tanh of the last layer at the padded size, of features and ``[B, noise_dim]``."""
        w = self.mapping(z)
        *skips, x = features
        x = torch.cat([x, w[:, :, None, None].expand(-1, -1, *x.shape[-2:])], dim=1)
        for block in self.middle:
            x = block(x, w)
        for blocks, grow, skip in zip(reversed(self.up), reversed(self.grow), reversed(skips), strict=True):
            x = torch.cat([grow(x), skip], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, w)
        return torch.tanh(self.head(F.silu(self.head_norm(x))))

    def forward(self, image: Tensor, z: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` and ``[B, noise_dim]`` to ``[B, out, H, W]`` in [-1, 1]."""
        return self.decode(self.encode(image), z)[..., : image.shape[-2], : image.shape[-1]]
