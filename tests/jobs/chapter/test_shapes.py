"""World shapes: what its numbers say of draws that are right, of draws that heed nothing, and of an untrained model."""

from functools import cache
from typing import cast

import pytest
import torch
from torch import Tensor

from condgen.base import Condition, ConditionalModel, SampleOptions
from condgen.noise import NoiseSource
from condgen.worlds.shapes import NUM_KINDS, ShapeClassifier, draw_shapes, foreground, train_judge
from jobs.chapter import shapes
from tests.jobs.chapter.untrained import fails_untrained

EXPERIMENTS = {one.name: one for one in shapes.EXPERIMENTS}


@pytest.fixture(autouse=True)
def short_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "judge_of", lambda _seed: (quick_judge(), 1.0))


@cache
def quick_judge() -> ShapeClassifier:
    return train_judge(steps=150)


class Painter:
    """Draws true images of the label, or of any kind where it is deaf."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """``[B, K, 3, 16, 16]``; at scales above 1, each draw is the first."""
        kind = cast("Tensor", condition.label).repeat_interleave(noise.num_draws)
        generator = torch.Generator().manual_seed(1)
        if self.deaf:
            kind = torch.randint(NUM_KINDS, kind.shape, generator=generator)
        draws = draw_shapes(len(kind), generator, kind=kind).image.unflatten(0, (-1, noise.num_draws))
        return draws[:, :1].expand_as(draws) if (options.guidance_scale or 1.0) > 1 else draws


def painter(*, deaf: bool = False) -> ConditionalModel:
    return cast("ConditionalModel", Painter(deaf=deaf))


@pytest.mark.slow
def test_true_images_of_the_label_agree_and_those_of_any_do_not() -> None:
    good = shapes.measure(painter(), "label", 0).numbers
    assert good["agreement"] > 0.8
    assert good["swapped"] > 0.8
    assert good["spread"] == pytest.approx(1.0, abs=0.15)
    bad = shapes.measure(painter(deaf=True), "label", 0).numbers
    assert bad["agreement"] < 0.15
    assert bad["swapped"] < 0.15


@pytest.mark.slow
def test_draws_that_are_all_the_same_have_no_diversity() -> None:
    numbers = shapes.measure_guidance(painter(), 0).numbers
    assert numbers["diversity 8"] == 0
    assert numbers["diversity 1"] > 0.2
    assert numbers["place 8"] == 0
    assert numbers["agreement 1"] > 0.8


def test_overlap_is_of_what_is_drawn_and_of_where() -> None:
    one, other = (draw_shapes(64, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert float(shapes.overlap(foreground(one.image), one.cover > 0.5).mean()) > 0.9
    assert float(shapes.overlap(foreground(one.image), other.cover > 0.5).mean()) < 0.5
    nothing = torch.zeros(1, 16, 16, dtype=torch.bool)
    assert shapes.overlap(nothing, nothing).tolist() == [0.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shapes-image-text", "shapes-guidance"])
def test_an_experiment_measures_what_its_claims_need_and_fails_untrained(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "CONFIG", {**shapes.CONFIG, "width": 8, "norm_groups": 4, "steps": 2})
    assert fails_untrained(EXPERIMENTS[name], 0.002)
