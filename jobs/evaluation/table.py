"""An evaluation as text: a table of metrics by answers, and sentences for what the model does not beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.evaluation.summary import SET_METRICS, Estimate, Shortfall, Values
from pipelines.evaluation.values import ANSWERS, METRICS

__all__ = ["Table", "answer_title", "cell", "digits_of", "heading", "metric_title", "sentences", "table_lines"]

_GREY_CHROMA = 1.0

_DIGITS = dict.fromkeys(SET_METRICS, 2)


@dataclass(frozen=True, kw_only=True)
class Table:
    """An evaluation as a table: metrics down, answers across.

    Attributes:
        answers: titles of the columns.
        rows: the title of a metric, and its cells.
    """

    answers: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]

    @classmethod
    def of(cls, facts: Mapping[str, Any], values: Values, *, brief: bool = False) -> Table:
        """Lay out estimates.

        Args:
            facts: facts of `evaluation.json`.
            values: estimates by metric and answer.
            brief: half an interval's width after the number, in place of its ends.
        """
        answers = [name for name in ANSWERS if any(name in by_answer for by_answer in values.values())]
        metrics = [name for name in (*METRICS, *SET_METRICS) if name in values]
        return cls(
            answers=[answer_title(name, facts) for name in answers],
            rows=[
                (metric_title(name), [cell(name, values[name].get(one), brief=brief) for one in answers])
                for name in metrics
            ],
        )

    def lines(self) -> list[str]:
        """Return the table as text."""
        first = max(len(title) for title, _ in self.rows)
        rows = [self.answers, *(cells for _, cells in self.rows)]
        widths = [max(len(row[place]) for row in rows) for place in range(len(self.answers))]
        titles = ["", *(title for title, _ in self.rows)]
        return [
            "  ".join([title.ljust(first), *map(str.rjust, row, widths)]).rstrip()
            for title, row in zip(titles, rows, strict=True)
        ]


def table_lines(facts: Mapping[str, Any], values: Values, shortfalls: Sequence[Shortfall]) -> list[str]:
    """Return an evaluation as lines.

    Args:
        facts: facts of `evaluation.json`.
        values: estimates by metric and answer.
        shortfalls: metrics in which the model's answers don't beat those that cost nothing.
    """
    said = [*_warnings(values), *sentences(facts, shortfalls)]
    return [*heading(facts), "", *Table.of(facts, values, brief=True).lines(), *([""] if said else []), *said]


def heading(facts: Mapping[str, Any]) -> list[str]:
    """Return what was evaluated and how, a line each."""
    subject = facts.get("results") or f"{facts['model']['family']}, {facts['model']['uri']}"
    split = f" ({facts['split']})" if facts.get("split") else ""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in facts["not_measured"].items())
    resamples = facts["bootstrap"]["resamples"]
    lines = [
        f"evaluated     {subject}",
        f"reference     {facts['reference']}{split}",
        f"images        {facts['images']:,}" + (f"; not measured: {left_out}" if left_out else ""),
        (
            f"measured      at {facts['size_px']} px, the short side; energy score, diversity and total variation at "
            f"{facts['small_px']} px"
        ),
    ]
    if resamples:
        lines.append(f"intervals     95 %, by bootstrap over images, {resamples} resamples; ± half the width")
    if facts.get("mean_color"):
        a, b = facts["mean_color"]
        lines.append(f"mean color    a {a:+.1f}, b {b:+.1f}: the mean of the reference set, which no model is told")
    if facts.get("features"):
        features = facts["features"]
        lines.append(
            f"features      {features['extractor']} at {features['size_px']} px; kernel distance on "
            f"{features['kernel_images']:,} images"
        )
    if facts.get("calibration"):
        error = facts["calibration"]["expected_error"]
        lines.append(f"calibration   expected error {100 * error:.1f} % of the probability of the likeliest category")
    if facts.get("repeated_keys"):
        lines.append(f"left out      {facts['repeated_keys']:,} keys that several images of the reference have")
    if facts.get("features_missing"):
        lines.append(f"left out      distances of sets: {facts['features_missing']}")
    return lines


def _warnings(values: Values) -> list[str]:
    chroma = values.get("chroma", {}).get("reference")
    if chroma is not None and chroma.value < _GREY_CHROMA:
        return [f"The reference is grey (chroma {chroma.value:.2f}): name the color originals with --reference."]
    return []


def answer_title(answer: str, facts: Mapping[str, Any]) -> str:
    """Return what a table calls an answer."""
    if answer == "draws":
        return f"{facts['draws']} draws" if facts["draws"] > 1 else "1 draw"
    if answer == "best":
        return f"best of {facts['draws']}"
    return ANSWERS[answer]


def metric_title(name: str) -> str:
    """Return what a table calls a metric."""
    return METRICS[name].title if name in METRICS else SET_METRICS[name]


def digits_of(name: str) -> int:
    """Return how many digits after the point a metric is shown with."""
    return METRICS[name].digits if name in METRICS else _DIGITS[name]


def cell(name: str, estimate: Estimate | None, *, brief: bool = False) -> str:
    """Return a number with its interval, or half its width, as a table shows it."""
    if estimate is None:
        return ""
    digits = digits_of(name)
    text = f"{estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    if brief:
        return f"{text} ± {(estimate.high - estimate.low) / 2:.{digits}f}"
    return f"{text} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def sentences(facts: Mapping[str, Any], shortfalls: Sequence[Shortfall]) -> list[str]:
    """Say in words what the model's answers don't beat, a sentence a metric and answer."""
    groups: dict[tuple[str, str, bool], list[Shortfall]] = {}
    for one in shortfalls:
        groups.setdefault((one.answer, one.metric, one.is_certain), []).append(one)
    lines = []
    for (answer, metric, is_certain), found in groups.items():
        digits = digits_of(metric)
        others = _listed([f"{ANSWERS[one.trivial]} ({one.other:.{digits}f})" for one in found])
        who = answer_title(answer, facts)
        how = "does not beat" if answer == "point" or who.startswith("1 ") else "do not beat"
        if not is_certain:
            how = "can't be told from"
        lines.append(f"{metric_title(metric)}: {who} ({found[0].value:.{digits}f}) {how} {others}.")
    return lines


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
