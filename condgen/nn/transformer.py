"""Transformer blocks (Vaswani et al. 2017, arXiv:1706.03762; normalized first), with a key-value cache.

Shapes: B samples, K draws of each, T tokens, D width, H heads of E = D / H numbers, P tokens of a prefix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Cache", "KeysValues", "TransformerBlock", "grid_positions", "sinusoids"]


def sinusoids(values: Tensor, width: int, *, low: float, high: float) -> Tensor:
    """Return sines and cosines of numbers, at frequencies from ``low`` to ``high`` in geometric steps.

    Args:
        values: ``[...]`` float32.
        width: length of the result, even; half of it are frequencies.
        low, high: lowest and highest frequency (radians a unit).

    Returns:
        ``[..., width]`` float32.
    """
    exponents = torch.linspace(math.log(low), math.log(high), width // 2, device=values.device)
    angles = values.float()[..., None] * exponents.exp()
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def grid_positions(height: int, width: int, step_px: int, features: int, device: torch.device) -> Tensor:
    """Return features of the centers of a grid's cells, by row, then column, ``[height * width, features]``.

    Args:
        height, width: size of the grid (cells).
        step_px: side of a cell (pixels of the image), so that grids of different steps share one space.
        features: number of features, a multiple of 4.
        device: device of the result.
    """
    rows = (torch.arange(height, device=device) + 0.5) * step_px
    columns = (torch.arange(width, device=device) + 0.5) * step_px
    down, across = (sinusoids(v, features // 2, low=2e-3, high=2.0) for v in (rows, columns))
    whole = torch.cat(
        [down[:, None].expand(height, width, -1), across[None].expand(height, width, -1)],
        dim=-1,
    )
    return whole.reshape(height * width, features)


@dataclass(frozen=True)
class KeysValues:
    """A layer's keys and values, each ``[B, H, T, E]``."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Cache:
    """A layer's memory while K draws of each sample are made token by token.

    Attributes:
        prefix: keys and values of the prefix, one for all K draws.
        keys, values: keys and values of the tokens so far, ``[B, K, H, T, E]``, filled from the left.
    """

    prefix: KeysValues
    keys: Tensor
    values: Tensor

    @classmethod
    def empty(cls, prefix: KeysValues, num_draws: int, length: int) -> Cache:
        """Return a cache for ``length`` tokens of ``num_draws`` draws."""
        batch, heads, _, each = prefix.keys.shape
        shape = (batch, num_draws, heads, length, each)
        return cls(prefix, prefix.keys.new_zeros(shape), prefix.keys.new_zeros(shape))


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward network of four times the width, each around an identity.

    Args:
        width: D.
        heads: H, a divisor of it.
        dropout: probability, at the end of both parts.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``[B, T, D]``.

        Args:
            x: ``[B, T, D]``.
            mask: bool, broadcast to ``[B, H, T, T]``: which token (row) looks at which (column), each at one at
                least.
        """
        return self.with_keys(x, mask)[0]

    def with_keys(self, x: Tensor, mask: Tensor) -> tuple[Tensor, KeysValues]:
        """Return what ``forward`` does, and the keys and values to go on from."""
        q, k, v = self._project(x)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._finish(x, attended.transpose(1, 2).flatten(2)), KeysValues(k, v)

    def step(self, x: Tensor, cache: Cache, prefix_mask: Tensor, position: int) -> Tensor:
        """Return the next token's ``[B, K, D]``, and fill the cache at ``position``.

        The K draws of a sample are K queries of its one prefix, which is never repeated.

        Args:
            x: ``[B, K, D]``.
            cache: cache of this layer, filled up to ``position``.
            prefix_mask: ``[B, P]`` bool: which tokens of the prefix are there.
            position: position of the token among the draws' tokens.
        """
        q, k, v = self._project(x)  # [B, H, K, E]
        cache.keys[:, :, :, position] = k.transpose(1, 2)
        cache.values[:, :, :, position] = v.transpose(1, 2)
        keys, values = (t[:, :, :, : position + 1].transpose(1, 2) for t in (cache.keys, cache.values))
        from_prefix = (q @ cache.prefix.keys.transpose(-1, -2)).float()  # [B, H, K, P]
        from_prefix = from_prefix.masked_fill(~prefix_mask[:, None, None], -math.inf)
        from_past = (keys @ q[..., None])[..., 0].float()  # [B, H, K, T]
        scores = torch.cat([from_prefix, from_past], dim=-1) / math.sqrt(q.shape[-1])
        weights = scores.softmax(dim=-1).to(v.dtype)
        length = from_prefix.shape[-1]
        attended = weights[..., :length] @ cache.prefix.values
        attended = attended + (weights[..., None, length:] @ values)[..., 0, :]
        return self._finish(x, attended.transpose(1, 2).flatten(2))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``[B, T, D]`` to queries, keys and values, each ``[B, H, T, E]``."""
        parts = torch.unflatten(self.qkv(self.attention_norm(x)), -1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        return q, k, v

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(self.attention_out(attended))
        hidden = F.gelu(self.mlp_in(self.mlp_norm(x)))
        out: Tensor = x + self.dropout(self.mlp_out(hidden))
        return out
