"""A gallery: one or two results as the JSON that its page asks for (docs/gallery.md lists it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condgen.errors import ConfigError, DatasetError, MissingError
from pipelines.gallery.columns import Column, columns_of, compared_columns, read_filter
from pipelines.gallery.evaluation_rows import EvaluationRows, open_evaluation
from pipelines.gallery.filler import Filler, Measure
from pipelines.gallery.image_index import MEASURED, ImageIndex, Query, index_path
from pipelines.gallery.items import Commands, details_of, item_of
from pipelines.gallery.renditions import Renditions
from pipelines.gallery.side_by_side import Foreground
from pipelines.gallery.stored_results import ImageRow, StoredResults
from pipelines.storage.cache import ChunkCache

__all__ = ["Gallery", "Shown", "Statements"]

MAX_COUNT = 200
"""The most images that one answer has."""

_NAMES = ("A", "B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """What is said of the results' evaluations, which is worked out beside the server.

    Attributes:
        evaluations: `answers`, `rows` and `sentences` of each result's table, by the result's name.
        comparison: lines of `condgen compare`; None where not both have an evaluation.
    """

    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    comparison: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Results that are shown: their name in the page, what they are read by, and their index."""

    name: str
    results: StoredResults
    index: ImageIndex
    filler: Filler
    columns: Sequence[Column]
    evaluation: EvaluationRows | None

    @classmethod
    def open(cls, name: str, results: StoredResults, folder: Path, measure: Measure | None) -> Shown:
        """Open the index of results, in a folder of indexes; it is not filled yet."""
        evaluation = open_evaluation(results.store)
        metrics = evaluation.metrics if evaluation is not None else ()
        columns = columns_of(results.settings, metrics, MEASURED if measure is not None else ())
        path = index_path(folder, results.store.uri, results.plan.digest)
        index = ImageIndex(path, results.settings.output.columns)
        filler = Filler(results, index, evaluation, measure, columns)
        return cls(name=name, results=results, index=index, filler=filler, columns=columns, evaluation=evaluation)

    def rows(self, places: Sequence[int]) -> list[ImageRow]:
        """Return images from the index, and from the draws files where they are not in it yet."""
        known = self.index.rows(places)
        missing = [place for place in places if place not in known]
        known |= {row.place: row for row in self.results.rows(missing)} if missing else {}
        return [known[place] for place in places]

    def counts(self) -> dict[str, int]:
        """Return the numbers of images, committed ones, draws, errors and filtered ones, as far as they are known."""
        results, run = self.results, self.results.run
        if run is not None:
            counts = run.get("counts", {})
            drawn, errors, filtered = (int(counts.get(name, 0)) for name in ("with_draws", "errors", "filtered"))
        else:
            by_status = self.index.counts()
            drawn, errors, filtered = (by_status.get(name, 0) for name in ("draws", "error", "filtered"))
        return {
            "images": results.num_images,
            "committed": results.total,
            "draws": drawn * results.settings.draws,
            "errors": errors,
            "filtered": filtered,
        }


