"""A U-Net whose every block is modulated by a vector, given what an encoder made of x once.

    h = GroupNorm(h) * (1 + scale(e)) + shift(e)        AdaGN, Dhariwal and Nichol 2021 (arXiv:2105.05233), eq. (2)

Diffusion modulates it by the noise level, a cVAE by z. x joins as if concatenated to the input: a convolution over
[y_t, x] is the sum of one over y_t and one over x, and the latter (with x's coarser levels, which join the same way)
is the same for all draws and steps. At the coarsest level pixels attend to each other and to a text's tokens
(GLIDE, Nichol et al. 2021, arXiv:2112.10741, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.base import Condition, condition_image
from condgen.nn.conditioners import ConditionerSet, Encoding, make_conditioners
from condgen.nn.config import ModulatedConfig
from condgen.nn.encoders import EncodedLevels

__all__ = ["ConditionEncoder", "Encoded", "ImageEncoder", "ModulatedUNet", "broadcast_draws", "convolution"]


class _CircularConvolution(nn.Conv2d):
    """A 3 x 3 convolution on a torus. PyTorch's own padding loses the channels-last layout, and a third of the time."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's name
        """Map ``[N, in, h, w]`` to ``[N, out, h / stride, w / stride]``."""
        x = torch.cat([input[..., -1:, :], input, input[..., :1, :]], dim=-2)
        x = torch.cat([x[..., -1:], x, x[..., :1]], dim=-1)
        return F.conv2d(x, self.weight, self.bias, self.stride)


def convolution(in_channels: int, out_channels: int, config: ModulatedConfig, stride: int = 1) -> nn.Conv2d:
    """Return a 3 x 3 convolution with the configuration's padding."""
    kind = _CircularConvolution if config.padding_mode == "circular" else nn.Conv2d
    return kind(in_channels, out_channels, 3, stride=stride, padding=1, padding_mode=config.padding_mode)


def broadcast_draws(draws: Tensor, per_sample: Tensor) -> Tensor:
    """Return ``draws`` ``[B * K, ...]`` plus ``per_sample`` ``[B, ...]``, without K copies of the latter."""
    return (torch.unflatten(draws, 0, (per_sample.shape[0], -1)) + per_sample[:, None]).flatten(0, 1)


def _silu(x: Tensor) -> Tensor:
    """Return SiLU of a tensor that nothing else reads, in its place where no gradient is asked for."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Block(nn.Module):
    """Two 3 x 3 convolutions, each after normalization and SiLU, around an identity; modulated between them.

    Args:
        in_channels, out_channels: channels of the input and of the output.
        config: configuration of the network.
        embedding_width: length of the modulating vector; 0 has none.
    """

    def __init__(self, in_channels: int, out_channels: int, config: ModulatedConfig, embedding_width: int = 0) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(config.norm_groups, in_channels)
        self.conv_in = convolution(in_channels, out_channels, config)
        self.norm_out = nn.GroupNorm(config.norm_groups, out_channels)
        self.modulation = nn.Linear(embedding_width, 2 * out_channels) if embedding_width else None
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = convolution(out_channels, out_channels, config)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        with torch.no_grad():  # begins near the identity, but lets gradients through
            self.conv_out.weight.mul_(0.1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map ``[N, in, h, w]`` and ``[N, embedding_width]`` to ``[N, out, h, w]``."""
        h = self.norm_out(self.conv_in(_silu(self.norm_in(x))))
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(F.silu(embedding))[..., None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift if torch.is_grad_enabled() else h.mul_(1 + scale).add_(shift)
        out: Tensor = self.skip(x) + self.conv_out(self.dropout(_silu(h)))
        return out


class Blocks(nn.ModuleList):
    """Blocks in a row, all modulated by one vector."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map ``[N, in, h, w]`` and ``[N, embedding_width]`` to ``[N, out, h, w]``."""
        for block in self:
            x = block(x, embedding)
        return x


class Attention(nn.Module):
    """Pixels attend to each other and to tokens.

    Args:
        channels: channels of the pixels.
        config: configuration of the network.
        token_width: length of each token; 0 has none.
    """

    def __init__(self, channels: int, config: ModulatedConfig, token_width: int = 0) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.norm = nn.GroupNorm(config.norm_groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.tokens = nn.Linear(token_width, 2 * channels) if token_width else None
        self.out = nn.Linear(channels, channels)
        with torch.no_grad():
            self.out.weight.mul_(0.1)

    def forward(self, x: Tensor, encoding: Encoding) -> Tensor:
        """Map ``[B * K, C, h, w]`` to the same, with the tokens of B samples."""
        num, _, height, width = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self._heads(self.qkv(pixels), 3)
        mask = None
        if self.tokens is not None:
            times = num // encoding.tokens.shape[0]
            more_k, more_v = (t.repeat_interleave(times, dim=0) for t in self._heads(self.tokens(encoding.tokens), 2))
            k, v = torch.cat([k, more_k.to(k.dtype)], dim=2), torch.cat([v, more_v.to(v.dtype)], dim=2)
            mask = F.pad(encoding.mask.repeat_interleave(times, dim=0), (height * width, 0), value=True)[:, None, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        joined = self.out(attended.transpose(1, 2).flatten(2))
        return x + torch.unflatten(joined.transpose(1, 2), 2, (height, width))

    def _heads(self, x: Tensor, parts: int) -> Iterator[Tensor]:
        return iter(torch.unflatten(x, -1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4))


class ImageEncoder(nn.Module):
    """x at every level of the U-Net: what it adds to the network's own, computed once for all draws and steps.

    Args:
        config: widths and depth, those of the U-Net.
        knows_null: whether it learns values for an image that was left out.
    """

    def __init__(self, config: ModulatedConfig, *, knows_null: bool = False) -> None:
        super().__init__()
        self.stride = config.out_stride
        widths = [config.width * m for m in config.multipliers]
        self.multiple = self.stride * 2 ** (len(widths) - 1)
        self.stem = convolution(config.condition_channels * self.stride**2, widths[0], config)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Block(w, w, config) for _ in range(config.encoder_blocks))) for w in widths
        )
        self.shrink = nn.ModuleList(convolution(a, b, config, stride=2) for a, b in pairwise(widths))
        self.null = nn.ParameterList(0.1 * torch.randn(w, 1, 1) for w in widths if knows_null)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, dropped: Tensor) -> tuple[tuple[Tensor, ...], None]:
        """Map ``[B, C, H, W]`` and which are left out, ``[B]`` bool, to features a level, the finest first."""
        height, width = image.shape[-2:]
        x = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        x = F.pixel_unshuffle(x, self.stride).contiguous(memory_format=torch.channels_last)
        x = self.blocks[0](self.stem(x))
        features = [x]
        for shrink, blocks in zip(self.shrink, self.blocks[1:], strict=True):
            x = blocks(shrink(x))
            features.append(x)
        return _left_out(features, self.null, dropped), None


