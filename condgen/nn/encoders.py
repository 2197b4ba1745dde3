"""Encoders that were trained on ImageNet, and what a color model makes of their features.

A network that only sees some thousand photographs learns edges and textures; what a thing is, it does not. An encoder
trained to name things knows it. It is given the luminance as a grey sRGB image, normalized as it was in its training:

    L_n -> L -> Y -> grey sRGB -> (grey - mean) / std -> features at strides 2, 4, 8, 16, 32

A decoder goes back up from stride 32, joined at each stride by the encoder's features and at its finest one by the
luminance itself (U-Net, Ronneberger et al. 2015), with separable convolutions (Howard et al. 2017, arXiv:1704.04861).
The encoder's batch norms always use the statistics of their own training: a sample does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.checks import check_choice
from condgen.color.lab import denormalize_l
from condgen.errors import CheckpointError, ConfigError

__all__ = [
    "DECODER_STRIDES",
    "ENCODERS",
    "EncodedLevels",
    "EncodedUNet",
    "EncoderConfig",
    "EncoderDecoder",
    "EncoderKind",
    "PretrainedEncoder",
    "pretrained",
]

_STRIDES = (2, 4, 8, 16, 32)
DECODER_STRIDES = (1, *_STRIDES)
"""Of the decoder's widths in a configuration."""

_GREY_MEAN = (0.485, 0.456, 0.406)
_GREY_STD = (0.229, 0.224, 0.225)
"""Of ImageNet's sRGB in [0, 1], as all of torchvision's weights take it."""


@dataclass(frozen=True, kw_only=True)
class EncoderKind:
    """One architecture with pretrained weights.

    Attributes:
        name: name in configurations.
        build: function that returns the layers, in a row, with random weights.
        taps: the layers whose outputs are the features, at strides 2, 4, 8, 16 and 32.
        channels: channels of those features.
        prefix: prefix of the layers' names in a file of the whole classifier's weights.
    """

    name: str
    build: Callable[[], nn.Sequential]
    taps: tuple[int, int, int, int, int]
    channels: tuple[int, int, int, int, int]
    prefix: str


def _mobilenet_v2() -> nn.Sequential:
    from torchvision.models import mobilenet_v2

    layers: nn.Sequential = mobilenet_v2(weights=None).features[:18]
    return layers


def _table(*kinds: EncoderKind) -> Mapping[str, EncoderKind]:
    return MappingProxyType({kind.name: kind for kind in kinds})


ENCODERS: Mapping[str, EncoderKind] = _table(
    EncoderKind(  # Sandler et al. 2018, arXiv:1801.04381, without its last, widest layer
        name="mobilenet_v2",
        build=_mobilenet_v2,
        taps=(1, 3, 6, 13, 17),
        channels=(16, 24, 32, 96, 320),
        prefix="features.",
    ),
)
"""The encoders by name: what ``condgen.nn.config.UNetConfig.encoder`` may be, besides ``none``."""


class EncoderConfig(Protocol):
    """The part of a family's configuration that describes its encoder; see ``condgen.nn.config.UNetConfig``."""

    @property
    def encoder(self) -> str: ...

    @property
    def encoder_rate(self) -> float: ...

    @property
    def decoder_widths(self) -> tuple[int, ...]: ...

    @property
    def norm_groups(self) -> int: ...


class PretrainedEncoder(nn.Module):
    """An encoder of ``ENCODERS``: luminance to features at strides 2 to 32.

    Args:
        kind: the architecture.
        rate_scale: learning rate of the encoder as a share of the others'; 0 freezes it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: EncoderKind, rate_scale: float) -> None:
        super().__init__()
        self.kind = kind
        self.learning_rate_scale = rate_scale
        self.layers = kind.build()
        self.requires_grad_(rate_scale > 0)
        self.register_buffer("mean", torch.tensor(_GREY_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_GREY_STD)[:, None, None], persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> PretrainedEncoder:  # noqa: ARG002 - batch norms keep their statistics
        """Stay in ``eval()`` mode, whatever is asked."""
        return super().train(False)

    def forward(self, l_n: Tensor) -> list[Tensor]:
        """Return the features of L_n ``[B, 1, H, W]``: ``[B, C, H / s, W / s]`` for s = 2, 4, 8, 16, 32."""
        x = ((_grey(l_n) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features = []
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if place in self.kind.taps:
                features.append(x)
        return features

    def load_pretrained(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a whole classifier, as torchvision names them; what is behind the features is left out.

        Raises:
            CheckpointError: weights are missing or of other shapes.
        """
        expected = self.layers.state_dict()
        weights = {}
        for name, value in expected.items():
            weight = tensors.get(self.kind.prefix + name)
            if weight is None or weight.shape != value.shape:
                shape = "missing" if weight is None else list(weight.shape)
                raise CheckpointError(
                    f"the encoder's weights have {self.kind.prefix}{name} {shape}, and {self.kind.name} wants "
                    f"{list(value.shape)}: give the file of torchvision's {self.kind.name}"
                )
            weights[name] = weight
        self.layers.load_state_dict(weights)


