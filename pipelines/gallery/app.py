"""The gallery's server as an ASGI application: its page, its JSON and its images. Nothing in it is ever written to.

What an address names are numbers and a few fixed words, never a path in the results or on this machine.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from condgen.errors import CondgenError, ConfigError, DatasetError, ImageError, MissingError
from pipelines.cluster.starting import usable_cpus
from pipelines.gallery.access import Access, Asgi
from pipelines.gallery.gallery import Gallery
from pipelines.gallery.renditions import ROLES, Rendition

__all__ = ["make_app"]

logger = logging.getLogger(__name__)

_LASTING = "private, max-age=31536000, immutable"
_PASSING = "private, no-cache"
_THREADS = 16
_MOST_DIGITS = 15


def make_app(gallery: Gallery, access: Access, page: bytes, static: Mapping[str, tuple[bytes, str]]) -> Asgi:
    """Return the server of a gallery.

    Args:
        gallery: the gallery.
        access: who may use it.
        page: HTML of its page.
        static: files that the page loads, by name: bytes and media type.
    """
    server = _Server(gallery, page, static)
    routes = [
        Route("/", server.page),
        Route("/favicon.ico", server.icon),
        Route("/static/{name}", server.static),
        Route("/api/overview", server.overview),
        Route("/api/progress", server.progress),
        Route("/api/images", server.images),
        Route("/api/images/{place}", server.image),
        Route("/thumb/{result}/{place}/{role}/{number}", server.thumbnail),
        Route("/full/{result}/{place}/{role}/{number}", server.full),
    ]
    handlers: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        CondgenError: _trouble,
        sqlite3.Error: _trouble,
        HTTPException: _refused,
        Exception: _bug,
    }
    return access.wrap(Starlette(routes=routes, exception_handlers=handlers))


class _Server:
    def __init__(self, gallery: Gallery, page: bytes, static: Mapping[str, tuple[bytes, str]]) -> None:
        self._gallery, self._page, self._static = gallery, page, static
        self._limiters: dict[str, CapacityLimiter] = {}

    async def page(self, _request: Request) -> Response:
        return Response(self._page, media_type="text/html; charset=utf-8")

    async def icon(self, _request: Request) -> Response:
        """Answer what browsers ask by themselves: there is none, and nothing is wrong."""
        return Response(status_code=204)

    async def static(self, request: Request) -> Response:
        found = self._static.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such file")
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "private, no-cache"})

    async def overview(self, _request: Request) -> Response:
        return _json(await self._in_thread("json", self._gallery.overview))

    async def progress(self, _request: Request) -> Response:
        return _json(await self._in_thread("json", self._gallery.progress))

    async def images(self, request: Request) -> Response:
        query = request.query_params
        call = partial(
            self._gallery.images,
            start=_number("start", query.get("start", "0")),
            count=_number("count", query.get("count", "24")),
            sort=query.get("sort", ""),
            descending=query.get("descending", "") in ("1", "true"),
            search=query.get("search", ""),
            where=query.getlist("where"),
            of=query.get("of", "images"),
        )
        return _json(await self._in_thread("json", call))

    async def image(self, request: Request) -> Response:
        place = _place(request.path_params["place"])
        return _json(await self._in_thread("json", partial(self._gallery.image, place)))

    async def thumbnail(self, request: Request) -> Response:
        return await self._rendition(request, "thumbnails", self._gallery.renditions.thumbnail)

    async def full(self, request: Request) -> Response:
        return await self._rendition(request, "full", self._gallery.renditions.full)

    async def _rendition(self, request: Request, kind: str, make: Callable[..., Rendition]) -> Response:
        parts = request.path_params
        role, names = parts["role"], [one.name for one in self._gallery.shown]
        if parts["result"] not in names or role not in ROLES:
            raise HTTPException(404, "there is no such image")
        place, number = _place(parts["place"]), _place(parts["number"])
        call = partial(make, parts["result"], place, role, number, request.query_params.get("v", "")[:64])
        try:
            found = await self._in_thread(kind, call)
        except (ImageError, DatasetError) as error:
            raise HTTPException(404, str(error)) from error
        cache = _LASTING if found.is_lasting else _PASSING
        return Response(found.data, media_type=found.media_type, headers={"Cache-Control": cache})

    async def _in_thread(self, kind: str, call: Callable[[], Any]) -> Any:
        """Call a function in a thread; each kind of request has its own few, so that images don't keep JSON waiting."""
        if kind not in self._limiters:
            self._limiters[kind] = CapacityLimiter(_THREADS if kind == "json" else max(2, 2 * usable_cpus()))
        with self._gallery.requests.working():
            return await to_thread.run_sync(call, limiter=self._limiters[kind], abandon_on_cancel=True)


def _json(content: Any) -> Response:
    data = json.dumps(content, ensure_ascii=True, allow_nan=False, default=str).encode()
    return Response(data, media_type="application/json")


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise ConfigError(name, text, "a whole number from 0")
    return int(text)


def _place(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise HTTPException(404, "there is no such image")
    return int(text)


async def _trouble(_request: Request, error: Exception) -> Response:
    if isinstance(error, ConfigError):
        return JSONResponse({"error": str(error)}, 400)
    return JSONResponse({"error": str(error)}, 404 if isinstance(error, MissingError) else 503)


async def _refused(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": str(getattr(error, "detail", error))}, status)


async def _bug(_request: Request, error: Exception) -> Response:
    logger.error("the gallery could not answer", exc_info=error)
    return JSONResponse({"error": "this is a bug of condgen; the terminal of the gallery shows it"}, 500)
