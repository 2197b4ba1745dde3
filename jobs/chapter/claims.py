"""What a claim is, what an experiment is, and how the one is judged by the other's numbers. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Bound", "Claim", "Experiment", "ExperimentNumbers", "Row", "at_least", "at_most", "judge", "within"]

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Bound:
    """A threshold on one number of an experiment.

    Attributes:
        metric: the number's name.
        kind: ``>=``, ``<=``, or ``~``: within ``tolerance`` of ``value``.
        value: the threshold.
        tolerance: of ``~``.
    """

    metric: str
    kind: Literal[">=", "<=", "~"]
    value: float
    tolerance: float = 0.0

    def __str__(self) -> str:
        if self.kind == "~":
            return f"{self.value:g} ± {self.tolerance:g}"
        return f"{'≥' if self.kind == '>=' else '≤'} {self.value:g}"

    def holds(self, value: float) -> bool:
        """Whether a measured value keeps the bound; one that is no number doesn't."""
        if math.isnan(value):
            return False
        if self.kind == "~":
            return abs(value - self.value) <= self.tolerance
        return value >= self.value if self.kind == ">=" else value <= self.value


def at_least(metric: str, value: float) -> Bound:
    """``metric`` >= ``value``."""
    return Bound(metric, ">=", value)


def at_most(metric: str, value: float) -> Bound:
    """``metric`` <= ``value``."""
    return Bound(metric, "<=", value)


def within(metric: str, value: float, tolerance: float) -> Bound:
    """``metric`` within ``tolerance`` of ``value``."""
    return Bound(metric, "~", value, tolerance)


def _no_numbers(_: Sequence[Numbers]) -> Numbers:
    return {}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of the chapter, and the bounds that hold if it is true.

    Attributes:
        text: the sentence.
        bounds: on the numbers of one seed; a seed passes if all hold.
        needed: seeds that must pass, of those run; 0 is all of them.
        over_seeds: numbers of all seeds together, from each seed's.
        bounds_over_seeds: on those.
        shown: numbers that have no bound.
        in_quick: whether the quick form, with its fewer steps, is held to the bounds; otherwise it shows the numbers.
    """

    text: str
    bounds: tuple[Bound, ...] = ()
    needed: int = 0
    over_seeds: Callable[[Sequence[Numbers]], Numbers] = _no_numbers
    bounds_over_seeds: tuple[Bound, ...] = ()
    shown: tuple[str, ...] = ()
    in_quick: bool = True


@dataclass(frozen=True, kw_only=True)
class ExperimentNumbers:
    """What an experiment gives for one seed.

    Attributes:
        numbers: by metric.
        images: by caption, ``[3, H, W]`` float32 in [0, 1], to be looked at beside the numbers.
    """

    numbers: Numbers
    images: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Models trained on a world, and what they show.

    Attributes:
        name: unique, short, of letters and dashes.
        world: its name.
        run: from a seed and an effort (1 is the full training; the quick form has less) to what was measured. It
            gives the same for the same arguments, on one kind of CPU and with one number of threads.
        claims: what its numbers show.
        seeds: of the full form; the quick form has the first alone.
        minutes: of one seed, about, on one core; printed, so that a run can be planned.
        quick_effort: of the quick form; 0 leaves the experiment out of it.
    """

    name: str
    world: str
    run: Callable[[int, float], ExperimentNumbers]
    claims: tuple[Claim, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    minutes: float = 1.0
    quick_effort: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: one bound of one claim."""

    world: str
    experiment: str
    claim: str
    metric: str
    threshold: str
    measured: str
    passed: bool | None
    """None where the number is only shown: it has no bound, or not in the quick form."""


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def judge(experiment: Experiment, seeds: Sequence[Numbers], *, quick: bool = False) -> list[Row]:
    """Hold an experiment's claims against its numbers, a mapping a seed.

    A bound passes where as many seeds as the claim needs keep it. Where a claim needs fewer than all, they must be the
    same seeds for all its bounds, which is a row of its own. The quick form, with one seed, needs that one.
    """
    rows: list[Row] = []
    for claim in experiment.claims:
        needed = min(claim.needed or len(seeds), len(seeds))
        held = claim.in_quick or not quick

        def row(
            bound: Bound | str, values: Sequence[float], passed: bool = False, claim: Claim = claim, held: bool = held
        ) -> Row:
            is_bound = isinstance(bound, Bound)
            return Row(
                world=experiment.world,
                experiment=experiment.name,
                claim=claim.text,
                metric=bound.metric if isinstance(bound, Bound) else bound,
                threshold=str(bound) if is_bound else "",
                measured=_shown(values),
                passed=passed if held and is_bound else None,
            )

        for bound in claim.bounds:
            values = [numbers[bound.metric] for numbers in seeds]
            rows.append(row(bound, values, sum(map(bound.holds, values)) >= needed))
        rows += [row(metric, [numbers[metric] for numbers in seeds]) for metric in claim.shown]
        if 0 < needed < len(seeds):
            keeping = sum(all(bound.holds(numbers[bound.metric]) for bound in claim.bounds) for numbers in seeds)
            rows.append(row(at_least("seeds that keep all", needed), [keeping], keeping >= needed))
        if claim.bounds_over_seeds and not quick:
            together = claim.over_seeds(seeds)
            rows += [row(b, [together[b.metric]], b.holds(together[b.metric])) for b in claim.bounds_over_seeds]
    return rows
