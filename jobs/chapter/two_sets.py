"""The experiments of world "two sets": what cycle consistency finds without pairs, and with a few.

The generators are U-Nets: a residual one, all of whose image goes through a quarter of the size, leaves one of F's
colors black (cycle error 0.08 after 1000 steps, twice the time), and at twice the rate, with R1 or with a patch of the
whole image is not one-to-one after 500. The cycle's weight is 3: with the paper's 10, two of four seeds turn one
color into a colored background with a dark disc, which comes back well enough (cycle error 0.03 to 0.04).

Broken, it fails: the experiment without the cycle loss is the first one broken, and the first is the one with pairs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.worlds.two_sets import COLORS_A, COLORS_B, TRUE_MAP, Discs, draw_discs, kinds, mode_map, render
from jobs.chapter.claims import Claim, Experiment, ExperimentNumbers, at_least, at_most
from jobs.chapter.training import grid, noise, train

__all__ = ["EXPERIMENTS"]

CONFIG: Mapping[str, Any] = {
    "width": 16,
    "norm": "group",
    "norm_groups": 4,
    "generator": "unet",
    "depth": 3,
    "discriminator": "patch",
    "patch_px": 16,
    "discriminator_width": 24,
    "discriminator_norm": "none",
    "gan_loss": "lsgan",
    "cycle_weight": 3.0,
    "identity_weight": 0.0,
    "pool_size": 0,
    "pool_px": 16,
}
_TRAINING: Mapping[str, Any] = {"learning_rate": 5e-4, "adam_betas": (0.5, 0.999), "batch_size": 16}
STEPS = 500
BATCH = 16
PAIRS = 2
"""True pairs in a batch of the experiment that has any."""


def paired(discs: Discs) -> Discs:
    """The same discs as B's true images of them."""
    return Discs(kind=torch.tensor(TRUE_MAP)[discs.kind], center=discs.center, radius=discs.radius)


def batch(generator: torch.Generator, *, pairs: int = 0) -> Batch:
    """Independent images of A and B; the first ``pairs`` rows are true pairs and have the label 1."""
    a, other = draw_discs(BATCH, generator), draw_discs(BATCH, generator)
    is_pair = torch.arange(BATCH) < pairs
    b = torch.where(is_pair[:, None, None, None], render(paired(a), COLORS_B), render(other, COLORS_B))
    condition = Condition(image=render(a, COLORS_A), label=is_pair.long())
    return Batch(condition=condition, target=b, weight=torch.ones(BATCH))


def measure(model: ConditionalModel) -> ExperimentNumbers:
    """The map of colors, and the cycle error: mean |F(G(a)) - a|, of images in [-1, 1].

    ``permutation`` has the digits of the kinds that A's three become, where the map is one-to-one; else it is none.
    """
    discs = draw_discs(240, torch.Generator().manual_seed(10_000_019))
    a, one = render(discs, COLORS_A), noise(240, 1)
    there = model.sample(Condition(image=a), one, SampleOptions())[:, 0]
    back = model.sample(Condition(image=there), one, SampleOptions(direction="b2a"))[:, 0]
    found = mode_map(discs.kind, kinds(there, COLORS_B))
    numbers = {
        "one-to-one": float(found.one_to_one),
        "share": found.share,
        "cycle error": float((back - a).abs().mean()),
        "permutation": float("".join(map(str, found.to))) if found.one_to_one else math.nan,
        "true map": float(found.one_to_one and found.to == TRUE_MAP),
    }
    columns = (a, render(paired(discs), COLORS_B), there, back)
    rows = [[(image + 1) / 2 for image in row] for row in list(zip(*columns, strict=True))[:8]]
    return ExperimentNumbers(numbers=numbers, images={"a, its true partner, G(a), F(G(a))": grid(rows)})


def _run(seed: int, effort: float, *, pairs: int = 0, **config: Any) -> ExperimentNumbers:
    def samples(generator: torch.Generator) -> Batch:
        return batch(generator, pairs=pairs)

    steps = round(STEPS * effort)
    return measure(train("cyclegan", {**CONFIG, **config}, samples, seed=seed, steps=steps, **_TRAINING))


def _unpaired(seed: int, effort: float) -> ExperimentNumbers:
    return _run(seed, effort)


def _no_cycle(seed: int, effort: float) -> ExperimentNumbers:
    return _run(seed, effort, cycle_weight=0.0)


def _few_pairs(seed: int, effort: float) -> ExperimentNumbers:
    return _run(seed, effort, pairs=PAIRS, pair_weight=10.0)


def _permutations(seeds: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    found = {numbers["permutation"] for numbers in seeds if not math.isnan(numbers["permutation"])}
    return {"different maps": float(len(found))}


def _median_error(seeds: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    return {"median cycle error": statistics.median(numbers["cycle error"] for numbers in seeds)}


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        name="cyclegan",
        world="two sets",
        run=_unpaired,
        seeds=(0, 1, 2, 3, 4, 5),
        minutes=0.4,
        claims=(
            Claim(
                text="without pairs, cycle consistency finds a one-to-one map of the colors",
                bounds=(at_least("one-to-one", 1), at_most("cycle error", 0.05)),
                needed=5,
            ),
            Claim(
                text="which one is arbitrary",
                over_seeds=_permutations,
                bounds_over_seeds=(at_least("different maps", 2),),
            ),
        ),
    ),
    Experiment(
        name="cyclegan-no-cycle",
        world="two sets",
        run=_no_cycle,
        quick_effort=0.0,
        minutes=0.3,
        claims=(
            Claim(
                text="without the cycle loss an image does not come back",
                over_seeds=_median_error,
                bounds_over_seeds=(at_least("median cycle error", 0.2),),
            ),
        ),
    ),
    Experiment(
        name="cyclegan-pairs",
        world="two sets",
        run=_few_pairs,
        minutes=0.4,
        claims=(
            Claim(
                text="two true pairs in each batch of 16 select the true map",
                bounds=(at_least("true map", 1),),
                needed=2,
            ),
        ),
    ),
)
