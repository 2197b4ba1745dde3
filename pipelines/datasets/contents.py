"""What a place holds: images, shards, Parquet or tables. One decision for every command, by names, then by content.

    images    .jpg, .png, ...; and what has an extension that nobody knows, or none: whoever decodes it finds out
    shards    .tar
    parquet   .parquet
    table     .csv, .tsv, .jsonl, .ndjson; beside other kinds a table is a text about them
    others    texts, videos, documents, archives of other kinds: left out, and counted

Where only names without a known extension are left, the first bytes of some files tell. Of two kinds in one place
none is guessed: the user says which.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from condgen.checks import check_choice
from condgen.errors import DatasetError, StorageError
from pipelines.datasets.shard_names import Place
from pipelines.images.formats import EXTENSIONS, format_of
from pipelines.storage.backend import Entry
from pipelines.storage.store import Store

__all__ = [
    "KINDS",
    "TABLE_SUFFIXES",
    "Contents",
    "MixedContentsError",
    "NothingTakenError",
    "counted",
    "kind_of_bytes",
    "kind_of_name",
    "parts_of",
    "read_contents",
]

KINDS = ("images", "shards", "parquet", "table")
"""What a place can be taken for, the values of ``--as``."""

TABLE_SUFFIXES = ("csv", "tsv", "jsonl", "ndjson")
_COMPRESSED = ("tar.gz", "tgz", "tar.zst", "tar.bz2", "tbz2", "tar.xz", "txz", "tar.lz4")
_OTHER_EXTENSIONS = """
7z aac aae ai asc avi bak bat bib cfg checkpoint ckpt cls conf crc crdownload css db dll doc docx exe flac gz h5 hdf5
htm html icc icm ini ipynb json lnk lock log lst m4a m4v md md5 mid mkv mov mp3 mp4 mpeg mpg mts npy npz odt onnx part
pdf pickle pkl pp3 ppt pptx pt pth py rar rst rtf safetensors sfv sh sha1 sha256 sha512 sql sqlite srt sum tmp toml
torrent txt url vtt wav webm wmv xls xlsx xml xmp yaml yml zip
"""
_SYSTEM = re.compile(
    r"(^|/)(\.(?!\.?/)[^/]*|@eaDir|@Recycle|#recycle|__MACOSX|\$RECYCLE\.BIN|System Volume Information)(/|$)"
    r"|(^|/)lost\+found(/|$)"
    r"|(^|/)(Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r)$",
    re.IGNORECASE,
)
_MARKS = re.compile(
    r"(^|/)(_SUCCESS|_metadata|_common_metadata|_(committed|started)_\d+|README|LICEN[CS]E|COPYING|NOTICE|CHANGELOG|CHECKSUMS?|MD5SUMS|SHA\d+SUMS)$"
)
_HIDDEN = "hidden or a system's"
_PEEKED = 8
_PEEK_BYTES = 512
_SINGULARS = {"images": "image", "shards": "shard", "parquet": "Parquet file", "table": "table"}


class MixedContentsError(DatasetError):
    """A place holds two kinds of data, of which the user has to name one; ``counts`` are their files."""

    def __init__(self, uri: str, counts: Mapping[str, int]) -> None:
        have = " and ".join(counted(kind, count) for kind, count in counts.items())
        choices = " or ".join(f"--as {kind}" for kind in counts)
        super().__init__(f"{uri} holds {have}: say which to take with {choices}")


class NothingTakenError(DatasetError):
    """A place has no file of a kind that can be taken; ``holds`` says what it has."""

    def __init__(self, uri: str, holds: str, wanted: str) -> None:
        super().__init__(f"{uri} holds {holds}: name {wanted}")
        self.holds = holds


@dataclass(frozen=True)
class Contents:
    """The files of a place that are taken, and how many others there are.

    Attributes:
        kind: one of ``KINDS``.
        entries: files of that kind, in the order of the listing.
        left_out: numbers of the files that are left out, by extension or by what they are.
        others: those of them that are not hidden.
    """

    kind: str
    entries: list[Entry] = field(repr=False)
    left_out: Mapping[str, int] = field(default_factory=dict)
    others: list[Entry] = field(default_factory=list, repr=False)

    def describe(self) -> str:
        """Return a line: ``2 shards; 6 other files left out (5 .jpg, 1 .md): --as images takes images``."""
        line = counted(self.kind, len(self.entries))
        if self.left_out:
            total = sum(self.left_out.values())
            line += f"; {total:,} other {'file' if total == 1 else 'files'} left out ({parts_of(self.left_out)})"
        if any(kind_of_name(entry.name) in (None, "images") for entry in self.others):
            line += ": --as images takes images"
        return line


def parts_of(counts: Mapping[str, int]) -> str:
    """Return numbers of files as a list, the largest first: ``5 .txt, 1 .md``."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))


def counted(kind: str, count: int) -> str:
    """Return a number of files of one of ``KINDS``: ``2 shards``."""
    return f"{count:,} {_SINGULARS[kind]}{'' if count == 1 else 's'}"


def kind_of_name(name: str) -> str | None:
    """Return what a file's name tells that it is: one of ``KINDS``, ``compressed``, ``other``, ``hidden``, or None."""
    if _SYSTEM.search(name):
        return "hidden"
    last = name.rpartition("/")[2].lower()
    stem, dot, extension = last.rpartition(".")
    if not dot or not stem:
        return "other" if _MARKS.search(name) else None
    if last.endswith(tuple(f".{suffix}" for suffix in _COMPRESSED)):
        return "compressed"
    if extension == "gz" and stem.rpartition(".")[2] in TABLE_SUFFIXES:
        return "table"
    return _BY_EXTENSION.get(extension)


