"""Sources of datasets: a listing of records, which is made once, and the reader of one image of a record.

A source is a function that returns a ``Listing``; sharding, growth, the search for duplicates and the writer know
nothing else of it. Folders, pairs and halves are here, tables in ``pipelines.sharding.tables``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from condgen.checks import check_choice
from condgen.errors import ConfigError, ImageError
from pipelines.datasets.contents import Contents, read_contents
from pipelines.datasets.shard_names import locate
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = [
    "HALVES",
    "Listing",
    "Record",
    "RecordImage",
    "RejectedFile",
    "folder_source",
    "halves_source",
    "list_images",
    "pairs_source",
    "read_part",
    "reject",
    "shown",
    "some_files",
    "split_name",
]

_KNOWN = 8

HALVES = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
"""Halves of an image, and the half that faces each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedFile:
    """A file of the source that is in no shard, and why; a row of ``rejected.parquet``."""

    source: str
    key: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True, slots=True, order=True)
class RecordImage:
    """One image of a record.

    Attributes:
        member: member of the sample: empty for its only image, ``input`` or ``target``.
        name: name of the file in its store; of the Parquet file where ``column`` is set.
        size_bytes: size as listed; an estimate where it was not listed.
        is_listed: whether the size was listed, so that a file of another size was cut or replaced.
        store: index of the store in the listing.
        half: half of the image that is meant (a key of ``HALVES``), or empty.
        column, row: cell of a table that holds the image itself.
        modified_s: time of the file's last writing (seconds since 1970; 0 if not known). Decides nothing of the bytes.
    """

    member: str
    name: str
    size_bytes: int
    is_listed: bool = True
    store: int = 0
    half: str = ""
    column: str = ""
    row: int = -1
    modified_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the source, which is to become one sample.

    Attributes:
        name: unique name in the source.
        stem, extension: path that the key is made of; the extension is added only where keys would be equal.
        parts: images of the record.
        about: facts for the sample's JSON: ``caption``, ``label``.
    """

    name: str
    stem: str
    extension: str
    parts: tuple[RecordImage, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Size of all its images, for the bounds of a shard."""
        return sum({(part.store, part.name, part.row): part.size_bytes for part in self.parts}.values())

    @property
    def modified_s(self) -> float:
        """Time at which the newest of its images was written; 0 where that is not known."""
        return max(part.modified_s for part in self.parts)

    @property
    def listed_bytes(self) -> int:
        """Size of all its images where they were listed, else 0."""
        return self.size_bytes if all(part.is_listed for part in self.parts) else 0


