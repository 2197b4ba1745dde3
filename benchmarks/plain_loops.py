"""Training loops as one writes them by hand, for the GANs of `benchmarks/train.py`: the textbook's, in float32.

Networks, losses, optimizers and the average are the family's. A loop generates once a step and judges what it made in
both turns, as the papers' own code does, where a phase of condgen generates anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from condgen.base import Batch, ConditionalModel, weighted_mean
from condgen.families.cyclegan.model import CycleGan
from condgen.families.pix2pix.model import Pix2Pix
from condgen.gan.critic import absolute_error
from condgen.gan.layers import InstanceNorm
from condgen.preset_parts import TrainConfig

__all__ = ["plain_step"]


def plain_step(model: ConditionalModel, config: TrainConfig) -> Callable[[Batch], object]:
    """Return a function that does a step of the plain loop; the model is changed to what a plain one is."""
    model.to(memory_format=torch.contiguous_format)
    for module in model.modules():
        if isinstance(module, InstanceNorm):
            module.__class__ = nn.InstanceNorm2d
    phases = {name: list(parameters) for name, parameters in model.phases.items()}
    optimizers = {name: _optimizer(parameters, config) for name, parameters in phases.items()}
    average = copy.deepcopy(model) if config.ema_decay > 0 else None
    steps = {Pix2Pix: _pix2pix, CycleGan: _cyclegan}
    turns = steps[type(model)]

    def step(batch: Batch) -> list[Tensor]:
        losses = []
        for name, terms in turns(model, batch):
            loss = torch.stack(list(terms.values())).sum()
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
            losses.append(loss.detach())
        if average is not None:
            with torch.no_grad():
                for mean, now in zip(average.parameters(), model.parameters(), strict=True):
                    mean.lerp_(now, 1.0 - config.ema_decay)
        return losses

    return step


def _optimizer(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.adam_betas, weight_decay=config.weight_decay
    )


def _pix2pix(model: Pix2Pix, batch: Batch) -> Iterable[tuple[str, dict[str, Tensor]]]:
    x, y, weight = batch.condition.image, batch.target, batch.weight
    made = model.generator(x)
    yield "discriminator", model.critic.loss(y, made, weight, x)
    l1 = model.config.l1_weight * weighted_mean(absolute_error(made, y), weight)
    yield "generator", {"adversarial": model.critic.adversarial(made, weight, x), "l1": l1}


def _cyclegan(model: CycleGan, batch: Batch) -> Iterable[tuple[str, dict[str, Tensor]]]:
    a, b, weight = batch.condition.image, batch.target, batch.weight
    assert a is not None
    to_b, to_a, cycle = model.generators["a2b"], model.generators["b2a"], model.config.cycle_weight
    made_b, made_a = to_b(a), to_a(b)
    identity = model.config.identity_weight * cycle
    yield (
        "generators",
        {
            "a2b": model.critic_b.adversarial(made_b, weight),
            "b2a": model.critic_a.adversarial(made_a, weight),
            "cycle_a": cycle * weighted_mean(absolute_error(to_a(made_b), a), weight),
            "cycle_b": cycle * weighted_mean(absolute_error(to_b(made_a), b), weight),
            "identity_a": identity * weighted_mean(absolute_error(to_a(a), a), weight),
            "identity_b": identity * weighted_mean(absolute_error(to_b(b), b), weight),
        },
    )
    judged_b = model.pool_b.exchange(made_b.detach(), weight)
    judged_a = model.pool_a.exchange(made_a.detach(), weight)
    yield "discriminators", model.critic_a.loss(a, judged_a, weight) | model.critic_b.loss(b, judged_b, weight)
