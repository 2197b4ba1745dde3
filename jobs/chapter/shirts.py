"""World "shirts" and the point predictions; what its other experiments share."""

from __future__ import annotations

import torch
from torch import Tensor

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.color.lab import denormalize_ab, denormalize_l, lab_to_rgb
from condgen.worlds.shirts import MODES, WEIGHTS, Shirts, draw_shirts, mode_shares
from jobs.chapter.claims import Claim, Experiment, ExperimentNumbers, at_least, at_most, within
from jobs.chapter.training import TINY_UNET, grid, noise, train

__all__ = ["EXPERIMENTS"]

_MEAN = tuple(WEIGHTS[0] * a + WEIGHTS[1] * b for a, b in zip(*MODES, strict=True))


def batch(generator: torch.Generator) -> Batch:
    """32 shirts."""
    return draw_shirts(32, generator).batch()


def held_out(count: int = 64) -> Shirts:
    """Shirts that no training sees."""
    return draw_shirts(count, torch.Generator().manual_seed(10_000_019))


def draw(model: ConditionalModel, shirts: Shirts, draws: int, options: SampleOptions | None = None) -> Tensor:
    """``[B, K, 2, 16, 16]``."""
    condition = Condition(image=shirts.luminance)
    return model.sample(condition, noise(shirts.mask.shape[0], draws), options or SampleOptions())


def images(shirts: Shirts, draws: Tensor, count: int = 6) -> Tensor:
    """A row a shirt: x, y, then draws."""
    rows = []
    for x, y, made in list(zip(shirts.luminance, shirts.ab, draws, strict=True))[:count]:
        shown = [torch.zeros_like(y), y, *made[:6]]
        rows.append([lab_to_rgb(torch.cat([denormalize_l(x), denormalize_ab(ab)])) for ab in shown])
    return grid(rows)


def mean_inside(y: Tensor, mask: Tensor) -> tuple[float, float]:
    """The mean ab of the shirts' pixels, of ``[B, 2, 16, 16]``."""
    inside = mask[:, None].float()
    first, second = ((y * inside).sum(dim=(0, 2, 3)) / inside.sum()).tolist()
    return first, second


def _point(loss: str, seed: int, effort: float) -> ExperimentNumbers:
    model = train("regression", {**TINY_UNET, "loss": loss}, batch, seed=seed, steps=round(600 * effort))
    shirts = held_out()
    made = draw(model, shirts, 1, SampleOptions(mode="point"))
    a, b = mean_inside(made[:, 0], shirts.mask)
    numbers = {"a": a, "b": b, "off-mode": mode_shares(made, shirts.mask).off_mode}
    return ExperimentNumbers(numbers=numbers, images={"x, y, prediction": images(shirts, made)})


def _l2(seed: int, effort: float) -> ExperimentNumbers:
    return _point("l2", seed, effort)


def _l1(seed: int, effort: float) -> ExperimentNumbers:
    return _point("l1", seed, effort)


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        name="regression-l2",
        world="shirts",
        run=_l2,
        minutes=0.6,
        claims=(
            Claim(
                text="L2 predicts the mean, a color that never occurs",
                bounds=(within("a", _MEAN[0], 0.04), within("b", _MEAN[1], 0.04), at_least("off-mode", 0.95)),
            ),
        ),
    ),
    Experiment(
        name="regression-l1",
        world="shirts",
        run=_l1,
        minutes=0.6,
        claims=(
            Claim(
                text="L1 predicts the median, the majority's color, and never the other",
                bounds=(within("a", MODES[0][0], 0.06), within("b", MODES[0][1], 0.06), at_most("off-mode", 0.05)),
            ),
        ),
    ),
)
