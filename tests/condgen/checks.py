"""What holds for every family, checked for a model that a test made."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.checkpoint import dump, load
from condgen.errors import ConfigError, UnsupportedError
from condgen.families import build
from condgen.noise import NoiseSource, SampleId
from tests.condgen.models import color_batch, loss_of, source


def draws_are_their_own(
    model: ConditionalModel, batch: Batch, options: SampleOptions | None = None, *, apart: float = 0.05
) -> None:
    """Three draws differ, and each is the same again, beside other draws, alone and in other batches."""
    options, num, image = options or SampleOptions(), batch.num_samples, batch.condition.image
    draws = model.sample(batch.condition, source(num, num_draws=3), options)
    assert draws.shape == (num, 3, *batch.target.shape[1:])
    assert draws.dtype == torch.float32
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float((draws[:, a] - draws[:, b]).abs().mean()) > apart
    assert torch.equal(model.sample(batch.condition, source(num, num_draws=3), options), draws)
    for some in (slice(num), slice(1, 2)):
        noise = NoiseSource(0, source(num).samples[some], [2])
        alone = model.sample(Condition(image=image[some]), noise, options)
        torch.testing.assert_close(alone[:, 0], draws[some, 2], atol=1e-4, rtol=1e-4)


def neighbors_do_not_show(model: ConditionalModel, batch: Batch, options: SampleOptions) -> None:
    """A sample's bits are the same in a batch of as many other samples, some without an identity."""
    image = batch.condition.image
    first = model.sample(batch.condition, source(4), options)[1]
    changed = torch.cat([image[2:3] * -3, image[1:2], torch.zeros_like(image[:2])])
    noise = NoiseSource(0, [None, SampleId("a.tar", "000001"), None, SampleId("other", "x")], [0])
    assert torch.equal(model.sample(Condition(image=changed), noise, options)[1], first)


def batch_sizes_agree(model: ConditionalModel, batch: Batch, options: SampleOptions, share: float = 0.0) -> None:
    """Each sample alone is what it is in the batch, but for rounding and for a share of the values."""
    together = model.sample(batch.condition, source(batch.num_samples), options)
    for i, identity in enumerate(source(batch.num_samples).samples):
        condition = Condition(image=batch.condition.image[i : i + 1])
        alone = model.sample(condition, NoiseSource(0, [identity], [0]), options)
        differs = ~torch.isclose(alone[0], together[i], rtol=1e-4, atol=1e-4 if share else 1e-5)
        assert float(differs.float().mean()) <= share


def a_loaded_model_draws_the_same(model: ConditionalModel, batch: Batch, options: SampleOptions | None = None) -> None:
    """A model that was saved and loaded has its configuration and draws the same bits."""
    loaded, _ = load(dump(model), expect_family=model.family)
    assert loaded.config == model.config
    noise, options = source(batch.num_samples), options or SampleOptions()
    assert torch.equal(*(one.sample(batch.condition, noise, options) for one in (loaded, model)))


def padding_adds_nothing(model: ConditionalModel, batch: Batch) -> None:
    """What a sample without weight holds adds nothing to the loss, whose noise is the same each time."""
    losses = []
    for factor in (1.0, 5.0):
        torch.manual_seed(0)
        scaled = batch.target * torch.tensor([1, 1, factor])[:, None, None, None]
        losses.append(model(replace(batch, target=scaled, weight=torch.tensor([1, 1, 0.0]))))
    torch.testing.assert_close(*losses)
    none = model(replace(batch, weight=torch.zeros(3)))
    assert {float(term.detach()) for term in none.values()} == {0}


def a_size_goes_in_and_comes_out(model: ConditionalModel, size: tuple[int, int]) -> None:
    """Images of this size go in, and draws of it come out that can be learned from."""
    condition = Condition(image=torch.zeros(2, 1, *size))
    y = model.eval().sample(condition, source(2, 1 + model.is_stochastic), SampleOptions())
    assert y.shape == (2, 1 + model.is_stochastic, 2, *size)
    assert y.dtype == torch.float32
    batch = Batch(condition=condition, target=torch.zeros(2, 2, *size), weight=torch.ones(2))
    assert torch.isfinite(loss_of(model, batch))


def wrong_values_are_refused(family: str, config: dict[str, Any], cases: dict[str, dict[str, Any]]) -> None:
    """Each change of a configuration is refused with its message."""
    for message, values in cases.items():
        with pytest.raises(ConfigError, match=message):
            build(family, {**config, **values})
    with pytest.raises(UnsupportedError, match="b2a"):
        build(family, config).sample(color_batch(1).condition, source(1), SampleOptions(direction="b2a"))
