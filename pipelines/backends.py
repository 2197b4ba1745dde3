"""What a ``Store`` talks to: a local folder without detours, all else by fsspec. One try each; no retries here."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from condgen.errors import ConfigError
from pipelines.storage import Entry

__all__ = ["Backend", "FsspecBackend", "LocalBackend"]

_TEMPORARY = ".condgen-write-"


class Backend(Protocol):
    """Operations on names relative to a root; they raise ``OSError`` and the client's own errors."""

    @property
    def advice_missing(self) -> str:
        """What to tell a user when something is not there."""
        ...

    @property
    def advice_access(self) -> str:
        """What to tell a user who was refused."""
        ...

    def child(self, name: str) -> Backend:
        """Return the backend of a folder under this one."""
        ...

    def read(self, name: str) -> bytes:
        """Return all bytes of an object."""
        ...

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, or fewer where the object ends before."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Store an object atomically."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether there is an object or folder."""
        ...

    def size(self, name: str) -> int:
        """Return an object's size in bytes."""
        ...

    def list(self, prefix: str, recursive: bool) -> list[Entry]:
        """Return the objects under a folder in any order, names relative to the root."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...


_swept: set[tuple[int, str]] = set()


@dataclass(frozen=True)
class LocalBackend:
    """A folder of this machine, or of a file system that is mounted on it.

    A write goes to a hidden name beside its target, is flushed to the disk and renamed. The writer holds a lock on it
    while it lives, by which the next writer in that folder knows the leftovers of a crash, and removes them.
    """

    root: str

    advice_missing = "no such file or folder: check the path"
    advice_access = "permission denied: check the owner and the mode of the path"

    def child(self, name: str) -> LocalBackend:
        """Return the backend of a folder under this one."""
        return LocalBackend(self._path(name))

    def read(self, name: str) -> bytes:
        """Return all bytes of a file."""
        with Path(self._path(name)).open("rb", buffering=0) as file:
            return file.readall()

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, or fewer where the file ends before."""
        descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            pieces = []
            while start < stop:  # Linux gives at most 2 GiB a call
                piece = os.pread(descriptor, min(stop - start, 1 << 30), start)
                if not piece:
                    break
                pieces.append(piece)
                start += len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            os.close(descriptor)

    def write(self, name: str, data: bytes) -> None:
        """Store a file atomically."""
        target = self._path(name)
        folder = str(Path(target).parent)
        Path(folder).mkdir(parents=True, exist_ok=True)
        if (os.getpid(), folder) not in _swept:
            _swept.add((os.getpid(), folder))
            _sweep(folder)
        temporary = f"{folder}/{_TEMPORARY}{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view[: 1 << 30]) :]
            os.fsync(descriptor)
            try:
                Path(temporary).replace(target)
            except FileNotFoundError as error:  # swept between its creation and its lock: to be tried again
                raise InterruptedError(errno.EINTR, "the temporary file was removed by another writer") from error
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        _sync_folder(folder)

    def exists(self, name: str) -> bool:
        """Return whether there is a file or folder."""
        try:
            Path(self._path(name)).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return Path(self._path(name)).stat().st_size

    def list(self, prefix: str, recursive: bool) -> list[Entry]:
        """Return the files under a folder; a link to nothing is listed, for its reader to complain of."""
        top = self._path(prefix)
        if not Path(top).is_dir():
            return []
        start = f"{prefix}/" if prefix else ""
        return list(_walk(top, start, recursive, frozenset()))

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        Path(self._path(name)).unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


def _walk(folder: str, start: str, recursive: bool, above: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    status = Path(folder).stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that it is in
        return
    with os.scandir(folder) as found:
        for item in found:
            if item.name.startswith("."):
                continue
            if item.is_dir():
                if recursive:
                    yield from _walk(item.path, f"{start}{item.name}/", recursive, above | {here})
            elif item.is_file():
                yield Entry(start + item.name, item.stat().st_size)
            elif item.is_symlink() and not Path(item.path).exists():
                yield Entry(start + item.name, 0)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:  # a sweeper has it, and removes it
            raise InterruptedError(errno.EINTR, "the temporary file was removed by another writer") from error
        # A file system without locks: nothing is swept there either.


def _sweep(folder: str) -> None:
    """Remove the temporary files of writers that are gone."""
    for path in Path(folder).glob(f"{_TEMPORARY}*"):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:  # its writer is alive, or there are no locks
            continue
        finally:
            os.close(descriptor)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF):  # not every mount can
            raise
    finally:
        os.close(descriptor)


_connections: dict[str, Any] = {}


