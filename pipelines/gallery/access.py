"""Who may use a gallery's server: those who know its token, under a name that the server is bound to.

The token is 256 random bits in the address that is printed, as Jupyter does it. The first request carries it, and gets
a cookie in exchange that other sites' pages can't send (`SameSite=Strict`) and scripts can't read. A `Host` that is
another site's name is refused, also where its DNS was pointed at this machine (rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

__all__ = ["POLICY", "Access", "host_names", "is_loopback"]

POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page of the gallery may load: its own images, style and scripts, and nothing of other sites or of data."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_COOKIE_BYTES = 4096
_OWN_PAGES = ("same-origin", "none")
"""What browsers say of requests that the page itself, or its user, made."""

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Access:
    """The token and the names of a server.

    Attributes:
        names: names and addresses under which the server is asked (lower case, without ports).
        any_address: whether any IP address will do, which no DNS can point elsewhere.
        token: secret that a request must have.
        cookie: name of the cookie; servers on other ports of the same machine have other ones.
    """

    names: frozenset[str]
    any_address: bool = False
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    cookie: str = "condgen-gallery"

    def wrap(self, app: Asgi) -> Asgi:
        """Return an ASGI application that lets through what may pass, and puts the headers of safety on all answers."""

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                if scope["type"] == "lifespan":
                    await app(scope, receive, send)
                return

            async def send_with_headers(message: Any) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    for name, value in _HEADERS.items():
                        headers[name] = value
                    headers.setdefault("Cache-Control", "no-store")
                await send(message)

            answer = self._answer(Request(scope))
            await (app if answer is None else answer)(scope, receive, send_with_headers)

        return guarded

    def _answer(self, request: Request) -> Response | None:
        """Return the answer to a request that does not pass, or that brings the token; None for one that passes."""
        if not self._is_known(request.headers.get("host", "")):
            return _refusal(request, 403, "this server is not asked under this name: open the address that it printed")
        if request.url.path != "/" and request.headers.get("sec-fetch-site", "none") not in _OWN_PAGES:
            return _refusal(request, 403, "this is for the gallery's own page")
        token = request.query_params.get("token")
        if request.url.path == "/" and token is not None:
            if not self._is_token(token):
                return _refusal(request, 401, "this is not the token of this server: open the address that it printed")
            return self._welcome(request)
        if self._is_token(self._cookie_of(request)) or self._is_token(_authorization(request)):
            return None
        return _refusal(request, 401, "the token is missing: open the address that condgen gallery printed")

    def _is_known(self, host: str) -> bool:
        name = _name_of(host)
        if name in self.names:
            return True
        if not self.any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.token.encode())

    def _cookie_of(self, request: Request) -> str:
        header = request.headers.get("cookie", "")
        if len(header) > _COOKIE_BYTES:
            return ""
        try:
            found = SimpleCookie(header).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _welcome(self, request: Request) -> Response:
        """Return the cookie, and lead to the address without the token.

        After a click in another site's page, a redirect would still count as that site's request and leave the cookie
        behind: there a page of our own leads on.
        """
        response: Response
        if request.headers.get("sec-fetch-site", "none") in _OWN_PAGES:
            response = RedirectResponse("/", status_code=303)
        else:
            response = HTMLResponse(
                '<!doctype html><meta http-equiv="refresh" content="0; url=/"><a href="/">Gallery</a>'
            )
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return response


def host_names(host: str) -> tuple[frozenset[str], bool]:
    """Return the names under which a server at an address is asked, and whether any IP address will do."""
    if is_loopback(host):
        return frozenset({"localhost", "127.0.0.1", "::1", host.lower()}), False
    own = {"localhost", "127.0.0.1", "::1", host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(own), True


def is_loopback(host: str) -> bool:
    """Return whether an address is one of this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """Return the name in a `Host` header, without its port and without the brackets of IPv6."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    name, _, port = text.rpartition(":")
    return name if name and port.isdigit() else text


def _authorization(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() in ("token", "bearer") else ""


def _refusal(request: Request, status: int, text: str) -> Response:
    if request.url.path.startswith(("/api/", "/thumb/", "/full/")):
        return JSONResponse({"error": text}, status)
    return PlainTextResponse(f"{text}\n", status)
