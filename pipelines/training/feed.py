"""A feed gives training its stream or streams, their positions, and the model's batches made of theirs.

    data.task    x                                 y
    color        L of an image, or of its grey     its ab
                 image as old material shows it
    pairs        the member `input`                the member `target`
    domains      an image of the dataset           any image of the second dataset
    pictures     the label, the caption            an image

The images of the last three are sRGB in [-1, 1]; a model of one channel gets their luma. Labels and captions go with
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
from pipelines.streaming.stream import StreamBatch, StreamConfig, TrainingStream
from pipelines.streaming.unpaired import UnpairedBatch, UnpairedPosition, UnpairedStream

__all__ = ["Feed", "Item", "OneDataset", "Position", "TwoDomains", "image_tensor", "make_feed"]

Item: TypeAlias = StreamBatch | UnpairedBatch
Position: TypeAlias = StreamPosition | UnpairedPosition

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Feed(Protocol):
    """The data, as the training loop and its checkpoints see it."""

    def start(self) -> Position:
        """Return the first position."""

    def stream(self, position: Any, num_batches: int, **options: Any) -> Iterator[Item]:
        """Yield a worker's share from a position on; the options are those of ``TrainingStream``."""

    def state_dict(self, position: Any) -> dict[str, Any]:
        """Return a position as plain values, with those that tell which stream it belongs to."""

    def position(self, state: Mapping[str, Any]) -> Position:
        """Return the position that ``state_dict`` saved.

        Raises:
            CheckpointError: the state is damaged, or belongs to another stream.
        """

    def batch(self, item: Any, device: torch.device) -> Batch:
        """Return the model's batch, made of the stream's batch."""


@dataclass(frozen=True)
class OneDataset:
    """One stream, for ``color``, ``pairs`` or ``pictures``."""

    plan: StreamConfig
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
        image, target = self._images(item.rgb, device)
        label, text = self._tokens(item.labels, device)
        condition = Condition(image=image, label=label, text=text)
        return Batch(condition=condition, target=target, weight=_on_device(item.weight, device))

    def _images(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> tuple[Tensor | None, Tensor]:
        if self.task == "color":
            return color_pair(_channels_first(rgb, device))
        if self.task == "pairs":
            x, y = (image_tensor(rgb[:, place], count, device) for place, count in enumerate(self.channels))
            return x, y
        return None, image_tensor(rgb, self.channels[1], device)

    def _tokens(self, labels: npt.NDArray[np.int64], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        words, numbers = self.plan.words, _on_device(labels, device)
        first = int(bool(words.label))
        return (numbers[:, 0] if words.label else None), (numbers[:, first:] if words.caption else None)


@dataclass(frozen=True)
class TwoDomains:
    """Two streams, for ``domains``. The images of a batch's row have nothing to do with each other."""

    plans: Mapping[str, StreamConfig]
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
        first, second = self.channels
        a, b = image_tensor(item.a.rgb, first, device), image_tensor(item.b.rgb, second, device)
        return Batch(condition=Condition(image=a), target=b, weight=_on_device(item.weight, device))


def make_feed(preset: Preset, plans: Mapping[str, StreamConfig]) -> Feed:
    """Return the feed of a preset's task.

    Args:
        preset: preset that ``check_trainable`` has accepted.
        plans: ``a``, and for ``domains`` also ``b``, whose seed differs (``unpaired_plans``).
    """
    channels = getattr(preset.model, "condition_channels", 1), getattr(preset.model, "target_channels", 2)
    if preset.data.task == "domains":
        return TwoDomains(plans, channels)
    return OneDataset(plans["a"], preset.data.task, channels)


def image_tensor(rgb: npt.NDArray[np.uint8], channels: int, device: torch.device) -> Tensor:
    """Return images ``[B, S, S, 3]`` uint8 as ``[B, channels, S, S]`` float32 in [-1, 1]; one channel is luma."""
    values = _channels_first(rgb, device).float() / 127.5 - 1
    if channels == 1:
        luma = torch.stack([values.new_full((), share) for share in _LUMA])[:, None, None]
        return (values * luma).sum(dim=1, keepdim=True)
    return values


def _channels_first(rgb: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    return _on_device(np.ascontiguousarray(rgb), device).permute(0, 3, 1, 2)


def _on_device(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Return values on a device; a GPU copies them from pinned memory, so that nothing waits for its queue."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
