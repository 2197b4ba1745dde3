from dataclasses import replace
from typing import Any

import pytest
import torch

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.errors import ConfigError, UnsupportedError
from condgen.families import FAMILIES, build, find_family
from condgen.nn.unet import pool_to_stride, upsample_from_stride
from condgen.noise import NoiseSource, SampleId
from tests.condgen.models import FAMILY_NAMES, TINY, color_batch, source, tiny

DRAW = SampleOptions()
POINT = SampleOptions(mode="point")


def loss_of(model: ConditionalModel, batch: Batch) -> torch.Tensor:
    return torch.stack(list(model(batch).values())).sum()


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
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


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
    model = tiny(family).eval()
    condition = Condition(image=torch.zeros(2, 1, *size))
    y = model.sample(condition, source(2), DRAW)
    assert y.shape == (2, 1, 2, *size)
    assert y.dtype == torch.float32
    batch = Batch(condition=condition, target=torch.zeros(2, 2, *size), weight=torch.ones(2))
    assert torch.isfinite(loss_of(model, batch))


@pytest.mark.parametrize("mode", ["draw", "point"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_samples_bits_do_not_depend_on_its_neighbours(family: str, mode: Any) -> None:
    model = tiny(family, width=16).eval()
    image = color_batch(4, size=24).condition.image
    options = SampleOptions(mode=mode)
    first = model.sample(Condition(image=image), source(4), options)[1]
    changed = torch.cat([image[2:3] * -3, image[1:2], torch.zeros_like(image[:2])])
    noise = NoiseSource(0, [None, SampleId("a.tar", "000001"), None, SampleId("other", "x")], [0])
    assert torch.equal(model.sample(Condition(image=changed), noise, options)[1], first)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_same_input_gives_the_same_bits(family: str) -> None:
    model, batch = tiny(family).eval(), color_batch(3)
    once, again = (model.sample(batch.condition, source(3), DRAW) for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("mode", ["draw", "point"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_batch_sizes_agree_within_tolerance(family: str, mode: Any) -> None:
    model, batch = tiny(family).eval(), color_batch(5)
    options = SampleOptions(mode=mode)
    together = model.sample(batch.condition, source(5), options)
    for i in range(5):
        noise = NoiseSource(0, [SampleId("a.tar", f"{i:06d}")], [0])
        alone = model.sample(Condition(image=batch.condition.image[i : i + 1]), noise, options)
        # A draw may fall into the next bin where a uniform hits the border of two: hardly ever.
        differs = (alone[0] - together[i]).abs() > 1e-4
        assert float(differs.float().mean()) < 0.02


def test_draws_differ_and_each_is_the_same_alone() -> None:
    model, batch = tiny("color_classifier").eval(), color_batch(2)
    draws = model.sample(batch.condition, source(2, num_draws=3), DRAW)
    assert draws.shape == (2, 3, 2, 16, 16)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float((draws[:, a] - draws[:, b]).abs().mean()) > 0.05
    only = NoiseSource(0, [SampleId("a.tar", "000000"), SampleId("a.tar", "000001")], [2])
    assert torch.equal(model.sample(batch.condition, only, DRAW)[:, 0], draws[:, 2])


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
