import numpy as np
import torch

from condgen.families.color_classifier.model import ColorClassifier
from condgen.metrics import marginal_ab_nll
from condgen.statistics import DatasetStatistics
from tests.condgen.models import tiny


def classifier() -> ColorClassifier:
    model = tiny("color_classifier").eval()
    assert isinstance(model, ColorClassifier)
    return model


def test_the_marginal_nll_of_the_marginals_own_colors_is_its_entropy() -> None:
    model = classifier()
    ab = np.random.default_rng(0).normal(0, 15, (1, 2, 64, 64)).astype(np.float32).clip(-60, 60)
    model.fit_statistics(DatasetStatistics.of_ab(ab))
    torch.testing.assert_close(marginal_ab_nll(model, torch.zeros(1, 2, 8, 8)), -model.prior.max().log()[None])
    y = model.bins.decode(torch.multinomial(model.prior, 40_000, True).reshape(1, 200, 200)) / 110
    y = y.repeat_interleave(2, -1).repeat_interleave(2, -2)
    entropy = -(model.prior * model.prior.clamp_min(1e-30).log()).sum()
    torch.testing.assert_close(marginal_ab_nll(model, y)[0], entropy, atol=0.03, rtol=0)
