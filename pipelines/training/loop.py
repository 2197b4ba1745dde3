"""The training loop takes batches to optimizer steps and rows of metrics. It knows nothing of Ray or of families.

    for each global batch:   agree on its weight, on stopping and on the time; then each phase: forward, backward, step

The loss is the sum over the global batch's samples of weight × loss, divided by their weights' sum, whatever the number
of workers: a worker's terms are means over its own share, and are scaled by its part of the global weight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from condgen.base import Batch, ConditionalModel
from condgen.errors import DatasetError, JobError
from condgen.presets import TrainConfig
from condgen.training import Training, learning_rate
from pipelines.streaming.epoch_order import StreamPosition
from pipelines.training.feed import Item, Position
from pipelines.training.loss_watch import LossWatch
from pipelines.training.requests import Request
from pipelines.training.run_folder import MetricRow

__all__ = ["Alone", "Group", "Loop", "LoopState", "TorchGroup"]

# A stream whose images are mostly undecodable is the wrong dataset: tell it, don't train on the rest.
_FAULTS_JUDGED_AFTER = 256
_FAULTS_MOST = 0.5


class Group(Protocol):
    """The workers of a run, as the loop sees them."""

    rank: int
    size: int

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the element-wise sums over all workers; every worker gets the same."""

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Set tensors to their means over all workers."""


class Alone:
    """A group of one worker."""

    rank = 0
    size = 1

    def sum(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def agree(self, tensors: Sequence[Tensor]) -> None:
        pass


class TorchGroup:
    """The workers of torch.distributed; sums go over gloo, so that no GPU has to finish its work first."""

    def __init__(self) -> None:
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        self._group: Any = distributed.new_group(backend="gloo")

    def sum(self, values: Sequence[float]) -> list[float]:
        total = torch.tensor(list(values), dtype=torch.float64)
        distributed.all_reduce(total, group=self._group)
        return [float(value) for value in total]

    def agree(self, tensors: Sequence[Tensor]) -> None:
        if not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        means = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))


@dataclass(kw_only=True)
class LoopState:
    """The plain values that a resume needs besides tensors.

    Attributes:
        step: number of optimizer steps done.
        position: position of the next batch in the stream.
        images, undecodable, seconds: see ``MetricRow``.
        sums: sum of weight × term since the last row of metrics, by term.
        sums_weight: sum of the weights since then.
        row_images, row_seconds: ``images`` and ``seconds`` at the last row of metrics.
        waited_s: time that workers waited for data since the run began, their mean (s).
        scaler: state of the loss's scale in float16; empty in other precisions.
        early_sum, early_steps: the loss in the beginning, see ``LossWatch``.
    """

    step: int = 0
    position: Position = field(default_factory=StreamPosition)
    images: int = 0
    undecodable: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    sums_weight: float = 0.0
    row_images: int = 0
    row_seconds: float = 0.0
    waited_s: float = 0.0
    scaler: dict[str, Any] = field(default_factory=dict)
    early_sum: float = 0.0
    early_steps: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return all but the position."""
        values = asdict(self)
        del values["position"]  # saved by its own `state_dict`, which says of which stream it is
        return values


