"""`condgen compare`: two evaluations of the same images, and whether one is better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from condgen.errors import DatasetError
from jobs.evaluation.table import answer_title, digits_of, metric_title
from pipelines.evaluation.comparison import Difference, compare_rows, compare_sets, paired, pairs_of_answers
from pipelines.evaluation.stored import read_evaluation
from pipelines.evaluation.values import Rows
from pipelines.storage.store import open_store, write_file

__all__ = ["Comparison", "run", "verdict"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How B differs from A.

    Attributes:
        a, b: places of the evaluations.
        draws: K of each.
        images: number of images, which both have.
        resamples: number of resamples of the bootstrap.
        differences: difference of each metric.
        out: file where they were written, None for nowhere.
    """

    a: str
    b: str
    draws: tuple[int, int]
    images: int
    resamples: int
    differences: Sequence[Difference]
    out: str | None = None

    def lines(self) -> list[str]:
        """Return a table for each pair of answers, and a sentence for each difference."""
        lines = [
            f"A             {self.a}",
            f"B             {self.b}",
            f"images        {self.images:,}, each paired with itself",
            f"in brackets   95 % bootstrap intervals of B - A over images, {self.resamples} resamples; p by sign flips",
        ]
        for answers in dict.fromkeys(one.answers for one in self.differences):
            of_answers = [one for one in self.differences if one.answers == answers]
            lines += ["", *self._table(answers, of_answers), "", *_conclusions(of_answers)]
        return [*lines, *(["", f"written       {self.out}"] if self.out else [])]

    def _titles(self, answers: tuple[str, str]) -> tuple[str, str]:
        first, second = (answer_title(name, {"draws": draws}) for name, draws in zip(answers, self.draws, strict=True))
        return first, second

    def _table(self, answers: tuple[str, str], differences: Sequence[Difference]) -> list[str]:
        first, second = self._titles(answers)
        rows = [["", f"A: {first}", f"B: {second}", "B - A", "p", "verdict"], *(_row(one) for one in differences)]
        widths = [max(len(row[place]) for row in rows) for place in range(6)]
        return [
            "  ".join(
                text.rjust(width) if 0 < place < 5 else text.ljust(width)
                for place, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]


def run(a: str, b: str, *, resamples: int = 1000, seed: int = 0, out: str | None = None) -> Comparison:
    """Compare two evaluations.

    Args:
        a, b: folders with `evaluation.json` and `evaluation.parquet`: of RESULTS, or of `--out`.
        resamples, seed: resamples of the bootstrap, and its seed.
        out: a JSON file for the differences; None for none.

    Raises:
        DatasetError: one is no evaluation, or the two are not of the same images.
    """
    (facts_a, table_a), (facts_b, table_b) = (read_evaluation(open_store(place).require()) for place in (a, b))
    rows_a, rows_b = paired(Rows.of(table_a), Rows.of(table_b), facts_a, facts_b)
    differences = compare_rows(rows_a, rows_b, kind=facts_a["kind"], resamples=resamples, seed=seed)
    differences += compare_sets(facts_a, facts_b, pairs_of_answers(rows_a, rows_b))
    if not differences:
        raise DatasetError("the two evaluations have no metric in common")
    if out is not None:
        rows = [{**asdict(one), "difference": one.difference, "is_real": one.is_real} for one in differences]
        facts = {"a": a, "b": b, "images": len(rows_a), "resamples": resamples, "seed": seed, "differences": rows}
        write_file(out, (json.dumps(facts, indent=1) + "\n").encode())
    return Comparison(
        a=a,
        b=b,
        draws=(facts_a["draws"], facts_b["draws"]),
        images=len(rows_a),
        resamples=resamples,
        differences=differences,
        out=out,
    )


def _row(one: Difference) -> list[str]:
    digits = digits_of(one.metric)
    gap = f"{one.difference:+.{digits}f}"
    if one.low is not None and one.high is not None:
        gap += f" [{one.low:+.{digits}f}, {one.high:+.{digits}f}]"
    p_value = "" if one.p_value is None else f"{one.p_value:.4f}" if one.p_value >= 0.001 else "< 0.001"
    return [metric_title(one.metric), f"{one.a:.{digits}f}", f"{one.b:.{digits}f}", gap, p_value, verdict(one)]


def _conclusions(differences: Sequence[Difference]) -> list[str]:
    """Say in sentences which differences are real: those whose interval leaves 0 out."""
    lines = []
    for better in ("A", "B"):
        titles = [metric_title(one.metric) for one in differences if one.is_real and one.better == better]
        if titles:
            lines.append(f"{better} is really better in: {'; '.join(titles)}.")
    even = [metric_title(one.metric) for one in differences if one.is_real is False and one.better]
    if even:
        lines.append(f"No real difference (its interval holds 0) in: {'; '.join(even)}.")
    return lines


def verdict(one: Difference) -> str:
    """Say whether a difference is real, and which of the two is better."""
    if one.is_real is None:
        return f"{one.better} is better, or it is chance" if one.better else "no difference"
    if not one.is_real:
        return "no difference can be told"
    return f"{one.better} is better" if one.better else "a real difference"
