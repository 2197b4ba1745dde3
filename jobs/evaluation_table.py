"""An evaluation as text: a table of metrics by answers, and sentences for what the model does not beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.evaluation.summary import SET_METRICS, Estimate, Shortfall, Values
from pipelines.evaluation.values import ANSWERS, METRICS

__all__ = ["answer_title", "cell", "digits_of", "metric_title", "sentences", "table_lines"]

_DIGITS = dict.fromkeys(SET_METRICS, 2)


def table_lines(facts: Mapping[str, Any], values: Values, shortfalls: Sequence[Shortfall]) -> list[str]:
    """Return an evaluation as lines.

    Args:
        facts: of `evaluation.json`.
        values: estimates by metric and answer.
        shortfalls: what the model's answers don't beat.
    """
    answers = [name for name in ANSWERS if any(name in by_answer for by_answer in values.values())]
    titles = [answer_title(name, facts) for name in answers]
    metrics = [name for name in (*METRICS, *SET_METRICS) if name in values]
    cells = [[cell(name, values[name].get(answer)) for answer in answers] for name in metrics]
    first = max(len(metric_title(name)) for name in metrics)
    widths = [max(len(row[i]) for row in [titles, *cells]) for i in range(len(answers))]
    lines = [
        *_heading(facts),
        "",
        "  ".join([" " * first, *(title.rjust(width) for title, width in zip(titles, widths, strict=True))]).rstrip(),
    ]
    for name, row in zip(metrics, cells, strict=True):
        padded = (text.rjust(width) for text, width in zip(row, widths, strict=True))
        lines.append("  ".join([metric_title(name).ljust(first), *padded]).rstrip())
    said = sentences(facts, shortfalls)
    return [*lines, *([""] if said else []), *said]


def _heading(facts: Mapping[str, Any]) -> list[str]:
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
        lines.append(f"in brackets   95 % bootstrap intervals over images, {resamples} resamples")
    if facts.get("calibration"):
        error = facts["calibration"]["expected_error"]
        lines.append(f"calibration   expected error {100 * error:.1f} % of the probability of the likeliest category")
    if facts.get("features_missing"):
        lines.append(f"left out      distances of sets: {facts['features_missing']}")
    return lines


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


def cell(name: str, estimate: Estimate | None) -> str:
    """Return a number with its interval, as a table shows it."""
    if estimate is None:
        return ""
    digits = digits_of(name)
    text = f"{estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def sentences(facts: Mapping[str, Any], shortfalls: Sequence[Shortfall]) -> list[str]:
    """Say in words what the model's answers don't beat, a sentence a metric and answer."""
    groups: dict[tuple[str, str, bool], list[Shortfall]] = {}
    for one in shortfalls:
        groups.setdefault((one.answer, one.metric, one.is_certain), []).append(one)
    lines = []
    for (answer, metric, is_certain), found in groups.items():
        digits = digits_of(metric)
        others = " and ".join(f"{ANSWERS[one.trivial]} ({one.other:.{digits}f})" for one in found)
        who = answer_title(answer, facts)
        how = "does not beat" if answer == "point" or who.startswith("1 ") else "do not beat"
        if not is_certain:
            how = "can't be told from"
        lines.append(f"{metric_title(metric)}: {who} ({found[0].value:.{digits}f}) {how} {others}.")
    return lines
