"""Web servers as the backend of a ``Store``: addresses exactly as they are, ranges checked, no listing needed.

A name is a part of an address, `a%20b.jpg?size=full` say. What an address can't have (a space, `é`) is sent as browsers
send it, in percent signs and UTF-8; what it can have is sent unchanged, `%2F`, `//` and `..` too.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from condgen.errors import ConfigError
from pipelines.storage.remote import FsspecBackend

__all__ = ["HttpBackend"]

T = TypeVar("T")

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_MAY_STAY = "%/:?[]@!$&'()*+,;=~"
_NO_RANGE = 416
_PIECE_BYTES = 1 << 20
_CONNECT_S, _READ_S = 10.0, 30.0


@dataclass(frozen=True)
class HttpBackend(FsspecBackend):
    """A folder of a web server, or all of it."""

    confines_names = False
    advice_missing = "nothing is there: check the address"
    advice_access = "the server refuses access: check the address and what it asks for"

    @classmethod
    def of(cls, uri: str, options: Mapping[str, Any]) -> HttpBackend:
        """Return the backend of a URI.

        Raises:
            ConfigError: there is no host, or aiohttp is not installed.
        """
        scheme, _, rest = uri.partition("://")
        if not re.split("[/?#]", rest)[0]:
            raise ConfigError("path", uri, "a host: https://host/path")
        FsspecBackend.of(uri, options)
        return cls(uri, _quoted(uri.rstrip("/")), scheme.lower(), dict(options))

    def read(self, name: str) -> bytes:
        """Return all bytes of an object."""
        return self._ask("GET", name, _body)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, or fewer where the object ends before; also of a server without ranges."""

        async def receive(answer: Any) -> bytes:
            if answer.status == _NO_RANGE:
                return b""
            match = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
            begin = int(match[1]) if match and answer.status == 206 else 0
            if begin > start:
                raise InterruptedError(f"bytes from {start} were asked for, the answer has some from {begin}")
            return await _piece(answer, start - begin, stop - begin)

        return self._ask("GET", name, receive, {"Range": f"bytes={start}-{stop - 1}"}, (_NO_RANGE,))

    def write(self, name: str, data: bytes) -> None:
        """Refuse: nothing is written to a web server.

        Raises:
            PermissionError: always.
        """
        raise PermissionError(f"{name}: {len(data)} bytes can't be stored on a web server")

    def put_file(self, path: str, name: str) -> None:  # noqa: ARG002
        """Refuse, as ``write`` does.

        Raises:
            PermissionError: always.
        """
        self.write(name, b"")

    def create(self, name: str, data: bytes) -> bool:
        """Refuse, as ``write`` does.

        Raises:
            PermissionError: always.
        """
        self.write(name, data)
        return False

    def exists(self, name: str) -> bool:
        """Return whether there is an object."""
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True

    def is_file(self, name: str) -> bool:
        """Return whether there is an object; a server does not say what a folder is."""
        return self.exists(name)

    def size(self, name: str) -> int:
        """Return an object's size in bytes, by its head, or by its first byte where the server gives no heads."""
        size = self._ask("HEAD", name, _length, accepted=(400, 403, 405, 500, 501))
        if size is None:
            size = self._ask("GET", name, _length, {"Range": "bytes=0-0"}, (_NO_RANGE,))
        return len(self.read(name)) if size is None else size

    def _url(self, name: str) -> Any:
        from yarl import URL

        scheme, _, rest = self.root.partition("://")
        host, _, path = rest.partition("/")
        path = f"{path}/{name}" if path and name else path or name
        # The host alone may need more than percent signs: `münchen.de` is xn--mnchen-3ya.de.
        return URL(f"{URL(f'{scheme}://{host}')}/{_quoted(path)}", encoded=True)

    def _ask(
        self,
        method: str,
        name: str,
        receive: Callable[[Any], Awaitable[T]],
        headers: Mapping[str, str] | None = None,
        accepted: Any = (),
    ) -> T:
        """Ask for an object, and return what `receive` makes of an answer that is none of an error, or accepted."""
        from fsspec.asyn import sync

        fs, url = self._fs(), self._url(name)

        async def call() -> T:
            session = await fs.set_session()
            options = {**fs.kwargs, "headers": {"Accept-Encoding": "identity", **fs.kwargs.get("headers", {})}}
            options["headers"].update(headers or {})
            async with session.request(method, url, allow_redirects=True, **options) as answer:
                if answer.status not in accepted:
                    if answer.status == 404:
                        raise FileNotFoundError(name)
                    answer.raise_for_status()
                return await receive(answer)

        result: T = sync(fs.loop, call)
        return result

    def _identity(self) -> Sequence[Any]:
        return [self.protocol, self.options]

    def _connect(self, **ours: Any) -> Any:
        from aiohttp import ClientTimeout

        return super()._connect(
            client_kwargs={"timeout": ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)},
            encoded=True,
            **ours,
        )


def _quoted(text: str) -> str:
    """Return a part of an address with what it can't have in percent signs; all else, `%` too, stays."""
    return quote(text.encode("utf-8", "surrogateescape"), safe=_MAY_STAY)


async def _body(answer: Any) -> bytes:
    return bytes(await answer.read())


async def _length(answer: Any) -> int | None:
    """Return the size of the whole object, as an answer's head tells it; None where it does not."""
    match = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
    if match:
        return None if match[3] == "*" else int(match[3])
    length = answer.headers.get("Content-Length")
    return int(length) if answer.status < 300 and length is not None and length.isdecimal() else None


async def _piece(answer: Any, start: int, stop: int) -> bytes:
    """Return bytes ``[start, stop)`` of a body, of which no more is read than that."""
    pieces = bytearray()
    at = 0
    while at < stop:
        piece = await answer.content.read(_PIECE_BYTES)
        if not piece:
            break
        pieces += piece[max(0, start - at) : max(0, stop - at)]
        at += len(piece)
    return bytes(pieces)
