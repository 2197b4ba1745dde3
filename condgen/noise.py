"""Randomness that belongs to the sample: the same (seed, sample, draw, step) gives the same numbers anywhere.

The bits are those of Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), which
its specification fixes. What turns them into uniforms and normals is written here, because libraries change
their own streams between versions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.errors import ConfigError

__all__ = ["NoiseSource", "SampleId", "sample_key"]

_WORD = 2**64


@dataclass(frozen=True)
class SampleId:
    """A sample's identity: its shard or file, relative to the archive's root, and its key in there."""

    source: str
    key: str


def sample_key(seed: int, sample: SampleId) -> tuple[int, int]:
    """Return the Philox key of a sample: the first 128 bits of SHA-256 of ``[seed,"source","key"]`` in JSON.

    The JSON is ASCII (so any file name has one form) and has no spaces; the bits are two little-endian words.
    """
    text = json.dumps([int(seed), sample.source, sample.key], ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def philox_words(key: tuple[int, int], counter: tuple[int, int, int], num_words: int) -> NDArray[np.uint64]:
    """Return ``num_words`` raw 64-bit words: of the blocks 1, 2, ... at counter ``[block, *counter]``.

    (NumPy's generator steps its counter before each block, so that blocks count from 1.)
    """
    state = np.array([0, *counter], dtype=np.uint64)
    bits = np.random.Philox(counter=state, key=np.array(key, dtype=np.uint64))
    return bits.random_raw(num_words)


def _halves(words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return each 64-bit word as two 32-bit ones, the low one first, on machines of either byte order."""
    return words.astype("<u8", copy=False).view("<u4")


def _uniforms(words: NDArray[np.uint64], count: int) -> NDArray[np.float32]:
    """Return k / 2^24 with 24 bits a number, each exact in float32, so that 1 is never reached."""
    top = _halves(words)[:count] >> np.uint32(8)
    return top.astype(np.float32) * np.float32(2.0**-24)


def _normals(words: NDArray[np.uint64], count: int) -> NDArray[np.float32]:
    """Return normals by Box and Muller (1958), in float64: a word's halves make a pair."""
    halves = _halves(words).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((halves[0::2] + 1.0) * 2.0**-32))
    angle = halves[1::2] * (2.0 * math.pi * 2.0**-32)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(-1)[:count].astype(np.float32)


class NoiseSource:
    """The noise of some draws of some samples.

    Draw k alone has the same numbers as draw k among K, and a sample the same alone as in any batch.

    Args:
        seed: seed of the run, any integer.
        samples: identities of B samples; None marks padding, whose noise is zeros.
        draws: numbers of the K draws, each >= 0.
        device: device on which the numbers are made, as `condgen.device_noise` says (default: the CPU, by NumPy).

    Raises:
        ConfigError: no draws, or a negative one.
    """

    def __init__(
        self,
        seed: int,
        samples: Sequence[SampleId | None],
        draws: Sequence[int],
        device: torch.device | None = None,
    ) -> None:
        if len(draws) == 0 or min(draws) < 0:
            raise ConfigError("draws", list(draws), "one or more numbers >= 0")
        self.seed = seed
        self.samples = tuple(samples)
        self.draws = tuple(draws)
        self.device = device
        self._keys = [None if s is None else sample_key(seed, s) for s in self.samples]

    @property
    def num_samples(self) -> int:
        """B, the number of samples."""
        return len(self.samples)

    @property
    def num_draws(self) -> int:
        """K, the number of draws."""
        return len(self.draws)

    def of_draw(self, draw: int) -> NoiseSource:
        """Return the noise of one draw alone."""
        return NoiseSource(self.seed, self.samples, [draw], self.device)

    def normal(self, shape: Sequence[int], *, step: int = 0, stream: int = 0) -> Tensor:
        """Return standard normals, ``[B, K, *shape]`` float32, on the CPU or the device.

        Args:
            shape: shape of one draw's noise.
            step: step of an iterative sampler, >= 0: each step has its own numbers.
            stream: number that tells apart two uses within one step, >= 0.
        """
        return self._fill(shape, step, stream, _normals)

    def uniform(self, shape: Sequence[int], *, step: int = 0, stream: int = 0) -> Tensor:
        """Return uniforms in [0, 1), multiples of 2^-24; shapes and arguments are those of ``normal``."""
        return self._fill(shape, step, stream, _uniforms)

    def _fill(
        self,
        shape: Sequence[int],
        step: int,
        stream: int,
        convert: Callable[[NDArray[np.uint64], int], NDArray[np.float32]],
    ) -> Tensor:
        if not (0 <= step < _WORD and 0 <= stream < _WORD):
            raise ConfigError("noise", (step, stream), "a step and a stream >= 0")
        count = math.prod(shape)
        if self.device is not None:
            there = self._fill_there(self.device, count, step, stream, is_normal=convert is _normals)
            return there.reshape(self.num_samples, self.num_draws, *shape)
        out = np.zeros((self.num_samples, self.num_draws, count), dtype=np.float32)
        for b, key in enumerate(self._keys):
            if key is None:
                continue
            for k, draw in enumerate(self.draws):
                words = philox_words(key, (draw, step, stream), -(-count // 2))
                out[b, k] = convert(words, count)
        return torch.from_numpy(out).reshape(self.num_samples, self.num_draws, *shape)

    def _fill_there(self, device: torch.device, count: int, step: int, stream: int, *, is_normal: bool) -> Tensor:
        """Return ``[B, K, count]`` float32 on a device."""
        from condgen.device_noise import device_normals, device_uniforms, device_words

        keys = [key or (0, 0) for key in self._keys]
        words = device_words(keys, self.draws, step, stream, -(-count // 2), device)
        out = (device_normals if is_normal else device_uniforms)(words, count)
        if None in self._keys:
            real = torch.tensor([key is not None for key in self._keys], device=device)
            out = out * real[:, None, None]
        return out
