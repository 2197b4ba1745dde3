"""Any scheme that fsspec knows as the backend of a ``Store``; S3 with one range request a range, which is checked."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from condgen.errors import ConfigError
from pipelines.storage.backend import Entry

__all__ = ["FsspecBackend"]

_S3 = frozenset({"s3", "s3a"})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")

_connections: dict[str, Any] = {}


@dataclass(frozen=True)
class FsspecBackend:
    """Everything but a local folder, through its fsspec file system.

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
        if protocol in _S3 and (not str(root).strip("/") or uri.startswith(f"{protocol}:///")):
            raise ConfigError("path", uri, "a bucket: s3://bucket or s3://bucket/prefix")
        return cls(uri, str(root).rstrip("/"), protocol, dict(options))

    @property
    def advice_missing(self) -> str:
        """Advice to a user for whom something is not there."""
        if self.protocol in _S3:
            return "nothing is stored there: check the bucket, the path and AWS_ENDPOINT_URL"
        return "nothing is stored there: check the path"

    @property
    def advice_access(self) -> str:
        """Advice to a user who was refused."""
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
                self._fs().find(top)  # tells a missing bucket from a missing prefix
                found = []
        start = f"{self.root.lstrip('/')}/"
        entries = []
        for info in found:
            path = str(info["name"]).lstrip("/")
            if info["type"] == "file" and path.startswith(start) and not path.endswith("/"):
                entries.append(Entry(path[len(start) :], int(info["size"] or 0), _modified_s(info)))
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


def _modified_s(info: Mapping[str, Any]) -> float:
    """Return when an object was written, which fsspec's file systems tell under several names (seconds since 1970)."""
    when = next((info[name] for name in ("LastModified", "mtime", "modified", "last_modified") if info.get(name)), 0.0)
    if isinstance(when, datetime):
        return when.timestamp()
    return float(when) if isinstance(when, int | float) else 0.0


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
