import math

import pytest

from jobs.chapter.claims import judge
from jobs.chapter.experiments import EXPERIMENTS
from tests.jobs.chapter.untrained import fails_untrained

WORLDS = {one.name: one for one in EXPERIMENTS if one.world in ("ball", "two sets")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ball-torus", "ball-walls", "cyclegan", "cyclegan-no-cycle", "cyclegan-pairs"])
def test_an_experiment_measures_what_its_claims_need_and_fails_untrained(name: str) -> None:
    bounded = any(claim.bounds for claim in WORLDS[name].claims)
    assert fails_untrained(WORLDS[name], 0.003) == bounded


def test_one_map_in_all_seeds_is_not_arbitrary_and_none_is_no_map() -> None:
    one = WORLDS["cyclegan"]
    numbers = {"one-to-one": 1.0, "cycle error": 0.01, "permutation": 12.0}
    same = judge(one, [numbers] * 6)
    assert [row.passed for row in same] == [True, True, True, False]
    other = [numbers | {"permutation": value} for value in (12.0, 120.0, 12.0, math.nan, math.nan, 12.0)]
    assert judge(one, other)[-1].measured == "2"
    assert judge(one, other)[-1].passed


def test_the_error_without_the_cycle_loss_is_judged_by_the_median() -> None:
    one = WORLDS["cyclegan-no-cycle"]
    assert judge(one, [{"cycle error": value} for value in (0.1, 0.3, 0.3)])[0].passed
    assert not judge(one, [{"cycle error": value} for value in (0.1, 0.1, 0.3)])[0].passed
