"""S3 as the backend of a ``Store``: one request an operation, with keys exactly as they are, and checked ranges.

s3fs has the settings, knows the errors, and sends what is too large for one PUT. Its own paths are not used: they leave
out slashes at an end and a version after `?`, which a key may have.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from condgen.errors import ConfigError
from pipelines.storage.backend import Entry
from pipelines.storage.remote import FsspecBackend, modified_s
from pipelines.storage.trouble import s3_code

if TYPE_CHECKING:
    from pipelines.storage.s3_client import S3Client

__all__ = ["S3Backend"]

T = TypeVar("T")

_ONE_PUT_BYTES = 50 << 20
_DIRECTORY_BUCKET = "--x-s3"
"""What the names of directory buckets end with, the only ones of AWS whose listings are in no order."""
_IS_THERE = frozenset({"PreconditionFailed", "412"})
_REFUSED = frozenset({"AccessDenied", "403"})


@dataclass(frozen=True)
class S3Backend(FsspecBackend):
    """A bucket, or a prefix of one."""

    confines_names = False
    advice_missing = "nothing is stored there: check the bucket, the path and AWS_ENDPOINT_URL"
    advice_access = (
        "access was refused: check the credentials and what they allow"
        " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
    )

    @classmethod
    def of(cls, uri: str, options: Mapping[str, Any]) -> S3Backend:
        """Return the backend of a URI.

        Raises:
            ConfigError: there is no bucket, s3fs is not installed, or a session of aiobotocore is given.
        """
        if options.get("session") is not None:
            raise ConfigError("session", "a session of aiobotocore", "key, secret and token, or a profile")
        scheme, _, root = uri.partition("://")
        if not root.partition("/")[0]:
            raise ConfigError("path", uri, "a bucket: s3://bucket or s3://bucket/prefix")
        FsspecBackend.of(uri, options)
        return cls(uri, root.rstrip("/"), scheme.lower(), dict(options))

    def read(self, name: str) -> bytes:
        """Return all bytes of an object."""
        return self._told(name, lambda: self._client().get(self._place(name)))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, or fewer where the object ends before.

        Raises:
            InterruptedError: the server or something on the way gave other bytes than were asked for.
        """
        return self._told(name, lambda: self._client().get(self._place(name), (start, stop)))

    def write(self, name: str, data: bytes) -> None:
        """Store an object: one PUT, or a multipart upload's completion."""
        if len(data) <= _ONE_PUT_BYTES:
            self._call("put_object", **self._place(name), Body=data)
        else:
            self._fs().pipe_file(self._path(name), data)

    def put_file(self, path: str, name: str) -> None:
        """Store what a local file holds: one PUT, or a multipart upload's completion."""
        file = Path(path)
        if file.stat().st_size <= _ONE_PUT_BYTES:
            self.write(name, file.read_bytes())
        else:
            self._fs().put_file(path, self._path(name))

    def create(self, name: str, data: bytes) -> bool:
        """Store an object in one PUT unless one of that name is there; return whether it was stored.

        The server has to know ``If-None-Match`` of a PUT: AWS does since 2024, and so do Ceph, MinIO and SeaweedFS.
        """
        try:
            self._call("put_object", **self._place(name), Body=data, IfNoneMatch="*")
        except OSError as error:
            if s3_code(error) in _IS_THERE:
                return False
            raise
        return True

    def exists(self, name: str) -> bool:
        """Return whether there is an object, or anything under a prefix."""
        try:
            if self._place(name)["Key"]:
                self.size(name)
                return True
        except FileNotFoundError:
            pass
        try:
            return self._holds(name)
        except FileNotFoundError:  # no such bucket
            return False

    def size(self, name: str) -> int:
        """Return an object's size in bytes."""
        return self._told(name, lambda: int(self._call("head_object", **self._place(name))["ContentLength"]))

    def is_file(self, name: str) -> bool:
        """Return whether there is an object of that name, and no prefix."""
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str, recursive: bool, hidden: bool = False) -> list[Entry]:  # noqa: ARG002  # all have come
        """Return the objects under a prefix, names relative to the root."""
        arguments = {**self._under(prefix), "Delimiter": "" if recursive else "/"}
        entries: list[Entry] = []
        while True:
            answer = self._call("list_objects_v2", **arguments)
            entries += self._entries(answer.get("Contents", ()))
            if not answer.get("IsTruncated"):
                return entries
            before, after = arguments.get("ContinuationToken"), answer.get("NextContinuationToken")
            if not after or after == before:
                raise OSError(errno.EIO, "the listing does not say where it goes on")
            arguments["ContinuationToken"] = after

    def pages(self, prefix: str) -> Callable[[], Sequence[Entry] | None]:
        """Return a function that lists the objects under a prefix, a request a page."""
        if self._place("")["Bucket"].endswith(_DIRECTORY_BUCKET):
            return super().pages(prefix)
        where, last = self._under(prefix), ""

        def read() -> Sequence[Entry] | None:
            nonlocal last
            answer = self._call("list_objects_v2", **where, **({"StartAfter": last} if last else {}))
            items = answer.get("Contents", ())
            if not items:
                return None
            last = items[-1]["Key"]
            return self._entries(items)

        return read

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._call("delete_object", **self._place(name))

    def _place(self, name: str) -> dict[str, str]:
        """Return the bucket and the key of a name."""
        bucket, key = _bucket_and_key(self.root)
        return {"Bucket": bucket, "Key": f"{key}/{name}" if key and name else key or name}

    def _under(self, name: str) -> dict[str, str]:
        """Return the bucket of a name and the prefix of what is under it."""
        place = self._place(name)
        return {"Bucket": place["Bucket"], "Prefix": f"{place['Key']}/" if place["Key"] else ""}

    def _holds(self, name: str) -> bool:
        """Return whether anything is under a prefix.

        Raises:
            FileNotFoundError: there is no such bucket.
        """
        return bool(self._call("list_objects_v2", **self._under(name), MaxKeys=1).get("KeyCount"))

    def _told(self, name: str, question: Callable[[], T]) -> T:
        """Return the answer to a question about an object, where a refusal may mean that it is not there.

        S3 tells only those who may list a name that there is no such object; it refuses all others. Someone who may
        list only `folder/` is refused for the name `folder`. Some servers (Ceph before 2026) refuse every missing name
        in it, too. The listing decides.

        Raises:
            FileNotFoundError: there is no such object.
        """
        try:
            return question()
        except PermissionError as error:
            if s3_code(error) not in _REFUSED or not self._is_unlisted(name):
                raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def _is_unlisted(self, name: str) -> bool:
        """Return whether a listing that is allowed has no object of this name."""
        place = self._place(name)
        for prefix in (place["Key"], f"{place['Key']}/"):
            try:
                page = self._call("list_objects_v2", Bucket=place["Bucket"], Prefix=prefix, MaxKeys=1)
            except PermissionError:
                continue
            return all(item["Key"] != place["Key"] for item in page.get("Contents", ()))
        return False

    def _call(self, operation: str, **arguments: Any) -> Any:
        return self._client().ask(operation, arguments)

    def _client(self) -> S3Client:
        from pipelines.storage.s3_client import S3Client

        return self._connection("client", lambda: S3Client(self._fs()))

    def _entries(self, items: Sequence[Mapping[str, Any]]) -> Sequence[Entry]:
        own = len(self._under("")["Prefix"])
        return [
            Entry(item["Key"][own:], int(item["Size"]), modified_s(item))
            for item in items
            if not item["Key"].endswith("/")
        ]

    def _identity(self) -> Sequence[Any]:
        environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        return [self.protocol, self.options, environment]

    def _connect(self, **ours: Any) -> Any:
        # One try each: the store counts them. No region_name, which other servers refuse in a bucket's creation.
        fs = super()._connect(**ours)
        timeouts = {"connect_timeout": 10, "read_timeout": 30, "retries": {"total_max_attempts": 1}}
        fs.config_kwargs = {**timeouts, "max_pool_connections": 64, **fs.config_kwargs}
        fs.retries = 1
        return fs


@lru_cache
def _bucket_and_key(path: str) -> tuple[str, str]:
    from s3fs import S3FileSystem

    bucket, key = S3FileSystem(skip_instance_cache=True)._find_bucket_key(path)  # noqa: SLF001 - knows access points
    return str(bucket), str(key)
