"""An index of all images of results, in SQLite: what search, filters and orders go to.

    images   a row an image: identity, status, size, what was copied from the archive, metrics
    keys     the keys by their trigrams (FTS5), for search within them
    chunks   the chunks whose images are in it

It lies in the user's cache folder and is filled while it is used (`pipelines.gallery.filler`). What it has is right;
only what it has not yet can be missing. One that is damaged is deleted and made anew.
"""

from __future__ import annotations

import hashlib
import json
import queue
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.gallery.columns import METRICS, OPERATORS, Column, Filter
from pipelines.gallery.stored_results import ImageRow

__all__ = ["MEASURED", "ImageIndex", "Query", "index_path"]

MEASURED = ("colorfulness", "diversity")
"""What the gallery measures itself, if it is asked to."""

_FORMAT = "condgen-gallery-index-1"
_READERS = 4
_BUSY_S = 30.0
_TRIGRAM = 3
_FIXED = ("place", "source", "key", "status", "width", "height", "version", "stage", "error", "message")
_OWN = ("source", "key", "status", "width", "height")
_SQL_TYPES = {"int64": "INTEGER", "float64": "REAL", "bool": "INTEGER", "string": "TEXT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which images are wanted, and in which order.

    Attributes:
        search: text within the key; letters of A to Z count the same as a to z.
        filters: conditions that all are met.
        errors: whether only images that failed are wanted.
        sort: column that orders them (default: their places); those without a value come last.
        descending: whether the largest value comes first.
    """

    search: str = ""
    filters: tuple[Filter, ...] = ()
    errors: bool = False
    sort: Column | None = None
    descending: bool = False

    @property
    def is_all(self) -> bool:
        """Whether all images are wanted, in the order of their places."""
        return not self.search and not self.filters and not self.errors and self.sort is None

    @property
    def columns(self) -> list[Column]:
        """The columns that are looked at."""
        return [*(one.column for one in self.filters), *([self.sort] if self.sort else [])]


def index_path(folder: Path, uri: str, digest: str) -> Path:
    """Return the path of the index of results: of their URI and the digest of their first plan."""
    name = hashlib.sha256(f"{_FORMAT}\n{uri}\n{digest}".encode()).hexdigest()[:32]
    return folder / f"{name}.sqlite"


@dataclass
class ImageIndex:
    """The index of some results. Safe in threads; one thread at a time may write.

    Args:
        path: path of the database; its folder is made where it is missing.
        facts: names and types of what was copied from the archive (`BatchSettings.output.columns`).
        beside: path of the index of results B, whose values are looked up by source and key; None for no B.
    """

    path: Path
    facts: Sequence[tuple[str, str]]
    beside: Path | None = None
    _readers: queue.LifoQueue[sqlite3.Connection | None] = field(default_factory=queue.LifoQueue, repr=False)

    def __post_init__(self) -> None:
        self._is_closed = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._writer = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # it can't be opened, or is locked
                raise
            for end in ("", "-wal", "-shm"):
                Path(f"{self.path}{end}").unlink(missing_ok=True)
            self._writer = self._open()
        for _ in range(_READERS):
            self._readers.put(None)
        self._fact_names = [name for name, _ in self.facts]

    def close(self) -> None:
        """Close all connections, those in use when they are given back; closing again is no error."""
        self._writer.close()
        self._is_closed = True
        while not self._readers.empty():
            self._release(self._readers.get())

    def get(self, name: str) -> Any:
        """Return a value that was noted, None where none was."""
        row = self._writer.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def note(self, name: str, value: Any) -> None:
        """Note a value (JSON) under a name."""
        with self._writer:
            self._note(name, value)

    def chunks(self, *, measured: bool = False) -> list[int]:
        """Return the numbers of the chunks whose images are in the index, or have been measured."""
        where = "WHERE measured = 1" if measured else ""
        return [row[0] for row in self._writer.execute(f"SELECT number FROM chunks {where}")]  # noqa: S608

    def origin(self, name: str) -> tuple[int, Sequence[int] | None] | None:
        """Return the place of a chunk's first image, and its images' places in the chunk (None: all from 0 on).

        Of a chunk that does failures again, it is that of the chunk which they were in first. None where the chunk is
        not in the index.
        """
        row = self._writer.execute("SELECT base, places FROM chunks WHERE name = ?", (name,)).fetchone()
        return None if row is None else (row[0], None if row[1] is None else json.loads(row[1]))

    def add(
        self,
        number: int,
        name: str,
        origin: tuple[int, Sequence[int] | None],
        rows: Sequence[ImageRow],
        *,
        is_lasting: bool = True,
    ) -> None:
        """Add a chunk and its images, all of it or nothing; images that are there (they failed before) are replaced.

        Args:
            number: number of the chunk.
            name: name of the chunk.
            origin: see `origin`.
            rows: images that the chunk has.
            is_lasting: whether the chunk need not be read again by a later start.
        """
        base, places = origin
        names = [*_FIXED, *(f"f{place}" for place in range(len(self.facts)))]
        sql = f"INSERT OR REPLACE INTO images ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        with self._transaction():
            if self._writer.execute("SELECT 1 FROM chunks WHERE number = ?", (number,)).fetchone():
                return
            if is_lasting:
                stored = json.dumps(list(places)) if places is not None else None
                self._writer.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, 0)", (number, name, base, stored))
            if self._has_trigrams:
                old = dict(
                    self._writer.execute("SELECT place, key FROM images WHERE place BETWEEN ? AND ?", _span(rows))
                )
                new = {row.place: _text(row.key) for row in rows}
                gone = [("delete", place, key) for place, key in old.items() if new.get(place, key) != key]
                self._writer.executemany("INSERT INTO keys(keys, rowid, key) VALUES (?, ?, ?)", gone)
                fresh = [(place, key) for place, key in new.items() if old.get(place) != key]
                self._writer.executemany("INSERT INTO keys(rowid, key) VALUES (?, ?)", fresh)
            self._writer.executemany(sql, map(self._values, rows))

    def set_metrics(self, rows: Iterable[tuple[str, str, Sequence[float | None]]], names: Sequence[str]) -> None:
        """Set metrics of images by their source and key.

        Args:
            rows: source, key and values of each.
            names: names of the values, of `METRICS`.
        """
        sets = ", ".join(f"e_{name} = ?" for name in names)
        sql = f"UPDATE images SET {sets} WHERE key = ? AND source = ?"  # noqa: S608
        with self._transaction():
            self._writer.executemany(sql, ((*values, _text(key), _text(source)) for source, key, values in rows))

    def clear(self) -> None:
        """Forget everything."""
        with self._transaction():
            for table in ("images", "chunks", "notes"):
                self._writer.execute(f"DELETE FROM {table}")  # noqa: S608
            if self._has_trigrams:
                self._writer.execute("INSERT INTO keys(keys) VALUES ('delete-all')")

    def clear_metrics(self) -> None:
        """Forget all metrics of an evaluation."""
        with self._transaction():
            self._writer.execute(f"UPDATE images SET {', '.join(f'e_{name} = NULL' for name in METRICS)}")  # noqa: S608

    def set_measured(self, number: int, rows: Iterable[tuple[int, Sequence[float | None]]]) -> None:
        """Set what was measured of a chunk's images: the place of each, and values in the order of `MEASURED`."""
        sets = ", ".join(f"m_{name} = ?" for name in MEASURED)
        with self._transaction():
            sql = f"UPDATE images SET {sets} WHERE place = ?"  # noqa: S608
            self._writer.executemany(sql, ((*values, place) for place, values in rows))
            self._writer.execute("UPDATE chunks SET measured = 1 WHERE number = ?", (number,))

    def speed_up(self, columns: Sequence[Column]) -> None:
        """Make what orders images by columns fast, once the images are there."""
        for name in dict.fromkeys(self._sql(column) for column in columns if column.result == "A"):
            with self._transaction():
                self._writer.execute(f"CREATE INDEX IF NOT EXISTS by_{name} ON images ({name})")

    def find(self, query: Query, start: int, count: int) -> tuple[int, list[int]]:
        """Return how many images fit a query, and the places of some of them, from a position in their order on."""
        where, values = self._where(query)
        order = "place"
        if query.sort is not None:
            order = f"{self._sql(query.sort)} {'DESC' if query.descending else 'ASC'} NULLS LAST, place"
        with self._reader() as reader:
            total = reader.execute(f"SELECT count(*) FROM images{where}", values).fetchone()[0]  # noqa: S608
            sql = f"SELECT place FROM images{where} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608
            places = [row[0] for row in reader.execute(sql, (*values, count, start))]
        return int(total), places

    def rows(self, places: Sequence[int]) -> dict[int, ImageRow]:
        """Return the images of some places that are in the index."""
        names = [*_FIXED, *(f"f{place}" for place in range(len(self.facts)))]
        return {row[0]: self._image(row) for row in self._select(names, places)}

    def metrics(self, places: Sequence[int], columns: Sequence[Column]) -> dict[int, dict[str, float]]:
        """Return the values of metrics and measures, by place and column; what is not known is left out."""
        wanted = [column for column in columns if column.of != "file"]
        rows = self._select(["place", *map(self._sql, wanted)], places)
        return {
            row[0]: {one.name: value for one, value in zip(wanted, row[1:], strict=True) if value is not None}
            for row in rows
        }

    def place_of(self, source: str, key: str) -> int | None:
        """Return the place of an image; None where it is not in the index."""
        with self._reader() as reader:
            sql = "SELECT place FROM images WHERE key = ? AND source = ? ORDER BY place LIMIT 1"
            row = reader.execute(sql, (_text(key), _text(source))).fetchone()
        return None if row is None else int(row[0])

    def counts(self) -> dict[str, int]:
        """Return the number of images in the index by their status."""
        with self._reader() as reader:
            return dict(reader.execute("SELECT status, count(*) FROM images GROUP BY status").fetchall())

    def _select(self, names: Sequence[str], places: Sequence[int]) -> list[Any]:
        marks = ", ".join("?" * len(places))
        sql = f"SELECT {', '.join(names)} FROM images WHERE place IN ({marks})"  # noqa: S608
        with self._reader() as reader:
            return reader.execute(sql, tuple(places)).fetchall()

    def _where(self, query: Query) -> tuple[str, list[Any]]:
        terms: list[str] = []
        values: list[Any] = []
        if query.errors:
            terms.append("status = 'error'")
        if query.search:
            text = _text(query.search)
            if self._has_trigrams and len(text) >= _TRIGRAM and "\0" not in text:
                terms.append("place IN (SELECT rowid FROM keys WHERE keys MATCH ?)")
                values.append('"{}"'.format(text.replace('"', '""')))
            else:
                terms.append("key LIKE ? ESCAPE '\\'")
                values.append(_pattern(text))
        for one in query.filters:
            if one.operator == "contains":
                terms.append(f"{self._sql(one.column)} LIKE ? ESCAPE '\\'")
                values.append(_pattern(_text(str(one.value))))
            else:
                terms.append(f"{self._sql(one.column)} {OPERATORS[one.operator]} ?")
                values.append(_text(one.value) if isinstance(one.value, str) else one.value)
        return (f" WHERE {' AND '.join(terms)}" if terms else ""), values

    def _sql(self, column: Column) -> str:
        """Return what a column is in the database, where the data's own names never are."""
        if column.of != "file":
            name = f"{'e' if column.of == 'evaluation' else 'm'}_{column.source}"
            if column.result == "A":
                return name
            same = "other.key = images.key AND other.source = images.source"
            value = f"(SELECT other.{name} FROM beside.images AS other WHERE {same} LIMIT 1)"  # noqa: S608
            return value if column.result == "B" else f"({value} - {name})"
        if column.name in _OWN:
            return column.name
        return f"f{self._fact_names.index(column.source)}"

    def _values(self, row: ImageRow) -> tuple[Any, ...]:
        error = row.error or {}
        facts = (row.facts.get(name) for name, _ in self.facts)
        return (
            row.place,
            *map(_text, (row.source, row.key, row.status)),
            row.width,
            row.height,
            row.version,
            *(_text(error[name]) if name in error else None for name in ("stage", "error", "message")),
            *(_text(value) if isinstance(value, str) else value for value in facts),
        )

    def _image(self, row: Sequence[Any]) -> ImageRow:
        place, source, key, status, width, height, version, stage, error, message = row[: len(_FIXED)]
        facts = {
            name: bool(value) if kind == "bool" and value is not None else value
            for (name, kind), value in zip(self.facts, row[len(_FIXED) :], strict=True)
        }
        return ImageRow(
            place=place,
            source=source,
            key=key,
            status=status,
            width=width,
            height=height,
            version=version,
            error={"stage": stage, "error": error, "message": message} if stage is not None else None,
            facts=facts,
        )

    def _note(self, name: str, value: Any) -> None:
        self._writer.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, json.dumps(value)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        with self._writer:
            yield

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        reader = self._readers.get()
        try:
            if reader is None:
                reader = self._connect()
                if self.beside is not None:
                    reader.execute("ATTACH DATABASE ? AS beside", (str(self.beside),))
                reader.execute("PRAGMA query_only = 1")
            yield reader
        finally:
            self._release(reader)

    def _release(self, reader: sqlite3.Connection | None) -> None:
        if not self._is_closed:
            self._readers.put(reader)
        elif reader is not None:
            reader.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA cache_size = -4096")
        return connection

    def _open(self) -> sqlite3.Connection:
        writer = self._connect()
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA synchronous = NORMAL")
        facts = [f"f{place} {_SQL_TYPES[kind]}" for place, (_, kind) in enumerate(self.facts)]
        metrics = [*(f"e_{name} REAL" for name in METRICS), *(f"m_{name} REAL" for name in MEASURED)]
        fixed = [f"{name} {'INTEGER' if name in ('width', 'height') else 'TEXT'}" for name in _FIXED[1:]]
        columns = ", ".join(["place INTEGER PRIMARY KEY", *fixed, *facts, *metrics])
        writer.execute("BEGIN IMMEDIATE")
        with writer:
            writer.execute("CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT)")
            writer.execute(
                "CREATE TABLE IF NOT EXISTS chunks "
                "(number INTEGER PRIMARY KEY, name TEXT UNIQUE, base INTEGER, places TEXT, measured INTEGER)"
            )
            writer.execute(f"CREATE TABLE IF NOT EXISTS images ({columns})")
            writer.execute("CREATE INDEX IF NOT EXISTS by_key ON images (key, source)")
            writer.execute("CREATE INDEX IF NOT EXISTS by_status ON images (status)")
            self._has_trigrams = True
            try:
                writer.execute(
                    "CREATE VIRTUAL TABLE IF NOT EXISTS keys "
                    "USING fts5(key, content='images', content_rowid='place', tokenize='trigram')"
                )
            except sqlite3.OperationalError:  # an SQLite without FTS5, or from before 3.34
                self._has_trigrams = False
        return writer


def _span(rows: Sequence[ImageRow]) -> tuple[int, int]:
    places = [row.place for row in rows]
    return (min(places), max(places)) if places else (0, -1)


def _text(text: str) -> str:
    """Return a text that SQLite takes: names that are no UTF-8 have surrogates in Python."""
    with suppress(UnicodeEncodeError):
        text.encode()
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
