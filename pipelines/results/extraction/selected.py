"""Images of some keys out of results, as files: only the row groups that have them are read.

Their names are those of `pipelines.results.names`, as if the results had no other images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import ConfigError, DatasetError
from pipelines.images.encoding import SUFFIXES
from pipelines.results.account import committed
from pipelines.results.extraction.chunks import ExtractedChunks, Extraction, put_image
from pipelines.results.files import draws_name
from pipelines.results.finding import FoundRow, WantedImages, candidates, find_rows
from pipelines.results.names import Identity, Names, name_images, stem_digest, stem_of
from pipelines.results.plan import Generation, require_plans
from pipelines.results.settings import BatchSettings
from pipelines.storage.parquet import open_parquet
from pipelines.storage.store import Store, open_store

__all__ = ["SelectedReport", "extract_selected", "read_keys"]

_READERS = 16
_WRITERS = 4
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class SelectedReport:
    """How it went.

    Attributes:
        destination: place written.
        asked: number of keys that were asked for.
        missing: keys of no image with draws.
        found: account of the images.
    """

    destination: str
    asked: int
    missing: Sequence[str]
    found: ExtractedChunks

    @property
    def exit_code(self) -> int:
        """The exit code: 1 where not all is there."""
        return 1 if self.missing or self.found.blocked else 0

    def lines(self) -> list[str]:
        """Return the report, a line each."""
        found = self.found
        lines = [
            f"keys          {self.asked:,}",
            (
                f"files         {found.written + found.left:,} of {found.images:,} images: {found.written:,} written "
                f"({found.bytes_out / 1e6:,.1f} MB), {found.left:,} were there"
            ),
        ]
        if found.renamed:
            lines.append(f"names         {found.renamed:,} are not the archive's own, which are taken or can't be had")
        if self.missing:
            lines.append(f"not found     {len(self.missing):,} keys of no image with draws: {_shown(self.missing)}")
        if found.blocked:
            lines.append(
                f"not written   {found.blocked:,} files that are there already and are something else "
                f"({', '.join(found.examples)}): --overwrite, or another DEST"
            )
        return [*lines, f"written to    {self.destination}"]


def read_keys(lines: Sequence[str]) -> list[tuple[str | None, str]]:
    """Return the sources and keys in lines of `KEY`, or of `SOURCE`, a tab and `KEY`; empty lines are left out."""
    found: list[tuple[str | None, str]] = []
    for line in lines:
        source, tab, key = line.rstrip("\r\n").partition("\t")
        if tab or source:
            found.append((source, key) if tab else (None, source))
    return found


def extract_selected(
    results: str,
    destination: str,
    images: Sequence[tuple[str | None, str]],
    *,
    draw: int | None = 0,
    overwrite: bool = False,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> SelectedReport:
    """Write the images of some keys as files; results that are not complete will do.

    Args:
        results: place that `condgen colorize` or `translate` wrote.
        destination: a folder or prefix.
        images: source (None for any) and key of each image.
        draw: which draw of each (from 0; None for all).
        overwrite: write over files that are something else.
        watch: function that is told how many chunks were looked at, and of how many.

    Raises:
        ConfigError: no such draw, no key of any image with draws, or a destination inside the archive or the results.
        DatasetError: nothing was begun there, or a draws file is damaged.
        StorageError: see `pipelines.storage.store`.
    """
    store, target = open_store(results).require(), open_store(destination)
    generations = require_plans(store)
    plan, settings = generations[0].plan, BatchSettings.from_json(generations[0].plan.settings)
    if draw is not None and not 0 <= draw < settings.draws:
        raise ConfigError("--draw", draw, f"0 to {settings.draws - 1}, or all")
    if any(target.is_inside(place) for place in (store, open_store(plan.archive.partition("::")[0]))):
        raise ConfigError("dest", target.uri, "a place outside ARCHIVE and RESULTS")
    wanted = WantedImages.of(images)
    rows = _find(store, generations, wanted, watch)
    missing = _missing(images, rows)
    if not rows:
        raise ConfigError("--key", _shown(missing), "keys of images with draws, as the column `key` has them")
    suffix = SUFFIXES[settings.output.output_format]
    names = _names(rows, suffix)
    extraction = Extraction(
        draws=settings.draws,
        draw=draw,
        suffix=suffix,
        by_shard=names.by_shard,
        is_empty=False,
        is_ours=False,
        overwrite=overwrite,
    )

    def extract(name: str) -> ExtractedChunks:
        part = ExtractedChunks()
        for file_name, data in _images(store, name, *rows[name], extraction, names, part):
            put_image(target, extraction, part, file_name, data)
        return part

    found = ExtractedChunks()
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="extract") as pool:
        for part in pool.map(extract, rows):
            found.add(part)
    return SelectedReport(destination=destination, asked=len(wanted.sources), missing=missing, found=found)


Found = Mapping[str, tuple[bool, Sequence[FoundRow]]]
"""By chunk, in the order of the plans: whether it is of loose files, and the rows of wanted images."""


def _missing(images: Sequence[tuple[str | None, str]], rows: Found) -> list[str]:
    """Return the keys of images that were not found, in order."""
    there = {(row.source, row.key) for _, of_chunk in rows.values() for row in of_chunk}
    keys = {key for _, key in there}
    return sorted({key for source, key in images if not (key in keys if source is None else (source, key) in there)})


def _find(
    store: Store, generations: Sequence[Generation], wanted: WantedImages, watch: Callable[[int, int], None]
) -> Found:
    sizes = committed(store)
    chunks: list[tuple[str, bool]] = []
    for generation in generations:
        for table in candidates(generation.stored, wanted):
            is_loose = pc.is_null(table["shard"]).to_pylist()
            chunks += zip(table["name"].to_pylist(), is_loose, strict=True)
    there = [(name, is_loose) for name, is_loose in chunks if draws_name(name) in sizes]

    def look(name: str) -> list[FoundRow]:
        return list(find_rows(store, draws_name(name), wanted, sizes[draws_name(name)]))

    found: dict[str, tuple[bool, Sequence[FoundRow]]] = {}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="keys") as pool:
        looked = pool.map(look, (name for name, _ in there))
        for done, ((name, is_loose), rows) in enumerate(zip(there, looked, strict=True), 1):
            watch(done, len(there))
            if rows:
                found[name] = (is_loose, rows)
    return found


def _identities(is_loose: bool, rows: Sequence[FoundRow]) -> list[Identity]:
    return [Identity(row.source, row.key, is_loose) for row in rows if row.draw == 0]


def _names(rows: Found, suffix: str) -> Names:
    digests = {}
    for name, (is_loose, of_chunk) in rows.items():
        images = _identities(is_loose, of_chunk)
        digests[name] = tuple(
            np.array([stem_digest(stem_of(one, by_shard=by_shard, suffix=suffix).text) for one in images], np.uint64)
            for by_shard in (False, True)
        )
    pairs = {name: (flat, nested) for name, (flat, nested) in digests.items()}
    return name_images(pairs, lambda name: _identities(*rows[name]), suffix)


def _images(
    store: Store,
    chunk: str,
    is_loose: bool,
    rows: Sequence[FoundRow],
    extraction: Extraction,
    names: Names,
    found: ExtractedChunks,
) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the bytes of each image that is to be written; each row group is read once."""
    others = names.others.get(chunk, {})
    group, images = -1, pa.array([])
    place = -1
    stem = ""
    try:
        with open_parquet(store, draws_name(chunk)) as file:
            for row in rows:
                if row.draw == 0:
                    place += 1
                    own = stem_of(
                        Identity(row.source, row.key, is_loose), by_shard=extraction.by_shard, suffix=extraction.suffix
                    )
                    stem = others.get(place, own.text)
                    found.images += 1
                    found.renamed += own.is_mended or place in others
                if extraction.draw not in (None, row.draw):
                    continue
                if row.group != group:
                    group, images = row.group, file.read_row_group(row.group, columns=["image"])["image"]
                yield extraction.file_name(stem, row.draw), images[row.row_in_group].as_py()["bytes"]
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DatasetError(f"{store.locate(draws_name(chunk))} is damaged: see condgen verify {store.uri}") from error


def _shown(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
