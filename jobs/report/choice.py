"""Which images a report shows: some at random, and the best and worst by what an evaluation measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.report.measured import EvaluatedImages
from jobs.report.results_files import ResultsFiles

__all__ = ["RANDOM", "Choice", "choose"]

RANDOM = "at random"

EXTREMES = {
    "energy_score": ("best energy score", "worst energy score"),
    "rgb_error": ("least error", "largest error"),
    "colorfulness": ("least colorful", "most colorful"),
    "diversity": ("draws that differ least", "draws that differ most"),
}
"""What the images of the smallest and of the largest values of a metric are called."""

MOST_METRICS = 3
_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The images that a report shows.

    Attributes:
        reasons: why each is shown, by the number of its chunk and its place among the chunk's images.
        num_random: how many were drawn at random.
        num_extreme: how many were asked for of each end of each metric; 0 without an evaluation.
        metrics: titles of these metrics.
    """

    reasons: dict[tuple[int, int], list[str]]
    num_random: int
    num_extreme: int
    metrics: Sequence[str]


def choose(files: ResultsFiles, evaluated: EvaluatedImages | None, count: int, seed: int) -> Choice:
    """Choose images: all where there are few; else half at random, half at the ends of some metrics.

    Args:
        files: draws files of the results.
        evaluated: values of an evaluation; None leaves all to chance.
        count: number of images.
        seed: seed of the chance.
    """
    reasons: dict[tuple[int, int], list[str]] = {}
    columns = [one for one in evaluated.columns if one.name in EXTREMES][:MOST_METRICS] if evaluated else []
    each = 0
    if evaluated is not None and columns and count < files.num_samples:
        each = count // (4 * len(columns))
        for column in columns:
            for reason, rows in zip(EXTREMES[column.name], evaluated.extremes(column.name, each), strict=True):
                for row in rows:
                    place = _place(files, evaluated, row)
                    if place is not None:
                        reasons.setdefault(place, []).append(reason)
    num_random = 0
    for place in _at_random(files, count, seed):
        if len(reasons) >= count:
            break
        num_random += place not in reasons
        reasons.setdefault(place, []).append(RANDOM)
    return Choice(
        reasons=reasons,
        num_random=num_random,
        num_extreme=each,
        metrics=[column.title for column in columns] if each else [],
    )


def _place(files: ResultsFiles, evaluated: EvaluatedImages, row: int) -> tuple[int, int] | None:
    source, key = (evaluated.table[name][row].as_py() for name in ("source", "key"))
    return files.find(source, key, share=row / evaluated.table.num_rows)


def _at_random(files: ResultsFiles, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield images in a random order: the chunk's number, and the place among the chunk's images that have draws."""
    total = files.num_samples
    order = np.random.default_rng(seed).choice(total, min(total, _TRIES * count), replace=False).tolist()
    step = max(1, count)
    for first in range(0, len(order), step):
        located = [files.locate(ordinal) for ordinal in order[first : first + step]]
        chunks = files.read(number for number, _ in located)
        for (number, place), images in zip(located, chunks, strict=True):
            own = images.chunk.places[place]
            if own in images.places:  # else it failed, or was filtered
                yield number, images.places.index(own)
