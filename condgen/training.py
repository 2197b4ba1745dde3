"""One training step of any family: its phases in their order, an optimizer each, averaged weights. No data, no Ray."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from condgen.base import Batch, ConditionalModel
from condgen.errors import ConfigError
from condgen.nn.encoders import pretrained
from condgen.precision import autocast, resolve
from condgen.preset_parts import TrainConfig

__all__ = ["Training", "learning_rate"]

_SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: min(1.0, 2.0 * (1.0 - done)),
}
"""The rate's share of its highest, of the share of the training that is done."""


def learning_rate(config: TrainConfig, step: int, seconds: float = 0.0) -> float:
    """Return the rate of a step (from 0): linear warm-up, then the schedule, until steps or time end."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.max_seconds > 0:
        done = max(done, seconds / config.max_seconds)
    return config.learning_rate * _SCHEDULES[config.schedule](min(1.0, done))


class Training:
    """A model in training: its weights, their average, and an optimizer a phase.

    Args:
        model: model on its device.
        config: configuration of the training.
        wrap: wrapper that the model is called through, such as DistributedDataParallel (default: none).
        agree: function that makes tensors the same on all workers, their mean, in place (default: there is one worker).
            It gets the running statistics of batch normalization in each step: each worker normalizes by its own share
            of a batch, and what it keeps for later is the mean over the workers.

    Attributes:
        averaged: model with the exponential average of the weights, which is what is saved; the model itself where
            ``ema_decay`` is 0.
        optimizers: optimizer of each phase.
        scaler: scale of the loss, so that small gradients don't vanish in float16; None in other precisions.
    """

    def __init__(
        self,
        model: ConditionalModel,
        config: TrainConfig,
        *,
        wrap: Callable[[ConditionalModel], nn.Module] | None = None,
        agree: Callable[[Sequence[Tensor]], None] | None = None,
    ) -> None:
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        self.model = model
        self.config = config
        self.device = next(iter(model.parameters())).device
        self._precision = resolve(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type) if self._precision == "fp16" else None
        self._agree = agree
        self.averaged = copy.deepcopy(model) if config.ema_decay > 0 else model
        self._phases = {name: list(parameters) for name, parameters in model.phases.items()}
        self._periods = dict(model.phase_periods)
        self.optimizers = {name: self._optimizer(parameters) for name, parameters in self._phases.items()}
        if config.compile != "none":
            for network in model.networks:  # in place: names of weights stay, and the averaged model is not compiled
                network.compile(mode=config.compile, dynamic=False)
        self._called: nn.Module = wrap(model) if wrap else model

    def step(
        self, batch: Batch, number: int, *, rate: float | None = None, share: float = 1.0, update: bool = True
    ) -> dict[str, Tensor]:
        """Do one step: each phase's forward, backward and update, then the average.

        Args:
            batch: batch on the model's device.
            number: number of the step, from 0: it decides which phases are due, and the rate.
            rate: learning rate (default: that of ``learning_rate`` for the step).
            share: factor of the loss: a worker's share of the global batch's weight times the number of
                workers.
            update: whether the weights are changed; false where the whole batch is padding.

        Returns:
            The terms by name, detached. A phase that is due in every n-th step alone has its terms times n, so that
            means over many steps are means of the term.

        Raises:
            ConfigError: a network can't be compiled here (``train.compile``).
        """
        rate = learning_rate(self.config, number) if rate is None else rate
        batch = _channels_last(batch) if self.config.channels_last else batch
        terms_by_name: dict[str, Tensor] = {}
        for name, optimizer in self.optimizers.items():
            period = self._periods.get(name, 1)
            if (number + 1) % period:
                continue
            for settings in optimizer.param_groups:
                settings["lr"] = rate * settings["scale"]
            optimizer.zero_grad(set_to_none=True)
            with _compiling(self.config.compile):
                terms = self._backward(batch, name, share)
            self._update(optimizer, self._phases[name], changes=update)
            terms_by_name |= {key: value * period for key, value in terms.items()}
        if self.scaler is not None:
            self.scaler.update()
        if self._agree is not None:
            self._agree(self._running_statistics())
        self._average(number)
        return terms_by_name

    def _backward(self, batch: Batch, phase: str, share: float) -> dict[str, Tensor]:
        """Add the gradients of a phase, part by part; returns its terms, detached."""
        total: dict[str, Any] = {}
        parts = batch.split(self.config.accumulate)
        for place, part in enumerate(parts):
            weight = part.weight.sum() / batch.weight.sum().clamp(min=1e-9) if len(parts) > 1 else 1.0
            with self._synchronized(last=place + 1 == len(parts)):
                with autocast(self._precision, self.device):
                    terms = self._called(part, phase)
                    loss = torch.stack([value.float() for value in terms.values()]).sum() * share * weight
                torch.autograd.backward([loss if self.scaler is None else self.scaler.scale(loss)])
            for name, value in terms.items():
                total[name] = total.get(name, 0.0) + value.detach() * weight
        return total

    def _synchronized(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return the context of a part's backward: workers exchange their gradients with the last part alone."""
        if last or not isinstance(self._called, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return cast("AbstractContextManager[Any]", self._called.no_sync())

    def _update(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], *, changes: bool) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        if self.config.grad_clip_norm > 0:
            nn.utils.clip_grad_norm_(parameters, self.config.grad_clip_norm)
        if not changes:
            return
        if self.scaler is not None:
            self.scaler.step(optimizer)  # does nothing where a gradient is not finite
        else:
            optimizer.step()

    def _running_statistics(self) -> list[Tensor]:
        """Return the running means and variances of batch normalization that this step has changed."""
        changed = (
            module
            for module in self.model.modules()
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.training and module.track_running_stats
        )
        return [value for module in changed for value in (module.running_mean, module.running_var) if value is not None]

    def _average(self, number: int) -> None:
        if self.averaged is self.model:
            return
        # Short runs would average in their random beginnings: the decay grows up to its value.
        decay = min(self.config.ema_decay, (1 + number) / (10 + number))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1.0 - decay)
            for average, current in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
                average.copy_(current)

    def _optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
        encoder = pretrained(self.model)
        slow = {id(parameter) for parameter in encoder.parameters()} if encoder is not None else set()
        scale = encoder.learning_rate_scale if encoder is not None else 1.0
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if id(p) not in slow], "scale": 1.0},
            {"params": [p for p in parameters if id(p) in slow], "scale": scale},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.config.learning_rate,
            betas=self.config.adam_betas,
            weight_decay=self.config.weight_decay,
            fused=self.config.fused_on_cpu or self.device.type != "cpu",
        )


def _channels_last(batch: Batch) -> Batch:
    """Return the batch with its images as the networks' convolutions want them, so that none converts them again."""
    image, kept = batch.condition.image, torch.channels_last
    if image is not None:
        condition = replace(batch.condition, image=image.contiguous(memory_format=kept))
        batch = replace(batch, condition=condition)
    return replace(batch, target=batch.target.contiguous(memory_format=kept))


@contextmanager
def _compiling(mode: str) -> Iterator[None]:
    """Compile what runs within for the first time; an error of the compiler becomes a ConfigError."""
    if mode == "none":
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    if mode == "reduce-overhead":
        # What graphs have made before, the gradients included, is done with.
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
    try:
        yield
    except TorchDynamoException as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError("train.compile", mode, f"none: a network can't be compiled here ({reason})") from error
