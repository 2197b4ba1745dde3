"""The learning rate of each step."""

import pytest

from condgen.presets import TrainConfig
from condgen.training import learning_rate


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    config = TrainConfig(steps=110, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(config, step, 0.0) for step in range(111)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)


def test_the_linear_schedule_holds_for_half_and_falls_to_nothing() -> None:
    config = TrainConfig(steps=200, warmup_steps=0, learning_rate=1.0, schedule="linear")
    rates = [learning_rate(config, step, 0.0) for step in (0, 100, 150, 199)]
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.01])
