import math

import numpy as np
import pytest
import torch

from condgen.base import Batch, Condition, SampleOptions
from condgen.errors import ConfigError, DatasetError
from condgen.families.color_classifier.model import ColorClassifier
from condgen.statistics import DatasetStatistics
from tests.condgen.models import color_batch, source, tiny


def classifier(seed: int = 0, **config: object) -> ColorClassifier:
    model: ColorClassifier = tiny("color_classifier", seed, **config)
    with torch.no_grad():  # odds that are far from even, as those of a trained model
        model.net.head.weight.mul_(4)
    return model.eval()


def skewed_statistics() -> DatasetStatistics:
    ab = np.random.default_rng(0).normal((5.0, 15.0), (10.0, 20.0), (50_000, 2)).T.reshape(1, 2, 250, 200)
    return DatasetStatistics.of_ab(ab)


def test_probabilities_sum_to_one_on_the_models_grid() -> None:
    model, batch = classifier(), color_batch(2)
    p = model.log_probabilities(batch.condition).exp()
    assert p.shape == (2, 8, 8, 313)
    torch.testing.assert_close(p.sum(dim=-1), torch.ones(2, 8, 8))


def test_log_prob_sums_to_one_over_all_values_of_a_pixel() -> None:
    model = classifier(out_stride=1)
    condition = Condition(image=torch.full((313, 1, 1, 1), 0.3))
    every_colour = model.bins.decode(torch.arange(313)[:, None, None]) / 110
    total = model.log_prob(condition, every_colour).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_have_the_frequencies_that_log_prob_gives(temperature: float) -> None:
    model, num = classifier(out_stride=1), 4000
    model.fit_statistics(skewed_statistics())
    condition = Condition(image=color_batch(1, size=4).condition.image)
    log_p = model.log_probabilities(condition)[0, 1, 2].detach() / temperature
    p = log_p.softmax(dim=0).double()
    options = SampleOptions(temperature=temperature)
    y = model.sample(condition, source(1, num_draws=num), options)
    bins = model.bins.nearest(y[0, :, :, 1, 2].T[:, :, None] * 110)
    counts = torch.bincount(bins.flatten(), minlength=313).double()
    order = p.argsort(descending=True)
    group = (p[order].cumsum(0) * 40).long().clamp_max(39)  # about 40 groups of 100 draws
    observed = torch.zeros(40, dtype=torch.float64).index_add_(0, group, counts[order])
    expected = torch.zeros(40, dtype=torch.float64).index_add_(0, group, p[order] * num)
    kept = expected > 5
    chi2 = float(((observed - expected)[kept].square() / expected[kept]).sum())
    # Wilson and Hilferty: five standard deviations, which right frequencies exceed once in 3e6.
    freedom = int(kept.sum()) - 1
    assert freedom > 5
    limit = freedom * (1 - 2 / (9 * freedom) + 5 * math.sqrt(2 / (9 * freedom))) ** 3
    assert chi2 < limit


def test_the_mean_log_prob_of_draws_is_minus_the_entropy() -> None:
    model, num = classifier(out_stride=1), 1000
    condition = Condition(image=color_batch(1, size=4).condition.image)
    log_p = model.log_probabilities(condition).detach().double()
    entropy = -(log_p.exp() * log_p).sum()
    draws = model.sample(condition, source(1, num_draws=num), SampleOptions())[0]
    values = model.log_prob(Condition(image=condition.image.expand(num, -1, -1, -1)), draws).detach().double()
    # Five standard errors: once in 2e6.
    assert abs(float(values.mean() + entropy)) < 5 * float(values.std()) / math.sqrt(num)


def test_rare_colors_weigh_more_and_the_mean_weight_is_one() -> None:
    model = classifier()
    assert torch.equal(model.class_weights(), torch.ones(313))
    model.fit_statistics(skewed_statistics())
    weights = model.class_weights()
    torch.testing.assert_close((model.prior * weights).sum(), torch.tensor(1.0))
    torch.testing.assert_close(model.prior.sum(), torch.tensor(1.0))
    assert torch.equal(weights.argsort(descending=True)[-5:].sort()[0], model.prior.argsort()[-5:].sort()[0])
    # Zhang et al., eq. (4) with lambda = 1/2: no weight is above twice the bins' share of the smoothed prior.
    mixed = 0.5 * model.prior + 0.5 / 313
    torch.testing.assert_close(weights, (1 / mixed) / (model.prior / mixed).sum())


def test_draws_and_likelihoods_have_the_rebalancing_divided_out() -> None:
    model, batch = classifier(), color_batch(1)
    model.fit_statistics(skewed_statistics())
    rebalanced = model.logits(batch.condition).log_softmax(dim=-1)
    lifted = model.log_probabilities(batch.condition) + model.class_weights().log()
    torch.testing.assert_close(lifted.log_softmax(dim=-1), rebalanced, atol=1e-4, rtol=0)


