"""Two evaluations of the same images, paired: the difference of every metric, its interval, and whether it is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condgen.errors import DatasetError
from condgen.metrics.resampling import bootstrap_weights, percentile_interval, sign_flip_p_value
from pipelines.evaluation.summary import SET_METRICS
from pipelines.evaluation.values import METRICS, MODEL_ANSWERS, Metric, Rows

__all__ = ["Difference", "compare_rows", "compare_sets", "paired", "pairs_of_answers"]

_SAME = ("kind", "size_px", "small_px")
_SHOWN = 3
_FLIPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a metric differs between A and B.

    Attributes:
        metric: its name.
        answers: names of the answer of A and of B.
        a, b: the values.
        low, high: 95 % interval of b - a; None where there is none.
        p_value: two-sided, of b - a being 0; None where there is none.
        better: `A` or `B`, whose value is better; empty where neither is by itself.
    """

    metric: str
    answers: tuple[str, str]
    a: float
    b: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    better: str = ""

    @property
    def difference(self) -> float:
        """b - a."""
        return self.b - self.a

    @property
    def is_real(self) -> bool | None:
        """Whether the interval leaves 0 out; None without an interval."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high


def paired(a: Rows, b: Rows, facts_a: Mapping[str, Any], facts_b: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """Return both with the same images in the same order.

    Images are matched by source and key, or by key alone where all keys are in both once.

    Raises:
        DatasetError: they were measured differently, on other images, or against other true images.
    """
    for name in _SAME:
        if facts_a[name] != facts_b[name]:
            told = f"{name} {facts_a[name]} and {facts_b[name]}"
            raise DatasetError(f"the two were measured differently ({told}): evaluate both in the same way")
    names_a, names_b = a.names, b.names
    if set(names_a) != set(names_b):
        keys_a, keys_b = ([(key,) for _, key in names] for names in (names_a, names_b))
        if set(keys_a) != set(keys_b) or len(set(keys_a)) != len(keys_a) or len(keys_a) != len(keys_b):
            raise _unmatched(names_a, names_b)
        names_a, names_b = keys_a, keys_b  # type: ignore[assignment]
    if len(set(names_a)) != len(names_a) or len(names_a) != len(names_b):
        raise DatasetError("several images have one source and key: they can't be paired")
    first, second = a.take(np.argsort(_array(names_a))), b.take(np.argsort(_array(names_b)))
    truth, other = (rows.column("reference", "total_variation") for rows in (first, second))
    if not np.allclose(truth, other, rtol=1e-3, atol=1e-3):
        raise DatasetError("the true images of the two differ: evaluate both against the same reference")
    return first, second


def _array(names: Sequence[tuple[str, ...]]) -> NDArray[np.str_]:
    return np.array(["\0".join(name) for name in names])


def _unmatched(a: Sequence[tuple[str, str]], b: Sequence[tuple[str, str]]) -> DatasetError:
    only_a, only_b = sorted(set(a) - set(b)), sorted(set(b) - set(a))
    told = [
        f"{len(only):,} only in {name} ({', '.join(key for _, key in only[:_SHOWN])}{', ...' * (len(only) > _SHOWN)})"
        for name, only in (("A", only_a), ("B", only_b))
        if only
    ]
    return DatasetError(f"the two are not of the same images: {', '.join(told)}; evaluate both on the same set")


def pairs_of_answers(a: Rows, b: Rows) -> list[tuple[str, str]]:
    """Return which answers are compared: those of one name, or A's one with B's other where they share none."""
    known_a, known_b = ([name for name in MODEL_ANSWERS if name in rows.tables] for rows in (a, b))
    shared = [(name, name) for name in known_a if name in known_b] or [(known_a[0], known_b[0])]
    both_drew = "best" in a.tables and "best" in b.tables
    return [*shared, *([("best", "best")] if both_drew else [])]


def compare_rows(a: Rows, b: Rows, *, kind: str, resamples: int, seed: int) -> list[Difference]:
    """Compare all metrics that both have, on paired images; see `paired`.

    The interval is the percentile bootstrap's over images, each of which keeps its two values together; the p-value is
    of random flips of the signs of the images' differences.

    Args:
        a, b: rows of the same images in the same order.
        kind: `colorize` or `translate`.
        resamples, seed: resamples of the bootstrap, and its seed, which is the flips' too.
    """
    todo = [
        (metric, answers)
        for answers in pairs_of_answers(a, b)
        for metric in METRICS.values()
        if metric.kind in (None, kind) and metric.is_of(a, answers[0]) and metric.is_of(b, answers[1])
    ]
    if "nll" in METRICS and METRICS["nll"].is_of(a, "reference") and METRICS["nll"].is_of(b, "reference"):
        todo.append((METRICS["nll"], ("reference", "reference")))
    drawn: list[list[NDArray[np.float64]]] = [[] for _ in todo]
    for weights in bootstrap_weights(len(a), resamples, seed):
        for gaps, (metric, answers) in zip(drawn, todo, strict=True):
            gaps.append(metric.over(b, answers[1], weights) - metric.over(a, answers[0], weights))
    found = []
    for gaps, (metric, answers) in zip(drawn, todo, strict=True):
        low, high = percentile_interval(np.concatenate(gaps)) if gaps else (None, None)
        found.append(_difference(a, b, metric, answers, low, high, seed))
    return found


def _difference(
    a: Rows, b: Rows, metric: Metric, answers: tuple[str, str], low: float | None, high: float | None, seed: int
) -> Difference:
    whole = np.ones((1, len(a)))
    values = metric.over(a, answers[0], whole), metric.over(b, answers[1], whole)
    worse = float((metric.badness(values[1]) - metric.badness(values[0]))[0])
    # The two have one denominator, the reference's: the difference of fractions is the sum of the images' own.
    gaps = metric.terms(b, answers[1])[0] - metric.terms(a, answers[0])[0]
    return Difference(
        metric=metric.name,
        answers=answers,
        a=float(values[0][0]),
        b=float(values[1][0]),
        low=low,
        high=high,
        p_value=sign_flip_p_value(gaps, _FLIPS, seed),
        better="" if worse == 0 else "A" if worse > 0 else "B",
    )


def compare_sets(a: Mapping[str, Any], b: Mapping[str, Any], answers: Sequence[tuple[str, str]]) -> list[Difference]:
    """Compare the distances of sets in two `evaluation.json`; they have no intervals."""
    found = []
    for name in SET_METRICS:
        of_a, of_b = a["metrics"].get(name, {}), b["metrics"].get(name, {})
        if a["features"] != b["features"]:
            continue
        for first, second in answers:
            if first in of_a and second in of_b:
                values = of_a[first]["value"], of_b[second]["value"]
                better = "" if values[0] == values[1] else "A" if values[0] < values[1] else "B"
                found.append(Difference(metric=name, answers=(first, second), a=values[0], b=values[1], better=better))
    return found
