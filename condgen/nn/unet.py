"""A conditional U-Net that sees an image of any size and works at a fraction of it.

Group normalization keeps each sample independent of its batch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.nn.config import UNetConfig
from condgen.nn.encoders import EncodedUNet

__all__ = ["UNet", "conditional_unet", "pool_to_stride", "upsample_from_stride"]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after normalization and SiLU, around an identity."""

    def __init__(self, in_channels: int, out_channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(config.norm_groups, in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_out = nn.GroupNorm(config.norm_groups, out_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in, h, w]`` to ``[B, out, h, w]``."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.conv_out(self.dropout(F.silu(self.norm_out(h))))
        out: Tensor = self.skip(x) + h
        return out


def _blocks(in_channels: int, out_channels: int, config: UNetConfig) -> nn.Sequential:
    widths = [in_channels] + [out_channels] * config.blocks_per_level
    return nn.Sequential(*(ResidualBlock(a, b, config) for a, b in pairwise(widths)))


class UNet(nn.Module):
    """Images to feature maps at 1 / ``config.out_stride`` of their size.

    The input is padded (its edge repeated) to a multiple of what the levels need, the output cropped back. The
    stem folds out_stride x out_stride pixels into channels, so that no convolution runs finer than the output.

    Args:
        config: widths and depth.
        out_channels: channels of the output.
    """

    def __init__(self, config: UNetConfig, out_channels: int) -> None:
        super().__init__()
        self.stride = config.out_stride
        widths = [config.width * m for m in config.multipliers]
        self.multiple = self.stride * 2 ** (len(widths) - 1)
        self.stem = nn.Conv2d(config.condition_channels * self.stride**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(w, w, config) for w in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.middle = _blocks(widths[-1], widths[-1], config)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_blocks(2 * w, w, config) for w in widths[:-1])
        self.head_norm = nn.GroupNorm(config.norm_groups, widths[0])
        self.head = nn.Conv2d(widths[0], out_channels, 1)
        self.to(memory_format=torch.channels_last)  # 1.3 times as fast on CPUs

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, out, ceil(H / stride), ceil(W / stride)]``."""
        height, width = image.shape[-2:]
        x = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        x = F.pixel_unshuffle(x, self.stride).contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            x = blocks(x)
            skips.append(x)
            x = shrink(x)
        x = self.middle(x)
        for blocks, grow, skip in zip(reversed(self.up), reversed(self.grow), reversed(skips), strict=True):
            x = grow(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = blocks(torch.cat([x, skip], dim=1))
        out: Tensor = self.head(F.silu(self.head_norm(x)))
        return out[..., : -(-height // self.stride), : -(-width // self.stride)]


def conditional_unet(config: UNetConfig, out_channels: int) -> UNet | EncodedUNet:
    """Return the network that a configuration asks for: all its own, or over a pretrained encoder.

    Either takes ``[B, C, H, W]`` to ``[B, out_channels, ceil(H / out_stride), ceil(W / out_stride)]``.
    """
    if config.encoder == "none":
        return UNet(config, out_channels)
    return EncodedUNet(config, config.out_stride, out_channels)


def pool_to_stride(y: Tensor, stride: int) -> Tensor:
    """Return the means of stride x stride squares, ``[..., C, ceil(H / s), ceil(W / s)]``; edges are repeated."""
    if stride == 1:
        return y
    height, width = y.shape[-2:]
    flat = y.reshape(-1, *y.shape[-3:])
    padded = F.pad(flat, (0, -width % stride, 0, -height % stride), mode="replicate")
    pooled = F.avg_pool2d(padded, stride)
    return pooled.reshape(*y.shape[:-2], *pooled.shape[-2:])


def upsample_from_stride(y: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Return ``[..., C, h, w]`` upsampled bilinearly by ``stride`` and cropped to ``size``."""
    if stride == 1:
        return y
    flat = y.reshape(-1, *y.shape[-3:])
    up = F.interpolate(flat, scale_factor=float(stride), mode="bilinear", align_corners=False)
    return up[..., : size[0], : size[1]].reshape(*y.shape[:-2], *size)