class Loop:
    """A model in training: its weights, their average, and an optimizer for each phase.

    Args:
        model: model on its device, with the same weights on every worker.
        config: configuration of the training.
        group: workers of the run (default: this one alone).
        device: the model's device (default: the CPU).
        to_batch: function that makes the model's batch of a stream's batch, on the device.

    Attributes:
        writer: rank of the worker that writes the next checkpoint: 0, unless its machine is about to leave.
    """

    def __init__(
        self,
        model: ConditionalModel,
        config: TrainConfig,
        *,
        group: Group | None = None,
        device: torch.device | None = None,
        to_batch: Callable[[Any, torch.device], Batch],
    ) -> None:
        self.model = model
        self.config = config
        self.group: Group = group or Alone()
        self.device = device or torch.device("cpu")
        self.state = LoopState()
        self.writer = 0
        agree = self.group.agree if self.group.size > 1 else None
        self._training = Training(model, config, wrap=self._distribute, agree=agree)
        self.averaged = self._training.averaged
        self.optimizers = self._training.optimizers
        self._to_batch = to_batch
        self._terms: list[tuple[float, dict[str, Tensor]]] = []
        self._watch = LossWatch(factor=config.divergence_factor)
        self._broken = (False, False)
        self._waited_s = 0.0
        self._good_step: int | None = None
        self._reason = ""

    def run(
        self,
        stream: Iterator[Item | None],
        *,
        on_row: Callable[[MetricRow], None],
        on_checkpoint: Callable[[Loop], None],
        asked: Callable[[], Request] = Request,
    ) -> str:
        """Train from where ``state`` is to the end; ``on_checkpoint`` is called at every checkpoint but the last.

        Args:
            stream: this worker's share of the batches; None where it has none yet and is asked to stop.
            on_row: function that takes each row of metrics.
            on_checkpoint: function that saves a checkpoint of this loop.
            asked: function that returns what is asked of this worker; all workers do what any of them was asked.

        Returns:
            The reason for the end: ``steps``, ``max_seconds`` or ``stopped``.

        Raises:
            JobError: the loss or a weight is not finite, or the loss has diverged.
            DatasetError: most images can't be decoded, or none of an epoch or of the whole run.
        """
        began = time.monotonic() - self.state.seconds
        self._begin()
        while self.state.step < self.config.steps:
            request = asked()
            seconds = time.monotonic() - began if self.group.rank == 0 else 0.0
            sums = self.group.sum([request.stop, request.save, seconds, *self._broken])
            stops, saves, self.state.seconds, not_finite, diverged = sums
            if not_finite or diverged:
                raise self._broken_at("the loss", "is not finite" if not_finite else "has diverged")
            if self.config.max_seconds and self.state.seconds >= self.config.max_seconds:
                return self._end("max_seconds", on_row)
            if stops:
                self.writer = self._choose_writer(request)
                self._settle()
                return "stopped"
            if saves:
                self._checkpoint(on_checkpoint)
            waiting = time.monotonic()
            item = next(stream)
            self._waited_s += time.monotonic() - waiting
            if not self._step(item):
                continue
            if self.state.step % self.config.log_every_steps == 0 or self.state.step == self.config.steps:
                on_row(self._row(time.monotonic() - began))
            if self.state.step % self.config.checkpoint_every_steps == 0 and self.state.step < self.config.steps:
                self._checkpoint(on_checkpoint)
        return self._end("steps", on_row)

    def _choose_writer(self, request: Request) -> int:
        """Return the lowest rank whose machine stays, or 0 where all are about to leave."""
        leaving = self.group.sum([float(rank in request.leaving) for rank in range(self.group.size)])
        return next((rank for rank, known in enumerate(leaving) if not known), 0)

    def _begin(self) -> None:
        self.model.train()
        self._good_step = self.state.step or None
        self._watch.early_sum, self._watch.early_steps = self.state.early_sum, self.state.early_steps
        if self._training.scaler is not None and self.state.scaler:
            self._training.scaler.load_state_dict(self.state.scaler)

    def _checkpoint(self, on_checkpoint: Callable[[Loop], None]) -> None:
        self._settle()
        on_checkpoint(self)
        self._good_step = self.state.step

    def _settle(self) -> None:
        """Bring the state to where a checkpoint can be taken of it, and make sure that it is worth keeping."""
        self._reduce_terms()
        scaler = self._training.scaler
        self.state.scaler = scaler.state_dict() if scaler is not None else {}
        self.state.early_sum, self.state.early_steps = self._watch.early_sum, self._watch.early_steps
        weights = torch.stack([value.detach().float().sum() for value in self.model.parameters()])
        if not bool(torch.isfinite(weights).all()):  # the same on all workers
            raise self._broken_at("a weight")

    def _broken_at(self, what: str, how: str = "is not finite") -> JobError:
        good = f", from the checkpoint of step {self._good_step} with --init-from" if self._good_step else ""
        advice = f"lower train.learning_rate and start in a new folder{good}"
        return JobError(f"{what} {how} at step {self.state.step}: {advice}")

    def _step(self, item: Item | None) -> bool:
        """Do a step, unless a worker has no batch and is asked to stop; the next sum then stops all. Return which."""
        state, config = self.state, self.config
        weight, faults = (float(item.weight.sum()), float(item.faults)) if item is not None else (0.0, 0.0)
        total, faults, missing = self.group.sum([weight, faults, float(item is None)])
        if item is None or missing:
            return False
        # What a model draws in training (dropout, noise levels) is the same after a resume.
        torch.manual_seed((config.seed * 1_000_003 + state.step) * 65_537 + self.group.rank)
        batch = self._to_batch(item, self.device)
        share = weight * self.group.size / total if total else 0.0
        rate = learning_rate(config, state.step, state.seconds)
        terms = self._training.step(batch, state.step, rate=rate, share=share, update=bool(total))
        self._terms.append((weight, terms))
        state.step += 1
        self._broken = self._watch.look(terms.values())
        state.position = item.after
        state.images += round(total)
        state.undecodable += round(faults)
        tried = state.images + state.undecodable
        self._reason = self._reason or item.reason
        if tried >= _FAULTS_JUDGED_AFTER and state.undecodable > _FAULTS_MOST * tried:
            raise DatasetError(f"{state.undecodable} of {tried} images can't be decoded{self._because()}")
        if state.position.epoch:
            self._require_images()
        return True

    def _require_images(self) -> None:
        """Refuse to end, or to begin another epoch, with nothing learned of all that was read."""
        if not self.state.images and self.state.undecodable:
            raise DatasetError(f"none of {self.state.undecodable} images can be decoded{self._because()}")

    def _because(self) -> str:
        return f", such as {self._reason}" * bool(self._reason) + ": condgen validate lists them"

    def _reduce_terms(self) -> None:
        """Add the terms since the last time, of all workers, to the state's sums."""
        names = sorted({name for _, terms in self._terms for name in terms})
        mine = [sum(weight * float(terms[name]) for weight, terms in self._terms if name in terms) for name in names]
        sums = self.group.sum([*mine, sum(weight for weight, _ in self._terms)]) if self._terms else [0.0]
        if not all(math.isfinite(value) for value in sums):
            raise self._broken_at("the loss")
        for name, value in zip(names, sums, strict=False):
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value
        self.state.sums_weight += sums[-1]
        self._terms.clear()

    def _row(self, seconds: float) -> MetricRow:
        self._reduce_terms()
        state = self.state
        [state.seconds] = self.group.sum([seconds if self.group.rank == 0 else 0.0])
        # In order, as their sum is: a term that is not in each step may be the first one after a checkpoint.
        losses = {name: value / max(state.sums_weight, 1e-12) for name, value in sorted(state.sums.items())}
        took = max(state.seconds - state.row_seconds, 1e-9)
        waited_s = self._waits()
        state.waited_s += sum(waited_s) / len(waited_s)
        row = MetricRow(
            step=state.step,
            epoch=state.position.epoch - (state.position.batch == 0),
            images=state.images,
            seconds=round(state.seconds, 3),
            loss=sum(losses.values()),
            losses=losses,
            lr=learning_rate(self.config, state.step - 1, state.seconds),
            images_per_s=round((state.images - state.row_images) / took, 2),
            undecodable=state.undecodable,
            waited=[round(min(1.0, waited / took), 3) for waited in waited_s],
        )
        state.sums, state.sums_weight = {}, 0.0
        state.row_images, state.row_seconds = state.images, state.seconds
        return row

    def _end(self, reason: str, on_row: Callable[[MetricRow], None]) -> str:
        self._require_images()
        if self._terms or self.state.sums:
            on_row(self._row(self.state.seconds))
        self._settle()
        return reason

    def _waits(self) -> list[float]:
        """Return the time that each worker waited for data since the last row (s), by rank."""
        mine = [0.0] * self.group.size
        mine[self.group.rank], self._waited_s = self._waited_s, 0.0
        return self.group.sum(mine)

    def _distribute(self, model: ConditionalModel) -> nn.Module:
        if self.group.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        several = len(model.phases) > 1
        return nn.parallel.DistributedDataParallel(
            model, device_ids=devices, find_unused_parameters=several, broadcast_buffers=False
        )


def state_from_json(values: Mapping[str, Any], position: Position) -> LoopState:
    """Return the state that ``LoopState.to_json`` saved, with its position."""
    return LoopState(position=position, **values)
