"""Results of a batch job as a list of images, of which any part is read by itself.

    results = StoredResults.open("s3://bucket/results")
    results.total                     # from the plans' JSON alone
    results.page(500_000, 24)         # a row group of a plan's list, a footer or two, and the row groups shown

Of results that are not finished, the list has the images of the chunks that are committed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condgen.errors import CondgenError, DatasetError, MissingError
from pipelines.gallery.archive_images import ArchiveImages
from pipelines.gallery.chunk_lists import ChunkList, ListedChunk
from pipelines.gallery.draws_files import DrawsFile, DrawsFiles
from pipelines.gallery.side_by_side import side_by_side
from pipelines.results.account import committed
from pipelines.results.files import draws_name
from pipelines.results.plan import Plan, load_heads
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import RetryPolicy, Store, open_store

__all__ = ["ImageRow", "Outcome", "StoredResults"]

_READERS = 8
_RETRY = RetryPolicy(attempts=4)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an image.

    Attributes:
        status: `draws`, `error`, `filtered`, or `pending` of one that is not done yet.
        place: place in its chunk.
        chunk: chunk that has its draws, or its error.
        file: draws file of the chunk; None where that can't be read.
        row: first of its rows; -1 where it has none.
        failure: for `error` and `filtered`: `source`, `key`, and of an error `stage`, `error`, `message`.
    """

    status: str
    place: int
    chunk: ListedChunk
    file: DrawsFile | None = None
    row: int = -1
    failure: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """An image of the list, without pixels.

    Attributes:
        place: its place in all plans (`pipelines.gallery.chunk_lists`), which names it.
        source, key: identity in the archive.
        status: as of `Outcome`.
        width, height: size of its draws (pixels); None where it has none.
        error: `stage`, `error` and `message` of one that failed.
        facts: values that were copied from the archive.
        version: digits that change with its draws.
    """

    place: int
    source: str
    key: str
    status: str
    width: int | None = None
    height: int | None = None
    error: Mapping[str, str] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class _Committed:
    """The committed chunks: the position of each one's first image in the list, then of the end; and its place."""

    starts: NDArray[np.int64]
    bases: NDArray[np.int64]

    def places(self, start: int, stop: int) -> list[int]:
        positions = np.arange(start, stop)
        chunks = np.searchsorted(self.starts, positions, side="right") - 1
        return [int(place) for place in self.bases[chunks] + positions - self.starts[chunks]]


@dataclass(frozen=True, slots=True)
class _State:
    """What is there: plans' lists, and `run.json` (None where it is not, or of fewer plans).

    Of a job that goes on, also the committed chunks of new images, the names of all committed chunks, and the files
    that were listed.
    """

    lists: tuple[ChunkList, ...]
    run: Mapping[str, Any] | None
    order: _Committed | None = None
    done: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()