@dataclass(frozen=True)
class Listing:
    """All records of a source.

    Attributes:
        uri: name of the source in messages.
        kind: ``single`` or ``paired``.
        stores: stores that the parts refer to.
        records: records in the order of their names.
        rejected: files that are no record, and why.
        options: options of the source that decide the bytes.
        columns: columns of a table that images are taken from.
        description: what the source was taken for and what of it is left out.
        in_order: whether shards keep the records' order, because reading them in another is slow.
    """

    uri: str
    kind: str
    stores: tuple[Store, ...]
    records: tuple[Record, ...]
    rejected: tuple[RejectedFile, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    in_order: bool = False
    description: str = ""


def reject(source: str, key: str, stage: str, error: str, message: str) -> RejectedFile:
    """Return a row of ``rejected.parquet``; a name that is no text is shown escaped."""
    return RejectedFile(source=shown(source), key=key, stage=stage, error=error, message=message)


def shown(name: str) -> str:
    """Return a name as text that any format can hold; bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def split_name(name: str) -> tuple[str, str]:
    """Return (stem with its folder, extension), as ``("a/b.c", "jpg")``."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.rpartition(".")
    return (f"{folder}{slash}{stem}", extension) if stem else (name, "")


def folder_source(uri: str, contents: Contents | None = None) -> Listing:
    """Return the images of a folder or prefix, at any depth, or those that a pattern names.

    Args:
        uri: place of the images.
        contents: its content, where it is known already.

    Raises:
        DatasetError: there is no image.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    place = locate(uri)
    contents = contents or read_contents(place, ("images",))
    records, rejected = list_images(contents)
    about = contents.describe()
    return Listing(place.store.uri, "single", (place.store,), records, rejected, description=about)


def list_images(contents: Contents) -> tuple[tuple[Record, ...], tuple[RejectedFile, ...]]:
    """Return a record for each image of a place, and a rejected file for each other one."""
    records = []
    for entry in contents.entries:
        stem, extension = split_name(entry.name)
        parts = (RecordImage("", entry.name, entry.size_bytes, modified_s=entry.modified_s),)
        records.append(Record(shown(entry.name), stem, extension, parts))
    rejected = []
    for entry in contents.others:
        extension = split_name(entry.name)[1]
        reason = f".{shown(extension)} is no extension of an image" if extension else "its name is no image's"
        rejected.append(reject(entry.name, "", "list", "NotAnImage", reason))
    return tuple(records), tuple(rejected)


def pairs_source(inputs: str, targets: str) -> Listing:
    """Return pairs of images that have the same name, without its extension, in two folders.

    A file without a partner is rejected, and so are files of which several could be the partner.

    Raises:
        DatasetError: a folder holds no files.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    places = locate(inputs), locate(targets)
    stores = places[0].store, places[1].store
    records, rejected = [], []
    sides: list[dict[str, list[Record]]] = []
    for place in places:
        store, (found, others) = place.store, list_images(read_contents(place, ("images",)))
        rejected += [reject(f"{store.uri}/{row.source}", "", "list", row.error, row.message) for row in others]
        by_stem: dict[str, list[Record]] = {}
        for record in found:
            by_stem.setdefault(record.stem, []).append(record)
        sides.append(by_stem)
    for stem in sorted(sides[0].keys() | sides[1].keys()):
        both = [side.get(stem, []) for side in sides]
        if len(both[0]) == len(both[1]) == 1:
            (a,), (b,) = (record[0].parts for record in both)
            name = a.name if a.name == b.name else f"{a.name} {b.name}"
            parts = (
                RecordImage("input", a.name, a.size_bytes, modified_s=a.modified_s),
                RecordImage("target", b.name, b.size_bytes, store=1, modified_s=b.modified_s),
            )
            records.append(Record(shown(name), stem, "", parts))
            continue
        for store, side, other in zip(stores, both, both[::-1], strict=True):
            where = stores[1].uri if store is stores[0] else stores[0].uri
            for record in side:
                error = "NoPartner" if not other else "Ambiguous"
                why = "no file of that name in" if not other else "several files of that name make it unclear in"
                rejected.append(reject(f"{store.uri}/{record.name}", "", "list", error, f"{why} {where}"))
    return Listing(f"{stores[0].uri} and {stores[1].uri}", "paired", stores, tuple(records), tuple(rejected))


def halves_source(uri: str, input_half: str) -> Listing:
    """Return pairs of which each is one image, with both halves side by side or one above the other.

    Args:
        uri: folder or prefix of such images.
        input_half: half with the input, a key of ``HALVES``; the target is the other half.

    Raises:
        ConfigError: there is no such half.
        DatasetError: the folder holds no files.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    check_choice("--side-by-side", input_half, HALVES)
    whole = folder_source(uri)
    records = []
    for record in whole.records:
        (part,) = record.parts
        parts = tuple(
            replace(part, member=member, half=half)
            for member, half in (("input", input_half), ("target", HALVES[input_half]))
        )
        records.append(Record(record.name, record.stem, record.extension, parts))
    options = {"input_half": input_half}
    return Listing(whole.uri, "paired", whole.stores, tuple(records), whole.rejected, options)


def some_files(listing: Listing) -> list[tuple[Store, str]]:
    """Return a few files from all over a listing, the first and the last first, see `pipelines.storage.neighbors`."""
    last = len(listing.records) - 1
    places = sorted({round(last * part / (_KNOWN - 1)) for part in range(_KNOWN)}) if last >= 0 else []
    parts = [listing.records[place].parts[0] for place in (*places[:1], *places[:0:-1])]
    return [(listing.stores[part.store], part.name) for part in parts]


def read_part(stores: tuple[Store, ...], part: RecordImage, neighbors: Neighbors | None = None) -> bytes:
    """Return the bytes of the file that holds an image.

    Args:
        stores: stores of the listing.
        part: image of a record.
        neighbors: what tells a file's own trouble from that of its storage (default: nothing is known yet).

    Raises:
        ImageError: the file can't be read (stage ``read``).
        StorageError: the source's own storage refuses everything.
        JobError: the source's storage is out.
    """
    store = stores[part.store]
    size = (part.size_bytes or None) if part.is_listed else None

    def read(store: Store) -> bytes:
        if part.column:
            from pipelines.datasets.parquet import read_cell

            return read_cell(store, part.name, part.column, part.row)
        return store.read(part.name, size)

    try:
        # A place that a table names: that one of many servers is gone is no reason to lose the others.
        return (neighbors or Neighbors()).read(store, part.name, read, is_foreign=not (part.is_listed or part.column))
    except ImageError as error:
        if error.error != "Missing":
            raise
        reason = "it was listed and is gone, or is a link to nothing" if part.is_listed else "nothing is there"
        raise ImageError("read", "Missing", reason) from error
    except ConfigError as error:
        raise ImageError("read", "BadUri", str(error)) from error
