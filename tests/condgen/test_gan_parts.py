"""Of the adversarial families: losses, pools, cycles, pairs, clipped critics, configurations, and that they learn."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.errors import ConfigError, UnsupportedError
from condgen.families import build
from condgen.gan.config import AdversarialConfig
from condgen.gan.critic import Critic, ImagePool
from condgen.gan.losses import GAN_LOSSES, mode_seeking, r1_penalty
from condgen.gan.networks import PatchDiscriminator
from condgen.presets import PRESETS
from tests.condgen.gan_models import DRAW, adam, batch_for, small, step, total
from tests.condgen.models import color_batch, source

pytestmark = pytest.mark.usefixtures("seeded")


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
    seen = [float(critic.loss(real, real, torch.ones(2))["d_r1"].detach()) for _ in range(6)]
    assert once > 0
    assert seen == pytest.approx([3 * once, 0, 0, 3 * once, 0, 0])
    assert int(critic.steps) == 6
    critic.eval()
    assert float(critic.loss(real, real, torch.ones(2))["d_r1"]) == 0.0
    assert int(critic.steps) == 6
    critic.train().load_state_dict(critic.state_dict() | {"steps": torch.tensor(2)})
    seen = [float(critic.loss(real, real, torch.ones(2))["d_r1"].detach()) for _ in range(2)]
    assert seen == pytest.approx([0, 3 * once])  # a resume goes on counting where the state does


def test_mode_seeking_grows_as_images_come_together() -> None:
    z = torch.zeros(2, 3), torch.ones(2, 3)
    y = torch.zeros(2, 1, 4, 4), torch.stack([torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.5)])
    assert mode_seeking(*y, *z).tolist() == pytest.approx([10.0, 2.0], rel=1e-3)


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
        assert torch.equal(critic(batch.target, x), critic(batch.target, z)) is not sees
    assert "d_real" in small("cgan, unconditional")(other, "discriminator")


# ---- the pool --------------------------------------------------------------------------------------------------------


def picture(value: float) -> Tensor:
    return torch.full((1, 1, 2, 2), value)


def test_a_pool_fills_first_and_then_swaps_half_of_the_images() -> None:
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
    largest = max(float(p.detach().abs().max()) for p in model.phases["discriminators"])
    assert largest == pytest.approx(0.05)


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_a_cyclegan_with_a_global_skip_begins_at_its_input_and_leaves_it(direction: str) -> None:
    model = small("cyclegan", global_skip=True, target_channels=1)
    batch, options = batch_for(model), SampleOptions(direction=direction)
    condition = batch.condition
    first = model.eval().sample(condition, source(batch.num_samples), options)[:, 0]
    torch.testing.assert_close(first, 0.99 * condition.image, rtol=0.0, atol=1e-5)
    optimizers = adam(model, rate=0.01)
    for number in range(2):
        step(model.train(), batch, optimizers, number)
    second = model.eval().sample(condition, source(batch.num_samples), options)[:, 0]
    assert float((second - first).abs().mean()) > 1e-3


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
        ("cyclegan", {"generator": "unet", "global_skip": True}, "model.global_skip: .* resnet has one"),
        (
            "cyclegan",
            {"target_channels": 1, "identity_weight": 0.0, "global_skip": True},
            "model.global_skip: .* other channels",
        ),
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


def test_the_papers_own_examples_have_their_losses() -> None:
    facades, monet, paper = PRESETS["pix2pix-facades"], PRESETS["cyclegan-monet"], PRESETS["cyclegan-paper"].model
    assert (facades.data.task, facades.data.crop_scale_min, facades.data.flip) == ("pairs", 0.875, True)
    model = facades.model
    assert (model.l1_weight, model.patch_px, model.gan_loss) == (100.0, 70, "non_saturating")
    assert facades.train.steps * facades.train.batch_size == 200 * 400  # epochs of the paper, pairs of the set
    assert monet.data.task == "domains"
    assert monet.model.pool_px == monet.data.size_px
    for name in ("gan_loss", "cycle_weight", "cycle_loss", "pool_size"):
        assert getattr(monet.model, name) == getattr(paper, name)
    # What holds colors in place: the paper's identity terms, or the skip around the generator.
    assert (monet.model.identity_weight, monet.model.global_skip) == (0.0, True)


# ---- learning --------------------------------------------------------------------------------------------------------


def fit(model: ConditionalModel, batch: Batch, steps: int, rate: float) -> None:
    optimizers = adam(model, rate)
    for number in range(steps):
        step(model, batch, optimizers, number)
    model.eval()


def error_of(model: ConditionalModel, batch: Batch) -> float:
    return float((model.sample(batch.condition, source(batch.num_samples), DRAW)[:, 0] - batch.target).abs().mean())


@pytest.mark.slow
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
