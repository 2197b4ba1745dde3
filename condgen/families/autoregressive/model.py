"""A causal transformer over tokens: [x as a prefix, then y].

    p(y | x) = prod_i p(y_i | y_1 .. y_{i-1}, x)            an exact likelihood, by the chain rule

y is made small (means over ``out_stride`` squares) and quantized: ``bins``, a token a channel of a pixel (van den Oord
et al. 2016, arXiv:1601.06759; pixels by row, then column, channels innermost), or ``ab``, a token a pixel of the ab
grid in gamut (the colorization transformer, Kumar et al. 2021, arXiv:2102.04432, has coarse colors first as well).
The prefix is patches of x (Dosovitskiy et al. 2021, arXiv:2010.11929), the label, the text's tokens; tokens of the
prefix see the whole prefix, those of y the prefix and the y before them. Where x and y are aligned, each token of y can
also be told the x at its place, which attention takes long to find. Without conditions the prefix is empty and the
model unconditional. Sampling keeps keys and values; the K draws of a sample share its prefix's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image, weighted_mean
from condgen.color.ab_bins import AbBins
from condgen.color.lab import denormalize_ab, normalize_ab
from condgen.color.uniform_bins import from_levels, to_levels
from condgen.families.autoregressive.config import AutoregressiveConfig
from condgen.nn.conditioners import make_conditioners
from condgen.nn.transformer import Cache, TransformerBlock, grid_positions
from condgen.nn.unet import pool_to_stride, upsample_from_stride
from condgen.noise import NoiseSource

__all__ = ["Autoregressive", "Prefix", "filter_logits"]


@dataclass(frozen=True)
class Prefix:
    """The tokens before y.

    Attributes:
        tokens: ``[B, P, D]``; P may be 0.
        mask: ``[B, P]`` bool, which of them are there.
        size: (H, W) of y.
        beside: what x is where each token of y lies, ``[B, N, D]``, where the model is told (``aligned``).
    """

    tokens: Tensor
    mask: Tensor
    size: tuple[int, int]
    beside: Tensor | None = None


def filter_logits(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Return logits / temperature with the unlikely tokens at minus infinity.

    Args:
        logits: ``[..., V]``.
        temperature: > 0.
        top_k: keeps the k likeliest (and ties of the last).
        top_p: then keeps the fewest likeliest that hold at least this share (nucleus sampling, Holtzman et al.
            2020, arXiv:1904.09751).
    """
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None and top_p < 1.0:
        ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered
        outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(outside, -torch.inf)
    return logits


