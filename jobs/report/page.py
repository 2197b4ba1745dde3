"""`condgen report`: one HTML file that shows what a batch job made, and needs no network.

    run.json ─ counts, model, versions          model's run ─ metrics.jsonl, validation.jsonl ─ training curve
    plan ─ some chunks ─ draws/*.parquet ─ draws ┐
                      └─ the archive ─ originals ┴─ side by side

Only what is shown is read: a few chunks, spread evenly over the archive, by range requests. Everything that comes from
the data (keys, messages, names) is escaped by the template.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from condgen.errors import CondgenError, DatasetError, ImageError
from jobs.cli.progress import Progress
from jobs.report.checks import check_draws
from jobs.report.curves import Curve, make_curve
from jobs.report.evaluation import EvaluationSection, read_section
from pipelines.datasets.chunk import Chunk, image_member, iter_chunks, read_chunk
from pipelines.datasets.opening import archive_store
from pipelines.images.decoding import decode
from pipelines.results.files import draws_name
from pipelines.results.plan import Generation, load_plans, take_chunks
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.parquet import open_parquet, read_parquet
from pipelines.storage.store import Store, open_store

__all__ = ["CLAIMS_NAME", "Page", "ReportData", "ReportImage", "SampleRow", "collect", "render", "run"]

CLAIMS_NAME = "claims.json"
"""A list of claims and whether they hold, which a job may leave beside its results."""

THUMBNAIL_PX = 256
MAX_CHUNKS = 12
MAX_ERRORS = 100
IDENTITY = ["source", "key", "draw", "width", "height"]


@dataclass(frozen=True, kw_only=True)
class ReportImage:
    """A thumbnail: a label and a data URI, or in its place why there is none."""

    label: str
    alt: str
    uri: str | None = None
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One image of the archive: its input and draws next to each other, and its original where the input is grey."""

    source: str
    key: str
    width: int
    height: int
    pictures: Sequence[ReportImage]
    thumbnails: tuple[Image.Image | str, Sequence[Image.Image | str]] = ("", ())
    """The input and the draws."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that the page shows.

    Attributes:
        results: place of the results.
        run: the content of run.json.
        is_color: whether colors were drawn, for which an image's own are hidden from the model.
        rows: the samples shown.
        errors: first rows of the tables of errors of all plans, with `plan`.
        curves: curves of the model's training; none where the model has no metrics beside it.
        findings: claims that a job left beside the results (`CLAIMS_NAME`), and what the images shown say of copied
            inputs and ignored noise.
        evaluation: evaluation beside the results, None where `condgen evaluate` was not run.
    """

    results: str
    run: Mapping[str, Any]
    is_color: bool = True
    rows: Sequence[SampleRow] = ()
    errors: Sequence[Mapping[str, str]] = ()
    curves: Sequence[Curve] = ()
    findings: Sequence[Mapping[str, str]] = field(default_factory=tuple)
    evaluation: EvaluationSection | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that was written."""

    path: str
    num_samples: int
    size_bytes: int

    def lines(self) -> list[str]:
        """Return the summary, a line."""
        return [f"report        {self.path} ({self.num_samples} samples, {self.size_bytes / 1e6:.1f} MB)"]


def run(results: str, out: str | None = None, *, max_samples: int = 24) -> Page:
    """Write the page of a batch job's results.

    Args:
        results: a folder or prefix that `condgen colorize` or `translate` wrote to completion.
        out: the file, a local path or a URI; `report.html` in the results by default.
        max_samples: the most images shown.

    Raises:
        DatasetError: the results are not complete.
        StorageError: they, or the page, can't be read or written.
    """
    data = collect(open_store(results), results, max_samples=max_samples)
    page = render(data).encode()
    store, name = open_store(results), "report.html"
    if out is not None:
        parent, slash, name = out.rpartition("/")
        store = open_store(parent or ("/" if slash else "."))
    store.write(name, page)
    return Page(path=out or store.locate(name), num_samples=len(data.rows), size_bytes=len(page))


def collect(store: Store, results: str, *, max_samples: int) -> ReportData:
    """Read what the page shows."""
    store.require()
    plans = load_plans(store, checked=False)
    if not plans or not store.exists("run.json"):
        raise DatasetError(f"{results} is not complete: run condgen colorize or translate to its end, then the report")
    try:
        facts = json.loads(store.read("run.json"))
    except ValueError as error:
        raise DatasetError(f"{results}/run.json is damaged: delete it and run the job again") from error
    is_color = facts["settings"].get("kind", "colorize") == "colorize"
    findings = json.loads(store.read(CLAIMS_NAME)) if store.exists(CLAIMS_NAME) else []
    originals = Originals(archive_store(facts["archive"]), facts["settings"].get("member", ""))
    rows = _sample_rows(store, originals, plans, max_samples, is_color=is_color)
    return ReportData(
        results=results,
        run=facts,
        rows=rows,
        is_color=is_color,
        errors=_error_rows(store),
        curves=_curves(facts["model"]["uri"]),
        findings=[*findings, *check_draws([row.thumbnails for row in rows])],
        evaluation=read_section(store),
    )


def render(data: ReportData) -> str:
    """Return the page as HTML: one file, everything in it."""
    environment = Environment(
        loader=PackageLoader("jobs"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = lambda number: f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return environment.get_template("report.html.j2").render(data=data, max_errors=MAX_ERRORS)


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the indices below `count`, evenly spread."""
    if count <= most:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * most) for i in range(most)]


