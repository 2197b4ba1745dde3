"""World "stripes" in the chapter: the short experiment holds, and another model's image would not."""

import pytest
import torch

from condgen.base import Batch
from jobs.chapter.claims import judge
from jobs.chapter.stripes import BATCH, EXPERIMENTS, FEW, batch


@pytest.mark.slow
def test_l1_makes_grey() -> None:
    [experiment] = [one for one in EXPERIMENTS if one.name == "stripes-l1"]
    measured = experiment.run(0, 0.4)
    assert all(row.passed for row in judge(experiment, [measured.numbers]))
    stripes = {**measured.numbers, "mean absolute y": 0.5, "bright or dark": 0.9}
    assert not any(row.passed for row in judge(experiment, [stripes]))
    [image] = measured.images.values()
    assert image.shape[0] == 3


def test_few_images_are_the_same_few_again_and_again() -> None:
    def seen(few: int) -> int:
        generator = torch.Generator().manual_seed(0)
        batches: list[Batch] = [batch(generator, few=few) for _ in range(20)]
        return len({one.numpy().tobytes() for each in batches for one in each.target})

    assert seen(FEW) <= FEW
    assert seen(0) == 20 * BATCH


def test_numbers_without_a_bound_are_shown_and_judged_by_none() -> None:
    [experiment] = [one for one in EXPERIMENTS if one.name == "stripes-patches"]
    rows = judge(experiment, [dict.fromkeys(experiment.claims[0].shown, 0.5)])
    assert [row.metric for row in rows] == list(experiment.claims[0].shown)
    assert {row.passed for row in rows} == {None}
