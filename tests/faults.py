"""A proxy in front of an S3 server that injects faults: what networks and busy servers do, when and how often told.

    with FaultProxy(endpoint) as proxy:
        proxy.inject("slow_down", times=2)

It passes requests on unchanged, their Host header too: a request is signed for the host that the client spoke to, and
the server checks the signature against that header. Each fault is for the next matching requests, one after the other.
"""

import http.client
import re
import socket
import struct
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

__all__ = ["FAULTS", "FaultProxy"]

FAULTS = ("slow_down", "reset", "cut", "stall", "wrong_range", "other_bytes", "whole_object")

_PASS = "pass"

Headers = list[tuple[str, str]]

_SLOW_DOWN = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""


class FaultProxy:
    """An HTTP proxy on loopback; `endpoint` is what clients are given.

    Faults are for reads of objects; with `every_request` for writes, listings and the like too.
    """

    def __init__(self, server: str, *, every_request: bool = False) -> None:
        self._server = urlsplit(server)
        self._every_request = every_request
        self._planned: deque[tuple[str, str]] = deque()
        self._lock = threading.Lock()
        self.injected: list[str] = []
        self.requests = 0
        self.stall_s = 30.0
        self._closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, name="fault-proxy", daemon=True)

    @property
    def endpoint(self) -> str:
        """The proxy's address."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def inject(self, fault: str, times: int = 1, *, name: str = "", after: int = 0) -> None:
        """Have requests for objects whose path contains `name` fail in this way, when so many of them have passed."""
        if fault not in FAULTS:
            raise ValueError(f"{fault}: one of {', '.join(FAULTS)}")
        with self._lock:
            self._planned.extend([(_PASS, name)] * after + [(fault, name)] * times)

    def clear(self) -> None:
        """No more faults; counts begin anew."""
        with self._lock:
            self._planned.clear()
            self.injected.clear()
            self.requests = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()

    def _take(self, path: str) -> str | None:
        with self._lock:
            self.requests += 1
            if self._planned and self._planned[0][1] in path:
                fault, _ = self._planned.popleft()
                if fault == _PASS:
                    return None
                self.injected.append(fault)
                return fault
            return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _pass(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                is_get = self.command == "GET" and "list-type" not in self.path
                fault = proxy._take(self.path) if is_get or proxy._every_request else None
                if fault == "slow_down":
                    self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
                    return
                headers = dict(self.headers.items())
                status, answered, data = proxy._forward(self.command, self.path, headers, body)
                if fault == "other_bytes":
                    data = bytes(byte ^ 0x55 for byte in data)
                if fault == "wrong_range":
                    answered, data = _shifted(answered, data)
                if fault == "whole_object":
                    status, answered, data = _unranged(answered, data)
                self._answer(status, answered, data, fault)

            def _answer(self, status: int, headers: Headers, data: bytes, fault: str | None = None) -> None:
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                length = next((value for name, value in headers if name.lower() == "content-length"), None)
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(data)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                half = data[: len(data) // 2]
                if fault in ("reset", "cut", "stall"):
                    self.wfile.write(half)
                    self.wfile.flush()
                    self.close_connection = True
                    if fault == "reset":  # closing with a linger of 0 s sends RST
                        linger = struct.pack("ii", 1, 0)
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        self.connection.close()
                    if fault == "stall":
                        proxy._closing.wait(proxy.stall_s)
                    return
                self.wfile.write(data)

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (OSError, ValueError):  # the client went away, or the fault closed the connection
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815

        return Handler

    def _forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, Headers, bytes]:
        connection = http.client.HTTPConnection(str(self._server.hostname), self._server.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def _content_range(headers: Headers) -> tuple[int, int, int]:
    """First and last byte of an answer, and the object's size; the request can't be changed, its range is signed."""
    value = next(value for name, value in headers if name.lower() == "content-range")
    match = _CONTENT_RANGE.fullmatch(value)
    return int(match[1]), int(match[2]), int(match[3])


def _shifted(headers: Headers, data: bytes) -> tuple[Headers, bytes]:
    """An answer with as many other bytes: those 512 before the ones that were asked for, or after."""
    first, last, size = _content_range(headers)
    by = -512 if first >= 512 else 512
    others = [(name, value) for name, value in headers if name.lower() != "content-range"]
    return [*others, ("Content-Range", f"bytes {first + by}-{last + by}/{size}")], data[by:] + data[:by]


def _unranged(headers: Headers, data: bytes) -> tuple[int, Headers, bytes]:
    """The answer of a server that knows no ranges: all of the object (the rest of it as zeros here)."""
    first, last, size = _content_range(headers)
    others = [(name, value) for name, value in headers if name.lower() != "content-range"]
    return 200, others, bytes(first) + data + bytes(size - last - 1)
