"""`condgen report`: one HTML file that shows what a batch job made, and needs no network.

    run.json ─ counts, model, versions          model's run ─ metrics.jsonl, validation.jsonl ─ training curve
    plan ─ some chunks ─ draws/*.parquet ─ draws ┐
                      └─ the archive ─ originals ┴─ a sample: at random, and the best and worst of an evaluation

Only what is shown is read, by range requests. Everything that comes from the data (keys, messages, names) is text: the
template escapes it, and the page's policy runs no script but its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from condgen.errors import CondgenError, DatasetError
from jobs.cli.progress import Progress
from jobs.report.checks import check_draws
from jobs.report.choice import Choice, choose
from jobs.report.curves import Curve, make_curve
from jobs.report.evaluation import EvaluationSection, read_section
from jobs.report.failures import FailedImage, read_failures, show_inputs
from jobs.report.items import PageItems, make_items
from jobs.report.measured import Column, read_evaluated
from jobs.report.output import open_output
from jobs.report.results_files import Originals, ResultsFiles
from jobs.report.samples import Sample, read_samples, with_values
from jobs.report.thumbnails import QUALITIES, Quality, qualities_for
from jobs.viewer.commands import retry_command
from jobs.viewer.page import render_page
from pipelines.datasets.opening import archive_store
from pipelines.results.plan import load_plans
from pipelines.storage.store import Store, open_store

__all__ = ["CLAIMS_NAME", "DEFAULT_SAMPLES", "Page", "ReportData", "collect", "render", "run"]

CLAIMS_NAME = "claims.json"
"""A list of claims and whether they hold, which a job may leave beside its results."""

DEFAULT_SAMPLES = 60
MAX_IMAGES = 8000
"""The most thumbnails of a page; fewer samples are shown where they would have more."""

MAX_BYTES = 16_000_000
_BYTES_OF_IMAGES = 14_500_000


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that the page shows.

    Attributes:
        results: place of the results.
        run: the content of run.json.
        is_color: whether colors were drawn, for which an image's own are hidden from the model.
        samples: the images shown.
        choice: how they were chosen.
        seed: seed of the choice.
        columns: numbers of each image.
        errors: first rows of the tables of errors of all plans.
        retry: the command that tries again what failed; None where there is none.
        curves: curves of the model's training; none where the model has no metrics beside it.
        findings: claims that a job left beside the results (`CLAIMS_NAME`), and what the images shown say of copied
            inputs and ignored noise.
        evaluation: evaluation beside the results, None where `condgen evaluate` was not run.
        qualities: qualities of the thumbnails that may fit the page, the best first.
    """

    results: str
    run: Mapping[str, Any]
    is_color: bool = True
    samples: Sequence[Sample] = ()
    choice: Choice = field(default_factory=lambda: Choice(reasons={}, num_random=0, num_extreme=0, metrics=[]))
    seed: int = 0
    columns: Sequence[Column] = ()
    errors: Sequence[FailedImage] = ()
    retry: str | None = None
    curves: Sequence[Curve] = ()
    findings: Sequence[Mapping[str, str]] = field(default_factory=tuple)
    evaluation: EvaluationSection | None = None
    qualities: Sequence[Quality] = QUALITIES


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that was written."""

    path: str
    num_samples: int
    size_bytes: int

    def lines(self) -> list[str]:
        """Return the summary, a line."""
        return [f"report        {self.path} ({self.num_samples} samples, {self.size_bytes / 1e6:.1f} MB)"]


def run(results: str, out: str | None = None, *, max_samples: int = DEFAULT_SAMPLES, seed: int = 0) -> Page:
    """Write the page of a batch job's results.

    Args:
        results: a folder or prefix that `condgen colorize` or `translate` wrote to completion.
        out: the file, a local path or a URI; `report.html` in the results by default.
        max_samples: the most images shown.
        seed: seed of those that are shown at random.

    Raises:
        DatasetError: the results are not complete.
        StorageError: they, or the page, can't be read or written.
    """
    data = collect(open_store(results), results, max_samples=max_samples, seed=seed)
    page = render(data).encode()
    store, name = open_output(open_store(results), "report.html", out)
    store.write(name, page)
    return Page(path=out or store.locate(name), num_samples=len(data.samples), size_bytes=len(page))


def collect(store: Store, results: str, *, max_samples: int, seed: int = 0) -> ReportData:
    """Read what the page shows."""
    store.require()
    plans = load_plans(store, checked=False)
    if not plans or not store.exists("run.json"):
        raise DatasetError(f"{results} is not complete: run condgen colorize or translate to its end, then the report")
    try:
        facts = json.loads(store.read("run.json"))
    except ValueError as error:
        raise DatasetError(f"{results}/run.json is damaged: delete it and run the job again") from error
    settings = facts["settings"]
    is_color = settings.get("kind", "colorize") == "colorize"
    of_a_sample = settings["draws"] + (2 if is_color else 1)
    count = min(max_samples, facts["counts"]["with_draws"], MAX_IMAGES // of_a_sample)
    files = ResultsFiles(store, pa.concat_tables([one.chunks for one in plans]))
    originals = Originals(archive_store(facts["archive"]), settings.get("member", ""))
    evaluated = read_evaluated(store)
    failures = read_failures(store)
    qualities = qualities_for(count * of_a_sample + len(failures), _BYTES_OF_IMAGES)
    size_px = qualities[0].size_px
    with Progress("report", total=count, unit="samples") as progress:
        choice = choose(files, evaluated, count, seed)
        samples = read_samples(
            files,
            choice,
            results=results,
            originals=originals,
            settings=settings,
            size_px=size_px,
            watch=progress.advance,
        )
    columns, samples = with_values(samples, evaluated, is_color=is_color)
    findings = json.loads(store.read(CLAIMS_NAME)) if store.exists(CLAIMS_NAME) else []
    return ReportData(
        results=results,
        run=facts,
        is_color=is_color,
        samples=samples,
        choice=choice,
        seed=seed,
        columns=columns,
        errors=show_inputs(failures, files, originals, size_px),
        retry=retry_command(plans[0].plan, results) if facts["counts"]["errors"] else None,
        curves=_curves(facts["model"]["uri"]),
        findings=[*findings, *check_draws([(sample.image("input"), sample.draws) for sample in samples])],
        evaluation=read_section(store),
        qualities=qualities,
    )


def render(data: ReportData) -> str:
    """Return the page as HTML: one file, everything in it."""
    items = make_items(
        data.samples, data.errors, retry=data.retry, qualities=data.qualities, budget_bytes=_BYTES_OF_IMAGES
    )
    return render_page(
        "report.html.j2",
        styles=("page.css", "viewer.css"),
        script="report.js",
        data={"data": {"overview": _overview(data, items), "items": items.images, "errors": items.errors}},
        report=data,
        items=items,
        max_mb=MAX_BYTES // 1_000_000,
    )


def _overview(data: ReportData, items: PageItems) -> dict[str, Any]:
    """Return what the viewer is told of the results, as the gallery's server answers it."""
    types = {"string": "text", "int64": "number", "float64": "number", "bool": "bool"}
    copied = data.run["settings"].get("columns", ())
    columns = [{"name": one.name, "title": one.title, "type": "number", "better": one.better} for one in data.columns]
    for column in columns:
        column["of"] = "evaluation" if data.evaluation else "measured"
    columns += [
        {"name": name, "title": name, "type": types[kind], "better": None, "of": "file"} for name, kind in copied
    ]
    if data.choice.num_extreme:
        columns.append({"name": "chosen", "title": "shown as", "type": "text", "better": None, "of": "sample"})
    counts = {"images": len(items.images), "errors": len(items.errors)}
    return {
        "title": data.results,
        "is_color": data.is_color,
        "draws": data.run["settings"]["draws"],
        "results": [{"name": "A", "uri": data.results, "counts": counts}],
        "columns": columns,
        "comparison": None,
    }


def _curves(model: str) -> list[Curve]:
    """Return the curves of the run that the model belongs to; `model` may be a checkpoint's folder in it."""
    place = model.rstrip("/")
    for _ in range(3):
        try:
            store = open_store(place)
            metrics = _rows(store.read("metrics.jsonl"))
            validation = _rows(store.read("validation.jsonl")) if store.is_file("validation.jsonl") else []
            return [make_curve(metrics, validation)]
        except (CondgenError, ValueError):
            place = place.rpartition("/")[0]
        if not place or place.endswith(("/", ":")):
            break
    return []


def _rows(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().splitlines() if line.strip()]
