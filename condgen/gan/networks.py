"""The networks of Isola et al. 2017, "Image-to-image translation with conditional adversarial networks".

arXiv:1611.07004, section 6.1: C64-C128-C256-C512-C512-C512-C512-C512 and back, with skips between mirrored levels,
and the discriminators C64-C128 (1 x 1 filters), C64-C128, C64-C128-C256-C512 and on to 286 pixels. All convolutions
but the 1-pixel discriminator's are 4 x 4; the first has no normalization; leaky ReLUs have slope 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.gan.config import AdversarialConfig
from condgen.gan.generator import Generator, dropout_with
from condgen.gan.layers import conv, needs_bias, norm_layer, pad_to, upsample

__all__ = ["PATCH_LAYERS", "PatchDiscriminator", "SkipUNet"]

_MOST = 8  # widths grow up to 8 times the first
_NUM_DROPOUTS = 3

PATCH_LAYERS: Mapping[int, int] = MappingProxyType({1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5})
"""How many layers of stride 2 give a receptive field of so many pixels: two more of stride 1 follow."""


class SkipUNet(Generator):
    """The paper's U-Net; its middle level is not normalized, since 256 pixels leave 1 x 1 there.

    Args:
        config: width, normalization, upsampling and padding.
        in_channels, out_channels: channels of x and y.
        depth: levels; sides are padded to multiples of 2^depth.
        dropout: probability, after the decoder's first three layers.
    """

    def __init__(
        self, config: AdversarialConfig, in_channels: int, out_channels: int, *, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.multiple = self.smallest = 2**depth
        self.dropout = dropout
        self.widths = [config.width * min(2**level, _MOST) for level in range(depth)]
        bias, groups, padding = needs_bias(config.norm), config.norm_groups, config.padding
        sides = [in_channels, *self.widths]
        self.down = nn.ModuleList(
            conv(a, b, 4, stride=2, pad=1, padding=padding, bias=bias) for a, b in pairwise(sides)
        )
        self.down_norms = nn.ModuleList(
            norm_layer(config.norm if 0 < level < depth - 1 else "none", width, groups)
            for level, width in enumerate(self.widths)
        )
        outs = [out_channels, *self.widths[:-1]]
        self.up = nn.ModuleList(
            upsample(
                width if level == depth - 1 else 2 * width,
                outs[level],
                4,
                upsampling=config.upsampling,
                padding=padding,
                bias=bias or level == 0,
            )
            for level, width in enumerate(self.widths)
        )
        self.up_norms = nn.ModuleList(norm_layer(config.norm, width, groups) for width in self.widths[:-1])

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return each level's features, finest first; level i has 1 / 2^(i + 1) of the image's size."""
        features: list[Tensor] = []
        x = image
        for level, (layer, norm) in enumerate(zip(self.down, self.down_norms, strict=True)):
            x = norm(layer(F.leaky_relu(x, 0.2) if level else x))
            features.append(x)
        return features

    def dropout_shapes(self, features: list[Tensor]) -> list[tuple[int, ...]]:
        """Return the shapes after the decoder's first three layers: those of the mirrored levels."""
        return [tuple(f.shape[1:]) for f in reversed(features[-1 - _NUM_DROPOUTS : -1])] if self.dropout else []

    def decode(self, features: list[Tensor], uniforms: Sequence[Tensor] | None = None) -> Tensor:
        """Return tanh of the last layer, ``[B, out, H, W]``."""
        x = features[-1]
        for count, level in enumerate(range(len(self.widths) - 1, 0, -1)):
            x = self.up_norms[level - 1](self.up[level](F.relu(x)))
            if self.dropout and count < _NUM_DROPOUTS:
                x = dropout_with(x, self.dropout, uniforms[count] if uniforms else None, self.training)
            x = torch.cat([x, features[level - 1]], dim=1)
        return torch.tanh(self.up[0](F.relu(x)))


class PatchDiscriminator(nn.Module):
    """Scores of overlapping patches; each sees exactly ``patch_px`` x ``patch_px`` pixels where no norm looks further.

    Args:
        config: ``discriminator_width``, ``discriminator_norm``, ``spectral_norm``.
        in_channels: channels of y, or of (x, y) together.
        patch_px: side of a patch (pixels): 1, 16, 34, 70, 142 or 286.
    """

    def __init__(self, config: AdversarialConfig, in_channels: int, patch_px: int) -> None:
        super().__init__()
        layers, width = PATCH_LAYERS[patch_px], config.discriminator_width
        self.smallest = 3 * 2**layers if layers else 2  # instance norm needs more than one pixel
        widths = [width * min(2**level, _MOST) for level in range(max(layers, 1) + 1)]
        kernel, pad = (4, 1) if layers else (1, 0)
        norm, spectral = config.discriminator_norm, config.spectral_norm
        bias = needs_bias(norm)

        def layer(a: int, b: int, stride: int, with_bias: bool) -> nn.Module:
            return conv(a, b, kernel, stride=stride, pad=pad, bias=with_bias, spectral=spectral)

        body: list[nn.Module] = [layer(in_channels, width, 2 if layers else 1, True), nn.LeakyReLU(0.2)]
        for level, (a, b) in enumerate(pairwise(widths), start=1):
            body += [layer(a, b, 2 if level < layers else 1, bias), norm_layer(norm, b, config.norm_groups)]
            body += [nn.LeakyReLU(0.2)]
        # The reference's 1-pixel discriminator alone has no last bias where a norm has one.
        body.append(layer(widths[-1], 1, 1, bool(layers) or bias))
        self.body = nn.Sequential(*body)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to scores ``[B, 1, h, w]``; images too small for one patch's layers are padded."""
        scores: Tensor = self.body(pad_to(image, 1, self.smallest))
        return scores
