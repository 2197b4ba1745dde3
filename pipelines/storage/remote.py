"""Any scheme that fsspec knows as the backend of a ``Store``.

S3 is in `pipelines.storage.s3`, web servers in `pipelines.storage.http`, which build on this.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar, cast

from condgen.errors import ConfigError
from pipelines.storage.backend import Entry

__all__ = ["FsspecBackend", "modified_s"]

# Storages whose names are only text; with others, `..` leads out of a folder.
_FLAT = frozenset({"memory", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})

T = TypeVar("T")

_connections: dict[str, Any] = {}
_making = threading.RLock()


def _forked() -> None:
    global _making  # another thread of the parent may hold it
    _making = threading.RLock()


os.register_at_fork(after_in_child=_forked)


@dataclass(frozen=True)
class FsspecBackend:
    """A storage by its fsspec file system.

    Attributes:
        uri: URI as the user wrote it, which fsspec opens.
        root: path in that file system.
        protocol: first scheme of the URI.
        options: options of the file system.
    """

    uri: str = field(repr=False)
    root: str
    protocol: str
    options: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, uri: str, options: Mapping[str, Any]) -> FsspecBackend:
        """Return the backend of a URI.

        Raises:
            ConfigError: a scheme that is unknown, or whose package is not installed; no bucket.
        """
        import fsspec

        protocol = uri.split("::", 1)[0].split("://", 1)[0].lower()
        try:
            root = fsspec.get_filesystem_class(protocol)._strip_protocol(uri)  # noqa: SLF001  # fsspec's own idiom
        except ImportError as error:
            raise ConfigError("path", uri, f"a scheme whose package is installed ({error})") from error
        except ValueError as error:
            allowed = "a local path, s3://bucket/prefix or another scheme that fsspec knows"
            raise ConfigError("path", uri, allowed) from error
        return cls(uri, str(root).rstrip("/"), protocol, dict(options))

    @property
    def confines_names(self) -> bool:
        """Whether `..` in a name may mean a folder above."""
        return self.protocol not in _FLAT

    @property
    def advice_missing(self) -> str:
        """Advice to a user for whom something is not there."""
        return "nothing is stored there: check the path"

    @property
    def advice_access(self) -> str:
        """Advice to a user who was refused."""
        return "access was refused: check the credentials and what they allow"

    def child(self, name: str) -> FsspecBackend:
        """Return the backend of a prefix under this one."""
        return replace(self, root=self._path(name))

    def read(self, name: str) -> bytes:
        """Return all bytes of an object."""
        return bytes(self._fs().cat_file(self._path(name)))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, or fewer where the object ends before."""
        return bytes(self._fs().cat_file(self._path(name), start=start, end=stop))

    def write(self, name: str, data: bytes) -> None:
        """Store an object."""
        path = self._path(name)
        self._fs().makedirs(path.rpartition("/")[0], exist_ok=True)
        self._fs().pipe_file(path, data)

    def create(self, name: str, data: bytes) -> bool:
        """Store an object unless one of that name is there; return whether it was stored.

        Whether two writers at the same moment can both succeed is the scheme's own matter: Google's and Azure's decide
        it in one step, and what has no mode ``create`` looks first and writes then.
        """
        path = self._path(name)
        self._fs().makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self._fs().pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def draft(self, name: str) -> _RemoteDraft:
        """Return a file in the folder of temporary files, which is to become an object."""
        return _RemoteDraft(self, name)

    def put_file(self, path: str, name: str) -> None:
        """Store what a local file holds."""
        target = self._path(name)
        self._fs().makedirs(target.rpartition("/")[0], exist_ok=True)
        self._fs().put_file(path, target)

    def exists(self, name: str) -> bool:
        """Return whether there is an object, or anything under a prefix."""
        try:
            self._fs().info(self._path(name))
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        """Return an object's size in bytes."""
        info = self._fs().info(self._path(name))
        if info["type"] != "file":
            raise FileNotFoundError(name)
        return int(info["size"])

    def is_file(self, name: str) -> bool:
        """Return whether there is an object of that name, and no prefix."""
        try:
            return str(self._fs().info(self._path(name))["type"]) == "file"
        except FileNotFoundError:
            return False

    def list(self, prefix: str, recursive: bool, hidden: bool = False) -> list[Entry]:  # noqa: ARG002  # all have come
        """Return the objects under a prefix, names relative to the root."""
        top = self._path(prefix)
        if recursive:
            found = self._fs().find(top, detail=True).values()
        else:
            try:
                found = self._fs().ls(top, detail=True)
            except FileNotFoundError:
                found = []
        start = f"{self.root.lstrip('/')}/"
        entries = []
        for info in found:
            path = str(info["name"]).lstrip("/")
            if info["type"] == "file" and path.startswith(start) and not path.endswith("/"):
                entries.append(Entry(path[len(start) :], int(info["size"] or 0), modified_s(info)))
        return entries

    def pages(self, prefix: str) -> Callable[[], Sequence[Entry] | None]:
        """Return a function that lists the objects under a prefix, all at once."""
        is_listed = False

        def read() -> Sequence[Entry] | None:
            nonlocal is_listed
            if is_listed:
                return None
            entries = sorted(self.list(prefix, recursive=True))
            is_listed = True
            return entries

        return read

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            self._fs().rm_file(self._path(name))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _fs(self) -> Any:
        """Return this process's file system of fsspec."""
        return self._connection("fsspec", self._connect)

    def _connection(self, kind: str, make: Callable[[], T]) -> T:
        """Return this process's connection of a kind; a forked child and another environment have their own."""
        identity = [kind, os.getpid(), *self._identity()]
        key = json.dumps(identity, sort_keys=True, default=repr)
        if key not in _connections:
            with _making:  # threads that come at the same moment share one
                if key not in _connections:
                    _connections[key] = make()
        return cast("T", _connections[key])

    def _identity(self) -> Sequence[Any]:
        """Return all that tells one connection from another."""
        return [self.uri, self.options]

    def _connect(self, **ours: Any) -> Any:
        """Return a new connection; the user's options go over ours."""
        import fsspec

        options = {"use_listings_cache": False, "skip_instance_cache": True, **ours, **self.options}
        return fsspec.url_to_fs(self.uri, **options)[0]


class _RemoteDraft:
    """A temporary file that is sent when it is full."""

    def __init__(self, backend: FsspecBackend, name: str) -> None:
        self._backend, self._name = backend, name
        self._file = tempfile.NamedTemporaryFile(prefix="condgen-")  # noqa: SIM115  # it lives as long as this
        self.path = self._file.name

    def store(self) -> None:
        """Send it."""
        self._backend.put_file(self.path, self._name)

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()


def modified_s(info: Mapping[str, Any]) -> float:
    """Return when an object was written, which fsspec's file systems tell under several names (seconds since 1970)."""
    when = next((info[name] for name in ("LastModified", "mtime", "modified", "last_modified") if info.get(name)), 0.0)
    if isinstance(when, datetime):
        return when.timestamp()
    return float(when) if isinstance(when, int | float) else 0.0
