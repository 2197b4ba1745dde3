"""Calibration by hand, and what each categorical family says of its places."""

import numpy as np
import pytest
import torch

from condgen.errors import UnsupportedError
from condgen.families.crf.model import Crf
from condgen.metrics.calibration import NUM_CONFIDENCE_BINS, calibration_error, count_reliability, reliability
from tests.condgen.models import color_batch, tiny


def test_the_error_is_the_gap_of_confidence_and_accuracy_weighted_by_places() -> None:
    """Ten places at confidence 0.9 of which 7 are right, ten at 0.55 of which 6 are: (0.2 + 0.05) / 2."""
    p = torch.tensor([[0.9, 0.1]] * 10 + [[0.45, 0.55]] * 10)
    truth = torch.tensor([0] * 7 + [1] * 3 + [1] * 6 + [0] * 4)
    counts = count_reliability(p.log(), truth)
    assert calibration_error(counts) == pytest.approx(0.125)
    confidence, accuracy = reliability(counts)
    used = np.flatnonzero(counts[0])
    assert confidence[used] == pytest.approx([0.55, 0.9])
    assert accuracy[used] == pytest.approx([0.6, 0.7])
    assert np.isnan(accuracy).sum() == NUM_CONFIDENCE_BINS - 2


def test_counts_of_parts_add_up_and_certainty_is_in_the_last_part() -> None:
    log_p = torch.tensor([[0.0, -200.0], [-0.1, -2.4], [-0.8, -0.6]])
    truth = torch.tensor([0, 1, 1])
    parts = [count_reliability(log_p[i : i + 1], truth[i : i + 1]) for i in range(3)]
    whole = count_reliability(log_p, truth)
    np.testing.assert_allclose(sum(parts), whole)
    assert whole[0, -1] == 1


def test_a_model_that_draws_the_truth_from_its_own_probabilities_is_calibrated() -> None:
    generator = torch.Generator().manual_seed(0)
    log_p = torch.randn(40_000, 5, generator=generator).mul(2).log_softmax(dim=-1)
    truth = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
    assert calibration_error(count_reliability(log_p, truth)) < 0.01
    assert calibration_error(count_reliability((3 * log_p).log_softmax(dim=-1), truth)) > 0.1


@pytest.mark.parametrize("family", ["color_classifier", "crf"])
def test_the_categories_are_those_of_the_true_bins(family: str) -> None:
    model, batch = tiny(family).eval(), color_batch(2)
    log_p, bins = model.categories(batch.condition, batch.target)
    assert log_p.shape == (2, 64, 313)
    assert bins.shape == (2, 64)
    assert log_p.exp().sum(dim=-1).detach().numpy() == pytest.approx(np.ones((2, 64)), abs=1e-4)
    classifier = model.classifier if isinstance(model, Crf) else model
    pooled = classifier.pooled_ab(batch.target)
    nearest = torch.cdist(pooled.flatten(2).mT, classifier.bins.centers[None]).argmin(dim=-1)
    assert (nearest == bins).float().mean() > 0.98  # a table looks them up, within 1.5 units
    if family == "color_classifier":
        picked = log_p.gather(-1, bins[..., None])[..., 0].sum(dim=1)
        torch.testing.assert_close(model.log_prob(batch.condition, batch.target), picked)


def test_a_family_without_categories_says_so() -> None:
    batch = color_batch(1)
    with pytest.raises(UnsupportedError, match="no categories"):
        tiny("regression").categories(batch.condition, batch.target)