def _left_out(features: Sequence[Tensor], null: nn.ParameterList, dropped: Tensor) -> tuple[Tensor, ...]:
    """Return the features, with the learned ones of no image in the samples that are ``dropped``, ``[B]`` bool."""
    if not null:
        return tuple(features)
    absent = dropped[:, None, None, None]
    return tuple(torch.where(absent, value.to(f.dtype), f) for value, f in zip(null, features, strict=True))


class PretrainedImageEncoder(nn.Module):
    """An ``ImageEncoder`` by a pretrained encoder and a decoder over it; its arguments are the same."""

    def __init__(self, config: ModulatedConfig, *, knows_null: bool = False) -> None:
        super().__init__()
        widths = tuple(config.width * m for m in config.multipliers)
        self.levels = EncodedLevels(config, config.out_stride, widths)
        self.null = nn.ParameterList(0.1 * torch.randn(w, 1, 1) for w in widths if knows_null)

    def forward(self, image: Tensor, dropped: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Map ``[B, 1, H, W]`` and which are left out, ``[B]`` bool, to features a level, and the decoder's finest."""
        levels, decoded = self.levels(image)
        return _left_out(levels, self.null, dropped), decoded


@dataclass(frozen=True)
class Encoded:
    """A condition of B samples, encoded.

    Attributes:
        image: features of x a level, each ``[B, C, h, w]``; empty without a condition image.
        other: the label's and the text's encoding, of ``config.embedding_width``.
        size: (H, W) of y.
        decoded: the finest features of the decoder over a pretrained encoder, ``[B, C, h, w]``; None without one.
    """

    image: tuple[Tensor, ...]
    other: Encoding
    size: tuple[int, int]
    decoded: Tensor | None = None


class ConditionEncoder(nn.Module):
    """All parts of a condition: the image's encoder and the conditioners of its label and text.

    Args:
        config: configuration of the network.
        size_px: side of y without a condition image.
        null_parts: the parts that the model is trained to do without.
        conditioners: conditioners (such as pretrained ones) that replace those of the configuration.
    """

    def __init__(
        self,
        config: ModulatedConfig,
        *,
        size_px: int = 0,
        null_parts: frozenset[str] = frozenset(),
        conditioners: ConditionerSet | None = None,
    ) -> None:
        super().__init__()
        self.channels = config.condition_channels
        self.size_px = size_px
        kind = ImageEncoder if config.encoder == "none" else PretrainedImageEncoder
        self.image = kind(config, knows_null="image" in null_parts) if self.channels else None
        self.conditioners = conditioners or make_conditioners(
            config.embedding_width,
            num_labels=config.num_labels,
            text_vocabulary=config.text_vocabulary,
            text_length=config.text_length,
            text_encoder=config.text_encoder,
            null_parts=null_parts,
        )

    def forward(self, condition: Condition, dropped: Tensor) -> Encoded:
        """Return the encoded condition.

        Args:
            condition: condition of B samples.
            dropped: ``[B]`` bool; where True, the parts that can be null are null.

        Raises:
            UnsupportedError: a part is missing or does not fit the model.
        """
        other = self.conditioners(condition, dropped)
        if self.image is None:
            return Encoded((), other, (self.size_px, self.size_px))
        image = condition_image(condition, self.channels)
        levels, decoded = self.image(image, dropped)
        return Encoded(levels, other, (image.shape[-2], image.shape[-1]), decoded)


class ModulatedUNet(nn.Module):
    """A U-Net at 1 / ``config.out_stride`` of the image's size, for K draws of each of B samples.

    Args:
        config: widths and depth.
        in_channels: channels of its own input; 0 starts from x alone.
        out_channels: channels of the output.
    """

    def __init__(self, config: ModulatedConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [config.width * m for m in config.multipliers]
        self.multiple = 2 ** (len(widths) - 1)
        self.stride = config.out_stride
        self.stem = convolution(in_channels, widths[0], config) if in_channels else None
        self.down = nn.ModuleList(self._blocks(w, w, config) for w in widths[:-1])
        self.shrink = nn.ModuleList(convolution(a, b, config, stride=2) for a, b in pairwise(widths))
        self.middle_in = Block(widths[-1], widths[-1], config, config.embedding_width)
        tokens = config.embedding_width if config.text_vocabulary and config.text_encoder == "transformer" else 0
        self.attention = Attention(widths[-1], config, tokens) if config.attention else None
        self.middle = self._blocks(widths[-1], widths[-1], config)
        self.grow = nn.ModuleList(convolution(b, a, config) for a, b in pairwise(widths))
        self.up = nn.ModuleList(self._blocks(2 * w, w, config) for w in widths[:-1])
        self.head_norm = nn.GroupNorm(config.norm_groups, widths[0])
        self.head = convolution(widths[0], out_channels, config)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def _blocks(in_channels: int, out_channels: int, config: ModulatedConfig) -> Blocks:
        widths = [in_channels] + [out_channels] * config.blocks_per_level
        return Blocks(Block(a, b, config, config.embedding_width) for a, b in pairwise(widths))

    def forward(self, y: Tensor | None, embedding: Tensor, encoded: Encoded) -> Tensor:
        """Return ``[B * K, out_channels, h, w]``.

        Args:
            y: the network's own input, ``[B * K, in_channels, h, w]``, (h, w) being the size of y at the stride
                (rounded up); None where there is none.
            embedding: modulating vectors, ``[B * K, config.embedding_width]``.
            encoded: encoded condition of B samples.
        """
        height, width = (-(-side // self.stride) for side in encoded.size)
        x = self._start(y, embedding.shape[0], encoded)
        skips = []
        for level, (blocks, shrink) in enumerate(zip(self.down, self.shrink, strict=True)):
            x = blocks(x, embedding)
            skips.append(x)
            x = shrink(x)
            if encoded.image:
                x = broadcast_draws(x, encoded.image[level + 1])
        x = self.middle_in(x, embedding)
        if self.attention is not None:
            x = self.attention(x, encoded.other)
        x = self.middle(x, embedding)
        for blocks, grow, skip in zip(reversed(self.up), reversed(self.grow), reversed(skips), strict=True):
            x = grow(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = blocks(torch.cat([x, skip], dim=1), embedding)
        out: Tensor = self.head(_silu(self.head_norm(x)))
        return out[..., :height, :width].float()

    def _start(self, y: Tensor | None, num: int, encoded: Encoded) -> Tensor:
        if y is None or self.stem is None:
            return encoded.image[0].repeat_interleave(num // encoded.image[0].shape[0], dim=0)
        height, width = y.shape[-2:]
        if encoded.image:  # of the padded size
            rows, columns = encoded.image[0].shape[-2:]
        else:
            rows, columns = (-(-side // self.multiple) * self.multiple for side in (height, width))
        padded = F.pad(y, (0, columns - width, 0, rows - height))
        x = self.stem(padded.contiguous(memory_format=torch.channels_last))
        return broadcast_draws(x, encoded.image[0]) if encoded.image else x