def _sample_rows(
    store: Store, originals: Originals, plans: Sequence[Generation], max_samples: int, *, is_color: bool
) -> list[SampleRow]:
    places = _spread(sum(one.plan.num_chunks for one in plans), min(MAX_CHUNKS, max_samples))
    rows: list[SampleRow] = []
    with Progress("report", total=max_samples, unit="samples") as progress:
        for i, chunk in enumerate(iter_chunks(take_chunks(plans, places))):
            share = -(-(max_samples - len(rows)) // (len(places) - i))
            made = _chunk_rows(store, originals, chunk, share, is_color=is_color)
            rows += made
            progress.advance(len(made))
    return rows


def _chunk_rows(store: Store, originals: Originals, chunk: Chunk, most: int, *, is_color: bool) -> list[SampleRow]:
    """Return some samples of one chunk: their draws from its Parquet file, their originals from the archive."""
    with open_parquet(store, draws_name(chunk.name)) as file:
        identities = file.read(columns=IDENTITY).to_pylist()
        samples = list(dict.fromkeys((row["source"], row["key"]) for row in identities))
        wanted = {samples[place] for place in _spread(len(samples), most)}
        if not wanted:
            return []
        draws: dict[tuple[str, str], list[dict[str, Any]]] = {sample: [] for sample in wanted}
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            if any((row["source"], row["key"]) in wanted for row in identities[start:stop]):
                for row in file.read_row_group(group, columns=[*IDENTITY, "image"]).to_pylist():
                    draws.get((row["source"], row["key"]), []).append(row)
            start = stop
    images = originals.read(chunk, wanted)
    return [_row(one, draws[one], images[one], is_color=is_color) for one in samples if one in wanted]


@dataclass(frozen=True, slots=True)
class Originals:
    """The images of the archive, and which member of a sample they are."""

    archive: Store
    member: str

    def read(self, chunk: Chunk, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes | CondgenError]:
        """Return images as they are in the archive, or why they can't be had any more (it was moved, say)."""
        images: dict[tuple[str, str], bytes | CondgenError] = {
            sample: DatasetError("not in the archive any more") for sample in wanted
        }
        try:
            samples = read_chunk(self.archive, chunk, neighbors=Neighbors())
        except CondgenError as error:
            return dict.fromkeys(images, error)
        for sample in samples:
            if (sample.source, sample.key) in images:
                try:
                    images[sample.source, sample.key] = image_member(sample, self.member)
                except ImageError as error:
                    images[sample.source, sample.key] = error
        return images


def _row(
    sample: tuple[str, str],
    draws: Sequence[Mapping[str, Any]],
    original: bytes | CondgenError,
    *,
    is_color: bool,
) -> SampleRow:
    key = sample[1]
    whole = _thumbnail(original)
    given = whole.convert("L") if is_color and isinstance(whole, Image.Image) else whole
    pictures = [_picture("input", f"{key}, {'grey ' * is_color}input", given)]
    made = []
    for draw in sorted(draws, key=lambda row: int(row["draw"])):
        number = int(draw["draw"])
        made.append(_thumbnail(draw["image"]["bytes"]))
        pictures.append(_picture(f"draw {number}", f"{key}, draw {number}", made[-1]))
    if is_color:
        pictures.append(_picture("original", f"{key}, original", whole))
    first = draws[0]
    return SampleRow(
        source=sample[0],
        key=key,
        width=first["width"],
        height=first["height"],
        pictures=pictures,
        thumbnails=(given, made),
    )


def _thumbnail(data: bytes | CondgenError) -> Image.Image | str:
    """Return a small image, or why there is none."""
    if isinstance(data, CondgenError):
        return str(data)
    try:
        image = Image.fromarray(decode(data, min_size_px=THUMBNAIL_PX))
    except ImageError as error:
        return str(error)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    return image


def _picture(label: str, alt: str, image: Image.Image | str) -> ReportImage:
    if isinstance(image, str):
        return ReportImage(label=label, alt=alt, missing=image)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=85)
    return ReportImage(label=label, alt=alt, uri=f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}")


def _error_rows(store: Store) -> list[dict[str, str]]:
    """Return the first errors, of each plan its share."""
    rows: list[dict[str, str]] = []
    names = [entry.name for entry in store.list("errors") if entry.name.endswith(".parquet")]
    tables = sorted(((name, read_parquet(store.read(name))) for name in names), key=_num_rows)
    for place, (name, table) in enumerate(tables):
        share = -(-(MAX_ERRORS - len(rows)) // (len(tables) - place))
        plan = name.removeprefix("errors/").removesuffix(".parquet")
        rows += [{**row, "plan": plan} for row in table.slice(0, share).to_pylist()]
    return sorted(rows, key=lambda row: row["plan"])


def _num_rows(item: tuple[str, pa.Table]) -> int:
    return int(item[1].num_rows)


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
