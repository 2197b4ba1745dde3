"""Images found by their keys in draws files, without reading any other's: by the plans, and by Parquet's statistics.

A plan lists the names of loose files, so the chunk of one is known. Of shards and tables it does not have the keys:
there the footers of all draws files (of one shard, if a source is named) tell which row groups may have them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import DatasetError, MissingError
from pipelines.datasets.stored_chunks import StoredChunks
from pipelines.results.verification.draws import identity_ranges
from pipelines.storage.parquet import open_parquet
from pipelines.storage.store import Store

__all__ = ["FoundRow", "WantedImages", "candidates", "find_rows"]

_WITHOUT_EXTENSION = r"(?s)^(.*[^/])\.[^./]*$"
"""A loose file's key is its name without the extension, if it has one."""


@dataclass(frozen=True)
class WantedImages:
    """Images that are looked for: the sources of each key; None for a key in whatever source."""

    sources: Mapping[str, frozenset[str] | None]

    @classmethod
    def of(cls, images: Iterable[tuple[str | None, str]]) -> WantedImages:
        """Return the images of some sources (None for any) and keys."""
        found: dict[str, frozenset[str] | None] = {}
        for source, key in images:
            before = found.get(key, frozenset())
            found[key] = None if source is None or before is None else before | {source}
        return cls(found)

    def has(self, source: str, key: str) -> bool:
        """Return whether an image is wanted."""
        if key not in self.sources:
            return False
        sources = self.sources[key]
        return sources is None or source in sources

    def may_be_between(self, low: bytes, high: bytes | None) -> bool:
        """Return whether a key is in a range (both ends included; None for no upper end)."""
        place = bisect_left(self._ordered, low)
        return place < len(self._ordered) and (high is None or self._ordered[place] <= high)

    @property
    def all_sources(self) -> frozenset[str] | None:
        """All sources; None where a key may be in any."""
        found: set[str] = set()
        for sources in self.sources.values():
            if sources is None:
                return None
            found |= sources
        return frozenset(found)

    @cached_property
    def _ordered(self) -> list[bytes]:
        return sorted(key.encode("utf-8", "surrogatepass") for key in self.sources)


@dataclass(frozen=True, slots=True)
class FoundRow:
    """The place of a row: its row group, and where it is in that and in the file."""

    source: str
    key: str
    draw: int
    group: int
    row_in_group: int
    row: int


def candidates(stored: StoredChunks, wanted: WantedImages) -> Iterator[pa.Table]:
    """Yield the chunks of a plan that may have wanted images: those of their shards, or that list their files.

    Those of one piece of the list come together; of other pieces, only the names are read.
    """
    for number, light in enumerate(stored.pieces(["shard", "files"])):
        if _of_images(light, wanted).num_rows:
            yield _of_images(stored.piece(number), wanted)


def _of_images(chunks: pa.Table, wanted: WantedImages) -> pa.Table:
    of_shards = chunks.filter(pc.is_valid(chunks["shard"]))
    sources = wanted.all_sources
    known = pa.array(sorted(sources), pa.string()) if sources is not None else None
    if known is not None:
        of_shards = of_shards.filter(pc.is_in(of_shards["shard"], value_set=known))
    loose = chunks.filter(pc.is_null(chunks["shard"])).combine_chunks()
    files = loose["files"].combine_chunks()
    names = files.flatten().field("name")
    if known is not None:
        is_wanted = pc.is_in(names, value_set=known)
    else:
        keys = pc.replace_substring_regex(names, pattern=_WITHOUT_EXTENSION, replacement=r"\1")
        is_wanted = pc.is_in(keys, value_set=pa.array(sorted(wanted.sources), pa.string()))
    rows = pc.unique(pc.list_parent_indices(files).filter(is_wanted))
    return pa.concat_tables([of_shards, loose.take(rows)])


def find_rows(results: Store, name: str, wanted: WantedImages, size_bytes: int | None = None) -> Iterator[FoundRow]:
    """Yield the rows of wanted images in a draws file; only row groups whose statistics allow it are read.

    There are none where the file is not there: its chunk is not committed.

    Args:
        results: store of the results.
        name: name of the draws file.
        wanted: images that are looked for; no image is read.
        size_bytes: size of the file (default: it is asked for).

    Raises:
        DatasetError: the file is damaged.
        StorageError: see `pipelines.storage.store`.
    """
    try:
        with open_parquet(results, name, size_bytes=size_bytes) as file:
            first = 0
            for group in range(file.num_row_groups):
                if wanted.may_be_between(*identity_ranges(file, group).get("key", (b"", None))):
                    rows = file.read_row_group(group, columns=["source", "key", "draw"]).to_pylist()
                    for place, row in enumerate(rows):
                        if wanted.has(row["source"], row["key"]):
                            yield FoundRow(row["source"], row["key"], row["draw"], group, place, first + place)
                first += file.metadata.row_group(group).num_rows
    except MissingError as error:
        if error.scope == "storage":
            raise
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DatasetError(f"{results.locate(name)} is damaged: see condgen verify {results.uri}") from error
