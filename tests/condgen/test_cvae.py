import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from condgen.base import Condition, SampleOptions
from condgen.checkpoint import dump, load
from condgen.errors import ConfigError, UnsupportedError
from condgen.families.cvae.config import CVAEConfig
from condgen.families.cvae.model import CVAE, DiagonalGaussian
from condgen.nn.denoiser import Encoded, convolution
from tests.condgen import checks
from tests.condgen.models import TINY, color_batch, loss_of, many_conditions, source, still, tiny

DRAW = SampleOptions()


def cvae(seed: int = 0, *, strong: float = 1.0, **config: Any) -> CVAE:
    model: CVAE = tiny("cvae", seed, **{"latent_dims": 2, **config})
    with torch.no_grad():  # a decoder that z says much to, as that of a trained model
        for layer in (model.embed[0], model.embed[2]):
            layer.weight.mul_(strong)
        model.decoder.head.weight.mul_(strong)
    return model


def integral(model: CVAE, encoded: Encoded, y: Tensor, dims: int) -> Tensor:
    """log p(y | x) by a sum over a grid of z from -7 to 7, 0.1 apart (0.02 in one dimension)."""
    step = 0.02 if dims == 1 else 0.1
    axis = torch.arange(-7, 7 + step / 2, step)
    z = torch.cartesian_prod(*([axis] * dims)).reshape(1, -1, dims)
    prior = model.prior(encoded)
    prior = DiagonalGaussian(prior.mean[:, None], prior.log_std[:, None])
    parts = []
    for some in z.split(2000, dim=1):
        likelihood = model.decode(encoded, some).log_prob(y[:, None]).sum(dim=(2, 3, 4))
        parts.append(likelihood + prior.log_prob(some).sum(dim=2))
    return torch.cat(parts, dim=1).logsumexp(dim=1) + dims * math.log(step)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dims", "config"),
    [(1, {}), (1, {"prior": "learned", "variance": "pixel"}), (2, {"variance": "fixed"})],
)
@torch.no_grad()
def test_the_bound_reaches_what_numerical_integration_over_z_gives(dims: int, config: dict[str, Any]) -> None:
    model = cvae(latent_dims=dims, std=0.06, strong=4.0, **config).eval()
    condition = color_batch(1, size=4).condition
    y = model.pooled(model.sample(condition, source(1), DRAW)[:, 0]) + 0.05
    encoded = model.encode(condition)
    exact = integral(model, encoded, y, dims)
    at_mean = model.decode(encoded, torch.zeros(1, 1, dims)).log_prob(y[:, None]).sum()
    assert abs(float(exact - at_mean)) > 0.05  # z matters
    upsampled = torch.nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
    bounds = [float(model.log_prob(condition, upsampled, num_samples=n)) for n in (1, 4000)]
    assert bounds[1] == pytest.approx(float(exact), abs=0.06)
    assert bounds[0] != pytest.approx(float(exact), abs=0.06)


@pytest.mark.slow
@torch.no_grad()
def test_the_density_of_a_pixel_integrates_to_one() -> None:
    model = cvae(latent_dims=1, std=0.2, target_channels=1, out_stride=1, strong=4.0).eval()
    values = torch.linspace(-4, 4, 801)
    condition = Condition(image=torch.full((801, 1, 1, 1), 0.3))
    log_p = model.log_prob(condition, values.reshape(801, 1, 1, 1), num_samples=500)
    assert float(log_p.exp().sum() * 0.01) == pytest.approx(1, abs=0.03)


@torch.no_grad()
def test_exact_draws_have_the_density_that_the_bound_reaches() -> None:
    model = cvae(latent_dims=1, std=0.2, target_channels=1, out_stride=1, observation_noise=True, strong=4.0).eval()
    num = 4000
    y = model.sample(Condition(image=torch.full((1, 1, 1, 1), 0.3)), source(1, num_draws=num), DRAW).flatten()
    encoded = model.encode(Condition(image=torch.full((1, 1, 1, 1), 0.3)))
    values = torch.linspace(-4, 4, 1601)
    z = torch.arange(-6, 6, 0.02).reshape(1, -1, 1)
    decoded = model.decode(encoded, z)
    weight = (-0.5 * z.flatten().square()).softmax(dim=0)
    std = decoded.log_std.exp().flatten()[0]
    cdf = (torch.special.ndtr((values[:, None] - decoded.mean.flatten()) / std) * weight).sum(dim=1)
    empirical = torch.searchsorted(y.sort().values, values, right=True) / num
    # Kolmogorov: right draws exceed 2.4 / sqrt(num) once in 50,000.
    assert float((empirical - cdf).abs().max()) < 2.4 / math.sqrt(num)
    assert float(decoded.mean.std()) > 0.02
    narrow = 0.5 * (1 + torch.erf((values - decoded.mean.flatten() @ weight) / (0.5 * std * math.sqrt(2))))
    assert float((empirical - narrow).abs().max()) > 2.4 / math.sqrt(num)  # the test sees half the spread


