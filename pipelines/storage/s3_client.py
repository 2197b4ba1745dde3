"""A client of S3 that makes requests in the thread that asks, with the settings of an s3fs file system.

Requests are made by botocore's client, and most GETs after the pattern of one that it made. The client takes 2.5 ms of
CPU time for a GET (models, rules of endpoints, event handlers), so does that of s3fs, and s3fs has one thread for all
requests of a process, which waits for Python's lock at each piece that arrives. From one GET of a bucket to the next,
only key, range, date and signature differ: replacing these takes 1 ms, with sending and reading.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import botocore
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.session import Session
from s3fs.errors import translate_boto_error

__all__ = ["S3Client"]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]*/([^/,]+)/s3/aws4_request,")
_OF_ONE_REQUEST = frozenset(
    {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "range", "amz-sdk-invocation-id",
     "amz-sdk-request"}
)  # fmt: skip
_CHECKSUMS: Mapping[str, Callable[[bytes], bytes]] = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "sha1": lambda data: hashlib.sha1(data).digest(),  # noqa: S324 - whatever the object was stored with
    "sha256": lambda data: hashlib.sha256(data).digest(),
}


@dataclass(frozen=True)
class _Template:
    """What the GETs of a bucket share.

    Attributes:
        base: URL before the key.
        headers: headers that are the same each time.
        region: region of the signature; none where nothing is signed.
    """

    base: str
    headers: Mapping[str, str]
    region: str | None

    @classmethod
    def of(cls, request: AWSPreparedRequest, key: str) -> _Template | None:
        """Return that of a request that was sent for a key, or None where it is of another kind than those known."""
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        signature, quoted = headers.get("authorization"), _quoted(key)
        scope = _SCOPE.match(signature) if signature is not None else None
        if (signature is not None and scope is None) or not request.url.endswith(f"/{quoted}"):
            return None
        kept = {name: value for name, value in headers.items() if name not in _OF_ONE_REQUEST}
        return cls(request.url.removesuffix(quoted), kept, scope[1] if scope else None)

    def request(self, key: str, span: tuple[int, int] | None, credentials: Any) -> AWSPreparedRequest:
        """Return the request for a key, or for a range of its bytes."""
        request = AWSRequest("GET", self.base + _quoted(key), self.headers, stream_output=True)
        if span is not None:
            request.headers["Range"] = _range(*span)
        if self.region is not None:
            S3SigV4Auth(credentials.get_frozen_credentials(), "s3", self.region).add_auth(request)
        return request.prepare()


class S3Client:
    """A process's connection to S3. Threads may share it.

    Args:
        fs: file system of s3fs, which need not be connected.
    """

    def __init__(self, fs: Any) -> None:
        signer = {"aws_access_key_id": fs.key, "aws_secret_access_key": fs.secret, "aws_session_token": fs.token}
        given = {**signer, "endpoint_url": fs.endpoint_url, "use_ssl": fs.use_ssl}
        arguments = {name: value for name, value in given.items() if value is not None} | fs.client_kwargs
        config = deepcopy(fs._prepare_config_kwargs())  # noqa: SLF001 - botocore adds to what is in it
        if fs.anon:
            arguments = {name: value for name, value in arguments.items() if name not in signer}
            config["signature_version"] = botocore.UNSIGNED
        session = Session(**fs.kwargs)
        self._client = session.create_client("s3", config=Config(**config), **arguments)
        self._client.meta.events.register("before-send.s3.GetObject", self._note)
        keys = [arguments.get(name) for name in signer]
        self._credentials = Credentials(*keys) if keys[0] else None if fs.anon else session.get_credentials()
        self._everywhere = {**fs.s3_additional_kwargs, **fs.req_kw}
        self._templates: dict[str, _Template] = {}
        self._sent = threading.local()

    def ask(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Make a request and return botocore's answer.

        Args:
            operation: operation as botocore names it (`head_object`).
            arguments: its arguments; those of the user for all operations come with them where they are known.

        Raises:
            OSError: an answer that is an error, as s3fs translates it.
            botocore.exceptions.BotoCoreError: there is no answer.
        """
        if self._everywhere:
            model = self._client.meta.service_model.operation_model(self._client.meta.method_to_api_mapping[operation])
            known = {name: value for name, value in self._everywhere.items() if name in model.input_shape.members}
            arguments = {**known, **arguments}
        try:
            return getattr(self._client, operation)(**arguments)
        except ClientError as error:
            raise translate_boto_error(error) from error

    def get(self, place: Mapping[str, str], span: tuple[int, int] | None = None) -> bytes:
        """Return an object's bytes, or ``[start, stop)`` of them, or fewer where it ends before.

        Args:
            place: the object's `Bucket` and `Key`.
            span: start and stop of the range (bytes; default: all).

        Raises:
            InterruptedError: the answer is of another range than was asked for; it is refused before it is read.
            OSError, botocore.exceptions.BotoCoreError: as `ask`.
        """
        template = self._templates.get(place["Bucket"]) if place["Key"] else None  # a bucket's GET lists it
        data = self._get_alike(template, place["Key"], span) if template is not None else None
        if data is not None:
            return data
        ranged = {"Range": _range(*span)} if span is not None else {}
        answer = self.ask("get_object", {**place, **ranged})
        template = _Template.of(self._sent.request, place["Key"])
        if template is not None:
            self._templates[place["Bucket"]] = template
        with closing(answer["Body"]) as body:
            if span is not None:
                _check_range(answer.get("ContentRange"), answer.get("ContentLength"), *span)
            return bytes(body.read())

    def _note(self, request: AWSPreparedRequest, **_: Any) -> None:
        self._sent.request = request

    def _get_alike(self, template: _Template, key: str, span: tuple[int, int] | None) -> bytes | None:
        """Return an object's bytes, or None where the client is to ask, which knows what a redirection means."""
        request = template.request(key, span, self._credentials)
        answer: AWSResponse = self._client._endpoint.http_session.send(request)  # noqa: SLF001 - TLS, proxies, timeouts
        headers = {name.lower(): value for name, value in answer.headers.items()}
        with closing(StreamingBody(answer.raw, headers.get("content-length"))) as body:
            if answer.status_code in (200, 206):
                if span is not None:
                    _check_range(headers.get("content-range"), headers.get("content-length"), *span)
                data = bytes(body.read())
                if span is None:
                    _check_sum(headers, data)
                return data
            if answer.status_code <= 400:
                return None
            told = {"status_code": answer.status_code, "headers": answer.headers, "body": body.read(), "context": {}}
        error = ClientError(self._client._response_parser.parse(told, None), "GetObject")  # noqa: SLF001
        raise translate_boto_error(error) from error


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _quoted(key: str) -> str:
    return quote(key, safe="/~")


def _range(start: int, stop: int) -> str:
    return f"bytes={start}-{stop - 1}"


def _check_range(told: str | None, size: int | str | None, start: int, stop: int) -> None:
    match = _CONTENT_RANGE.match(told or "")
    bounds = (int(match[1]), int(match[2]) + 1) if match else (0, int(size if size is not None else -1))
    # Less than was asked for is what there is of an object that ends before.
    if bounds[0] != start or bounds[1] > stop:
        answered = told or f"all of the object's {bounds[1]} bytes"
        raise InterruptedError(errno.EINTR, f"bytes {start}-{stop - 1} were asked for, the answer has {answered}")


def _check_sum(headers: Mapping[str, str], data: bytes) -> None:
    """Check an object against the checksum that it is stored with, as botocore does, but for sums of its parts."""
    for name, function in _CHECKSUMS.items():
        told = headers.get(f"x-amz-checksum-{name}", "")
        if told and "-" not in told and base64.b64encode(function(data)).decode() != told:
            raise InterruptedError(errno.EINTR, f"the object's bytes are not those of its {name.upper()}")
