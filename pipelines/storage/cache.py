"""A local cache of remote chunks: bounded in bytes, verified, shared by all processes of a machine, off by default.

    cache = ChunkCache("/scratch/chunks", size_bytes=200 << 30)
    store = cached(open_store("s3://bucket/photos"), cache, version=dataset.manifest.digest)

What is cached is what `Store.read_range` returned: a file an entry, named by the store's URI, the object, the range and
the dataset's version, and written to a hidden name and renamed. A file begins with the SHA-256 of its bytes, which is
checked at every reading, so that a file which a crash or a full disk cut is read from the store again, as is a chunk
whose bytes are not those of the dataset's index (`pipelines.datasets.chunk.read_chunk`). Entries that were used least
recently go first, by the time stamps of their files; who makes room holds a lock. How much is used is noted in the
lock's file, never less than there is, so that the folder is looked through only where the bound may be passed, and
after a writer died. A cache that fails (no space, no rights) is passed by: it never fails a read.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from condgen.errors import ConfigError
from pipelines.storage.store import Store

__all__ = ["CachedStore", "ChunkCache", "cached"]

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 32
_SUFFIX = ".chunk"
_TEMPORARY = ".writing-"
_WRITING, _WRITTEN = b"w", b"."
_ROOM_SHARE = 0.05
"""Share of the bound that is made free at once."""


@dataclass(frozen=True, slots=True)
class ChunkCache:
    """A folder on a machine's own disk that keeps chunks. Picklable; any number of processes may share the folder.

    Attributes:
        folder: path of a folder that holds nothing else; it is made where it is missing.
        size_bytes: most bytes of all entries together (> 0). While an entry is written, it may come on top.

    Raises:
        ConfigError: the bound is not above 0.
    """

    folder: str
    size_bytes: int

    def __post_init__(self) -> None:
        if self.size_bytes <= 0:
            raise ConfigError("cache.size_bytes", self.size_bytes, "a number of bytes greater than 0")

    def get(self, name: str) -> bytes | None:
        """Return an entry's bytes, or None where it is not there, or damaged (then it is removed)."""
        path = self._path(name)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        payload = data[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != data[:_DIGEST_BYTES]:
            self.forget(name)
            return None
        with suppress(OSError):
            os.utime(path)
        return payload

    def put(self, name: str, data: bytes) -> None:
        """Keep an entry, and drop those that were used least recently; one larger than the bound is not kept."""
        size_bytes = len(data) + _DIGEST_BYTES
        if size_bytes > self.size_bytes:
            return
        path = self._path(name)
        temporary = Path(self.folder) / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock() as note:
                used = _noted(note)
                if used is None or used + size_bytes > self.size_bytes:
                    used = self._make_room(size_bytes)
                _note(note, _WRITING, used + size_bytes)
                try:
                    with temporary.open("xb") as file:
                        file.write(hashlib.sha256(data).digest())
                        file.write(data)
                    temporary.replace(path)
                except BaseException:
                    temporary.unlink(missing_ok=True)
                    raise
                _note(note, _WRITTEN, used + size_bytes)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                logger.warning("the cache in %s is not used: %s", self.folder, error.strerror)

    def forget(self, name: str) -> None:
        """Remove an entry; one that is not there is no error."""
        with suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    def used_bytes(self) -> int:
        """Return the bytes of all entries together."""
        return sum(size for _, size, _ in self._entries())

    def _path(self, name: str) -> Path:
        return Path(self.folder) / f"{name}{_SUFFIX}"

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """Yield of each entry when it was last used, its size and its path."""
        try:
            found = list(os.scandir(self.folder))
        except OSError:
            return
        for item in found:
            if item.name.endswith(_SUFFIX):
                with suppress(OSError):
                    status = item.stat()
                    yield status.st_mtime_ns, status.st_size, Path(item.path)

    def _make_room(self, size_bytes: int) -> int:
        """Drop entries until more than this one fits, and return the bytes of those that stay."""
        entries = sorted(self._entries())
        used = sum(size for _, size, _ in entries)
        if used + size_bytes > self.size_bytes:
            room = max(size_bytes, int(self.size_bytes * _ROOM_SHARE))
            for _, size, path in entries:
                if used + room <= self.size_bytes:
                    break
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    used -= size
        for path in Path(self.folder).glob(f"{_TEMPORARY}*"):  # who holds the lock is the only writer
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return used

    @contextmanager
    def _lock(self) -> Iterator[int]:
        descriptor = os.open(f"{self.folder}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _note(descriptor: int, state: bytes, used_bytes: int) -> None:
    """Write down how much is used, and whether an entry is being written."""
    os.pwrite(descriptor, state + b"%020d" % used_bytes, 0)


def _noted(descriptor: int) -> int | None:
    """Return the bytes that were noted; None where nothing was, or where the writer died."""
    text = os.pread(descriptor, 64, 0)
    return int(text[1:]) if text[:1] == _WRITTEN and text[1:].isdigit() else None


@dataclass(frozen=True)
class CachedStore(Store):
    """A store that reads its ranges from a cache where they are in it; all else is the store's own.

    Attributes:
        cache: cache that is read and filled (default: none).
        version: version of what is stored, such as a manifest's digest; entries of another version are never given.
    """

    cache: ChunkCache | None = field(default=None, repr=False)
    version: str = ""

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)`` of an object, as `Store.read_range`, from the cache or into it."""
        if self.cache is None or start >= stop:
            return super().read_range(name, start, stop)
        entry = self._entry(name, start, stop)
        found = self.cache.get(entry)
        if found is not None and len(found) == stop - start:
            return found
        data = super().read_range(name, start, stop)
        self.cache.put(entry, data)
        return data

    def forget_range(self, name: str, start: int, stop: int) -> None:
        """Make the next reading of a range go to the store."""
        if self.cache is not None:
            self.cache.forget(self._entry(name, start, stop))

    def _entry(self, name: str, start: int, stop: int) -> str:
        where = json.dumps([self.locate(name), start, stop, self.version])
        return hashlib.sha256(where.encode()).hexdigest()


def cached(store: Store, cache: ChunkCache | None, version: str = "") -> Store:
    """Return a store that reads its ranges through a cache; without one, the store itself."""
    if cache is None:
        return store
    return CachedStore(store.backend, store.uri, store.retry, cache, version)