@torch.no_grad()
def test_the_loss_is_the_negative_elbo_a_number() -> None:
    model, batch = cvae(free_bits=0.0).eval(), color_batch(2)
    encoded, y = model.encode(batch.condition), model.pooled(batch.target)
    q = model.posterior(encoded, y)
    torch.manual_seed(5)
    z = q.shifted(torch.randn_like(q.mean))
    elbo = model.decode(encoded, z[:, None]).log_prob(y[:, None]).sum() / 2
    elbo = elbo - (0.5 * (q.mean.square() + (2 * q.log_std).exp() - 1) - q.log_std).sum() / 2
    torch.manual_seed(5)
    terms = model(batch)
    torch.testing.assert_close(terms["nll"] + terms["kl"], -elbo / y[0].numel())


def test_the_kl_is_that_of_torch_distributions() -> None:
    g = torch.Generator().manual_seed(0)
    a, b, c, d = (torch.randn(7, generator=g) for _ in range(4))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(a, b.exp()), normal(c, d.exp()))
    torch.testing.assert_close(DiagonalGaussian(a, b).kl_from(DiagonalGaussian(c, d)), expected)
    torch.testing.assert_close(DiagonalGaussian(a, b).log_prob(c), normal(a, b.exp()).log_prob(c))


@torch.no_grad()
def test_free_bits_cost_nothing_and_the_kls_weight_warms_up() -> None:
    batch = color_batch(2)
    kl = float(cvae(free_bits=0.0).eval()(batch)["kl"])
    assert kl > 0
    assert float(cvae(free_bits=100.0).eval()(batch)["kl"]) == 0
    model = cvae(free_bits=0.0, kl_warmup_steps=4).train()
    warm = [float(model(batch)["kl"]) for _ in range(6)]
    assert warm == pytest.approx([kl * w for w in (0.25, 0.5, 0.75, 1, 1, 1)], rel=1e-4)
    assert float(model.eval()(batch)["kl"]) == pytest.approx(kl, rel=1e-4)
    resumed, _ = load(dump(model))
    assert int(resumed.get_buffer("trained_steps")) == 6
    assert float(cvae(free_bits=0.0, kl_weight=0.5).eval()(batch)["kl"]) == pytest.approx(kl / 2, rel=1e-4)


@pytest.mark.parametrize("variance", ["fixed", "learned", "pixel"])
def test_the_first_standard_deviation_is_the_configured_one(variance: str) -> None:
    model, batch = cvae(std=0.2, variance=variance), color_batch(1)
    std = model.decode(model.encode(batch.condition), torch.zeros(1, 1, 2)).log_std.exp()
    torch.testing.assert_close(
        std.mean().detach(), torch.tensor(0.2), atol=0.01 if variance == "pixel" else 1e-5, rtol=0
    )
    assert ("raw_std" in dict(model.named_parameters())) == (variance == "learned")


MANY = {"num_labels": 3, "text_vocabulary": 5, "prior": "learned", "variance": "pixel"}
TORUS = {"attention": False, "variance": "fixed", "padding_mode": "circular", "posterior_norm": "batch"}


@pytest.mark.parametrize("config", [{}, MANY, TORUS])
def test_gradients_reach_every_parameter(config: dict[str, Any]) -> None:
    model = cvae(free_bits=0.0, **config)
    loss_of(model, many_conditions(3)).backward()
    assert still(model) == []


def test_z_changes_every_pixel_and_q_does_not_see_where_things_are() -> None:
    model = cvae(padding_mode="circular", out_stride=1, attention=False, strong=3.0).eval()
    batch = color_batch(1, size=8)
    with torch.no_grad():
        encoded = model.encode(batch.condition)
        far = model.decode(encoded, torch.tensor([[[0.0, 0.0], [2.0, 2.0]]])).mean
        assert float((far[:, 0] - far[:, 1]).abs().min()) > 0
        here = model.posterior(encoded, batch.target).mean
        rolled = Condition(image=batch.condition.image.roll((2, 4), dims=(2, 3)))
        there = model.posterior(model.encode(rolled), batch.target.roll((2, 4), dims=(2, 3))).mean
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)
        apart = model.posterior(encoded, batch.target.roll((2, 4), dims=(2, 3))).mean  # x stays: what moved is seen
        assert float((here - apart).abs().max()) > 1e-4


def test_q_begins_as_narrow_as_it_is_told_and_with_the_same_means() -> None:
    batch, found = color_batch(4, size=16), {}
    for std in (1.0, 0.05):
        model = cvae(first_posterior_std=std).eval()
        with torch.no_grad():
            found[std] = model.posterior(model.encode(batch.condition), model.pooled(batch.target))
    torch.testing.assert_close(found[0.05].log_std, found[1.0].log_std + math.log(0.05))
    torch.testing.assert_close(found[0.05].mean, found[1.0].mean)
    with pytest.raises(ConfigError):
        CVAEConfig(first_posterior_std=0.0)


