import pytest
import torch

from jobs.chapter.claims import Experiment, judge
from jobs.chapter.experiments import EXPERIMENTS

SHIRTS = {one.name: one for one in EXPERIMENTS if one.world == "shirts"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def bounds(one: Experiment) -> set[str]:
    return {bound.metric for claim in one.claims for bound in claim.bounds}


def test_the_world_has_every_family_of_its_table() -> None:
    assert set(SHIRTS) == {
        "regression-l2", "regression-l1", "gaussian", "mixture", "softmax-and-crf", "near-even-odds", "quantisation",
        "cgan", "cgan-l1", "cvae", "autoregressive", "diffusion",
    }  # fmt: skip


def test_quantisation_passes_and_rounding_down_would_not() -> None:
    numbers = dict(SHIRTS["quantisation"].run(0, 1.0).numbers)
    assert all(row.passed for row in judge(SHIRTS["quantisation"], [numbers]))
    down = {name: 2 * value for name, value in numbers.items()}
    assert not all(row.passed for row in judge(SHIRTS["quantisation"], [down]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "diffusion", "cgan"])
def test_an_experiment_measures_what_its_claims_need_and_fails_untrained(name: str) -> None:
    one = SHIRTS[name]
    made = one.run(0, 0.004)
    assert bounds(one) <= set(made.numbers)
    assert made.images
    assert all(image.ndim == 3 and 0 <= float(image.min()) <= float(image.max()) <= 1 for image in made.images.values())
    assert not all(row.passed for row in judge(one, [made.numbers] * len(one.seeds)))
