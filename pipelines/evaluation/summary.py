"""The numbers of an evaluation: every metric of every answer with its interval, and what the model fails to beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condgen.metrics.calibration import calibration_error, reliability
from condgen.metrics.color import accuracy_curves
from condgen.metrics.resampling import bootstrap_weights, percentile_interval
from condgen.metrics.sets import FeatureMoments, FrechetReference, kernel_distance
from pipelines.evaluation.features import EXTRACTOR
from pipelines.evaluation.parts import PartResult
from pipelines.evaluation.values import ANSWERS, METRICS, MODEL_ANSWERS, Rows

__all__ = [
    "SET_METRICS",
    "TRIVIAL",
    "Estimate",
    "Shortfall",
    "Totals",
    "Values",
    "estimate",
    "set_distances",
    "set_shortfalls",
]

TRIVIAL = tuple(name for name in ANSWERS if name not in ("reference", "best", *MODEL_ANSWERS))

SET_METRICS: Mapping[str, str] = {
    f"frechet_{EXTRACTOR}": f"frechet_{EXTRACTOR}",
    f"kernel_{EXTRACTOR}": f"kernel_{EXTRACTOR} × 1000",
}
"""Distances of sets, and what a table calls them: by the extractor's name, never FID or KID. Lower is better."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, and its 95 % interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float]:
        """The numbers that are there."""
        return {name: value for name, value in asdict(self).items() if value is not None}


Values = dict[str, dict[str, Estimate]]
"""Estimates by metric and answer."""


@dataclass(slots=True)
class Totals:
    """Sums over all parts, added up in their order."""

    hits: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    moments: dict[tuple[str, int], FeatureMoments] = field(default_factory=dict)
    kernel: dict[tuple[str, int], list[NDArray[np.float32]]] = field(default_factory=dict)
    reliability: NDArray[np.float64] | None = None
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, part: PartResult) -> None:
        """Add a part's."""
        self.reasons += part.reasons
        for answer, counts in part.hits.items():
            self.hits[answer] = self.hits[answer] + counts if answer in self.hits else counts
        for name, sums in part.moments.items():
            self.moments[name] = self.moments[name] + sums if name in self.moments else sums
        for name, features in part.kernel.items():
            self.kernel.setdefault(name, []).append(features)
        if part.reliability is not None:
            known = self.reliability
            self.reliability = part.reliability if known is None else known + part.reliability

    @property
    def kernel_images(self) -> int:
        """The number of images whose features the kernel distance takes."""
        return sum(len(features) for features in self.kernel.get(("reference", 0), ()))

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Return the accuracy curves of each answer, raw and balanced, at thresholds 0 to 150."""
        found = {}
        for answer in (name for name in ANSWERS if name in self.hits):
            raw, balanced = accuracy_curves(self.hits[answer])
            found[answer] = {"raw": raw.tolist(), "balanced": balanced.tolist()}
        return found

    def calibration(self) -> dict[str, Any] | None:
        """Return the calibration of the model's categories: expected error and table; None without categories."""
        counts = self.reliability
        if counts is None or not counts.sum():
            return None
        confidence, accuracy = reliability(counts)
        edges = np.linspace(0, 1, counts.shape[1] + 1)
        table = [
            {
                "from": round(float(edges[place]), 4),
                "to": round(float(edges[place + 1]), 4),
                "places": int(counts[0, place]),
                "confidence": float(confidence[place]),
                "accuracy": float(accuracy[place]),
            }
            for place in np.flatnonzero(counts[0])
        ]
        return {"expected_error": calibration_error(counts), "table": table}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A metric in which a model's answer does not beat one that costs nothing.

    Attributes:
        metric, answer, trivial: names.
        value, other: the model's value and the other's.
        is_certain: whether it is worse beyond chance; else the two can't be told apart.
    """

    metric: str
    answer: str
    trivial: str
    value: float
    other: float
    is_certain: bool


def estimate(rows: Rows, *, kind: str, resamples: int, seed: int) -> tuple[Values, list[Shortfall]]:
    """Compute every metric of every answer, and in which the model's don't beat the trivial ones.

    Args:
        rows: rows of all images.
        kind: `colorize` or `translate`.
        resamples: number of resamples of the images (0 leaves intervals out).
        seed: seed of the resamples.
    """
    pairs = [
        (metric, answer)
        for metric in METRICS.values()
        if metric.kind in (None, kind)
        for answer in rows.tables
        if metric.is_of(rows, answer)
    ]
    whole = np.ones((1, len(rows)))
    values = {(metric.name, answer): metric.over(rows, answer, whole) for metric, answer in pairs}
    drawn: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for weights in bootstrap_weights(len(rows), resamples, seed):
        for metric, answer in pairs:
            drawn.setdefault((metric.name, answer), []).append(metric.over(rows, answer, weights))
    resampled = {name: np.concatenate(parts) for name, parts in drawn.items()}
    found: Values = {}
    for (name, answer), value in values.items():
        low_high = percentile_interval(resampled[name, answer]) if resampled else (None, None)
        found.setdefault(name, {})[answer] = Estimate(float(value[0]), *low_high)
    return found, _shortfalls(values, resampled)


def _shortfalls(
    values: Mapping[tuple[str, str], NDArray[np.float64]], resampled: Mapping[tuple[str, str], NDArray[np.float64]]
) -> list[Shortfall]:
    found = []
    for (name, answer), value in values.items():
        metric = METRICS[name]
        if answer not in MODEL_ANSWERS or metric.better == "neither":
            continue
        for trivial in (one for one in TRIVIAL if (name, one) in values):
            other = values[name, trivial]
            gap, low, high = float((metric.badness(value) - metric.badness(other))[0]), 0.0, 0.0
            if resampled:
                gaps = metric.badness(resampled[name, answer]) - metric.badness(resampled[name, trivial])
                low, high = percentile_interval(gaps)
            if gap >= 0 or (low <= 0 <= high and resampled):
                found.append(
                    Shortfall(
                        metric=name,
                        answer=answer,
                        trivial=trivial,
                        value=float(value[0]),
                        other=float(other[0]),
                        is_certain=not resampled or low > 0,
                    )
                )
    return found


def set_shortfalls(distances: Values) -> list[Shortfall]:
    """Return in which distances of sets the model's answers don't beat the trivial ones; those have no intervals."""
    return [
        Shortfall(metric=name, answer=answer, trivial=other, value=mine.value, other=theirs.value, is_certain=True)
        for name, by_answer in distances.items()
        for answer, mine in by_answer.items()
        if answer in MODEL_ANSWERS
        for other, theirs in by_answer.items()
        if other in TRIVIAL and mine.value >= theirs.value
    ]


def set_distances(totals: Totals) -> Values:
    """Return the Fréchet and kernel distances to the reference's features; of draws, the mean over sets of draw k."""
    if not totals.moments:
        return {}
    reference = FrechetReference(totals.moments["reference", 0])
    features = {name: np.concatenate(parts) for name, parts in totals.kernel.items()}
    frechet: dict[str, list[float]] = {}
    kernel: dict[str, list[float]] = {}
    for (answer, draw), moments in totals.moments.items():
        if answer != "reference":
            frechet.setdefault(answer, []).append(reference.distance(moments))
            if len(features[answer, draw]) >= 2:
                value = kernel_distance(features["reference", 0], features[answer, draw])
                kernel.setdefault(answer, []).append(1000 * value)
    names = list(SET_METRICS)
    return {
        name: {answer: Estimate(float(np.mean(values))) for answer, values in found.items()}
        for name, found in zip(names, (frechet, kernel), strict=True)
        if found
    }
