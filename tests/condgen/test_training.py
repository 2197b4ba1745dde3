"""The learning rate of each step; compiled networks."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from condgen.base import Batch, Condition
from condgen.errors import ConfigError
from condgen.families import FAMILIES, build
from condgen.presets import TrainConfig
from condgen.training import Training, learning_rate

TINY: dict[str, Any] = {"width": 8, "discriminator_width": 8, "norm_groups": 4, "depth": 3, "patch_px": 16}


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    config = TrainConfig(steps=110, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(config, step, 0.0) for step in range(111)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)


def test_the_linear_schedule_holds_for_half_and_falls_to_nothing() -> None:
    config = TrainConfig(steps=200, warmup_steps=0, learning_rate=1.0, schedule="linear")
    rates = [learning_rate(config, step, 0.0) for step in (0, 100, 150, 199)]
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.01])


def training(mode: Literal["none", "default"]) -> Training:
    torch.manual_seed(0)
    model = build("pix2pix", {**TINY, "dropout": 0.0, "dropout_noise": False}).train()
    return Training(model, TrainConfig(warmup_steps=0, learning_rate=1e-3, ema_decay=0.9, compile=mode))


def batch() -> Batch:
    made = torch.Generator().manual_seed(1)
    x, y = (torch.rand(2, channels, 16, 16, generator=made) * 2 - 1 for channels in (1, 2))
    return Batch(condition=Condition(image=x), target=y, weight=torch.ones(2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile hides it, unless it is an error
def test_a_compiled_step_is_that_of_none_up_to_rounding() -> None:
    eager, compiled = training("none"), training("default")
    for number in range(2):
        wanted, terms = eager.step(batch(), number), compiled.step(batch(), number)
        assert terms.keys() == wanted.keys()
        for name, value in terms.items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5)
    assert all(network._compiled_call_impl is not None for network in compiled.model.networks)
    for one, other in ((compiled.model, eager.model), (compiled.averaged, eager.averaged)):
        state, wanted = one.state_dict(), other.state_dict()
        assert state.keys() == wanted.keys()
        for name, value in state.items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    torch.compiler.reset()
    with pytest.raises(ConfigError, match=r"train\.compile: got 'default', allowed: none"):
        training("default").step(batch(), 0)


def test_a_critic_with_r1_stays_as_it_is() -> None:
    model = build("pix2pix", {**TINY, "r1_gamma": 1.0})
    assert model.networks == [model.generator]


@pytest.mark.slow
def test_every_family_has_networks_with_nearly_all_weights() -> None:
    for family in FAMILIES:
        model = build(family, {})
        held = {id(p) for network in model.networks for p in network.parameters()}
        total = sum(p.numel() for p in model.parameters())
        assert sum(p.numel() for p in model.parameters() if id(p) in held) > 0.8 * total, family
