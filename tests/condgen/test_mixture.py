"""Gaussians at each pixel: densities that integrate to 1, draws that follow them, modes that are found."""

from typing import Any

import pytest
import torch

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.noise import NoiseSource, SampleId
from tests.condgen.models import source, tiny

ONE_PIXEL: dict[str, Any] = {"width": 4, "norm_groups": 2, "multipliers": [1], "out_stride": 1, "min_std": 0.02}


def one_pixel(family: str, channels: int, **config: Any) -> ConditionalModel:
    return tiny(family, seed=3, target_channels=channels, **{**ONE_PIXEL, **config}).eval()


def at(value: float, num_samples: int = 1) -> Condition:
    return Condition(image=torch.full((num_samples, 1, 1, 1), value))


@pytest.mark.parametrize(
    ("family", "config"),
    [("gaussian", {}), ("mixture", {"components": 3}), ("mixture", {"components": 3, "covariance": "full"})],
)
@torch.no_grad()
def test_a_density_integrates_to_one(family: str, config: dict[str, Any]) -> None:
    for channels in (1, 2):
        model = one_pixel(family, channels, **config)
        ticks = torch.linspace(-6, 6, 401)
        grid = torch.cartesian_prod(*[ticks] * channels).reshape(-1, channels, 1, 1)
        density = model.log_prob(at(0.3, len(grid)), grid).exp().double().sum()
        assert float(density * (12 / 400) ** channels) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("family", ["gaussian", "mixture"])
@torch.no_grad()
def test_draws_follow_the_density(family: str) -> None:
    """Kolmogorov and Smirnov: of 4,000 draws, 1.95 / sqrt(n) is passed once in 1,000 times."""
    model = one_pixel(family, 1, **({"components": 3} if family == "mixture" else {}))
    noise = NoiseSource(1, [SampleId("a", str(n)) for n in range(4)], range(1000))
    draws = model.sample(at(-0.4, 4), noise, SampleOptions()).flatten().sort().values
    ticks = torch.linspace(-8, 8, 8001)
    density = model.log_prob(at(-0.4, len(ticks)), ticks.reshape(-1, 1, 1, 1)).exp().double()
    cdf = density.cumsum(0) * (16 / 8000)
    ours = torch.searchsorted(draws, ticks, right=True) / len(draws)
    assert float((ours - cdf).abs().max()) < 1.95 / len(draws) ** 0.5


@torch.no_grad()
def test_a_full_covariance_correlates_channels() -> None:
    model = one_pixel("mixture", 2, components=1, covariance="full")
    found = model.components(at(0.1))
    scale = found.scale[0, 0, :, :, 0, 0]
    assert float(scale[1, 0]) != 0.0
    assert float(scale[0, 1]) == 0.0
    noise = NoiseSource(0, [SampleId("a", str(n)) for n in range(4)], range(2000))
    draws = model.sample(at(0.1, 4), noise, SampleOptions()).reshape(-1, 2)
    torch.testing.assert_close(torch.cov(draws.T), scale @ scale.T, atol=0.05, rtol=0.1)


def train(model: ConditionalModel, target: torch.Tensor, steps: int = 300) -> float:
    """Fit one pixel to its targets; returns the last loss."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    count = len(target)
    batch = Batch(condition=at(0.0, count), target=target.reshape(-1, 1, 1, 1), weight=torch.ones(count))
    loss = torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(model(batch).values(), torch.zeros(()))
        loss.backward()
        optimizer.step()
    model.eval()
    return float(loss.detach())


@pytest.mark.slow
def test_a_mixture_has_both_modes_and_a_gaussian_their_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2000, generator=generator) < 0.65
    target = torch.where(first, 0.7, -0.3) + 0.03 * torch.randn(2000, generator=generator)
    gaussian, mixture = one_pixel("gaussian", 1), one_pixel("mixture", 1, components=3)
    wide, sharp = train(gaussian, target), train(mixture, target)
    assert sharp < wide - 1.0
    noise = NoiseSource(5, [SampleId("a", "0")], range(2000))
    draws = {model.family: model.sample(at(0.0), noise, SampleOptions()).flatten() for model in (gaussian, mixture)}
    assert float(draws["gaussian"].std()) == pytest.approx(float(target.std()), rel=0.1)
    distance = torch.minimum((draws["mixture"] - 0.7).abs(), (draws["mixture"] + 0.3).abs())
    assert float((distance > 0.2).float().mean()) < 0.05
    assert float((draws["mixture"] > 0.2).float().mean()) == pytest.approx(float(first.float().mean()), abs=0.05)
    point = mixture.sample(at(0.0), NoiseSource(0, [SampleId("a", "0")], range(1)), SampleOptions(mode="point"))
    assert float(point.mean()) == pytest.approx(0.7, abs=0.05)


@pytest.mark.slow
def test_l1_predicts_the_median_and_l2_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.where(torch.rand(2000, generator=generator) < 0.65, 0.7, -0.3)
    predicted = {}
    for loss in ("l2", "l1", "smooth_l1"):
        model = tiny(
            "regression",
            target_channels=1,
            loss=loss,
            smooth_beta=0.01,
            **{k: v for k, v in ONE_PIXEL.items() if k != "min_std"},
        )
        train(model, target)
        predicted[loss] = float(model.sample(at(0.0), source(1), SampleOptions()).mean())
    assert predicted["l2"] == pytest.approx(float(target.mean()), abs=0.03)
    assert predicted["l1"] == pytest.approx(0.7, abs=0.03)
    assert predicted["smooth_l1"] == pytest.approx(0.7, abs=0.03)
