"""What fills an index beside the server: a thread that reads the draws files' small columns and footers.

    chunks ─ readers, side by side ─ rows ─ the index, a chunk a transaction      and again, while the job goes on
    evaluation.parquet ─ a row group a transaction
    with --measure: the stored images at 64 px ─ colorfulness, diversity

Whatever was done is found in the index by the next start.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from condgen.errors import CondgenError, DatasetError
from pipelines.gallery.chunk_lists import ListedChunk
from pipelines.gallery.columns import Column
from pipelines.gallery.evaluation_rows import EvaluationRows
from pipelines.gallery.image_index import ImageIndex
from pipelines.gallery.side_by_side import Foreground, side_by_side
from pipelines.gallery.stored_results import ImageRow, StoredResults

__all__ = ["Filler"]

logger = logging.getLogger(__name__)

_READERS = 6
_CHUNKS_LISTED = 2000
"""Of a job with more chunks, listings take more requests, and are made less often."""

_MAKE_WAY_S = 0.25
_AFTER_TROUBLE_S = 15.0
_END_S = 1.0
_ROUND = 512
_GENERATION_BITS = 40

Measure = Callable[[Sequence[bytes]], Sequence[float | None]]
"""The values of an image in the order of `MEASURED`, from its encoded draws."""


@dataclass
class Filler:
    """The filling of one index.

    Attributes:
        results: the results.
        index: their index.
        evaluation: evaluation beside them, None for none.
        measure: function that measures images; None for no measuring.
        columns: columns that images are ordered by, which is made fast at the end.
        requests: requests that are being answered, which go first.
        look_again_s: seconds between two looks at a job that goes on.
    """

    results: StoredResults
    index: ImageIndex
    evaluation: EvaluationRows | None = None
    measure: Measure | None = None
    columns: Sequence[Column] = ()
    look_again_s: float = 3.0
    requests: Foreground = field(default_factory=Foreground)
    _done: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    _measured: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="gallery-index")
        self._evaluated = 0
        self._passing: dict[str, tuple[int, Sequence[int] | None]] = {}

    def start(self) -> None:
        """Begin, in a thread."""
        self._begin()
        self._thread.start()

    def stop(self) -> None:
        """Stop, after what is being written; what is being read is not waited for long."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_END_S)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the index is whole, or the seconds have passed."""
        self._thread.join(timeout)

    @property
    def progress(self) -> tuple[int, int]:
        """The number of parts (chunks, row groups of an evaluation) that are done, and of all that are there."""
        there, _ = self.results.num_chunks
        parts = self.evaluation.num_parts if self.evaluation is not None else 0
        measured = there if self.measure is not None else 0
        done = self._count(self._done) + self._evaluated + (self._count(self._measured) if self.measure else 0)
        total = there + parts + measured
        return min(done, total), total

    def has(self, columns: Sequence[Column] = ()) -> bool:
        """Return whether the index has all images that are committed, and the values of some columns."""
        kinds = {column.of for column in columns}
        there, _ = self.results.num_chunks
        if self._count(self._done) < there:
            return False
        if "evaluation" in kinds and self.evaluation is not None and self._evaluated < self.evaluation.num_parts:
            return False
        return "measured" not in kinds or self._count(self._measured) >= there

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._fill()
                self._import()
                self._measure_all()
                if self.results.run is not None and self._count(self._done) >= self.results.num_chunks[0]:
                    self.index.speed_up(self.columns)
                    return
                if self.results.refresh():
                    self.index.note("plans", [one.plan.digest for one in self.results.lists])
                else:
                    _, chunks = self.results.num_chunks
                    self._stop.wait(self.look_again_s * max(1.0, chunks / _CHUNKS_LISTED))
            except (CondgenError, sqlite3.Error) as error:
                if self._stop.is_set():
                    return
                logger.warning("the gallery's index: %s; trying again", error)
                self._stop.wait(_AFTER_TROUBLE_S)

    def _begin(self) -> None:
        digests, known = [one.plan.digest for one in self.results.lists], self.index.get("plans")
        if known is not None and known != digests[: len(known)]:  # other results at the same place
            self.index.clear()
        self.index.note("plans", digests)
        for done, numbers in ((self._done, self.index.chunks()), (self._measured, self.index.chunks(measured=True))):
            for number in numbers:
                self._mark(done, number)
        if self.evaluation is not None:
            noted = self.index.get("evaluation")
            if noted is not None and noted["digest"] == self.evaluation.digest:
                self._evaluated = noted["parts"]
            elif noted is not None:
                self.index.clear_metrics()

    def _fill(self) -> None:
        """Add all chunks that are committed and not in the index."""
        if self._count(self._done) >= self.results.num_chunks[0]:
            return
        waiting = self._waiting(self._done)
        while not self._stop.is_set() and (some := list(islice(waiting, _ROUND))):
            for listed, rows, is_lasting in side_by_side(self._read, some, _READERS):
                self.requests.make_way(_MAKE_WAY_S)
                if self._stop.is_set():
                    return
                self._add(listed, rows, is_lasting=is_lasting)

    def _add(self, listed: ListedChunk, rows: Sequence[ImageRow], *, is_lasting: bool) -> None:
        origin = (listed.base, listed.select) if listed.redoes is None else self._origin(listed.redoes)
        if origin is None:
            return
        if not is_lasting:
            self._passing[listed.name] = origin
        if self._evaluated:  # an image that is replaced loses its values
            self._evaluated = 0
            self.index.note("evaluation", None)
        if listed.redoes is not None:
            rows = [replace(row, place=_place(origin, row.place)) for row in rows]
        number = self._number(listed)
        self.index.add(number, listed.name, origin, rows, is_lasting=is_lasting)
        self._mark(self._done, number)

    def _origin(self, name: str) -> tuple[int, Sequence[int] | None] | None:
        return self.index.origin(name) or self._passing.get(name)

    def _read(self, listed: ListedChunk) -> tuple[ListedChunk, Sequence[ImageRow], bool]:
        return listed, *self.results.rows_of_chunk(listed)

    def _import(self) -> None:
        """Read the rest of the evaluation, once the images are there that it is of."""
        evaluation = self.evaluation
        if evaluation is None or self._count(self._done) < self.results.num_chunks[0]:
            return
        while self._evaluated < evaluation.num_parts and not self._stop.is_set():
            self.requests.make_way(_MAKE_WAY_S)
            self.index.set_metrics(evaluation.part(self._evaluated), evaluation.metrics)
            self._evaluated += 1
            self.index.note("evaluation", {"digest": evaluation.digest, "parts": self._evaluated})

    def _measure_all(self) -> None:
        measure = self.measure
        if measure is None:
            return
        for listed in self._waiting(self._measured):
            self.requests.make_way(_MAKE_WAY_S)
            if self._stop.is_set():
                return
            origin = self.index.origin(listed.name)
            if origin is not None:
                self.index.set_measured(self._number(listed), self._measures(measure, listed, origin))
            self._mark(self._measured, self._number(listed))

    def _measures(
        self, measure: Measure, listed: ListedChunk, origin: tuple[int, Sequence[int] | None]
    ) -> Iterator[tuple[int, Sequence[float | None]]]:
        """Yield the place and the measures of each image of a chunk; none of a draws file that can't be read."""
        try:
            file = self.results.files.open(listed, keep=False)
            for place, draws in zip(file.first_rows, self.results.files.images(file), strict=True):
                yield _place(origin, place), measure(draws)
        except DatasetError as error:
            logger.warning("%s", error)

    def _waiting(self, done: dict[int, np.ndarray]) -> Iterator[ListedChunk]:
        """Yield the chunks that are committed and not done, in the order of the plans."""
        for one in self.results.lists:
            for group in range(one.num_groups):
                for listed in one.group(group):
                    if self.results.is_committed(listed) and not self._is_marked(done, listed):
                        yield listed

    def _number(self, listed: ListedChunk) -> int:
        return (listed.generation << _GENERATION_BITS) | listed.row

    def _mark(self, done: dict[int, np.ndarray], number: int) -> None:
        generation, row = number >> _GENERATION_BITS, number & ((1 << _GENERATION_BITS) - 1)
        if generation not in done:
            done[generation] = np.zeros(self.results.lists[generation].plan.num_chunks, dtype=bool)
        done[generation][row] = True

    def _is_marked(self, done: dict[int, np.ndarray], listed: ListedChunk) -> bool:
        return listed.generation in done and bool(done[listed.generation][listed.row])

    def _count(self, done: dict[int, np.ndarray]) -> int:
        return sum(int(marks.sum()) for marks in list(done.values()))


def _place(origin: tuple[int, Sequence[int] | None], place: int) -> int:
    """Return the place of an image in all plans, from that in its chunk."""
    base, places = origin
    return base + (place if places is None else places.index(place))
