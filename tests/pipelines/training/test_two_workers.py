"""Two workers of torch.distributed have the gradients that one has of the whole batch, in every family."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from condgen.base import Batch, ConditionalModel
from condgen.families import FAMILIES
from condgen.presets import TrainConfig
from condgen.training import Training
from pipelines.training.loop import Loop, TorchGroup
from tests.condgen import gan_models
from tests.condgen.models import FAMILY_NAMES, color_batch, seeded_model, tiny
from tests.condgen.test_encoders import encoded

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(learning_rate=1e-3, warmup_steps=0, grad_clip_norm=0.0, ema_decay=0.0)
SHARES = (slice(0, 3), slice(3, 4))
"""Rows of the batch that each worker has: uneven shares, as with three lanes and two workers."""
AUTOREGRESSIVE = {"width": 16, "heads": 2, "layers": 2, "out_stride": 2, "patch_px": 4}
STEP = 5  # every phase is due

MODELS: Mapping[str, Callable[[], ConditionalModel]] = {
    **{name: (lambda name=name: tiny(name)) for name in FAMILY_NAMES},
    "autoregressive": lambda: seeded_model("autoregressive", AUTOREGRESSIVE),
    "cvae": lambda: tiny("cvae", latent_dims=2),
    "diffusion": lambda: tiny("diffusion", steps=3),
    "regression with an encoder": lambda: encoded("regression", encoder_rate=0.1),
    "cgan with an encoder": lambda: encoded("cgan", r1_every=1),
    **{kind: (lambda kind=kind: _gan(kind)) for kind in gan_models.KINDS},
}


def _gan(kind: str) -> ConditionalModel:
    r1 = {"r1_every": 1} if kind.startswith("cgan") else {}
    # Each worker has a pool of its own; clipping would change weights between the two forwards of one process.
    settings = gan_models.KINDS[kind][1]
    apart = {"pool_size": 0} if "pool_size" in settings else {}
    return gan_models.small(kind, **r1, **apart, **({"clip_weights": 0.0} if "clip_weights" in settings else {}))


def _batch(model: ConditionalModel) -> Batch:
    batch = color_batch(4, size=32)
    return Batch(
        condition=batch.condition,
        target=batch.target[:, : getattr(model.config, "target_channels", 2)],
        weight=torch.tensor([1.0, 1.0, 0.0, 1.0]),  # one image could not be decoded
    )


def _part(batch: Batch, rows: slice) -> Batch:
    condition = type(batch.condition)(image=batch.condition.image[rows])
    return Batch(condition=condition, target=batch.target[rows], weight=batch.weight[rows])


def _gradients(model: ConditionalModel, training: Training, step: Callable[[], Any]) -> dict[str, Tensor]:
    """The gradients with which each optimizer steps, by the parameter's name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                found[names[id(parameter)]] = torch.zeros_like(parameter) if gradient is None else gradient.clone()

    for optimizer in training.optimizers.values():
        optimizer.register_step_pre_hook(note)
    step()
    return found


class _Both(nn.Module):
    """Both workers in one process: each has buffers and random numbers of its own, and the same parameters."""

    def __init__(self, model: ConditionalModel, batch: Batch) -> None:
        super().__init__()
        self.workers = [model, copy.deepcopy(model)]
        for (_, module), (_, other) in zip(model.named_modules(), self.workers[1].named_modules(), strict=True):
            other._parameters.update(module._parameters)
        self.parts = [_part(batch, rows) for rows in SHARES]
        self.states = [_seeded(rank) for rank in range(len(SHARES))]

    def forward(self, _batch: Batch, phase: str) -> dict[str, Tensor]:
        total = sum(float(part.weight.sum()) for part in self.parts)
        terms: dict[str, Tensor] = {}
        for rank, (worker, part) in enumerate(zip(self.workers, self.parts, strict=True)):
            torch.set_rng_state(self.states[rank])
            for name, value in worker(part, phase).items():
                terms[name] = terms.get(name, torch.zeros(())) + value * float(part.weight.sum()) / total
            self.states[rank] = torch.get_rng_state()
        return terms


def _seeded(rank: int) -> Tensor:
    torch.manual_seed(100 + rank)
    return torch.get_rng_state()


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    group = TorchGroup()
    found = {}
    for name, make in MODELS.items():
        model = make().train()
        loop = Loop(model, CONFIG, group=group, to_batch=lambda item, _: item)
        whole = _batch(model)
        part = _part(whole, SHARES[rank])
        share = float(part.weight.sum()) * 2 / float(whole.weight.sum())
        torch.set_rng_state(_seeded(rank))
        training = loop._training
        found[name] = _gradients(model, training, lambda: training.step(part, STEP, rate=1e-3, share=share))  # noqa: B023
        kept = [value.clone() for value in training._running_statistics()]
        group.agree(kept)
        for mine, mean in zip(training._running_statistics(), kept, strict=True):
            torch.testing.assert_close(mine, mean)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_all_families_are_here() -> None:
    assert {make().family for make in MODELS.values()} == set(FAMILIES)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(_worker, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_two_workers_are_those_of_the_whole_batch(
    of_two: list[dict[str, dict[str, Tensor]]], name: str
) -> None:
    model = MODELS[name]().train()
    batch = _batch(model)
    training = Training(model, CONFIG, wrap=lambda model: _Both(model, batch))
    alone = _gradients(model, training, lambda: training.step(batch, STEP, rate=1e-3))
    largest = max(float(gradient.abs().max()) for gradient in alone.values())
    assert largest > 0
    for gradients in of_two:
        assert gradients[name].keys() == alone.keys()
        for parameter, gradient in alone.items():
            torch.testing.assert_close(gradients[name][parameter], gradient, rtol=1e-3, atol=1e-5 * largest)
