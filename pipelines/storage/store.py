"""Stored data by name, the same for a local folder and for any fsspec scheme.

    store = open_store("s3://bucket/photos")
    store.list()                       # [Entry(name="a/1.jpg", size_bytes=48213), ...]
    store.read_range("a/1.jpg", 0, 16)

A ``Store`` promises what jobs build on: a write appears whole or not at all, a read has all of its bytes or raises,
lists are sorted, passing faults are tried again a limited number of times, and what remains is one of three errors
(``MissingError``, ``AccessError``, ``StorageError``) that names the object and what to do. Names are relative, with
``/`` between their parts, and travel unchanged (see `pipelines.storage.object_names`); a part that begins with a dot is
hidden: never listed.
"""

from __future__ import annotations

import errno
import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from condgen.errors import AccessError, CondgenError, ConfigError, MissingError, StorageError
from pipelines.storage.backend import Entry
from pipelines.storage.object_names import escape_name, unescape_name
from pipelines.storage.trouble import ShortReadError, trouble_of

if TYPE_CHECKING:
    from pipelines.storage.backend import Backend

__all__ = ["RetryPolicy", "Store", "json_bytes", "open_store", "write_file"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

_CUT = "it has another size than was listed: it was cut or replaced"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)(://|::)")
_PASSWORD = re.compile(r"(?<=://)[^/@]*@")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Policy by which passing faults are tried again: exponential backoff with jitter.

    Attributes:
        attempts: number of tries, the first one included.
        base_s: upper bound of the first wait (seconds); it doubles with every try.
        max_s: upper bound of any wait (seconds).
    """

    attempts: int = 6
    base_s: float = 0.25
    max_s: float = 8.0

    def wait(self, failed_attempts: int) -> None:
        """Sleep before the next try."""
        bound_s = min(self.max_s, self.base_s * 2.0 ** (failed_attempts - 1))
        time.sleep(bound_s * (0.5 + 0.5 * random.random()))  # noqa: S311  # jitter, not a secret


def open_store(uri: str | Path, *, retry: RetryPolicy | None = None, **storage_options: Any) -> Store:
    """Return the store of a folder, a prefix or anything else that fsspec can address; nothing is connected yet.

    S3 takes its credentials as every AWS client does (environment, profiles, roles), and another server's address from
    ``AWS_ENDPOINT_URL``.

    Args:
        uri: local path (``~`` is the home), or ``scheme://...``.
        retry: policy by which passing faults are tried again.
        storage_options: options of fsspec's file system, such as ``endpoint_url``, ``key`` and ``secret`` of S3.

    Raises:
        ConfigError: a scheme that is unknown, or whose fsspec package is not installed.
    """
    from pipelines.storage.http import HttpBackend
    from pipelines.storage.local import LocalBackend
    from pipelines.storage.remote import FsspecBackend
    from pipelines.storage.s3 import S3Backend

    text = str(uri)
    if not text:
        raise ConfigError("path", text, "a path, or a URI such as s3://bucket/prefix")
    match = _SCHEME.match(text)
    scheme = match.group(1).lower() if match else "file"
    backend: Backend
    if scheme in ("file", "local"):
        path = Path(unescape_name(text[match.end() :] if match else text)).expanduser().absolute()
        backend = LocalBackend(str(path))
        shown = escape_name(str(path))
    else:
        kind = {"s3": S3Backend, "s3a": S3Backend, "http": HttpBackend, "https": HttpBackend}.get(scheme, FsspecBackend)
        backend = kind.of(text, storage_options)
        shown = _PASSWORD.sub("", text).rstrip("/")
    return Store(backend, shown, retry or RetryPolicy())


def write_file(uri: str, data: bytes, **storage_options: Any) -> None:
    """Store one file under its own path or URI, as ``Store.write`` does.

    Raises:
        MissingError, AccessError, StorageError: as the module says.
    """
    folder, slash, name = uri.rpartition("/")
    open_store((folder or slash) if slash else ".", **storage_options).write(name, data)


def json_bytes(values: Mapping[str, Any], *, indent: int | None = 1, ensure_ascii: bool = True) -> bytes:
    """Return a JSON file, the same for equal values: keys in order, a newline at its end."""
    return (json.dumps(values, indent=indent, sort_keys=True, ensure_ascii=ensure_ascii) + "\n").encode()


@dataclass(frozen=True)
class Store:
    """A folder or prefix, and the objects under it. Picklable; safe in threads, after a fork and in other processes.

    Attributes:
        backend: object that talks to the storage.
        uri: URI without credentials; ``open_store(uri)`` gives the store again where it had none.
        retry: policy by which passing faults are tried again.
    """

    backend: Backend = field(repr=False)
    uri: str
    retry: RetryPolicy = field(default_factory=RetryPolicy, repr=False)

    def is_inside(self, outer: Store) -> bool:
        """Return whether this is the other place, or one below it, whose listings have what is written here."""
        return f"{self.uri.rstrip('/')}/".startswith(f"{outer.uri.rstrip('/')}/")

    def child(self, name: str) -> Store:
        """Return the store of a folder under this one."""
        name = self._checked(name.rstrip("/"))
        return replace(self, backend=self.backend.child(name), uri=self.locate(name)) if name else self

    def locate(self, name: str = "") -> str:
        """Return the full path or URI of an object, for messages."""
        return f"{self.uri.rstrip('/')}/{escape_name(unescape_name(name))}" if name else self.uri

    def require(self) -> Store:
        """Return this store where something is there.

        Raises:
            MissingError: no such folder or bucket, or nothing under the prefix.
            AccessError: access to it is refused.
        """
        if not self._try("find", "", lambda: self.backend.exists("")):
            raise MissingError(self.uri, "find", self.backend.advice_missing)
        return self

    def read(self, name: str, size_bytes: int | None = None) -> bytes:
        """Return an object's bytes.

        Args:
            name: name of the object.
            size_bytes: expected size (default: not known); an object of another size is an error.

        Raises:
            MissingError, AccessError, StorageError: as the module says.
        """
        name = self._checked(name)

        def call() -> bytes:
            data = self.backend.read(name)
            if size_bytes is None or len(data) == size_bytes:
                return data
            size = self.backend.size(name)
            if size != size_bytes:
                reason = f"it has {size} bytes, not the {size_bytes} that were listed: it was cut or replaced"
                raise StorageError(self.locate(name), "read", reason, "Size", _CUT, "object")
            raise ShortReadError(f"got {len(data)} of {size_bytes} bytes")

        return self._try("read", name, call)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)`` of an object: exactly ``stop - start`` of them.

        Raises:
            StorageError: the object ends before ``stop``, or as in ``read``.
        """
        name = self._checked(name)
        if not 0 <= start <= stop:
            raise StorageError(self.locate(name), "read", f"bytes {start} to {stop} are no range")
        if start == stop:
            return b""

        def call() -> bytes:
            try:
                data = self.backend.read_range(name, start, stop)
                found: OSError = ShortReadError(f"got {len(data)} of {stop - start} bytes from {start}")
            except OSError as error:
                if error.errno != errno.EINVAL:  # a range beyond the end, in S3
                    raise
                data, found = b"", error
            if len(data) == stop - start:
                return data
            size = self.backend.size(name)
            if size < stop:
                reason = f"it has {size} bytes, {start} to {stop} were wanted: it was cut or replaced"
                raise StorageError(self.locate(name), "read", reason, "Size", _CUT, "object")
            raise found

        return self._try("read", name, call)

    def write(self, name: str, data: bytes) -> None:
        """Store an object under a name; readers see the old object or all of the new one.

        Raises:
            MissingError, AccessError, StorageError: as the module says.
        """
        name = self._checked(name)
        self._try("write", name, lambda: self.backend.write(name, data))

    @contextmanager
    def writing(self, name: str) -> Iterator[str]:
        """Give the path of an empty local file to fill, which is stored as ``write`` does where the block ends well.

        It is beside the object in a local folder, and else in the folder of temporary files.

        Raises:
            MissingError, AccessError, StorageError: as the module says.
        """
        name = self._checked(name)
        draft = self._try("write", name, lambda: self.backend.draft(name))
        try:
            yield draft.path
            self._try("write", name, draft.store)
        finally:
            draft.discard()

    def create(self, name: str, data: bytes) -> bool:
        """Store an object where none of that name is there: of several writers at once, one succeeds.

        Local folders and S3 decide it in one step (see the note in `pipelines.storage.remote` on other schemes).

        Args:
            name: name of the object.
            data: its bytes, with something in them that only this call has, such as ``secrets.token_hex(16)``: that
                tells an object that an earlier try stored, whose answer was lost, from another writer's.

        Returns:
            Whether the object that is there is this one.

        Raises:
            MissingError, AccessError, StorageError: as the module says.
        """
        name = self._checked(name)
        if self._try("write", name, lambda: self.backend.create(name, data)):
            return True
        try:
            return self.read(name) == data
        except MissingError:  # removed since
            return False

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Store an object of JSON, indented and with sorted names, see ``write``."""
        self.write(name, json_bytes(values, indent=2))

    def exists(self, name: str) -> bool:
        """Return whether there is an object, or a folder, of that name.

        Raises:
            AccessError, StorageError: the storage gives no answer.
        """
        name = self._checked(name)
        return self._try("find", name, lambda: self.backend.exists(name))

    def is_file(self, name: str) -> bool:
        """Return whether there is an object of that name, and no folder or prefix.

        Raises:
            AccessError, StorageError: the storage gives no answer.
        """
        name = self._checked(name)
        return self._try("find", name, lambda: self.backend.is_file(name))

    def size(self, name: str) -> int:
        """Return an object's size in bytes.

        Raises:
            MissingError, AccessError, StorageError: as the module says.
        """
        name = self._checked(name)
        return self._try("find", name, lambda: self.backend.size(name))

    def list(self, prefix: str = "", recursive: bool = True, *, hidden: bool = False) -> list[Entry]:
        """Return the objects under a folder, sorted by name; none where there is no such folder (see ``require``).

        Args:
            prefix: name of a folder (default: the whole store).
            recursive: whether objects in folders below it are listed too.
            hidden: whether hidden ones are listed too.

        Raises:
            MissingError: no such bucket.
            AccessError, StorageError: see the module.
        """
        prefix = self._checked(prefix)
        found = self._try("list", prefix, lambda: self.backend.list(prefix, recursive, hidden))
        return sorted(_as_text(entry) for entry in found if hidden or not _is_hidden(entry.name))

    def iter_list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield what ``list`` returns, page by page, so that a long listing takes little memory.

        Raises:
            MissingError, AccessError, StorageError: as ``list``; or the storage lists in no order.
        """
        prefix = self._checked(prefix)
        read, last = self.backend.pages(prefix), ""
        while (page := self._try("list", prefix, read)) is not None:
            for entry in page:
                if entry.name < last:
                    raise StorageError(self.locate(prefix), "list", "the storage lists names in no order")
                last = entry.name
                if not _is_hidden(entry.name):
                    yield _as_text(entry)

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error.

        Raises:
            AccessError, StorageError: see the module.
        """
        name = self._checked(name)
        self._try("delete", name, lambda: self.backend.delete(name))

    def _try(self, operation: str, name: str, call: Callable[[], T]) -> T:
        failed = 0
        while True:
            try:
                return call()
            except CondgenError:
                raise
            except Exception as error:  # noqa: BLE001  # every fsspec implementation has its own errors
                failed += 1
                self._settle(error, operation, name, failed)
                logger.debug("could not %s %s, try %d: %r", operation, self.locate(name), failed, error)
            self.retry.wait(failed)

    def answers(self) -> bool:
        """Return whether the storage answers for this place: a folder is there, a bucket or a server says anything."""
        try:
            is_there = self._try("find", "", lambda: self.backend.exists(""))
        except StorageError as error:
            return error.scope == "object" or error.code.startswith("HTTP 4")
        return is_there or not self._confines_names

    @property
    def _confines_names(self) -> bool:
        return getattr(self.backend, "confines_names", True)

    def _checked(self, name: str) -> str:
        """Return a name as the storage has it; where its parts mean something, it must stay inside the store."""
        name = unescape_name(name)
        leads_out = self._confines_names and (name.startswith("/") or ".." in name.split("/"))
        if leads_out or "\0" in name:
            reason = "a stored name is relative, without '..' parts or NUL"
            raise StorageError(escape_name(name), "use", reason, "Name", reason, "object")
        return name

    def _settle(self, error: Exception, operation: str, name: str, failed: int) -> None:
        """Raise what a failed try means, or return where it is to be tried again."""
        trouble = trouble_of(error)
        if trouble.passes and failed < self.retry.attempts:
            return
        reason = _describe(error)
        if trouble.error is MissingError:
            reason = self.backend.advice_missing
        elif trouble.error is AccessError:
            reason = self.backend.advice_access
        elif trouble.code.startswith(("S3", "HTTP", "TLS")):
            reason = f"{trouble.code}: {trouble.summary}"
        if trouble.passes:
            reason = f"{reason} (after {failed} tries)"
        raise trouble.error(
            self.locate(name), operation, reason, trouble.code, trouble.summary, trouble.scope, trouble.passes
        ) from error


def _describe(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(str(text).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _as_text(entry: Entry) -> Entry:
    name = escape_name(entry.name)
    return entry if name == entry.name else replace(entry, name=name)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))