def test_batch_normalisation_shows_q_what_little_differs_between_samples() -> None:
    spread = {}
    for norm in ("layer", "batch"):
        model, batch = cvae(posterior_norm=norm).train(), color_batch(1, size=16)
        with torch.no_grad():
            alike = Condition(image=batch.condition.image.repeat(8, 1, 1, 1))
            y = model.pooled(batch.target).repeat(8, 1, 1, 1)
            y[:, :, 0, 0] += 0.3 * torch.linspace(-1, 1, 8)[:, None]
            spread[norm] = float(model.posterior(model.encode(alike), y).mean.std(dim=0).mean())
    assert spread["layer"] < 0.02
    assert spread["batch"] > 0.1


@pytest.mark.parametrize("stride", [1, 2])
def test_a_circular_convolution_is_that_of_pytorch_and_keeps_the_layout(stride: int) -> None:
    ours = convolution(3, 5, CVAEConfig(padding_mode="circular"), stride).to(memory_format=torch.channels_last)
    theirs = nn.Conv2d(3, 5, 3, stride=stride, padding=1, padding_mode="circular")
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 8, 6).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("config", [{}, {"prior": "learned", "observation_noise": True}])
def test_draws_differ_and_each_is_the_same_alone_and_in_other_batches(config: dict[str, Any]) -> None:
    checks.draws_are_their_own(cvae(strong=4.0, **config).eval(), color_batch(3), apart=0.01)


def test_a_point_is_the_priors_mean_and_temperature_spreads_draws() -> None:
    model, condition = cvae(strong=4.0).eval(), color_batch(1).condition
    point = model.sample(condition, source(1, 2), SampleOptions(mode="point"))
    assert torch.equal(point[:, 0], point[:, 1])
    away = [
        float((model.sample(condition, source(1, 4), SampleOptions(temperature=t)) - point[:, :1]).abs().mean())
        for t in (0.1, 1.0)
    ]
    assert 0 < away[0] < 0.5 * away[1]


@pytest.mark.parametrize("size", [(17, 30), (1, 1), (5, 3)])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int]) -> None:
    model = cvae()
    checks.a_size_goes_in_and_comes_out(model, size)
    assert torch.isfinite(model.log_prob(Condition(image=torch.zeros(2, 1, *size)), torch.zeros(2, 2, *size))).all()


def test_padding_adds_nothing_to_the_loss() -> None:
    checks.padding_adds_nothing(cvae(free_bits=0.0), color_batch(3))


@pytest.mark.parametrize("config", [{}, {"prior": "learned", "variance": "pixel", "observation_noise": True}])
def test_a_loaded_model_draws_the_same_bits(config: dict[str, Any]) -> None:
    checks.a_loaded_model_draws_the_same(cvae(seed=3, **config).eval(), color_batch(2))


@pytest.mark.slow
def test_one_input_with_two_outputs_is_learned_as_both() -> None:
    """Half of the pictures of one x are one colour, half another: draws are one or the other, all over."""
    model = cvae(width=16, out_stride=1, latent_dims=2, free_bits=0.0)
    x = color_batch(1, size=8).condition.image
    sign = torch.tensor([1.0, -1.0]).repeat(8)[:, None, None, None]
    batch = replace(
        color_batch(16, size=8),
        condition=Condition(image=x.expand(16, -1, -1, -1)),
        target=0.5 * sign.expand(16, 2, 8, 8),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    torch.manual_seed(0)
    for _ in range(200):
        optimizer.zero_grad()
        torch.stack(list(model(batch).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    y = model.sample(Condition(image=x), source(1, num_draws=64), DRAW)[0]
    near = (y.abs() - 0.5).abs().amax(dim=(1, 2, 3)) < 0.25  # one of the two, at every pixel
    first = (y.mean(dim=(1, 2, 3)) > 0)[near]
    assert float(near.float().mean()) > 0.85
    assert 0.2 < float(first.float().mean()) < 0.8  # 0.5 within five standard deviations of 64 draws
    likely, unlikely = (model.log_prob(Condition(image=x), t) for t in (batch.target[:1], batch.target[:1] * 0))
    assert float(likely - unlikely) > 50


def test_wrong_values_are_refused_by_name() -> None:
    cases: dict[str, dict[str, Any]] = {
        "did you mean 'fixed'": {"prior": "fix"},
        "model.variance": {"variance": "learnt"},
        "model.std": {"std": 0.001},
        "model.latent_dims": {"latent_dims": 0},
        "model.condition_channels": {"condition_channels": 0},
        "model.free_bits": {"free_bits": -1.0},
    }
    checks.wrong_values_are_refused("cvae", TINY, cases)
    with pytest.raises(UnsupportedError, match="image"):
        cvae().sample(Condition(label=torch.zeros(1, dtype=torch.int64)), source(1), DRAW)