def _grey(l_n: Tensor) -> Tensor:
    """Return L_n as a grey sRGB image in [0, 1], ``[B, 1, H, W]``: the code that all three channels have."""
    lightness = denormalize_l(l_n)
    y = torch.where(lightness > 8.0, ((lightness + 16.0) / 116.0) ** 3, lightness * (27.0 / 24389.0)).clamp(0.0, 1.0)
    return torch.where(y <= 0.0031308, 12.92 * y, 1.055 * y.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def pretrained(model: nn.Module) -> PretrainedEncoder | None:
    """Return the pretrained encoder of a model; None where it has none."""
    return next((module for module in model.modules() if isinstance(module, PretrainedEncoder)), None)


class _Separable(nn.Module):
    """A depthwise 3 x 3 convolution and one across channels, normalized; around an identity where widths agree."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.GroupNorm(groups, out_channels)
        self.is_residual = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in, h, w]`` to ``[B, out, h, w]``."""
        h = F.silu(self.norm(self.pointwise(self.depthwise(x))))
        return x + h if self.is_residual else h


class EncoderDecoder(nn.Module):
    """Luminance to features at every stride from ``finest_stride`` to 32, by a pretrained encoder and a decoder.

    Args:
        config: configuration of the family; ``decoder_widths`` are the decoder's channels at strides 1, 2, 4, 8, 16 and
            32.
        finest_stride: stride of the finest features, one of 1, 2, 4, 8, 16.

    Attributes:
        strides: strides of the features, the finest first.
        widths: their channels.

    Raises:
        ConfigError: an unknown encoder.
    """

    def __init__(self, config: EncoderConfig, finest_stride: int) -> None:
        super().__init__()
        check_choice("model.encoder", config.encoder, ENCODERS)
        kind, groups = ENCODERS[config.encoder], config.norm_groups
        self.encoder = PretrainedEncoder(kind, config.encoder_rate)
        by_stride = dict(zip(DECODER_STRIDES, config.decoder_widths, strict=True))
        self.strides = tuple(stride for stride in by_stride if stride >= finest_stride)
        self.widths = tuple(by_stride[stride] for stride in self.strides)
        coarsest = self.widths[-1]
        self.entry = nn.Conv2d(kind.channels[-1], coarsest, 1)
        self.whole = nn.Linear(coarsest, coarsest)
        self.middle = nn.Sequential(_Separable(coarsest, coarsest, groups), _Separable(coarsest, coarsest, groups))
        skips = dict(zip(_STRIDES, kind.channels, strict=True)) | {1: 0}
        skips[finest_stride] += finest_stride**2
        self.up = nn.ModuleList(
            nn.Sequential(
                _Separable(self.widths[place + 1] + skips[stride], self.widths[place], groups),
                _Separable(self.widths[place], self.widths[place], groups),
            )
            for place, stride in enumerate(self.strides[:-1])
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, l_n: Tensor) -> list[Tensor]:
        """Return the features of L_n ``[B, 1, H, W]``, the finest first, of the size padded to a multiple of 32."""
        height, width = l_n.shape[-2:]
        padded = F.pad(l_n, (0, -width % _STRIDES[-1], 0, -height % _STRIDES[-1]), mode="replicate")
        skips = dict(zip(_STRIDES, self.encoder(padded), strict=True))
        finest = self.strides[0]
        own = F.pixel_unshuffle(padded, finest).contiguous(memory_format=torch.channels_last)
        x = self.entry(skips[_STRIDES[-1]])
        x = x + self.whole(x.mean(dim=(2, 3)))[..., None, None]
        features = [self.middle(x)]
        for stride, blocks in zip(reversed(self.strides[:-1]), reversed(self.up), strict=True):
            parts = [F.interpolate(features[-1], scale_factor=2.0, mode="nearest")]
            parts += [skips[stride]] if stride in skips else []
            parts += [own.to(parts[0].dtype)] if stride == finest else []
            features.append(blocks(torch.cat(parts, dim=1)))
        return features[::-1]


class EncodedUNet(nn.Module):
    """A ``condgen.nn.unet.UNet`` whose way down is a pretrained encoder.

    Args:
        config: configuration of the family, with an encoder.
        out_stride: stride of the output.
        out_channels: channels of the output.
    """

    def __init__(self, config: EncoderConfig, out_stride: int, out_channels: int) -> None:
        super().__init__()
        self.stride = out_stride
        self.body = EncoderDecoder(config, out_stride)
        self.head = nn.Conv2d(self.body.widths[0], out_channels, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, 1, H, W]`` to ``[B, out, ceil(H / stride), ceil(W / stride)]``."""
        height, width = image.shape[-2:]
        out: Tensor = self.head(self.body(image)[0])
        return out[..., : -(-height // self.stride), : -(-width // self.stride)]


class EncodedLevels(nn.Module):
    """A pretrained encoder's features as the levels of another network, which joins them to its own.

    Args:
        config: configuration of the family, with an encoder.
        finest_stride: stride of the first level; each further one halves the size.
        widths: the levels' channels.
    """

    def __init__(self, config: EncoderConfig, finest_stride: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.body = EncoderDecoder(config, finest_stride)
        if len(widths) > len(self.body.widths):
            most = len(self.body.widths)
            raise ConfigError("model.multipliers", len(widths), f"at most {most}: the encoder's strides end at 32")
        own = self.body.widths[: len(widths)]
        self.project = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(own, widths, strict=True))
        self.to(memory_format=torch.channels_last)

    def forward(self, l_n: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the levels, ``[B, width, h, w]`` each, and the decoder's finest features, of L_n ``[B, 1, H, W]``."""
        features = self.body(l_n)
        levels = tuple(project(x) for project, x in zip(self.project, features, strict=False))
        return levels, features[0]
