"""Every family on the device at hand: it trains under the device's precision, and draws what it draws elsewhere.

Without a GPU these run on the CPU alone, so that they are known to be right when there is one. They need condgen, torch
and pytest: `make gpu`.
"""

import copy
from typing import Any

import pytest
import torch

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.families import FAMILIES, build
from condgen.nn.config import UNetConfig
from condgen.noise import NoiseSource, SampleId
from condgen.precision import autocast, resolve
from condgen.preset_parts import TrainConfig
from condgen.training import Training

UNET: dict[str, Any] = {"width": 16, "norm_groups": 4, "multipliers": (1, 2), "blocks_per_level": 1, "out_stride": 1}
GAN: dict[str, Any] = {"width": 16, "discriminator_width": 16, "norm_groups": 4, "patch_px": 16, "init_std": 0.0}
SMALL: dict[str, dict[str, Any]] = {
    "cgan": {**GAN, "multipliers": (1, 2), "noise_dim": 4, "noise_width": 16},
    "pix2pix": {**GAN, "depth": 3},
    "cyclegan": {
        **GAN,
        "condition_channels": 1,
        "target_channels": 2,
        "identity_weight": 0.0,
        "blocks": 1,
        "pool_px": 16,
    },
    "autoregressive": {"width": 32, "layers": 2, "heads": 2, "out_stride": 4, "patch_px": 4, "size_px": 16},
    "diffusion": {**UNET, "size_px": 16, "steps": 4},
}
NAMES = tuple(FAMILIES)


def model(family: str) -> ConditionalModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = SMALL.get(family, UNET if issubclass(FAMILIES[family].config_class, UNetConfig) else {})
        return build(family, small)


def batch(count: int = 4) -> Batch:
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image = torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")
    return Batch(condition=Condition(image=image[:, :1]), target=image[:, 1:] * 0.5, weight=torch.ones(count))


def noise(numbers: range, draws: int) -> NoiseSource:
    return NoiseSource(0, [SampleId("a.tar", str(number)) for number in numbers], range(draws))


def draws_of(made: ConditionalModel, given: Batch, numbers: range) -> torch.Tensor:
    count = 2 if made.is_stochastic else 1
    with torch.inference_mode():
        return made.sample(given.condition, noise(numbers, count), SampleOptions()).float().cpu()


def loss_of(made: ConditionalModel, given: Batch) -> float:
    """The loss at the same noise each time; of models with one phase."""
    if len(made.phases) > 1:
        return 0.0
    torch.manual_seed(1)
    with torch.no_grad():
        return sum(float(value) for value in made(given).values())


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    torch.set_num_threads(1)  # tiny models
    if request.param == "cuda":  # what is compared with the CPU is compared in full float32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device(request.param)


@pytest.mark.parametrize("family", NAMES)
def test_trains_under_the_devices_precision(family: str, device: torch.device) -> None:
    made = model(family).to(device)
    config = TrainConfig(steps=12, learning_rate=2e-3, warmup_steps=0, ema_decay=0.9)
    training = Training(made.train(), config)
    given = batch().to(device)
    before = [p.detach().clone() for phase in made.phases.values() for p in phase]
    loss_before = loss_of(made, given)
    torch.manual_seed(0)
    terms = [training.step(given, number) for number in range(12)]
    assert all(bool(torch.isfinite(value)) for step in terms for value in step.values())
    after = [p for phase in made.phases.values() for p in phase]
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    assert all(p.dtype == torch.float32 for p in after)
    if len(made.phases) == 1:  # an adversary's loss need not fall
        assert loss_of(made, given) < loss_before
    assert bool(torch.isfinite(draws_of(training.averaged.eval(), given, range(4))).all())


@pytest.mark.parametrize("family", NAMES)
def test_draws_are_those_of_the_cpu_within_tolerance(family: str, device: torch.device) -> None:
    made = model(family).eval()
    here = draws_of(copy.deepcopy(made).to(device), batch().to(device), range(4))
    there = draws_of(made, batch(), range(4))
    # A family that picks among categories may pick another where two are even in the last bits.
    far = ((here - there).abs() > 2e-3).float().mean()
    assert float(far) <= 0.01


@pytest.mark.parametrize("family", NAMES)
def test_a_draw_does_not_depend_on_its_batch(family: str, device: torch.device) -> None:
    made, given = model(family).eval().to(device), batch().to(device)
    image = given.condition.image
    together = draws_of(made, given, range(4))
    one = Batch(condition=Condition(image=image[2:3]), target=given.target[2:3], weight=given.weight[:1])
    far = ((draws_of(made, one, range(2, 3))[0] - together[2]).abs() > 2e-3).float().mean()
    assert float(far) <= 0.01


@pytest.mark.parametrize("family", NAMES)
def test_draws_under_the_devices_precision_are_finite(family: str, device: torch.device) -> None:
    made, given = model(family).eval().to(device), batch().to(device)
    with autocast(resolve("auto", device), device):
        found = draws_of(made, given, range(4))
    assert bool(torch.isfinite(found).all())
    assert float(found.abs().max()) < 10.0
