"""When training is said to have gone wrong, wherever it was cut."""

import math

import pytest

from pipelines.training.loss_watch import LossWatch


@pytest.mark.parametrize("cut", [40, 100, 150])
def test_what_the_loss_was_in_the_beginning_is_known_after_a_cut(cut: int) -> None:
    losses = [2.0] * 100 + [190.0] * 100 + [210.0] * 30
    first = LossWatch(factor=100.0)
    assert not any(any(first.judge(loss)) for loss in losses[:cut])
    second = LossWatch(factor=100.0, early_sum=first.early_sum, early_steps=first.early_steps)
    found = [second.judge(loss) for loss in losses[cut:]]
    assert not any(any(answer) for answer in found[: 200 - cut])
    assert found[-1] == (False, True)


def test_a_loss_that_is_no_number_is_told_at_once() -> None:
    assert LossWatch(factor=0.0).judge(math.nan) == (True, False)
    assert LossWatch(factor=0.0).judge(math.inf) == (True, False)


def test_a_factor_of_0_sets_no_limit() -> None:
    watch = LossWatch(factor=0.0)
    assert not any(any(watch.judge(loss)) for loss in [1.0] * 100 + [1e9] * 30)
