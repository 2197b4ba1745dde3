"""The adversarial families: what their phases train, how they draw, that they learn, and what they keep."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.checkpoint import dump, load
from condgen.errors import ConfigError, UnsupportedError
from condgen.families import build
from condgen.families._gan_parts import Critic, ImagePool
from condgen.families.cyclegan import CycleGan
from condgen.families.gan_configs import AdversarialConfig
from condgen.families.gan_losses import GAN_LOSSES, mode_seeking, r1_penalty
from condgen.metrics import draw_diversity
from condgen.networks import PatchDiscriminator
from condgen.noise import NoiseSource, SampleId
from condgen.presets import PRESETS
from tests.condgen.models import color_batch, source

DRAW = SampleOptions()
POINT = SampleOptions(mode="point")
SMALL: dict[str, Any] = {"width": 8, "discriminator_width": 8, "norm_groups": 4, "patch_px": 16, "init_std": 0.1}
UNPAIRED: dict[str, Any] = {"condition_channels": 1, "target_channels": 2, "identity_weight": 0.0, "pool_px": 16}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "cgan": ("cgan", {"multipliers": [1, 2], "noise_dim": 4, "noise_width": 16, "r1_every": 2}),
    "cgan, all terms": (
        "cgan",
        {"multipliers": [1, 2], "diversity_weight": 0.1, "l1_weight": 1.0, "spectral_norm": True, "gan_loss": "hinge"},
    ),
    "cgan, unconditional": ("cgan", {"multipliers": [1], "conditional_discriminator": False, "gan_loss": "lsgan"}),
    "pix2pix": ("pix2pix", {"depth": 3}),
    "pix2pix, without noise": ("pix2pix", {"depth": 3, "dropout_noise": False, "norm": "instance"}),
    "pix2pix, paper": (
        "pix2pix",
        {"depth": 3, "norm": "batch", "discriminator_norm": "batch", "upsampling": "transposed", "padding": "zero"},
    ),
    "cyclegan": ("cyclegan", {**UNPAIRED, "blocks": 1, "pool_size": 3}),
    "cyclegan, same channels": (
        "cyclegan",
        {**UNPAIRED, "target_channels": 1, "identity_weight": 0.5, "blocks": 1, "norm": "group", "pool_size": 3},
    ),
    "dualgan": (
        "cyclegan",
        {**UNPAIRED, "generator": "unet", "depth": 3, "dropout": 0.5, "dropout_noise": True}
        | {"gan_loss": "wasserstein", "clip_weights": 0.05, "critic_steps": 3, "pool_size": 0},
    ),
    "discogan": (
        "cyclegan",
        {**UNPAIRED, "generator": "encoder_decoder", "discriminator": "encoder", "depth": 3, "cycle_loss": "l2"}
        | {"gan_loss": "non_saturating", "pool_size": 0, "norm": "batch", "discriminator_norm": "batch"},
    ),
}
NOISY = [kind for kind in KINDS if kind.startswith("cgan") or kind in ("pix2pix", "pix2pix, paper", "dualgan")]


def small(kind: str, seed: int = 0, **config: Any) -> ConditionalModel:
    family, settings = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(family, {**SMALL, **settings, **config})


def batch_for(model: ConditionalModel, num_samples: int = 2, size: int = 16) -> Batch:
    batch = color_batch(num_samples, size)
    return replace(batch, target=batch.target[:, : model.config.target_channels])


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def step(model: ConditionalModel, batch: Batch, optimizers: dict[str, torch.optim.Optimizer], number: int = 0) -> None:
    """One step of every phase that is due, as the training loop does it."""
    torch.manual_seed(number)
    for name, optimizer in optimizers.items():
        if (number + 1) % model.phase_periods.get(name, 1):
            continue
        optimizer.zero_grad()
        total(model(batch, name)).backward()
        optimizer.step()


def adam(model: ConditionalModel, rate: float = 2e-3) -> dict[str, torch.optim.Optimizer]:
    phases = model.phases.items()
    return {name: torch.optim.Adam(list(p), lr=rate, betas=(0.5, 0.999)) for name, p in phases}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


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
    image, options = batch_for(model, 4).condition.image, SampleOptions(mode=mode)
    assert image is not None
    together = model.sample(Condition(image=image), source(4), options)
    for i in range(4):
        noise = NoiseSource(0, [SampleId("a.tar", f"{i:06d}")], [0])
        alone = model.sample(Condition(image=image[i : i + 1]), noise, options)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_draws_bits_do_not_depend_on_its_neighbours(kind: str) -> None:
    model = small(kind).eval()
    image = batch_for(model, 3).condition.image
    assert image is not None
    first = model.sample(Condition(image=image), source(3), DRAW)[1]
    changed = torch.cat([image[2:] * -3, image[1:2], torch.zeros_like(image[:1])])
    noise = NoiseSource(0, [None, SampleId("a.tar", "000001"), SampleId("other", "x")], [0])
    assert torch.equal(model.sample(Condition(image=changed), noise, DRAW)[1], first)


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


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_a_loss_rewards_its_own_side(name: str) -> None:
    loss, low, high = GAN_LOSSES[name], torch.tensor(0.1), torch.tensor(0.9)
    assert loss.real(high) < loss.real(low)
    assert loss.fake(low) < loss.fake(high)
    assert loss.generator(high) < loss.generator(low)


def test_the_non_saturating_loss_is_the_papers_logarithms() -> None:
    s = torch.linspace(-3, 3, 7, dtype=torch.float64)
    loss, probability = GAN_LOSSES["non_saturating"], torch.sigmoid(s)
    torch.testing.assert_close(loss.real(s), -probability.log())
    torch.testing.assert_close(loss.fake(s), -(1 - probability).log())
    torch.testing.assert_close(loss.generator(s), -probability.log())


def test_r1_is_the_mean_of_the_patches_squared_gradients() -> None:
    net = PatchDiscriminator(AdversarialConfig(discriminator_width=4, discriminator_norm="none"), 1, 16)
    real = torch.randn(1, 1, 24, 24)
    y = real.clone().requires_grad_(True)
    scores = net(y).flatten()
    each = [float(torch.autograd.grad(s, y, retain_graph=True)[0].square().sum()) for s in scores]
    estimates = [float(r1_penalty(net, real).detach()) for _ in range(400)]
    mean = sum(estimates) / len(estimates)
    assert mean == pytest.approx(sum(each) / len(each), rel=0.15)
    assert max(estimates) > 1.05 * mean  # signs are drawn anew


def test_r1_comes_each_nth_step_and_n_times_as_large() -> None:
    config = AdversarialConfig(patch_px=1, discriminator_norm="none", discriminator_width=4, r1_gamma=2.0, r1_every=3)
    net = PatchDiscriminator(config, 1, 1)
    critic, real = Critic(net, config), torch.randn(2, 1, 2, 2)  # patches that share no pixel: signs don't matter
    once = float(r1_penalty(net, real).mean().detach())
    seen = [float(critic.loss(real, real, torch.ones(2))["r1"].detach()) for _ in range(6)]
    assert once > 0
    assert seen == pytest.approx([3 * once, 0, 0, 3 * once, 0, 0])
    assert int(critic.steps) == 6
    critic.eval()
    assert float(critic.loss(real, real, torch.ones(2))["r1"]) == 0.0
    assert int(critic.steps) == 6


def test_mode_seeking_grows_as_pictures_come_together() -> None:
    z = torch.zeros(2, 3), torch.ones(2, 3)
    y = torch.zeros(2, 1, 4, 4), torch.stack([torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.5)])
    assert mode_seeking(*y, *z).tolist() == pytest.approx([10.0, 2.0], rel=1e-3)


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    draws = torch.tensor([0.0, 1.0, 3.0])[None, :, None, None, None].expand(1, 3, 2, 4, 4)
    assert draw_diversity(draws).tolist() == pytest.approx([2.0])
    with pytest.raises(ConfigError, match="draws"):
        draw_diversity(draws[:, :1])


def test_the_discriminators_loss_is_halved() -> None:
    model = small("pix2pix", discriminator_scale=0.5, dropout=0.0, dropout_noise=False)
    twice = small("pix2pix", discriminator_scale=1.0, dropout=0.0, dropout_noise=False)
    batch = batch_for(model)
    half, whole = (total(m(batch, "discriminator")).detach() for m in (model, twice))
    torch.testing.assert_close(2 * half, whole)


def test_an_unconditional_discriminator_does_not_see_x() -> None:
    batch = color_batch(2)
    other = replace(batch, condition=Condition(image=-batch.condition.image))  # type: ignore[operator]
    for kind, sees in (("cgan", True), ("cgan, unconditional", False)):
        critic = small(kind).critic
        x = None if not sees else batch.condition.image
        z = None if not sees else other.condition.image
        assert isinstance(critic, Critic)
        assert torch.equal(critic(batch.target, x), critic(batch.target, z)) is not sees
    assert "d_real" in small("cgan, unconditional")(other, "discriminator")


# ---- the pool --------------------------------------------------------------------------------------------------------


def picture(value: float) -> Tensor:
    return torch.full((1, 1, 2, 2), value)


def test_a_pool_fills_first_and_then_swaps_half_of_the_pictures() -> None:
    pool, one = ImagePool(4, 1, 2), torch.ones(1)
    for value in range(4):
        assert float(pool.exchange(picture(value), one)[0, 0, 0, 0]) == value
    returned = [float(pool.exchange(picture(value), one)[0, 0, 0, 0]) for value in range(4, 404)]
    old = sum(got != made for got, made in zip(returned, range(4, 404), strict=True))
    assert 160 < old < 240
    assert len(set(returned)) == len(returned)  # what is given away is forgotten
    assert sorted({*returned, *pool.images[:, 0, 0, 0].tolist()}) == [float(v) for v in range(404)]


def test_a_pool_leaves_padding_alone_and_refuses_other_sizes() -> None:
    pool = ImagePool(4, 1, 2)
    pool.exchange(torch.cat([picture(1), picture(2)]), torch.tensor([0.0, 1.0]))
    assert int(pool.filled) == 1
    assert float(pool.images[0].mean()) == 2.0
    with pytest.raises(ConfigError, match=r"model\.pool_px"):
        pool.exchange(torch.zeros(1, 1, 3, 3), torch.ones(1))
    made = torch.zeros(1, 1, 3, 3)
    assert ImagePool(0, 1, 2).exchange(made, torch.ones(1)) is made


def test_only_training_fills_the_pools() -> None:
    model = small("cyclegan")
    assert isinstance(model, CycleGan)
    for training, wanted in ((False, 0), (True, 2)):
        model.train(training)
        model(batch_for(model), "discriminators")
        assert int(model.pool_a.filled) == int(model.pool_b.filled) == wanted


# ---- both ways -------------------------------------------------------------------------------------------------------


def test_a_cyclic_model_translates_both_ways() -> None:
    model, batch = small("cyclegan").eval(), color_batch(2)
    back = SampleOptions(direction="b2a")
    there = model.sample(batch.condition, source(2), DRAW)[:, 0]
    assert there.shape[1] == 2
    again = model.sample(Condition(image=there), source(2), back)[:, 0]
    assert isinstance(model, CycleGan)
    torch.testing.assert_close(again, model.generators["b2a"](there))
    with pytest.raises(UnsupportedError, match=r"takes \[B, 2, H, W\]"):
        model.sample(batch.condition, source(2), back)


@pytest.mark.parametrize("kind", ["cgan", "pix2pix"])
def test_the_paired_families_have_one_direction(kind: str) -> None:
    with pytest.raises(UnsupportedError, match="no direction 'b2a'"):
        small(kind).sample(color_batch(1).condition, source(1), SampleOptions(direction="b2a"))


def test_true_pairs_are_told_by_the_label() -> None:
    model, batch = small("cyclegan", pair_weight=2.0), color_batch(2)
    with pytest.raises(UnsupportedError, match="label"):
        model(batch, "generators")
    labelled = [
        replace(batch, condition=replace(batch.condition, label=torch.tensor(label))) for label in ([0, 0], [0, 1])
    ]
    none, one = (float(model(b, "generators")["pairs"].detach()) for b in labelled)
    assert none == 0.0
    made = model.eval().sample(batch.condition, source(2), DRAW)[1, 0]
    back = model.sample(Condition(image=batch.target), source(2), SampleOptions(direction="b2a"))[1, 0]
    wanted = (made - batch.target[1]).abs().mean() + (back - batch.condition.image[1]).abs().mean()  # type: ignore[index]
    assert one == pytest.approx(2.0 * float(wanted), rel=1e-3)


def test_critics_weights_stay_clipped_and_generators_wait() -> None:
    model = small("dualgan")
    assert model.phase_periods == {"generators": 3}
    batch, optimizers = batch_for(model), adam(model, rate=0.05)
    before = copy.deepcopy(model.state_dict())
    step(model, batch, optimizers, 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if "generators" in name)
    step(model, batch, optimizers, 2)  # the generators' turn comes first, the critics' last step is clipped at use
    model(batch, "generators")
    assert isinstance(model, CycleGan)
    largest = max(float(p.detach().abs().max()) for p in model.phases["discriminators"])
    assert largest == pytest.approx(0.05)


# ---- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        ("cgan", {"widht": 8}, r"did you mean 'width'\?"),
        ("cgan", {"norm": "layer"}, "model.norm"),
        ("cgan", {"noise_dim": 0}, "model.noise_dim"),
        ("cgan", {"multipliers": []}, "model.multipliers"),
        ("pix2pix", {"patch_px": 71}, "model.patch_px: got 71"),
        ("pix2pix", {"dropout": 0.0}, "model.dropout_noise"),
        ("pix2pix", {"depth": 1}, "model.depth"),
        ("pix2pix", {"gan_loss": "lsgam"}, r"did you mean 'lsgan'\?"),
        ("cyclegan", {"dropout": 0.5}, "model.dropout: .* unet has dropout"),
        ("cyclegan", {"target_channels": 1}, "model.identity_weight"),
        ("cyclegan", {"generator": "vit"}, "model.generator"),
    ],
)
def test_a_wrong_configuration_is_one_config_error(family: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(family, config)


def test_the_papers_settings_are_presets() -> None:
    pix2pix, cyclegan = PRESETS["pix2pix-paper"], PRESETS["cyclegan-paper"]
    for preset in (pix2pix, cyclegan):
        train = preset.train
        assert (train.learning_rate, train.adam_betas, train.schedule) == (2e-4, (0.5, 0.999), "linear")
        assert (train.batch_size, train.weight_decay, train.warmup_steps, train.ema_decay) == (1, 0.0, 0, 0.0)
        assert (preset.model.init_std, preset.model.discriminator_scale, preset.model.patch_px) == (0.02, 0.5, 70)
    assert (pix2pix.model.l1_weight, pix2pix.model.depth, pix2pix.model.norm) == (100.0, 8, "batch")
    model = cyclegan.model
    assert (model.cycle_weight, model.identity_weight, model.pool_size, model.blocks) == (10.0, 0.5, 50, 9)
    assert (model.gan_loss, model.norm, model.padding) == ("lsgan", "instance", "reflect")
    for name in ("cgan", "pix2pix", "cyclegan"):
        assert PRESETS[name].model.norm in ("instance", "group")
        assert PRESETS[name].model.upsampling == "resize"


# ---- learning --------------------------------------------------------------------------------------------------------


def fit(model: ConditionalModel, batch: Batch, steps: int, rate: float) -> None:
    optimizers = adam(model, rate)
    for number in range(steps):
        step(model, batch, optimizers, number)
    model.eval()


def error_of(model: ConditionalModel, batch: Batch) -> float:
    return float((model.sample(batch.condition, source(batch.num_samples), DRAW)[:, 0] - batch.target).abs().mean())


@pytest.mark.parametrize(
    ("kind", "steps", "rate", "config"),
    [
        ("pix2pix", 150, 3e-3, {"dropout": 0.0, "dropout_noise": False}),
        ("cgan", 150, 3e-3, {"l1_weight": 10.0, "r1_gamma": 0.1}),
        ("cyclegan", 200, 5e-3, {"pair_weight": 20.0, "norm": "group"}),
    ],
)
def test_pairs_are_learnt_by_heart(kind: str, steps: int, rate: float, config: dict[str, Any]) -> None:
    model, batch = small(kind, width=16, **config), color_batch(4)
    pairs = replace(batch.condition, label=torch.ones(4, dtype=torch.int64))
    batch = replace(batch, condition=pairs, target=2 * batch.target)
    fit(model, batch, steps, rate)
    assert error_of(model, batch) < 0.1 < 0.25 < float(batch.target.abs().mean())