class StoredResults:
    """Results of a batch job. Safe in threads.

    Args:
        store: store of the results.

    Raises:
        DatasetError: nothing was begun there, or a plan is damaged or of a later version.
        StorageError: see `pipelines.storage.store`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._state = _State((), None)
        self.refresh()
        self.settings = _settings(self.plan, store)
        self.files = DrawsFiles(store, self.settings.draws, [name for name, _ in self.settings.output.columns])
        self.archive = ArchiveImages(self.plan.archive, self.settings.member)

    @classmethod
    def open(cls, uri: str) -> StoredResults:
        """Open results by their URI.

        Raises:
            As the class, and MissingError: nothing is there.
        """
        return cls(open_store(uri, retry=_RETRY).require())

    @property
    def plan(self) -> Plan:
        """The first plan, whose settings all others have."""
        return self._state.lists[0].plan

    @property
    def lists(self) -> tuple[ChunkList, ...]:
        """The lists of chunks of all plans."""
        return self._state.lists

    @property
    def run(self) -> Mapping[str, Any] | None:
        """The content of `run.json`; None where the job is not finished."""
        return self._state.run

    @property
    def is_color(self) -> bool:
        """Whether colors were drawn, for which an image's own are hidden from the model."""
        return self.settings.kind == "colorize"

    @property
    def num_images(self) -> int:
        """The number of images of all plans, each counted once."""
        return sum(one.plan.num_samples for one in self.lists if not one.is_retry)

    @property
    def num_chunks(self) -> tuple[int, int]:
        """The number of chunks that are committed, and of all."""
        total = sum(one.plan.num_chunks for one in self.lists)
        return (total if self.run is not None else len(self._state.done)), total

    @property
    def total(self) -> int:
        """The length of the list."""
        order = self._state.order
        return self.num_images if order is None else int(order.starts[-1])

    def is_committed(self, chunk: ListedChunk) -> bool:
        """Return whether a chunk was committed when the results were last looked at."""
        return self.run is not None or chunk.name in self._state.done

    def refresh(self) -> bool:
        """Look again at what is there, and return whether there is more; finished results stay as they are.

        Raises:
            As the class.
        """
        if self._state.lists and self._state.run is not None:
            return False
        heads = load_heads(self.store)
        if not heads:
            raise DatasetError(f"{self.store.uri} has no plan: name the RESULTS of condgen colorize or translate")
        lists = self._state.lists
        if len(lists) != len(heads):
            counts = [0 if plan.kind == "retry" else plan.num_samples for plan, _ in heads]
            bases = [0, *accumulate(counts[:-1])]
            fresh = [ChunkList(self.store, *head, base) for head, base in zip(heads, bases, strict=True)]
            lists = (*lists, *fresh[len(lists) :])
        run = _finished(self.store, len(lists))
        if run is not None:
            self._state = _State(lists, run)
            return True
        files = frozenset(committed(self.store))
        known = self._state
        if known.order is not None and len(lists) == len(known.lists) and files == known.files:
            return False
        self._state = _State(lists, None, *_committed(lists, files), files)
        return True

    def page(self, start: int, count: int) -> list[ImageRow]:
        """Return the images at some positions of the list; fewer at its end.

        Raises:
            As the class. A draws file that is damaged or gone is an error of each of its images.
        """
        return self.rows(self.places(start, count))

    def places(self, start: int, count: int) -> list[int]:
        """Return the places of the images at some positions of the list; fewer at its end."""
        order, stop = self._state.order, min(start + count, self.total)
        return list(range(start, stop)) if order is None else order.places(start, max(start, stop))

    def rows(self, places: Sequence[int]) -> list[ImageRow]:
        """Return the images of some places, in their order.

        Raises:
            As `page`.
        """
        by_chunk: dict[str, list[tuple[int, ListedChunk, int]]] = {}
        for place in places:
            listed, rank = self.find(place)
            by_chunk.setdefault(listed.name, []).append((place, listed, rank))
        parts = list(by_chunk.values())
        made = map(self._rows, parts) if len(parts) < 2 else side_by_side(self._rows, parts, min(_READERS, len(parts)))
        found = {row.place: row for part in made for row in part}
        return [found[place] for place in places]

    def find(self, place: int) -> tuple[ListedChunk, int]:
        """Return the chunk of an image, and which of the chunk's images it is.

        Raises:
            MissingError: there is no such place.
            DatasetError, StorageError: the plans' lists can't be read.
        """
        if not 0 <= place < self.num_images:
            raise MissingError(self.store.uri, "find", f"there is no image {place}")
        return next(one for one in reversed(self.lists) if not one.is_retry and one.base <= place).at(place)

    def outcome(self, place: int) -> Outcome:
        """Return what became of the image of a place; a file that can't be read is an error of the image.

        Raises:
            StorageError: the plans' lists can't be read.
        """
        return self.outcome_in(*self.find(place))

    def outcome_in(self, listed: ListedChunk, rank: int) -> Outcome:
        """Return what became of an image of a chunk, as `outcome` does; a later plan may have done it again."""
        place = listed.places[rank]
        last = self._of_chunk(listed, place)
        for one in self.lists:
            if not one.is_retry or last.status != "error":
                continue
            again = one.redoing(last.chunk.name)
            if again is not None and place in again.places and self.is_committed(again):
                last = self._of_chunk(again, place)
        return last

    def draw(self, outcome: Outcome, number: int) -> bytes:
        """Return the encoded image of a draw.

        Raises:
            CondgenError: the image has no such draw, or it can't be read.
        """
        if outcome.file is None or outcome.row < 0 or not 0 <= number < self.settings.draws:
            raise DatasetError("there is no such draw")
        return self.files.image(outcome.file, outcome.row + number)

    def given(self, outcome: Outcome, *, target: bool = False) -> bytes:
        """Return the encoded image of the archive that the model was given, or the target of a pair.

        Raises:
            CondgenError: it can't be had any more.
        """
        source, sha256 = str(outcome.failure.get("source", "")), ""
        if outcome.file is not None and outcome.row >= 0:
            row = self.files.rows(outcome.file, outcome.row)[0]
            source, sha256 = row["source"], row["source_sha256"]
        chunk = outcome.chunk
        whole = None if chunk.shard is None else (lambda: self.lists[chunk.generation].whole(chunk))
        if target:
            return self.archive.target(source, outcome.place, whole)
        return self.archive.image(source, outcome.place, whole, sha256)

    def _of_chunk(self, listed: ListedChunk, place: int) -> Outcome:
        if not self.is_committed(listed):
            return Outcome("pending", place, listed)
        try:
            file = self.files.open(listed)
        except CondgenError as error:
            return Outcome("error", place, listed, failure=_unreadable(listed, place, error))
        if place in file.first_rows:
            return Outcome("draws", place, listed, file, file.first_rows[place])
        failure = file.without[place]
        return Outcome("error" if "stage" in failure else "filtered", place, listed, file, failure=failure)

    def rows_of_chunk(self, listed: ListedChunk) -> tuple[list[ImageRow], bool]:
        """Return all images of a committed chunk as it left them, and whether its draws file could be read.

        Those of a chunk that does failures again have their places in the chunk in place of their own.
        """
        base = None if listed.redoes is not None else listed.base
        ranks = {place: place if base is None else base + rank for rank, place in enumerate(listed.places)}
        try:
            file = self.files.open(listed, keep=False)
            there = dict(zip(file.first_rows, self.files.first_rows(file), strict=True))
        except (DatasetError, MissingError) as error:
            return [_failed(ranks[p], _unreadable(listed, ranks[p], error), "error") for p in listed.places], False
        rows = []
        for place, at in ranks.items():
            if place in there:
                rows.append(self._drawn(at, there[place], file.version))
            else:
                failure = file.without[place]
                rows.append(_failed(at, failure, "error" if "stage" in failure else "filtered", file.version))
        return rows, True

    def _rows(self, images: Iterable[tuple[int, ListedChunk, int]]) -> list[ImageRow]:
        return [self._row(place, self.outcome_in(listed, rank)) for place, listed, rank in images]

    def _row(self, place: int, outcome: Outcome) -> ImageRow:
        failure, version = outcome.failure, outcome.file.version if outcome.file is not None else ""
        if outcome.file is not None and outcome.row >= 0:
            try:
                return self._drawn(place, self.files.rows(outcome.file, outcome.row)[0], version)
            except CondgenError as error:
                failure = _unreadable(outcome.chunk, place, error)
        return _failed(place, failure or {"source": outcome.chunk.shard or ""}, outcome.status, version)

    def _drawn(self, place: int, row: Mapping[str, Any], version: str) -> ImageRow:
        return ImageRow(
            place=place,
            source=row["source"],
            key=row["key"],
            status="draws",
            width=row["width"],
            height=row["height"],
            facts={name: row[name] for name, _ in self.settings.output.columns},
            version=version,
        )