class Gallery:
    """A gallery.

    Args:
        results: one or two results of the same archive.
        folder: folder of the indexes.
        cache: cache of thumbnails; None for none.
        commands: what makes the commands that are offered.
        measure: function that measures images (default: none are measured).

    Attributes:
        requests: what is being answered, for which the filling of the indexes makes way.

    Raises:
        ConfigError: the results are not of the same archive.
    """

    def __init__(
        self,
        results: Sequence[StoredResults],
        folder: Path,
        cache: ChunkCache | None,
        commands: Commands,
        measure: Measure | None = None,
    ) -> None:
        _check_pair(results)
        self.shown = [Shown.open(name, one, folder, measure) for name, one in zip(_NAMES, results, strict=False)]
        self.columns = list(self.first.columns)
        if len(self.shown) > 1:
            self.first.index.beside = self.shown[1].index.path
            self.columns = compared_columns(self.columns, self.shown[1].columns)
        self.requests = Foreground()
        for one in self.shown:
            one.filler.requests = self.requests
        self.renditions = Renditions({one.name: one.results for one in self.shown}, cache)
        self._commands, self._measures = commands, measure is not None
        self._statements: Statements | None = None
        self._is_told = all(one.evaluation is None for one in self.shown)

    def start(self) -> None:
        """Begin to fill the indexes."""
        for one in self.shown:
            one.filler.start()

    def close(self) -> None:
        """End what fills the indexes, and close them."""
        for one in self.shown:
            one.filler.stop()
            one.index.close()

    def tell(self, statements: Statements | None) -> None:
        """Take what is said of the evaluations; None where nothing can be said."""
        self._statements, self._is_told = statements, True

    @property
    def first(self) -> Shown:
        """The results that the list is of, A."""
        return self.shown[0]

    @property
    def title(self) -> str:
        """The name of the results, or of both."""
        names = [one.results.store.uri.rstrip("/").rpartition("/")[2] or one.results.store.uri for one in self.shown]
        return " and ".join(names)

    def overview(self) -> dict[str, Any]:
        """Return what the page says of the results as a whole."""
        return {
            "title": self.title,
            "is_color": self.first.results.is_color,
            "draws": self.first.results.settings.draws,
            "results": [self._result(one) for one in self.shown],
            "columns": [column.to_json() for column in self.columns],
            "index": self._index(),
            "comparison": list(self._statements.comparison)
            if self._statements and self._statements.comparison
            else None,
            "measuring": self._measures,
            "pending": not self._is_told,
        }

    def progress(self) -> dict[str, Any]:
        """Return how far the indexes are, and the job, if it goes on."""
        results = self.first.results
        return {
            "index": self._index(),
            "committed": results.total,
            "total": results.num_images,
            "unfinished": results.run is None,
            "pending": not self._is_told,
        }

    def images(
        self,
        *,
        start: int = 0,
        count: int = 24,
        sort: str = "",
        descending: bool = False,
        search: str = "",
        where: Sequence[str] = (),
        of: str = "images",
    ) -> dict[str, Any]:
        """Return some images of the list, or of those that fit.

        Args:
            start, count: position of the first one, and how many (1 to `MAX_COUNT`).
            sort: name of the column that orders them (default: the archive's order).
            descending: whether the largest value comes first.
            search: text within the key.
            where: filters, see `pipelines.gallery.columns.read_filter`.
            of: `images`, or `errors` for those that failed.

        Raises:
            ConfigError: a value is not allowed.
            DatasetError, StorageError: the plans can't be read.
        """
        if start < 0 or not 1 <= count <= MAX_COUNT:
            raise ConfigError("start, count", f"{start}, {count}", f"a start from 0, a count of 1 to {MAX_COUNT}")
        if of not in ("images", "errors"):
            raise ConfigError("of", of, "images or errors")
        by_name = {column.name: column for column in self.columns}
        if sort and sort not in by_name:
            raise ConfigError.unknown("sort", sort, by_name)
        query = Query(
            search=search,
            filters=tuple(read_filter(text, self.columns) for text in where),
            errors=of == "errors",
            sort=by_name.get(sort),
            descending=descending,
        )
        if query.is_all:
            total, is_exact = self.first.results.total, True
            places = self.first.results.places(start, count)
        else:
            is_exact = self._has(query.columns)
            total, places = self.first.index.find(query, start, count)
        return {"total": total, "exact": is_exact, "start": start, "items": self._items(places)}

    def image(self, place: int) -> dict[str, Any]:
        """Return one image with all that is stored of it.

        Raises:
            MissingError: there is no such place.
            DatasetError, StorageError: it can't be read.
        """
        if not 0 <= place < self.first.results.num_images:
            raise MissingError(self.first.results.store.uri, "find", f"there is no image {place}")
        (item,) = self._items([place])
        try:
            return {**item, "details": details_of(self.first.results, place)}
        except DatasetError as error:
            return {**item, "details": {"trouble": str(error)}}

    def _items(self, places: Sequence[int]) -> list[dict[str, Any]]:
        first = self.first
        rows = first.rows(places)
        metrics = first.index.metrics(places, self.columns)
        others = self._others(rows)
        return [
            item_of(row, first.results, self._values(row) | metrics.get(row.place, {}), self._commands, other)
            for row, other in zip(rows, others, strict=True)
        ]

    def _has(self, columns: Sequence[Column]) -> bool:
        """Return whether all images, and the values of some columns, are in the indexes."""
        of_b = [column for column in columns if column.result != "A"]
        return self.first.filler.has(columns) and (not of_b or self.shown[1].filler.has(of_b))

    def _values(self, row: ImageRow) -> dict[str, Any]:
        found = {}
        for column in self.first.columns:
            if column.of == "file":
                is_own = column.name in ("key", "source", "status", "width", "height")
                found[column.name] = getattr(row, column.name) if is_own else row.facts.get(column.source)
        return found

    def _others(self, rows: Sequence[ImageRow]) -> list[tuple[StoredResults, ImageRow | None] | None]:
        """Return the same images in B; None for each where there is no B."""
        if len(self.shown) == 1:
            return [None] * len(rows)
        other = self.shown[1]
        places = [self._place_in(other, row) for row in rows]
        known = [place for place in places if place is not None]
        by_place = dict(zip(known, other.rows(known), strict=True))
        return [(other.results, by_place.get(place) if place is not None else None) for place in places]

    def _place_in(self, other: Shown, row: ImageRow) -> int | None:
        """Return the place of an image in other results: the same, where they have the same list of chunks."""
        for mine, its in zip(self.first.results.lists, other.results.lists, strict=False):
            if mine.is_retry or its.is_retry or mine.plan.chunks_sha256 != its.plan.chunks_sha256:
                break
            if mine.base <= row.place < mine.base + mine.plan.num_samples:
                return row.place
        return other.index.place_of(row.source, row.key)

    def _index(self) -> dict[str, Any]:
        parts = [one.filler.progress for one in self.shown]
        return {"done": sum(done for done, _ in parts), "total": sum(total for _, total in parts), "unit": "parts"}

    def _result(self, one: Shown) -> dict[str, Any]:
        said = self._statements.evaluations.get(one.name) if self._statements else None
        model = one.results.plan.model
        return {
            "name": one.name,
            "uri": one.results.store.uri,
            "counts": one.counts(),
            "unfinished": one.results.run is None,
            "model": {name: model.get(name, "") for name in ("uri", "family", "digest")},
            "evaluation": dict(said) if said else None,
        }


def _check_pair(results: Sequence[StoredResults]) -> None:
    """Refuse results whose images can't be paired.

    Raises:
        ConfigError: they are of different archives.
    """
    if len(results) < 2:
        return
    first, second = (one.plan for one in results)
    same = first.archive.rstrip("/") == second.archive.rstrip("/") or first.chunks_sha256 == second.chunks_sha256
    if not same:
        raise ConfigError(
            "results_b",
            results[1].store.uri,
            f"results of the same archive, {first.archive}: these are of {second.archive}",
        )
