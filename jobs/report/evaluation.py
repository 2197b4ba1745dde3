"""What a report's page shows of an evaluation: the table, what the model does not beat, the accuracy curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from condgen.errors import DatasetError
from jobs.evaluation.table import Table, answer_title, heading, sentences
from pipelines.evaluation.stored import FORMAT, JSON_NAME
from pipelines.evaluation.summary import Estimate, Shortfall
from pipelines.storage.store import Store

__all__ = ["EvaluationSection", "Line", "read_section"]

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 404, 14, 226
LAST_THRESHOLD = 50
"""The curves are shown up to here: beyond it all are near 1."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """An accuracy curve: the answer's title, its points in an SVG, and its number, which picks its color."""

    title: str
    points: str
    number: int


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """All that is shown.

    Attributes:
        notes: names and texts that say what was evaluated and how.
        table: metrics by answers.
        sentences: sentences on what the model does not beat.
        curves: raw and class-balanced accuracy by threshold; none for translation.
        reliability: rows of the calibration's table; none where the model has no categories.
    """

    notes: Sequence[tuple[str, str]]
    table: Table
    sentences: Sequence[str]
    curves: Mapping[str, Sequence[Line]]
    reliability: Sequence[Mapping[str, Any]]


def read_section(store: Store) -> EvaluationSection | None:
    """Read the evaluation that `condgen evaluate` left beside results; None where there is none.

    Raises:
        DatasetError: it is damaged, or of another version.
    """
    if not store.exists(JSON_NAME):
        return None
    try:
        facts = json.loads(store.read(JSON_NAME))
        if facts["format"] != FORMAT:
            raise ValueError("format")
        values = {
            metric: {answer: Estimate(**estimate) for answer, estimate in by_answer.items()}
            for metric, by_answer in facts["metrics"].items()
        }
        shortfalls = [Shortfall(**one) for one in facts["not_beaten"]]
        return EvaluationSection(
            notes=[(line[:14].strip(), line[14:]) for line in heading(facts)],
            table=Table.of(facts, values),
            sentences=sentences(facts, shortfalls),
            curves=_curves(facts),
            reliability=facts.get("calibration", {}).get("table", ()),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{store.locate(JSON_NAME)} is damaged or of another version: evaluate again") from error


def _curves(facts: Mapping[str, Any]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for number, (answer, curves) in enumerate(facts["curves"].items()):
        for name, values in curves.items():
            line = Line(title=answer_title(answer, facts), points=_points(values), number=number)
            found.setdefault(name, []).append(line)
    return found


def _points(values: Sequence[float]) -> str:
    shown = values[: LAST_THRESHOLD + 1]
    places = [
        (LEFT + (RIGHT - LEFT) * threshold / LAST_THRESHOLD, BOTTOM - (BOTTOM - TOP) * value)
        for threshold, value in enumerate(shown)
    ]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
