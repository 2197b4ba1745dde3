"""Small servers on loopback, which answer as they are told: a web server, and an S3 server that keeps keys as they are.

    with WebServer({"/a.jpg": b"...", "/gone.jpg": 410}) as web:
        open_store(web.uri).read("a.jpg")

    with FlatS3() as s3:                   # real servers of tests fold `a//b` into `a/b`; AWS does not
        s3.objects["bucket", "a//b.jpg"] = b"..."
        s3.refused["bucket", "frozen.jpg"] = (403, "InvalidObjectState")

An answer of the web server is a body, a status, or a function of the request's handler. `requests` has all that was
asked for, as it came.
"""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

__all__ = ["FlatS3", "WebServer"]


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has gone


class _Server:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self._http = _Quiet(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, name="server", daemon=True)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, handler: Any) -> None:
        raise NotImplementedError

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                server.requests.append((self.command, self.path))
                server.answer(self)

            do_GET = do_HEAD = do_PUT = do_DELETE = _answer  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

            def send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def send_bytes(self, data: bytes) -> None:
                """Send an object, or the range of it that is asked for."""
                bounds = self.headers.get("Range", "").removeprefix("bytes=")
                if not bounds:
                    self.send(200, data)
                    return
                start, stop = (int(bound) for bound in bounds.split("-"))
                stop = min(stop + 1, len(data))
                if start >= len(data):
                    self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                else:
                    self.send(206, data[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})

        return Handler


Answer = bytes | int | Callable[[Any], None]


class WebServer(_Server):
    """A web server that lists nothing; what it has no answer for is 404, unless `default` says otherwise."""

    def __init__(self, answers: Mapping[str, Answer], *, default: int = 404, ranges: bool = True) -> None:
        super().__init__()
        self.answers = dict(answers)
        self.default = default
        self.ranges = ranges

    def answer(self, handler: Any) -> None:
        answer = self.answers.get(handler.path, self.default)
        if isinstance(answer, bytes):
            if self.ranges:
                handler.send_bytes(answer)
            else:
                handler.send(200, answer)
        elif isinstance(answer, int):
            handler.send(answer, b"no")
        else:
            answer(handler)


class FlatS3(_Server):
    """An S3 server of one try a request and no signatures, whose keys are texts and no paths."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[tuple[str, str], bytes] = {}
        self.refused: dict[tuple[str, str], tuple[int, str]] = {}
        self.lists: bool | str = True  # or a prefix: what is under it alone
        self.headers: list[dict[str, str]] = []  # of all that was asked for
        self.sums: dict[str, str] = {}  # headers of checksums, by key
        self.elsewhere = ""  # address of the server that everything is redirected to

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.uri,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def answer(self, handler: Any) -> None:
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        path, _, query = handler.path.partition("?")
        bucket, _, key = unquote(path[1:]).partition("/")
        refused = self.refused.get((bucket, key)) or self.refused.get((bucket, "*"))
        if self.elsewhere:
            handler.send(307, b"", {"Location": self.elsewhere + handler.path})
        elif refused is not None and key:
            _refuse(handler, *refused)
        elif not key:
            self._list(handler, bucket, parse_qs(query, keep_blank_values=True))
        elif handler.command == "PUT" and handler.headers.get("If-None-Match") and (bucket, key) in self.objects:
            handler.rfile.read(int(handler.headers["Content-Length"]))
            _refuse(handler, 412, "PreconditionFailed")
        elif handler.command == "PUT":
            self.objects[bucket, key] = handler.rfile.read(int(handler.headers["Content-Length"]))
            handler.send(200)
        elif handler.command == "DELETE":
            self.objects.pop((bucket, key), None)
            handler.send(204)
        elif (bucket, key) not in self.objects:
            _refuse(handler, 404, "NoSuchKey")
        elif key in self.sums:
            handler.send(200, self.objects[bucket, key], {"x-amz-checksum-crc32": self.sums[key]})
        else:
            handler.send_bytes(self.objects[bucket, key])

    def _list(self, handler: Any, bucket: str, query: Mapping[str, list[str]]) -> None:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        if not self.lists or (self.lists is not True and not prefix.startswith(self.lists)):
            _refuse(handler, 403, "AccessDenied")
            return
        keys = sorted(key for place, key in self.objects if place == bucket and key.startswith(prefix))
        if delimiter:
            keys = [key for key in keys if delimiter not in key[len(prefix) :]]
        keys = keys[: int(query.get("max-keys", ["1000"])[0])]
        items = "".join(
            f"<Contents><Key>{escape(quote(key))}</Key><Size>{len(self.objects[bucket, key])}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        )
        body = (
            f"<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
            f"<KeyCount>{len(keys)}</KeyCount>{items}</ListBucketResult>"
        )
        handler.send(200, body.encode(), {"Content-Type": "application/xml"})


def _refuse(handler: Any, status: int, code: str) -> None:
    handler.send(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