def test_the_loss_is_that_of_dense_targets() -> None:
    model, batch = classifier(), color_batch(2)
    model.fit_statistics(skewed_statistics())
    index, soft = model.bins.soft_encode(model.pooled_ab(batch.target))
    dense = torch.zeros(*index.shape[:-1], 313).scatter_(-1, index, soft)
    log_q = model.logits(batch.condition).log_softmax(dim=-1)
    weight = model.class_weights()[dense.argmax(dim=-1)]
    expected = -(weight * (dense * log_q).sum(dim=-1)).mean()
    torch.testing.assert_close(model(batch)["cross_entropy"], expected)


def test_a_low_temperature_draws_the_likeliest_color() -> None:
    model, batch = classifier(), color_batch(1)
    bins = model.draw_bins(batch.condition, source(1, num_draws=2), temperature=1e-3)
    likeliest = model.log_probabilities(batch.condition).argmax(dim=-1)
    assert float((bins == likeliest[:, None]).float().mean()) > 0.98


def test_the_point_prediction_lies_between_the_mean_and_the_mode() -> None:
    model, batch = classifier(), color_batch(1)
    q = model.logits(batch.condition).detach().softmax(dim=-1)
    mean, mode = model.bins.decode_mean(q), model.bins.decode(q.argmax(dim=-1))
    point = model.pooled_ab(model.sample(batch.condition, source(1), SampleOptions(mode="point"))[:, 0])
    assert float((point - mode).norm()) < float((mean - mode).norm())
    assert float((point - mean).norm()) > 1


def test_statistics_without_colors_are_refused() -> None:
    with pytest.raises(DatasetError):
        classifier().fit_statistics(DatasetStatistics())


def test_one_channel_has_k_uniform_bins() -> None:
    model = classifier(bins="uniform", num_bins=5, target_channels=1, out_stride=1)
    centers = model.bins.centers[:, 0]
    assert centers.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    y = torch.tensor([-2.0, -0.8, -0.7, 0.2, 0.3, 0.9]).reshape(1, 1, 1, 6)
    assert model.bins.nearest(y).flatten().tolist() == [0, 0, 1, 2, 3, 4]
    batch = color_batch(2)
    one = Batch(condition=batch.condition, target=batch.target[:, :1], weight=batch.weight)
    logits = model.logits(one.condition).flatten(0, 2)
    wanted = torch.nn.functional.cross_entropy(logits, model.bins.nearest(one.target).flatten())
    torch.testing.assert_close(model(one)["cross_entropy"], wanted)
    draws = model.sample(batch.condition, source(2, num_draws=3), SampleOptions())
    assert draws.shape == (2, 3, 1, 16, 16)
    assert set(draws.flatten().tolist()) <= set(centers.tolist())
    total = sum(model.log_prob(Condition(image=torch.zeros(1, 1, 1, 1)), c.reshape(1, 1, 1, 1)).exp() for c in centers)
    torch.testing.assert_close(total, torch.ones(1))


def test_uniform_bins_of_two_channels_are_all_combinations() -> None:
    model = classifier(bins="uniform", num_bins=7, value_limit=0.5)
    values = 0.4 * color_batch(2).target
    assert len(model.bins) == 49
    found = model.bins.decode(model.bins.nearest(values))
    assert float((found - values).abs().max()) <= 0.5 / 6 + 1e-6
    p = model.log_probabilities(color_batch(1).condition).exp()
    axis = torch.linspace(-0.5, 0.5, 7)
    marginal = p.unflatten(-1, (7, 7)).sum(dim=-1) @ axis
    torch.testing.assert_close(model.bins.decode_mean(p)[:, 0], marginal, atol=1e-5, rtol=1e-4)
    model.fit_statistics(DatasetStatistics())  # of colours alone
    assert torch.equal(model.class_weights(), torch.ones(49))


def test_256_levels_lose_nothing_of_eight_bits() -> None:
    values = (torch.arange(256) / 127.5 - 1).reshape(1, 1, 16, 16)
    bins = classifier(bins="uniform", num_bins=256, target_channels=1).bins
    torch.testing.assert_close(bins.decode(bins.nearest(values)), values, atol=1e-6, rtol=0)


def test_the_point_prediction_may_be_the_likeliest_bin() -> None:
    model, batch = classifier(point="argmax", out_stride=1), color_batch(1)
    point = model.sample(batch.condition, source(1), SampleOptions(mode="point"))[:, 0]
    wanted = model.bins.decode(model.logits(batch.condition).argmax(dim=-1)) / 110
    torch.testing.assert_close(point, wanted)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"bins": "ab", "target_channels": 1}, "model.bins"),
        ({"bins": "uniform", "num_bins": 65}, "model.num_bins"),
        ({"bins": "uniform", "num_bins": 1}, "model.num_bins"),
        ({"bins": "uniform", "value_limit": 0.0}, "model.value_limit"),
        ({"point": "mode"}, "model.point"),
    ],
)
def test_bins_that_do_not_fit_are_refused(config: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        classifier(**config)
