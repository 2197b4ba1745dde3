"""How shards and other files are named: one by one, by braces, by globs, by lists, or by the folder they are in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile

from condgen.errors import AccessError, ConfigError, DatasetError, MissingError, StorageError
from pipelines.storage.backend import Entry
from pipelines.storage.store import Store, open_store

__all__ = ["Place", "expand_braces", "locate", "locate_files", "split_of"]

_GLOB = "*?["
_WEB_GLOB = "*["
_ASKERS = 8
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
        """Return the files, relative to the store.

        A web server, which lists nothing, is asked for the names one by one, and so is what is in no listing; otherwise
        each folder that they are in is listed once.

        Raises:
            MissingError: a file that is named is not there, or a glob matches none.
        """
        patterns, signs = self.patterns or (), _globs(self.store.uri)
        if _is_web(self.store.uri) and not any(sign in pattern for pattern in patterns for sign in signs):
            return self._ask(patterns)
        entries: list[Entry] = []
        listings: dict[str, dict[str, Entry]] = {}
        for pattern in patterns:
            levels = pattern.split("/")
            first_glob = _first_glob(levels, signs)
            folder = "/".join(levels[: min(first_glob, len(levels) - 1)])
            if folder not in listings or first_glob < len(levels):
                recursive = first_glob < len(levels) - 1 or levels[-1] == "**"
                listings[folder] = self._listed(folder, recursive=recursive, may_be_refused=first_glob == len(levels))
            if pattern in listings[folder]:
                entries.append(listings[folder][pattern])
                continue
            if first_glob == len(levels):
                entries += self._ask([pattern])
                continue
            matches = [name for name in listings[folder] if _matches(name.split("/"), levels)]
            if not matches:
                raise MissingError(self.store.locate(pattern), "find", "no such file: check the name or the pattern")
            entries += [listings[folder][name] for name in matches]
        return entries

    def files(self) -> list[str]:
        """Return the names of ``entries``."""
        return [entry.name for entry in self.entries()]

    def _listed(self, folder: str, *, recursive: bool, may_be_refused: bool) -> dict[str, Entry]:
        try:
            return {entry.name: entry for entry in self.store.list(folder, recursive=recursive)}
        except AccessError:
            if not may_be_refused:
                raise
            return {}  # who may not list may read what he names

    def _ask(self, names: Sequence[str]) -> list[Entry]:
        """Return named files, if each of them is there, or may be: what is refused now is told when it is read.

        Raises:
            MissingError: one is not there.
        """
        with ThreadPoolExecutor(_ASKERS, thread_name_prefix="find") as pool:
            return list(pool.map(self._entry, names))

    def _entry(self, name: str) -> Entry:
        try:
            return Entry(name, self.store.size(name))
        except StorageError as error:
            if error.scope == "storage":
                raise
            if isinstance(error, MissingError):
                reason = "no such file: check the name or the pattern"
                raise MissingError(self.store.locate(name), "find", reason) from error
            return Entry(name, 0)


def locate(uri: str) -> Place:
    """Return the place of the files that a URI names, or of the folder that it names.

    Files are named one by one (``x.tar``, ``one.jpg``), by braces (``{a,b}/x-{000..015}.tar``), by globs (``*.jpg``,
    ``*/x.tar``; ``**`` is any number of folders), and by lists of all of these, joined by ``::`` as the webdataset
    library does.

    Raises:
        ConfigError: a list of files that have no folder or bucket in common.
        AccessError, StorageError: the storage gives no answer.
    """
    pieces = uri.split("::")
    is_list = len(pieces) > 1 and all(_is_pattern(piece) for piece in pieces)
    # A folder may have such a sign in its name, or end in .tar.
    is_named = (_path(uri).lower().endswith(".tar") and not _is_folder(uri)) or (_is_web(uri) and _is_pattern(uri))
    if (is_list or _is_pattern(uri)) and (is_named or not open_store(uri).exists("")):
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
    signs = _globs(uri)
    paths = [_levels(part) for part in parts]
    heads = [_head(levels, signs) for levels in paths]
    if len({head[0] for head in heads}) > 1:
        raise ConfigError("path", uri, "shards of one storage; index each with `condgen index`")
    common = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*heads, strict=False))]
    while common[-1] == "" and len(common) > 1:
        common = common[:-1]  # a store's address has no slash at its end, names may begin with one
    scheme = common[0]
    if "://" in scheme and len(common) == 1:
        raise ConfigError("path", uri, "shards of one bucket; index each bucket with `condgen index`")
    root = scheme + "/".join(common[1:]) or "."
    return Place(open_store(root), tuple("/".join(levels[len(common) :]) for levels in paths))


def _head(levels: list[str], signs: str) -> list[str]:
    """Return the levels before the first glob; a local folder with such a sign in its name is none."""
    count = min(len(levels) - 1, _first_glob(levels, signs))
    while count < len(levels) - 1 and _is_folder(levels[0] + "/".join(levels[1 : count + 1])):
        count += 1
    return levels[:count]


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


def _is_web(uri: str) -> bool:
    return uri.lower().startswith(("http://", "https://"))


def _path(uri: str) -> str:
    """Return an address without its query; of other storage, `?` is a part of a name or of a glob."""
    return re.split("[?#]", uri)[0] if _is_web(uri) else uri


def _globs(uri: str) -> str:
    return _WEB_GLOB if _is_web(uri) else _GLOB


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.lower().startswith(("file://", "local://"))


def _is_folder(uri: str) -> bool:
    """Return whether a URI names a local folder."""
    return _is_local(uri) and open_store(uri).exists("") and not _is_file(uri)


def _is_file(uri: str) -> bool:
    """Return whether a URI names one file; a prefix of objects that has no dot in its last part costs no request."""
    folder, slash, leaf = _path(uri).rpartition("/")
    if not leaf or folder.endswith(("/", ":")) or not (_is_local(uri) or "." in leaf):
        return False
    return open_store((folder or slash) if slash else ".").is_file(leaf + uri[len(_path(uri)) :])


def _is_pattern(uri: str) -> bool:
    return _path(uri).lower().endswith(".tar") or any(sign in _path(uri) for sign in f"{_globs(uri)}{{")


def _levels(uri: str) -> list[str]:
    scheme, separator, path = uri.rpartition("://") if not _is_web(uri) else uri.partition("://")
    if separator and scheme not in ("file", "local"):
        return [f"{scheme}{separator}", *path.split("/")]
    levels = [level for level in path.split("/") if level not in ("", ".")]
    return [f"{scheme}{separator}{'/' if path.startswith('/') else ''}", *levels]


def _first_glob(levels: Sequence[str], signs: str = _GLOB) -> int:
    """Return the place of the first level with a glob in it, or their number."""
    return next((place for place, level in enumerate(levels) if any(sign in level for sign in signs)), len(levels))


def _matches(parts: Sequence[str], levels: Sequence[str]) -> bool:
    if not levels or not parts:
        return not parts and not levels
    if levels[0] == "**":
        return len(levels) == 1 or any(_matches(parts[skipped:], levels[1:]) for skipped in range(len(parts)))
    return fnmatchcase(parts[0], levels[0]) and _matches(parts[1:], levels[1:])
