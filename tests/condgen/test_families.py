from dataclasses import replace
from typing import Any

import pytest
import torch

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.errors import ConfigError, UnsupportedError
from condgen.families import FAMILIES, build, find_family
from condgen.nn.unet import pool_to_stride, upsample_from_stride
from tests.condgen import checks
from tests.condgen.models import FAMILY_NAMES, TINY, color_batch, loss_of, source, still, tiny

DRAW = SampleOptions()
POINT = SampleOptions(mode="point")


def overfit(model: ConditionalModel, batch: Batch, steps: int) -> float:
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_table_agrees_with_the_classes(family: str) -> None:
    entry = FAMILIES[family]
    assert entry.name == entry.model_class.family == family
    assert type(tiny(family).config) is entry.config_class


def test_an_unknown_family_is_answered_with_the_known_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"color_classifier, .*regression.* \(did you mean 'regression'\?\)"):
        find_family("regresion")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"widht": 8}, r"did you mean 'width'\?"),
        ({"width": 7}, "model.width: got 7, allowed: a multiple of"),
        ({"out_stride": 3}, "model.out_stride: got 3"),
        ({"multipliers": []}, "model.multipliers"),
        ({"width": "wide"}, "model"),
    ],
)
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_wrong_configuration_is_one_config_error(family: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(family, config)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_gradients_reach_every_parameter(family: str) -> None:
    model = tiny(family)
    loss_of(model, color_batch(2)).backward()
    assert still(model) == []


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_phases_train_all_parameters(family: str) -> None:
    model = tiny(family)
    trained = {id(p) for parameters in model.phases.values() for p in parameters}
    assert trained == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_padding_adds_nothing_to_the_loss(family: str) -> None:
    model, batch = tiny(family).eval(), color_batch(3)
    padded = replace(batch, target=batch.target * torch.tensor([1, 1, 5.0])[:, None, None, None])
    padded = replace(padded, weight=torch.tensor([1, 1, 0.0]))
    first = Batch(condition=Condition(image=batch.condition.image[:2]), target=batch.target[:2], weight=torch.ones(2))
    torch.testing.assert_close(loss_of(model, padded), loss_of(model, first))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_batch_of_padding_alone_has_a_loss_of_zero(family: str) -> None:
    model, batch = tiny(family), color_batch(2)
    loss = loss_of(model, replace(batch, weight=torch.zeros(2)))
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in model.parameters() if p.grad is not None)


@pytest.mark.slow
def test_regression_learns_four_images_by_heart() -> None:
    model, batch = tiny("regression", out_stride=1, width=16), color_batch(4)
    assert overfit(model, batch, 200) < 1e-3 < 0.02 < float(batch.target.square().mean())
    got = model.eval().sample(batch.condition, source(4), DRAW)[:, 0]
    assert float((got - batch.target).abs().mean()) < 0.03


@pytest.mark.slow
def test_the_classifier_learns_four_images_by_heart() -> None:
    model, batch = tiny("color_classifier", out_stride=1, width=16), color_batch(4)
    overfit(model, batch, 200)
    model.eval()
    for options in (POINT, DRAW):
        got = model.sample(batch.condition, source(4), options)[:, 0]
        assert float((got - batch.target).abs().mean()) * 110 < 9  # a bin is 10 wide, its soft target wider
    assert float((batch.target * 110).abs().mean()) > 14


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (1, 1), (5, 3)])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_any_size_goes_in_and_comes_out(family: str, size: tuple[int, int]) -> None:
    checks.a_size_goes_in_and_comes_out(tiny(family), size)


@pytest.mark.parametrize("mode", ["draw", "point"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_samples_bits_do_not_depend_on_its_neighbours(family: str, mode: Any) -> None:
    batch = color_batch(4, size=24)
    checks.neighbors_do_not_show(tiny(family, width=16).eval(), batch, SampleOptions(mode=mode))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_same_input_gives_the_same_bits(family: str) -> None:
    model, batch = tiny(family).eval(), color_batch(3)
    once, again = (model.sample(batch.condition, source(3), DRAW) for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("mode", ["draw", "point"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_batch_sizes_agree_within_tolerance(family: str, mode: Any) -> None:
    # A draw may fall into the next bin where a uniform hits the border of two: hardly ever.
    checks.batch_sizes_agree(tiny(family).eval(), color_batch(5), SampleOptions(mode=mode), share=0.02)


def test_draws_differ_and_each_is_the_same_alone() -> None:
    checks.draws_are_their_own(tiny("color_classifier").eval(), color_batch(2))


def test_a_family_without_noise_says_so_when_asked_for_more_draws() -> None:
    model, batch = tiny("regression").eval(), color_batch(1)
    assert not model.is_stochastic
    with pytest.raises(UnsupportedError, match="no noise"):
        model.sample(batch.condition, source(1, num_draws=2), DRAW)


def test_a_family_without_a_likelihood_says_so() -> None:
    batch = color_batch(1)
    with pytest.raises(UnsupportedError, match="no likelihood"):
        tiny("regression").log_prob(batch.condition, batch.target)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_condition_of_another_kind_is_refused(family: str) -> None:
    for condition in (Condition(label=torch.zeros(1, dtype=torch.int64)), Condition(image=torch.zeros(1, 3, 8, 8))):
        with pytest.raises(UnsupportedError, match="image"):
            tiny(family).sample(condition, source(1), DRAW)


def test_a_condition_has_parts_of_one_batch_size() -> None:
    with pytest.raises(ConfigError):
        Condition()
    with pytest.raises(ConfigError):
        Condition(image=torch.zeros(2, 1, 4, 4), label=torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_model_of_one_direction_refuses_the_other(family: str) -> None:
    model, condition = tiny(family).eval(), color_batch(1).condition
    with pytest.raises(UnsupportedError, match="no direction 'b2a', only a2b"):
        model.sample(condition, source(1), SampleOptions(direction="b2a"))
    assert model.sample(condition, source(1), SampleOptions(direction="a2b")).shape[2] == 2


@pytest.mark.parametrize(
    "options", [{"mode": "pont"}, {"temperature": 0.0}, {"temperature": float("nan")}, {"direction": "back"}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SampleOptions(**options)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_pooling_and_upsampling_agree_on_where_pixels_lie(stride: int) -> None:
    ramp = torch.arange(24.0).expand(1, 1, 24, 24)
    back = upsample_from_stride(pool_to_stride(ramp, stride), stride, (24, 24))
    inner = slice(stride, 24 - stride)
    torch.testing.assert_close(back[..., inner], ramp[..., inner])


def test_tiny_is_a_real_configuration_of_every_family() -> None:
    for family in FAMILY_NAMES:
        assert set(TINY) <= set(FAMILIES[family].config_class.__dataclass_fields__)
