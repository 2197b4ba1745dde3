"""Unpaired data: two domains of different sizes, each in an order of its own, the smaller one cycling.

Each domain is an endless stream of samples, epoch after epoch of its own (`pipelines.streaming.epoch_order`), with a
seed of its own: where one stands says nothing of the other. For training, `UnpairedStream` has a `TrainingStream` of
each and a state with both positions; for Ray Datasets, `pipelines.ray_data.pairs` plans one epoch of the larger domain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from condgen.errors import CheckpointError, ConfigError
from pipelines.streaming.epoch_order import StreamPosition
from pipelines.streaming.stream import StreamBatch, StreamConfig, TrainingStream

__all__ = [
    "DOMAINS",
    "UnpairedBatch",
    "UnpairedPosition",
    "UnpairedStream",
    "check_shares",
    "domain_seed",
    "unpaired_plans",
]

_STATE_FORMAT = 1
DOMAINS = ("a", "b")


def domain_seed(seed: int, domain: str) -> int:
    """Return the seed of a domain's order: the first 63 bits of SHA-256 of `[seed,"domain"]`."""
    text = json.dumps([seed, domain], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


@dataclass(frozen=True, kw_only=True)
class UnpairedPosition:
    """Positions of both streams."""

    a: StreamPosition = field(default_factory=StreamPosition)
    b: StreamPosition = field(default_factory=StreamPosition)

    @property
    def epoch(self) -> int:
        """Epoch of the first domain."""
        return self.a.epoch

    @property
    def batch(self) -> int:
        """Batch in the first domain's epoch."""
        return self.a.batch

    def state_dict(self, plans: Mapping[str, StreamConfig]) -> dict[str, Any]:
        """Return what a checkpoint keeps of the position, as plain JSON values, as `StreamPosition.state_dict` does."""
        states = {name: getattr(self, name).state_dict(plans[name].order, plans[name].digest) for name in DOMAINS}
        return {"format": _STATE_FORMAT, **states}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], plans: Mapping[str, StreamConfig]) -> UnpairedPosition:
        """Return the position that `state_dict` saved.

        Raises:
            CheckpointError: damaged, or of other datasets or another configuration.
        """
        if state.get("format") != _STATE_FORMAT or not all(isinstance(state.get(name), Mapping) for name in DOMAINS):
            raise CheckpointError("the stream's saved position is not one of two domains: start anew")
        return cls(
            **{name: StreamPosition.from_state(state[name], plans[name].order, plans[name].digest) for name in DOMAINS}
        )


@dataclass(frozen=True, kw_only=True)
class UnpairedBatch:
    """A worker's share of one global batch of each domain; a row of one has nothing to do with that of the other.

    Attributes:
        a, b: batches of the domains, of the same size; each has weights of its own.
        after: position to save when this batch has been trained on.
    """

    a: StreamBatch
    b: StreamBatch
    after: UnpairedPosition

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        """Weight of each row, ``[B]`` float32: 1 where both domains have an image."""
        return self.a.weight * self.b.weight

    @property
    def faults(self) -> int:
        """Number of samples of both that could not be decoded."""
        return self.a.faults + self.b.faults

    @property
    def reason(self) -> str:
        """The reason of the first of them; empty before there is one."""
        return self.a.reason or self.b.reason


def unpaired_plans(a: StreamConfig, b: StreamConfig) -> dict[str, StreamConfig]:
    """Return the plans of two domains with independent seeds, which are made from theirs.

    Raises:
        ConfigError: their batches differ in size.
    """
    if a.order.batch_size != b.order.batch_size:
        allowed = f"{a.order.batch_size}, as the first domain's"
        raise ConfigError("train.batch_size", b.order.batch_size, allowed)
    return {
        name: replace(plan, order=replace(plan.order, seed=domain_seed(plan.order.seed, name)))
        for name, plan in zip(DOMAINS, (a, b), strict=True)
    }


def check_shares(num_workers: int, plans: Mapping[str, StreamConfig]) -> None:
    """Refuse numbers of workers that would give a worker more samples of one domain than of the other.

    Raises:
        ConfigError: the domains have different numbers of lanes, and the workers do not divide both and the batch.
    """
    lanes = {name: plans[name].order.lanes for name in DOMAINS}
    if len(set(lanes.values())) > 1 and any(
        number % num_workers for number in (*lanes.values(), plans["a"].order.batch_size)
    ):
        why = f"the {lanes['a']} and {lanes['b']} lanes of the two domains and the batch"
        raise ConfigError("workers", num_workers, f"a divisor of {why}, or data.lanes for both")


class UnpairedStream:
    """One worker's batches of two domains from a position on, each domain epoch after epoch of its own.

    Args:
        plans: plans that `unpaired_plans` returned.
        start: position of the first batch of each.
        num_batches: number of batches.
        options: `rank`, `num_workers` and `task_cpus` of `TrainingStream`.

    Raises:
        ConfigError: there are more workers than lanes, or they would have different shares of the two domains.
    """

    def __init__(
        self, plans: Mapping[str, StreamConfig], start: UnpairedPosition, num_batches: int, **options: Any
    ) -> None:
        check_shares(options.get("num_workers", 1), plans)
        self._streams = [TrainingStream(plans[name], getattr(start, name), num_batches, **options) for name in DOMAINS]

    def __iter__(self) -> Iterator[UnpairedBatch]:
        """Yield the batches of both, side by side.

        Raises:
            StorageError: a chunk could not be read, after retries.
        """
        with closing(_batches(self._streams[0])) as of_a, closing(_batches(self._streams[1])) as of_b:
            for a, b in zip(of_a, of_b, strict=True):
                yield UnpairedBatch(a=a, b=b, after=UnpairedPosition(a=a.after, b=b.after))


def _batches(stream: TrainingStream) -> Any:
    yield from stream