@dataclass(frozen=True)
class FsspecBackend:
    """Any other scheme, by its fsspec file system.

    Attributes:
        uri: as the user wrote it, for fsspec to open.
        root: the path in that file system.
        protocol: its first scheme.
        options: for the file system.
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
        if protocol in _S3 and (not str(root).strip("/") or uri.startswith(f"{protocol}:///")):
            raise ConfigError("path", uri, "a bucket: s3://bucket or s3://bucket/prefix")
        return cls(uri, str(root).rstrip("/"), protocol, dict(options))

    @property
    def advice_missing(self) -> str:
        """What to tell a user when something is not there."""
        if self.protocol in _S3:
            return "nothing is stored there: check the bucket, the path and AWS_ENDPOINT_URL"
        return "nothing is stored there: check the path"

    @property
    def advice_access(self) -> str:
        """What to tell a user who was refused."""
        if self.protocol in _S3:
            return (
                "access was refused: check the credentials and what they allow"
                " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
            )
        return "access was refused: check the credentials and what they allow"

    def child(self, name: str) -> FsspecBackend:
        """Return the backend of a prefix under this one."""
        return replace(self, root=self._path(name))

    def read(self, name: str) -> bytes:
        """Return all bytes of an object."""
        # s3fs reads in several ranges at once by default, and leaves zeros where one is short.
        options = {"max_concurrency": 1} if self.protocol in _S3 else {}
        return bytes(self._fs().cat_file(self._path(name), **options))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, or fewer where the object ends before."""
        if self.protocol in _S3:
            from fsspec.asyn import sync

            fs = self._fs()
            return bytes(sync(fs.loop, _get_range, fs, self._path(name), start, stop))
        return bytes(self._fs().cat_file(self._path(name), start=start, end=stop))

    def write(self, name: str, data: bytes) -> None:
        """Store an object: one PUT, or a multipart upload's completion."""
        path = self._path(name)
        if self.protocol not in _S3:
            self._fs().makedirs(path.rpartition("/")[0], exist_ok=True)
        self._fs().pipe_file(path, data)

    def exists(self, name: str) -> bool:
        """Return whether there is an object, or anything under a prefix."""
        try:
            # Not fs.exists: for a bucket, s3fs answers "no" to whatever went wrong.
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

    def list(self, prefix: str, recursive: bool) -> list[Entry]:
        """Return the objects under a prefix, names relative to the root."""
        top = self._path(prefix)
        if recursive:
            found = self._fs().find(top, detail=True).values()
        else:
            try:
                found = self._fs().ls(top, detail=True)
            except FileNotFoundError:
                self._fs().find(top)  # tells a missing bucket from a missing prefix
                found = []
        start = f"{self.root.lstrip('/')}/"
        entries = []
        for info in found:
            path = str(info["name"]).lstrip("/")
            if info["type"] == "file" and path.startswith(start) and not path.endswith("/"):
                entries.append(Entry(path[len(start) :], int(info["size"] or 0)))
        return entries

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            self._fs().rm_file(self._path(name))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _fs(self) -> Any:
        """Return this process's connection; a forked child and another environment have their own."""
        environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        where = self.protocol if self.protocol in _S3 else self.uri
        identity = [os.getpid(), where, self.options, environment]
        key = json.dumps(identity, sort_keys=True, default=repr)
        if key not in _connections:
            _connections[key] = self._connect()
        return _connections[key]

    def _connect(self) -> Any:
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if self.protocol in _S3:
            # One try each: the store counts them. No region_name, which other servers refuse in a bucket's creation.
            timeouts = {"connect_timeout": 10, "read_timeout": 30, "retries": {"total_max_attempts": 1}}
            options["config_kwargs"] = {**timeouts, "max_pool_connections": 64}
        fs, _ = fsspec.url_to_fs(self.uri, **{**options, **self.options})
        if self.protocol in _S3:
            fs.retries = 1
        return fs


_S3 = frozenset({"s3", "s3a"})


async def _get_range(fs: Any, path: str, start: int, stop: int) -> bytes:
    """One range request of S3, refused before its body is read where the answer is of another range.

    Raises:
        InterruptedError: the server or something on the way gave other bytes than were asked for.
    """
    bucket, key, version = fs.split_path(path)
    of_version = {"VersionId": version} if version else {}
    answer = await fs._call_s3(  # noqa: SLF001  # s3fs drops the answer's headers
        "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}", **of_version
    )
    body = answer["Body"]
    try:
        found = str(answer.get("ContentRange") or "")
        match = _CONTENT_RANGE.match(found)
        given = (int(match[1]), int(match[2]) + 1) if match else (0, int(answer.get("ContentLength", -1)))
        # Less than was asked for is what there is of an object that ends before.
        if given[0] != start or given[1] > stop:
            answered = found or f"all of the object's {given[1]} bytes"
            raise InterruptedError(errno.EINTR, f"bytes {start}-{stop - 1} were asked for, the answer has {answered}")
        return bytes(await body.read())
    finally:
        body.close()


_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")
