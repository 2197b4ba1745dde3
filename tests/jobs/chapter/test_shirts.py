import pytest

from jobs.chapter.claims import judge
from jobs.chapter.experiments import EXPERIMENTS
from tests.jobs.chapter.untrained import fails_untrained

SHIRTS = {one.name: one for one in EXPERIMENTS if one.world == "shirts"}


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
    assert fails_untrained(SHIRTS[name], 0.004)