def _failed(place: int, failure: Mapping[str, Any], status: str, version: str = "") -> ImageRow:
    is_error = "stage" in failure
    return ImageRow(
        place=place,
        source=str(failure["source"]),
        key=str(failure.get("key", f"#{place}")),
        status="error" if is_error else status,
        error={name: str(failure[name]) for name in ("stage", "error", "message")} if is_error else None,
        version=version,
    )


def _settings(plan: Plan, store: Store) -> BatchSettings:
    try:
        return BatchSettings.from_json(plan.settings)
    except (TypeError, ValueError, KeyError, CondgenError) as error:
        raise DatasetError(f"{store.uri} was made by a later version of condgen, or its plan is damaged") from error


def _finished(store: Store, num_plans: int) -> Mapping[str, Any] | None:
    """Return the content of `run.json`, which a finished job has; one of fewer plans is of before the last began."""
    try:
        facts = json.loads(store.read("run.json"))
    except MissingError:
        return None
    except ValueError as error:
        raise DatasetError(f"{store.uri}/run.json is damaged: delete it and run the job again") from error
    return facts if isinstance(facts, dict) and len(facts.get("plans", ())) in (0, num_plans) else None


def _committed(lists: Sequence[ChunkList], files: Collection[str]) -> tuple[_Committed, frozenset[str]]:
    """Return the chunks of new images whose draws files are there, and the names of all chunks whose files are."""
    chunks = (chunk for one in lists for number in range(one.num_groups) for chunk in one.group(number))
    there = [chunk for chunk in chunks if draws_name(chunk.name) in files]
    new = [(chunk.samples, chunk.base) for chunk in there if chunk.redoes is None]
    samples, bases = np.array(new, dtype=np.int64).reshape(-1, 2).T
    return _Committed(np.concatenate([[0], np.cumsum(samples)]), bases), frozenset(chunk.name for chunk in there)


def _unreadable(chunk: ListedChunk, place: int, error: CondgenError) -> dict[str, Any]:
    """Return the failure of an image whose draws file can't be read."""
    name = type(error).__name__.removesuffix("Error")
    source = chunk.shard or ""
    return {"source": source, "key": f"#{place}", "stage": "results", "error": name, "message": str(error)}