_BY_EXTENSION = {
    **dict.fromkeys(_OTHER_EXTENSIONS.split(), "other"),
    **dict.fromkeys(EXTENSIONS, "images"),
    **dict.fromkeys(TABLE_SUFFIXES, "table"),
    "tar": "shards",
    "parquet": "parquet",
    "pq": "parquet",
}


def kind_of_bytes(head: bytes) -> str | None:
    """Return what a file's first 512 bytes tell that it is, as ``kind_of_name``; None where they don't."""
    if head[257:262] == b"ustar":
        return "shards"
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:2] == b"\x1f\x8b" or head[:4] == b"\x28\xb5\x2f\xfd" or head[:3] == b"BZh" or head[:6] == b"\xfd7zXZ\0":
        return "compressed"
    return "images" if format_of(head[:32]) is not None else None


def read_contents(place: Place, kinds: Sequence[str] = KINDS, taken_as: str | None = None) -> Contents:
    """List a place and decide what it is.

    Args:
        place: a folder or prefix, or files that are named.
        kinds: kinds that the caller can take; files of others are left out.
        taken_as: kind that the user asks for (``--as``). Files that are named are then all of that kind, and so are
            those of a folder in which no name tells of it.

    Raises:
        MixedContentsError: two kinds are there.
        ConfigError: there is no such kind.
        NothingTakenError: there is nothing that can be taken.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    if taken_as is not None:
        check_choice("--as", taken_as, kinds)
    store = place.store
    if place.patterns is None:
        entries = store.list(hidden=True)
        if not entries:
            store.require()
            raise NothingTakenError(store.uri, "no files", _wanted(kinds))
    else:
        entries = place.entries()
    groups = _grouped(entries)
    unknown = groups.pop(None, [])
    if unknown:
        _place_unknown(store, groups, unknown)
    kind = taken_as or _decide(store.uri, groups, kinds)
    if taken_as and (place.patterns is not None or not groups.keys() & set(KINDS)):
        hidden = groups.pop("hidden", [])
        taken = sorted(entry for group in groups.values() for entry in group)
        groups = {"hidden": hidden} if hidden else {}
    else:
        taken = groups.pop(kind, [])
    if not taken:
        raise NothingTakenError(store.uri, _summary(groups), _wanted([kind]))
    left_out = Counter(_label(name, entry.name) for name, group in groups.items() for entry in group)
    others = [entry for name, group in groups.items() if name != "hidden" for entry in group]
    return Contents(kind, taken, dict(sorted(left_out.items())), sorted(others))


def _grouped(entries: Iterable[Entry]) -> dict[str | None, list[Entry]]:
    groups: dict[str | None, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(kind_of_name(entry.name), []).append(entry)
    # A Parquet file named as the shard beside it is a table about that shard, as img2dataset writes it.
    shards = {entry.name.rpartition(".")[0] for entry in groups.get("shards", ())}
    about = [entry for entry in groups.get("parquet", ()) if entry.name.rpartition(".")[0] in shards]
    if about:
        rest = [entry for entry in groups.pop("parquet") if entry.name.rpartition(".")[0] not in shards]
        groups["other"] = [*groups.get("other", []), *about]
        if rest:
            groups["parquet"] = rest
    return groups


def _place_unknown(store: Store, groups: dict[str | None, list[Entry]], unknown: list[Entry]) -> None:
    """Put files whose names tell nothing to the images, or where the first bytes of some say so, to another kind."""
    kind = "images"
    if "images" not in groups:
        step = max(1, len(unknown) // _PEEKED)
        votes = Counter(filter(None, (_peek(store, entry) for entry in unknown[::step][:_PEEKED])))
        fallback = "other" if groups.keys() & {"shards", "parquet", "table"} else "images"
        kind = votes.most_common(1)[0][0] if votes else fallback
    groups[kind] = sorted([*groups.get(kind, []), *unknown])


def _peek(store: Store, entry: Entry) -> str | None:
    try:
        return kind_of_bytes(store.read_range(entry.name, 0, min(entry.size_bytes, _PEEK_BYTES)))
    except StorageError:  # its reader will say so
        return None


def _decide(uri: str, groups: Mapping[str | None, list[Entry]], kinds: Sequence[str]) -> str:
    present = [kind for kind in kinds if groups.get(kind)]
    if len(present) > 1 and "table" in present:
        present.remove("table")  # a text about the others
    if len(present) == 1:
        return present[0]
    if present:
        raise MixedContentsError(uri, {kind: len(groups[kind]) for kind in present})
    if groups.get("compressed"):
        first = groups["compressed"][0].name
        holds = f"compressed shards, such as {first}, which can't be read by byte ranges"
        raise NothingTakenError(uri, holds, "shards that are unpacked (gunzip) to .tar")
    raise NothingTakenError(uri, _summary(groups), _wanted(kinds))


def _wanted(kinds: Sequence[str]) -> str:
    names = {
        "images": "images",
        "shards": ".tar shards",
        "parquet": "Parquet with images",
        "table": "a table of images",
    }
    *first, last = [names[kind] for kind in kinds]
    return f"a folder or prefix of {', '.join(first)} or {last}" if first else f"a folder or prefix of {last}"


def _summary(groups: Mapping[str | None, list[Entry]]) -> str:
    return parts_of(Counter(_label(name, entry.name) for name, group in groups.items() for entry in group)) or "nothing"


def _label(kind: str | None, name: str) -> str:
    if kind == "hidden":
        return _HIDDEN
    stem, dot, extension = name.rpartition("/")[2].rpartition(".")
    return f".{extension.lower()}" if dot and stem and len(extension) <= 12 else "without an extension"
