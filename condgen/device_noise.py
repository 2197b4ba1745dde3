"""The numbers of `condgen.noise` made by PyTorch's operations, all samples and draws of a batch at once, on any device.

The raw bits are those of the CPU: Philox4x64-10 in 64-bit integers, whose products are made of 32-bit halves, because
PyTorch has no upper half of a product. Uniforms are those of the CPU, too. Normals are made in float64. There a
device's logarithm and sine may differ from NumPy's in their last bit, and thereby a few normals in theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["device_normals", "device_uniforms", "device_words"]

_ROUNDS = 10
_FACTORS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_HALF = 0xFFFFFFFF


def device_words(
    keys: Sequence[tuple[int, int]], draws: Sequence[int], step: int, stream: int, num_words: int, device: torch.device
) -> Tensor:
    """Return the words that `condgen.noise.philox_words` gives for each key and draw.

    Args:
        keys: Philox keys of B samples.
        draws: numbers of K draws.
        step, stream: the other words of the counter.
        num_words: number of words of each draw.
        device: where they are made.

    Returns:
        ``[B, K, num_words]`` int64, whose bits are those of the unsigned words.
    """
    blocks = -(-num_words // 4)
    shape = (len(keys), len(draws), blocks)
    counter = [
        torch.arange(1, blocks + 1, device=device).expand(shape),
        torch.tensor([_signed(draw) for draw in draws], device=device)[None, :, None].expand(shape),
        torch.full((1, 1, 1), _signed(step), device=device).expand(shape),
        torch.full((1, 1, 1), _signed(stream), device=device).expand(shape),
    ]
    rounds = [[(key[place] + number * _STEPS[place]) for key in keys] for number in range(_ROUNDS) for place in (0, 1)]
    table = torch.tensor([[_signed(word) for word in words] for words in rounds], device=device)
    for number in range(_ROUNDS):
        high_0, low_0 = _product(counter[0], _FACTORS[0])
        high_1, low_1 = _product(counter[2], _FACTORS[1])
        key_0, key_1 = (table[2 * number + place][:, None, None] for place in (0, 1))
        counter = [high_1 ^ counter[1] ^ key_0, low_1, high_0 ^ counter[3] ^ key_1, low_0]
    return torch.stack(counter, dim=-1).flatten(2)[..., :num_words]


def device_uniforms(words: Tensor, count: int) -> Tensor:
    """Return uniforms ``[B, K, count]`` float32 of words ``[B, K, ceil(count / 2)]``: k / 2^24."""
    return (_halves(words)[..., :count] >> 8).to(torch.float32) * 2.0**-24


def device_normals(words: Tensor, count: int) -> Tensor:
    """Return normals ``[B, K, count]`` float32 of words ``[B, K, ceil(count / 2)]``, by Box and Muller (1958)."""
    halves = _halves(words).to(torch.float64)
    radius = torch.sqrt(-2.0 * torch.log((halves[..., 0::2] + 1.0) * 2.0**-32))
    angle = halves[..., 1::2] * (2.0 * math.pi * 2.0**-32)
    pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
    return pairs.flatten(-2)[..., :count].to(torch.float32)


def _halves(words: Tensor) -> Tensor:
    """Return each word as two numbers of 32 bits, the low one first, ``[B, K, 2 * words]`` int64."""
    return torch.stack([words & _HALF, (words >> 32) & _HALF], dim=-1).flatten(-2)


def _product(a: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the upper and the lower 64 bits of the unsigned product."""
    a_low, a_high = a & _HALF, (a >> 32) & _HALF
    low, high = factor & _HALF, factor >> 32
    low_low, low_high, high_low = a_low * low, a_low * high, a_high * low
    carry = ((low_low >> 32) & _HALF) + (low_high & _HALF) + (high_low & _HALF)
    upper = a_high * high + ((low_high >> 32) & _HALF) + ((high_low >> 32) & _HALF) + (carry >> 32)
    return upper, a * _signed(factor)


def _signed(word: int) -> int:
    """Return the signed number that has the bits of a word, modulo 2^64."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word
