"""How shards and other files are named: one by one, by braces, by globs, by lists, or by the folder they are in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from posixpath import commonpath

from condgen.errors import ConfigError, DatasetError, MissingError
from pipelines.storage.backend import Entry
from pipelines.storage.store import Store, open_store

__all__ = ["Place", "expand_braces", "locate", "locate_files", "split_of"]

_GLOB = "*?["
_MAX_EXPANDED = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a URI points.

    Attributes:
        store: folder that the URI names, or the deepest one that holds all the files that it names.
        patterns: names and globs of those files, relative to the store; None where the URI names a folder.
    """

    store: Store
    patterns: tuple[str, ...] | None = None

    def entries(self) -> list[Entry]:
        """Return the files, relative to the store; each folder that they are in is listed once.

        Raises:
            MissingError: a file that is named is not there, or a glob matches none.
        """
        entries: list[Entry] = []
        listings: dict[str, dict[str, Entry]] = {}
        for pattern in self.patterns or ():
            levels = pattern.split("/")
            first_glob = _first_glob(levels)
            folder = "/".join(levels[: min(first_glob, len(levels) - 1)])
            if folder not in listings or first_glob < len(levels):
                recursive = first_glob < len(levels) - 1
                listings[folder] = {entry.name: entry for entry in self.store.list(folder, recursive=recursive)}
            if pattern in listings[folder]:
                entries.append(listings[folder][pattern])
                continue
            matches = [name for name in listings[folder] if first_glob < len(levels) and _matches(name, levels)]
            if not matches:
                raise MissingError(self.store.locate(pattern), "find", "no such file: check the name or the pattern")
            entries += [listings[folder][name] for name in matches]
        return entries

    def files(self) -> list[str]:
        """Return the names of ``entries``."""
        return [entry.name for entry in self.entries()]


def locate(uri: str) -> Place:
    """Return the place of the files that a URI names, or of the folder that it names.

    Files are named one by one (``x.tar``, ``one.jpg``), by braces (``{a,b}/x-{000..015}.tar``), by globs (``*.jpg``,
    ``*/x.tar``), and by lists of all of these, joined by ``::`` as the webdataset library does.

    Raises:
        ConfigError: a list of files that have no folder or bucket in common.
        AccessError, StorageError: the storage gives no answer.
    """
    pieces = uri.split("::")
    is_list = len(pieces) > 1 and all(_is_pattern(piece) for piece in pieces)
    # A folder may have such a sign in its name.
    if (is_list or _is_pattern(uri)) and (uri.lower().endswith(".tar") or not open_store(uri).exists("")):
        return _place(uri, [part for piece in (pieces if is_list else [uri]) for part in expand_braces(piece)])
    return _place(uri, [uri]) if _is_file(uri) else Place(open_store(uri))


def locate_files(uri: str) -> Place:
    """Return the place of the files that a URI names by a name, braces or a glob, whatever their extension.

    Raises:
        ConfigError: the files have no folder or bucket in common.
    """
    return _place(uri, expand_braces(uri))


def _place(uri: str, parts: Sequence[str]) -> Place:
    """Return the deepest folder that holds all that the parts name, and the parts relative to it."""
    paths = [_levels(part) for part in parts]
    heads = [levels[: min(len(levels) - 1, _first_glob(levels))] for levels in paths]
    if len({head[0] for head in heads}) > 1:
        raise ConfigError("path", uri, "shards of one storage; index each with `condgen index`")
    common = commonpath(["/".join(["", *head[1:]]) for head in heads]).strip("/")
    scheme = heads[0][0]
    if "://" in scheme and not common:
        raise ConfigError("path", uri, "shards of one bucket; index each bucket with `condgen index`")
    root = f"{scheme}{common}" or "."
    depth = len(_levels(root))
    return Place(open_store(root), tuple("/".join(levels[depth:]) for levels in paths))


def expand_braces(pattern: str) -> list[str]:
    """Return the names that ``x-{000..002}.tar`` or ``{a,b}.tar`` stands for, as a shell would.

    Raises:
        DatasetError: more than a million.
    """
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    numbers = _NUMBERS.fullmatch(match.group(1))
    if numbers:
        first, last = numbers.groups()
        if abs(int(last) - int(first)) >= _MAX_EXPANDED:
            raise DatasetError(f"{pattern} stands for more than a million names: name a folder or use a glob")
        step = 1 if int(first) <= int(last) else -1
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        middles = [f"{number:0{width}d}" for number in range(int(first), int(last) + step, step)]
    else:
        middles = match.group(1).split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [name for middle in middles for name in expand_braces(before + middle + after)]


def split_of(name: str) -> str:
    """Return the split that a shard's name tells of: train, val or test, else ``all``."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "all")


def _is_file(uri: str) -> bool:
    """Return whether a URI names one file; a prefix of objects that has no dot in its last part costs no request."""
    folder, slash, leaf = uri.rpartition("/")
    is_local = "://" not in uri or uri.lower().startswith(("file://", "local://"))
    if not leaf or folder.endswith(("/", ":")) or not (is_local or "." in leaf):
        return False
    return open_store((folder or slash) if slash else ".").is_file(leaf)


def _is_pattern(uri: str) -> bool:
    return uri.lower().endswith(".tar") or any(sign in uri for sign in "*?[{")


def _levels(uri: str) -> list[str]:
    scheme, separator, path = uri.rpartition("://")
    levels = [level for level in path.split("/") if level not in ("", ".")]
    return [f"{scheme}{separator}{'/' if path.startswith('/') else ''}", *levels]


def _first_glob(levels: Sequence[str]) -> int:
    """Return the place of the first level with a glob in it, or their number."""
    return next((place for place, level in enumerate(levels) if any(sign in level for sign in _GLOB)), len(levels))


def _matches(name: str, levels: Sequence[str]) -> bool:
    parts = name.split("/")
    return len(parts) == len(levels) and all(map(fnmatchcase, parts, levels))
