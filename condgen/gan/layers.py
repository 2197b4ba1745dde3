"""Layers that the adversarial networks share, and operations on a whole network: padding, initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

__all__ = ["NORMS", "InstanceNorm", "conv", "initialize", "needs_bias", "norm_layer", "pad_to", "upsample"]


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalization, which on CPUs keeps the memory format of its input.

    PyTorch's own returns the contiguous format there, whatever it was given, so that the convolution that follows
    converts it back: a training step of CycleGAN in channels_last takes 1.4 times as long with it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x ``[B, C, H, W]`` with mean 0 and variance 1 over H x W, in each sample and channel."""
        if x.device.type != "cpu":
            return super().forward(x)
        alone = [F.batch_norm(sample, None, None, training=True, eps=self.eps) for sample in torch.split(x, 1)]
        return torch.cat(alone) if len(alone) > 1 else alone[0]


NORMS: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {
        "batch": lambda channels, groups: nn.BatchNorm2d(channels),  # noqa: ARG005 - one signature for all
        "instance": lambda channels, groups: InstanceNorm(channels),  # noqa: ARG005
        "group": lambda channels, groups: nn.GroupNorm(math.gcd(groups, channels), channels),
        "none": lambda channels, groups: nn.Identity(),  # noqa: ARG005
    }
)
"""Normalizations by name: of channels and of the groups wanted."""
_PADDING_MODES: Mapping[str, Literal["zeros", "reflect"]] = MappingProxyType({"zero": "zeros", "reflect": "reflect"})


def norm_layer(norm: str, channels: int, groups: int) -> nn.Module:
    """Return the normalization ``norm`` of ``channels``; instance normalization has no weights of its own."""
    return NORMS[norm](channels, groups)


def needs_bias(norm: str) -> bool:
    """Return whether a convolution before ``norm`` has a bias, as in the papers' networks: where norm adds none."""
    return norm in ("instance", "none")


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    pad: int = 0,
    padding: str = "zero",
    bias: bool = True,
    spectral: bool = False,
) -> nn.Module:
    """Return a convolution; ``padding`` is ``zero`` or ``reflect``, ``spectral`` normalizes its weights."""
    mode = _PADDING_MODES[padding]
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, pad, bias=bias, padding_mode=mode)
    return parametrizations.spectral_norm(layer) if spectral else layer


def upsample(
    in_channels: int, out_channels: int, kernel: int, *, upsampling: str, padding: str, bias: bool
) -> nn.Module:
    """Return a layer that doubles the size: a transposed convolution, or nearest and a 3 x 3 convolution.

    Args:
        in_channels, out_channels: channels of its input and output.
        kernel: kernel size of the transposed convolution, 3 or 4.
        upsampling: ``transposed`` or ``resize``, which makes no checkerboards (Odena et al. 2016).
        padding: padding of the convolution after resizing, ``zero`` or ``reflect``.
        bias: whether the layer has a bias.
    """
    if upsampling == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel, 2, 1, output_padding=4 - kernel, bias=bias)
    after = conv(in_channels, out_channels, 3, pad=1, padding=padding, bias=bias)
    return nn.Sequential(nn.Upsample(scale_factor=2.0, mode="nearest"), after)


def pad_to(image: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """Return ``[B, C, H, W]`` with its last row and column repeated: sides are multiples of ``multiple``, >= smallest.

    What a network makes of it is cropped back to H x W.
    """
    height, width = (max(smallest, side) for side in image.shape[-2:])
    down, right = (side + -side % multiple - old for side, old in zip((height, width), image.shape[-2:], strict=True))
    return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image


def initialize(network: nn.Module, std: float) -> None:
    """Draw convolutions' weights from N(0, std), norms' from N(1, std), and set biases to 0 (Isola et al. 2017, 6.2).

    Args:
        network: network whose weights are changed in place.
        std: standard deviation; 0 leaves the network as PyTorch made it.
    """
    if std == 0.0:
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            # A spectral norm's parametrization keeps the weight that is trained under another name.
            normalized: Any = getattr(module, "parametrizations", None)
            trained = module.weight if normalized is None else normalized.weight.original
            nn.init.normal_(trained, 0.0, std)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
