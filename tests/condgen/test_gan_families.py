"""The adversarial families: what their phases train, how they draw, and what they keep."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.checkpoint import dump, load
from condgen.errors import ConfigError, UnsupportedError
from condgen.metrics import draw_diversity
from condgen.noise import NoiseSource, SampleId
from tests.condgen import checks
from tests.condgen.gan_models import DRAW, KINDS, NOISY, POINT, adam, batch_for, small, step, total
from tests.condgen.models import color_batch, source

pytestmark = pytest.mark.usefixtures("seeded")


def without_effect(model: ConditionalModel) -> set[int]:
    """Biases that a normalisation takes away again: of the papers' networks, whose gradient is rounding alone."""
    modules = [m for m in model.modules() if not isinstance(m, nn.Identity)]
    pairs = pairwise(modules)
    return {id(a.bias) for a, b in pairs if isinstance(b, nn.InstanceNorm2d | nn.BatchNorm2d) and hasattr(a, "bias")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_phases_share_out_all_parameters(kind: str) -> None:
    model = small(kind)
    trained = [id(p) for parameters in model.phases.values() for p in parameters]
    assert len(trained) == len(set(trained))
    assert set(trained) == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_of_a_phase_and_no_other(kind: str) -> None:
    model = small(kind)
    batch = batch_for(model)
    hidden = without_effect(model)
    names = {id(p): name for name, p in model.named_parameters()}
    for phase, parameters in model.phases.items():
        model.zero_grad(set_to_none=True)
        total(model(batch, phase)).backward()
        reached = {id(p) for p in model.parameters() if p.grad is not None}
        assert reached == {id(p) for p in parameters}
        still = [names[id(p)] for p in parameters if id(p) not in hidden and not float(p.grad.abs().sum()) > 0]  # type: ignore[union-attr]
        # Where both sides of a loss are linear, a last bias cancels between true and made pictures.
        linear = model.config.gan_loss in ("hinge", "wasserstein") and phase.startswith("discriminator")
        assert not still or (linear and all(name.endswith("bias") for name in still) and len(still) <= 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_phases_step_moves_its_own_parameters_alone(kind: str) -> None:
    model = small(kind)
    batch = batch_for(model)
    optimizers = adam(model)
    for phase in model.phases:  # critics are clipped before their first use
        model(batch, phase)
    for phase, parameters in model.phases.items():
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        step(model, batch, {phase: optimizers[phase]}, number=model.phase_periods.get(phase, 1) - 1)
        own = {id(p) for p in parameters}
        moved = {id(p) for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved <= own
        assert len(moved) >= len(own) - 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_phase_runs_in_bfloat16_with_its_terms_in_float32(kind: str) -> None:
    model = small(kind)
    batch = batch_for(model)
    for phase, parameters in model.phases.items():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = model(batch, phase)
        assert {term.dtype for term in terms.values()} == {torch.float32}
        total(terms).backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in parameters if p.grad is not None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.eval().sample(batch.condition, source(2), DRAW).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_phase_is_refused(kind: str) -> None:
    model = small(kind)
    with pytest.raises(ConfigError, match="phase"):
        model(batch_for(model), "model")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "paper" not in kind and kind != "discogan"])
def test_padding_adds_nothing_to_a_loss(kind: str) -> None:
    model = small(kind).eval()
    whole = batch_for(model, 3)
    first = Batch(condition=Condition(image=whole.condition.image[:2]), target=whole.target[:2], weight=torch.ones(2))
    padded = replace(
        whole,
        condition=Condition(image=whole.condition.image * torch.tensor([1, 1, -0.5])[:, None, None, None]),
        weight=torch.tensor([1.0, 1.0, 0.0]),
    )
    for phase in model.phases:
        if model.family == "cgan":  # whose noise depends on the batch's size
            continue
        torch.testing.assert_close(model(padded, phase), model(first, phase), rtol=1e-4, atol=1e-5)
    for phase in model.phases:
        assert float(total(model(replace(whole, weight=torch.zeros(3)), phase)).detach()) == 0.0


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (1, 1), (5, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_size_goes_in_and_comes_out(kind: str, size: tuple[int, int]) -> None:
    model = small(kind, **({"pool_size": 0} if KINDS[kind][0] == "cyclegan" else {}))
    channels = model.config.target_channels
    condition = Condition(image=torch.rand(2, 1, *size))
    batch = Batch(condition=condition, target=torch.rand(2, channels, *size), weight=torch.ones(2))
    for phase in model.phases:
        assert torch.isfinite(total(model(batch, phase)))
    y = model.eval().sample(condition, source(2), DRAW)
    assert y.shape == (2, 1, channels, *size)
    assert y.dtype == torch.float32
    assert not y.requires_grad


@pytest.mark.parametrize("mode", ["draw", "point"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_is_the_same_in_any_batch(kind: str, mode: Any) -> None:
    model = small(kind).eval()
    checks.batch_sizes_agree(model, batch_for(model, 4), SampleOptions(mode=mode))


@pytest.mark.parametrize("kind", KINDS)
def test_a_draws_bits_do_not_depend_on_its_neighbours(kind: str) -> None:
    model = small(kind).eval()
    checks.neighbors_do_not_show(model, batch_for(model, 4), DRAW)


@pytest.mark.parametrize("kind", NOISY)
def test_draws_differ_and_each_is_the_same_alone(kind: str) -> None:
    model = small(kind).eval()
    assert model.is_stochastic
    condition = batch_for(model).condition
    draws = model.sample(condition, source(2, num_draws=3), DRAW)
    assert float(draw_diversity(draws).min()) > 1e-3
    only = NoiseSource(0, [SampleId("a.tar", "000000"), SampleId("a.tar", "000001")], [2])
    assert torch.equal(model.sample(condition, only, DRAW)[:, 0], draws[:, 2])
    points = model.sample(condition, source(2, num_draws=3), POINT)
    assert points.shape == draws.shape
    assert float(draw_diversity(points).max()) == 0.0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOISY])
def test_a_model_without_noise_has_one_answer_and_says_so(kind: str) -> None:
    model = small(kind).eval()
    assert not model.is_stochastic
    condition = batch_for(model).condition
    one, point = (model.sample(condition, source(2), options) for options in (DRAW, POINT))
    assert torch.equal(one, point)
    with pytest.raises(UnsupportedError, match="no noise, so its 2 draws"):
        model.sample(condition, source(2, num_draws=2), DRAW)


def test_the_temperature_scales_the_noise() -> None:
    model, batch = small("cgan").eval(), color_batch(2)
    spreads = [
        float(draw_diversity(model.sample(batch.condition, source(2, 4), SampleOptions(temperature=t))).mean())
        for t in (0.01, 1.0)
    ]
    assert spreads[0] < spreads[1] / 3


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_goes_on_and_draws_the_same(kind: str) -> None:
    model = small(kind)
    batch, optimizers = batch_for(model), adam(model)
    for number in range(3):
        step(model, batch, optimizers, number)
    files = dump(model)
    again, _ = load(files, expect_family=model.family)
    assert again.config == model.config
    assert dump(again) == files
    wanted = model.eval().sample(batch.condition, source(2), DRAW)
    assert torch.equal(again.sample(batch.condition, source(2), DRAW), wanted)
    for phase in model.phases:  # pools, counters and spectral norms too
        terms = []
        for one in (model.train(), again.train()):
            torch.manual_seed(5)
            terms.append(total(one(batch, phase)).detach())
        assert torch.equal(terms[0], terms[1])


def test_the_same_seed_trains_the_same_bits() -> None:
    finals = []
    for _ in range(2):
        model = small("cyclegan")
        optimizers = adam(model)
        for number in range(4):
            step(model, batch_for(model), optimizers, number)
        finals.append(dump(model))
    assert finals[0] == finals[1]


# ---- losses ----------------------------------------------------------------------------------------------------------