class Autoregressive(ConditionalModel):
    """p(y's tokens | x) at 1 / ``out_stride`` of the image; draws are upsampled bilinearly from there."""

    family: ClassVar[str] = "autoregressive"
    is_stochastic: ClassVar[bool] = True
    sample_options: ClassVar[tuple[str, ...]] = ("top_k", "top_p")
    config: AutoregressiveConfig

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__(config)
        width = config.width
        self.bins = AbBins(config.grid_step) if config.tokens == "ab" else None
        self.vocabulary = len(self.bins) if self.bins is not None else config.num_bins
        self.tokens_per_pixel = 1 if self.bins is not None else config.target_channels
        pixels = config.condition_channels * config.patch_px**2
        self.patches = nn.Linear(pixels, width) if pixels else None
        beside = config.condition_channels * config.out_stride**2
        self.beside = nn.Linear(beside, width) if config.aligned else None
        self.conditioners = make_conditioners(
            width,
            num_labels=config.num_labels,
            text_vocabulary=config.text_vocabulary,
            text_length=config.text_length,
            text_encoder=config.text_encoder,
        )
        self.values = nn.Embedding(self.tokens_per_pixel * self.vocabulary + 1, width)  # the last begins y
        self.channels = nn.Parameter(0.5 * torch.randn(self.tokens_per_pixel, width))
        self.places = nn.Linear(width, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.tokens_per_pixel * self.vocabulary)
        with torch.no_grad():
            self.head.weight.mul_(0.1)

    def prefix(self, condition: Condition) -> Prefix:
        """Return x as tokens.

        Raises:
            UnsupportedError: a part of the condition is missing or doesn't fit.
        """
        config, num = self.config, condition.num_samples
        none = torch.zeros(num, dtype=torch.bool, device=self.channels.device)
        other = self.conditioners(condition, none)
        tokens, mask, size, beside = other.tokens, other.mask, (config.size_px, config.size_px), None
        if self.conditioners.parts:
            tokens = torch.cat([other.vector[:, None], tokens], dim=1)
            mask = F.pad(mask, (1, 0), value=True)
        if self.patches is not None:
            image = condition_image(condition, config.condition_channels)
            patches = self._patch(image, self.patches)
            tokens = torch.cat([patches, tokens], dim=1)
            mask = F.pad(mask, (patches.shape[1], 0), value=True)
            size = (image.shape[-2], image.shape[-1])
            if self.beside is not None:
                folded = _unshuffle(image, config.out_stride).flatten(2).transpose(1, 2)
                beside = self.beside(folded).repeat_interleave(self.tokens_per_pixel, dim=1)
        return Prefix(tokens, mask, size, beside)

    def _patch(self, image: Tensor, project: nn.Linear) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, P, D]``, by row, then column."""
        side = self.config.patch_px
        patches = _unshuffle(image, side)
        rows, columns = patches.shape[-2:]
        places = self.places(grid_positions(rows, columns, side, self.config.width, image.device))
        out: Tensor = project(patches.flatten(2).transpose(1, 2)) + places
        return out

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (h, w) of y's tokens for an image of (H, W)."""
        stride = self.config.out_stride
        return -(-size[0] // stride), -(-size[1] // stride)

    def quantize(self, y: Tensor) -> Tensor:
        """Return y ``[..., C, H, W]`` as tokens ``[..., h * w * (1 or C)]`` int64."""
        small = pool_to_stride(y, self.config.out_stride)
        if self.bins is not None:
            return self.bins.to(y.device).nearest(denormalize_ab(small)).flatten(-2)
        index = to_levels(small, self.config.num_bins, self.config.value_limit)
        return index.movedim(-3, -1).flatten(-3)

    def dequantize(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Return tokens ``[..., N]`` as y ``[..., C, H, W]`` float32 of ``size``."""
        height, width = self.grid(size)
        if self.bins is not None:
            small = normalize_ab(self.bins.to(tokens.device).decode(torch.unflatten(tokens, -1, (height, width))))
        else:
            values = from_levels(tokens, self.config.num_bins, self.config.value_limit)
            small = torch.unflatten(values, -1, (height, width, self.config.target_channels)).movedim(-1, -3)
        return upsample_from_stride(small, self.config.out_stride, size)

    def _targets(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """Return what an input token is told of the next one: its place and channel, ``[N, D]``."""
        config = self.config
        places = self.places(grid_positions(*self.grid(size), config.out_stride, config.width, device))
        each: Tensor = places[:, None] + self.channels
        return each.flatten(0, 1)

    def _inputs(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Return embeddings of tokens ``[..., n]``, which are y's number ``first`` and on: ``[..., n, D]``."""
        channel = (torch.arange(tokens.shape[-1], device=tokens.device) + first) % self.tokens_per_pixel
        embedded: Tensor = self.values(tokens + channel * self.vocabulary)
        return embedded

    def _logits(self, x: Tensor, first: int = 0) -> Tensor:
        """Map ``[..., n, D]`` to float32 logits ``[..., n, V]`` of y's tokens number ``first`` and on."""
        whole = torch.unflatten(self.head(self.norm(x)).float(), -1, (self.tokens_per_pixel, self.vocabulary))
        channel = (torch.arange(x.shape[-2], device=x.device) + first) % self.tokens_per_pixel
        index = channel[:, None, None].expand(*whole.shape[:-2], 1, self.vocabulary)
        return whole.gather(-2, index)[..., 0, :]

    def logits(self, condition: Condition, tokens: Tensor) -> Tensor:
        """Return the logits of every token of y given those before it, ``[B, N, V]`` float32, in one pass.

        Args:
            condition: condition of B samples.
            tokens: tokens of y, ``[B, N]`` int64.
        """
        prefix = self.prefix(condition)
        begin = self.values.weight[-1].expand(tokens.shape[0], 1, -1)
        x = torch.cat([begin, self._inputs(tokens[:, :-1])], dim=1) + self._targets(prefix.size, tokens.device)
        if prefix.beside is not None:
            x = x + prefix.beside
        count, length = prefix.mask.shape[1], tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        within = F.pad(prefix.mask[:, None].expand(-1, count, -1), (0, length))
        after = torch.cat([prefix.mask[:, None].expand(-1, length, -1), causal.expand(len(tokens), -1, -1)], dim=2)
        mask = torch.cat([within, after], dim=1)[:, None]
        x = torch.cat([prefix.tokens, x], dim=1)
        for block in self.blocks:
            x = block(x, mask)
        return self._logits(x[:, count:])

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:  # noqa: ARG002 - one phase
        """Return ``cross_entropy``, in nats a token."""
        tokens = self.quantize(batch.target)
        log_p = -F.cross_entropy(self.logits(batch.condition, tokens).transpose(1, 2), tokens, reduction="none")
        return {"cross_entropy": weighted_mean(-log_p.mean(dim=1), batch.weight)}

    @torch.no_grad()
    def log_prob(self, condition: Condition, y: Tensor) -> Tensor:
        """Return the exact log probability of y's tokens at the model's grid: nats, ``[B]`` float32.

        Args:
            condition: condition of B samples.
            y: ``[B, C, H, W]`` float32; what quantizes to the same tokens has the same probability.
        """
        log_p, tokens = self.categories(condition, y)
        return log_p.gather(-1, tokens[..., None])[..., 0].sum(dim=1)

    @torch.no_grad()
    def categories(self, condition: Condition, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p of each token given those of y before it, and y's tokens, ``[B, N, V]`` and ``[B, N]``."""
        tokens = self.quantize(y)
        return self.logits(condition, tokens).log_softmax(dim=-1), tokens

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]`` float32.

        ``temperature``, ``top_k`` and ``top_p`` shape each token's distribution; ``point`` takes the likeliest
        token at every place (greedily: not always the likeliest y).

        Raises:
            UnsupportedError: a direction back, or a condition that doesn't fit.
        """
        self.require_direction(options.direction)
        prefix = self.prefix(condition)
        return self.dequantize(self._draw(prefix, noise, options), prefix.size)

    def _draw(self, prefix: Prefix, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return tokens ``[B, K, N]``, each by inverting its CDF at one uniform."""
        device = self.channels.device
        targets = self._targets(prefix.size, device)
        length, draws = targets.shape[0], noise.num_draws
        uniform = noise.uniform((length,)).to(device)
        caches = self._prefill(prefix, draws, length)
        tokens = torch.zeros(prefix.tokens.shape[0], draws, length, dtype=torch.int64, device=device)
        x = self.values.weight[-1].expand(*tokens.shape[:2], -1)
        for i in range(length):
            x = x + targets[i]
            if prefix.beside is not None:
                x = x + prefix.beside[:, None, i]
            for block, cache in zip(self._layers(), caches, strict=True):
                x = block.step(x, cache, prefix.mask, i)
            logits = self._logits(x[..., None, :], first=i)[..., 0, :]
            tokens[..., i] = _pick(logits, uniform[..., i], options)
            x = self._inputs(tokens[..., i : i + 1], first=i)[..., 0, :]
        return tokens

    def _layers(self) -> list[TransformerBlock]:
        return cast("list[TransformerBlock]", list(self.blocks))

    def _prefill(self, prefix: Prefix, num_draws: int, length: int) -> list[Cache]:
        x, caches = prefix.tokens, []
        for block in self._layers():
            x, keys_values = block.with_keys(x, prefix.mask[:, None, None])
            caches.append(Cache.empty(keys_values, num_draws, length))
        return caches


def _pick(logits: Tensor, uniform: Tensor, options: SampleOptions) -> Tensor:
    """Return tokens ``[B, K]`` from ``[B, K, V]`` and uniforms ``[B, K]``."""
    if options.mode == "point":
        return logits.argmax(dim=-1)
    filtered = filter_logits(logits, options.temperature, options.top_k, options.top_p)
    cdf = filtered.double().softmax(dim=-1).cumsum(dim=-1)
    at = torch.searchsorted(cdf, uniform.double()[..., None] * cdf[..., -1:], right=True)[..., 0]
    return at.clamp_max(logits.shape[-1] - 1)


def _unshuffle(image: Tensor, side: int) -> Tensor:
    """Return ``[B, C, H, W]`` as ``[B, C * side * side, h, w]``, its edge repeated up to a multiple of ``side``."""
    height, width = image.shape[-2:]
    return F.pixel_unshuffle(F.pad(image, (0, -width % side, 0, -height % side), mode="replicate"), side)
