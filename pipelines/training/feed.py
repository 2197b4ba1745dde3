"""What a training run is fed: its stream or streams, their positions, and the model's batches made of theirs.

    data.task    x                               y
    color        L of a picture, or of its grey  its ab
                 image as old material shows it
    pairs        the member `input`              the member `target`
    domains      a picture of the dataset        any picture of the second dataset
    pictures     the label, the caption          a picture

Pictures of the last three are sRGB in [-1, 1]; a model of one channel is given their luma. Labels and captions go with
any task but `domains`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condgen.base import Batch, Condition
from condgen.color.lab import color_pair
from condgen.preset_parts import Preset
from pipelines.streaming.epoch_order import StreamPosition
from pipelines.streaming.stream import StreamBatch, TrainingPlan, TrainingStream
from pipelines.streaming.unpaired import UnpairedBatch, UnpairedPosition, UnpairedStream

__all__ = ["Feed", "Item", "OneDataset", "Position", "TwoDomains", "make_feed"]

Item: TypeAlias = StreamBatch | UnpairedBatch
Position: TypeAlias = StreamPosition | UnpairedPosition

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Feed(Protocol):
    """What the training loop and its checkpoints need of the data."""

    def start(self) -> Position:
        """The first position."""

    def stream(self, position: Any, num_batches: int, **options: Any) -> Iterator[Item]:
        """A worker's share from a position on; `options` as those of `TrainingStream`."""

    def state_dict(self, position: Any) -> dict[str, Any]:
        """A position as plain values, with what says of which stream it is."""

    def position(self, state: Mapping[str, Any]) -> Position:
        """The position that `state_dict` saved.

        Raises:
            CheckpointError: damaged, or of another stream.
        """

    def batch(self, item: Any, device: torch.device) -> Batch:
        """The model's batch of a stream's."""


@dataclass(frozen=True)
class OneDataset:
    """One stream: `color`, `pairs` or `pictures`."""

    plan: TrainingPlan
    task: str
    channels: tuple[int, int]

    def start(self) -> Position:
        return StreamPosition()

    def stream(self, position: Any, num_batches: int, **options: Any) -> Iterator[Item]:
        return iter(TrainingStream(self.plan, position, num_batches, **options))

    def state_dict(self, position: Any) -> dict[str, Any]:
        state: dict[str, Any] = position.state_dict(self.plan.order, self.plan.digest)
        return state

    def position(self, state: Mapping[str, Any]) -> Position:
        return StreamPosition.from_state(state, self.plan.order, self.plan.digest)

    def batch(self, item: Any, device: torch.device) -> Batch:
        image, target = self._pictures(item.rgb, device)
        label, text = self._words(item.labels, device)
        condition = Condition(image=image, label=label, text=text)
        return Batch(condition=condition, target=target, weight=torch.from_numpy(item.weight).to(device))

    def _pictures(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> tuple[Tensor | None, Tensor]:
        if self.task == "color":
            return color_pair(_channels_first(rgb, device))
        if self.task == "pairs":
            x, y = (picture(rgb[:, place], count, device) for place, count in enumerate(self.channels))
            return x, y
        return None, picture(rgb, self.channels[1], device)

    def _words(self, labels: npt.NDArray[np.int64], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        words, numbers = self.plan.words, torch.from_numpy(labels).to(device)
        first = int(bool(words.label))
        return (numbers[:, 0] if words.label else None), (numbers[:, first:] if words.caption else None)


@dataclass(frozen=True)
class TwoDomains:
    """Two streams: `domains`. A row of a batch has nothing to do with its neighbour of the other domain."""

    plans: Mapping[str, TrainingPlan]
    channels: tuple[int, int]

    def start(self) -> Position:
        return UnpairedPosition()

    def stream(self, position: Any, num_batches: int, **options: Any) -> Iterator[Item]:
        return iter(UnpairedStream(self.plans, position, num_batches, **options))

    def state_dict(self, position: Any) -> dict[str, Any]:
        state: dict[str, Any] = position.state_dict(self.plans)
        return state

    def position(self, state: Mapping[str, Any]) -> Position:
        return UnpairedPosition.from_state(state, self.plans)

    def batch(self, item: Any, device: torch.device) -> Batch:
        a, b = (picture(part.rgb, count, device) for part, count in zip((item.a, item.b), self.channels, strict=True))
        return Batch(condition=Condition(image=a), target=b, weight=torch.from_numpy(item.weight).to(device))


def make_feed(preset: Preset, plans: Mapping[str, TrainingPlan]) -> Feed:
    """The feed of a preset's task.

    Args:
        preset: checked by `jobs.cli.config.check_trainable`.
        plans: `a`, and `b` for `domains`, whose seeds differ (`pipelines.streaming.unpaired.unpaired_plans`).
    """
    channels = getattr(preset.model, "condition_channels", 1), getattr(preset.model, "target_channels", 2)
    if preset.data.task == "domains":
        return TwoDomains(plans, channels)
    return OneDataset(plans["a"], preset.data.task, channels)


def picture(rgb: npt.NDArray[np.uint8], channels: int, device: torch.device) -> Tensor:
    """Pictures ``[B, S, S, 3]`` uint8 as ``[B, channels, S, S]`` float32 in [-1, 1]: sRGB, or luma for one channel."""
    values = _channels_first(rgb, device).float() / 127.5 - 1
    if channels == 1:
        return (values * torch.tensor(_LUMA, device=device)[:, None, None]).sum(dim=1, keepdim=True)
    return values


def _channels_first(rgb: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb)).to(device, non_blocking=True).permute(0, 3, 1, 2)
