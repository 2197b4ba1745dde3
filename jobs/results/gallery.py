"""`condgen gallery`: a web server on this machine that shows results, straight from where they lie."""

from __future__ import annotations

import html
import importlib.resources
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from platformdirs import user_cache_dir

from condgen.errors import ConfigError
from jobs.viewer import commands
from pipelines.gallery.access import Access, host_names
from pipelines.gallery.app import make_app
from pipelines.gallery.gallery import Gallery, Statements
from pipelines.gallery.stored_results import StoredResults
from pipelines.storage.cache import ChunkCache

__all__ = ["GalleryOptions", "prune", "run"]

logger = logging.getLogger(__name__)

_MEDIA_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_GRACE_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryOptions:
    """How a gallery is served.

    Attributes:
        host: address that it is bound to; others than this machine's own can reach it only where it is not loopback.
        port: port; 0 for any that is free.
        measure: whether images without an evaluation are measured while the index is made.
        cache_bytes: most bytes of thumbnails, and of other results' indexes.
        open_browser: whether a browser is opened.
        folder: folder of the cache (default: the user's cache folder).
    """

    host: str = "127.0.0.1"
    port: int = 0
    measure: bool = False
    cache_bytes: int = 1 << 30
    open_browser: bool = False
    folder: str | None = None


def run(results: Sequence[str], options: GalleryOptions, say: Callable[[str], None] = print) -> None:
    """Show results until the process is stopped.

    Args:
        results: places of one or two results of the same archive.
        options: how.
        say: function that is told the address, and what else is to be known.

    Raises:
        ConfigError: the port is taken, the host is no address of this machine, or the results are of two archives.
        DatasetError: nothing was begun there.
        StorageError: see `pipelines.storage.store`.
    """
    import uvicorn

    opened = [StoredResults.open(uri) for uri in results]
    folder = Path(options.folder or user_cache_dir("condgen")) / "gallery"
    with _bound(options.host, options.port) as listener, _gallery(opened, folder, options) as gallery:
        names, any_address = host_names(options.host)
        port = listener.getsockname()[1]
        access = Access(names=names, any_address=any_address, cookie=f"condgen-gallery-{port}")
        address = f"http://{_shown_host(options.host)}:{port}/?token={access.token}"
        config = uvicorn.Config(
            make_app(gallery, access, _page(gallery.title), _static()),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        for one in opened:
            if one.run is None:
                done, total = one.num_chunks
                say(f"not complete  {one.store.uri}: {done:,} of {total:,} chunks; more are shown as they come")
        say(f"gallery       {address}")
        with _statements(gallery, results), _browser(address if options.open_browser else None):
            uvicorn.Server(config).run(sockets=[listener])


def prune(folder: Path, most_bytes: int, keep: Sequence[Path] = ()) -> None:
    """Delete the indexes that were used least recently, until the others take at most so many bytes.

    Args:
        folder: folder of indexes.
        most_bytes: bound of all but those that are kept.
        keep: paths of indexes that stay.
    """
    entries = []
    for path in folder.glob("*.sqlite"):
        if path not in keep:
            files = [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
            sizes = [one.stat().st_size for one in files if one.exists()]
            entries.append((path.stat().st_mtime, sum(sizes), files))
    used = sum(size for _, size, _ in entries)
    for _, size, files in sorted(entries, key=lambda one: one[0]):
        if used <= most_bytes:
            break
        for one in files:
            one.unlink(missing_ok=True)
        used -= size


@contextmanager
def _gallery(opened: Sequence[StoredResults], folder: Path, options: GalleryOptions) -> Iterator[Gallery]:
    """Open the gallery and begin to fill its indexes; in a folder that can't be written to, in one that is deleted."""
    measure = None
    if options.measure:
        from pipelines.gallery.measuring import Measurer

        measure = Measurer(is_color=opened[0].is_color)
    with tempfile.TemporaryDirectory(prefix="condgen-gallery-") as spare:
        try:
            (folder / "index").mkdir(parents=True, exist_ok=True)
            is_writable = os.access(folder / "index", os.W_OK)
        except OSError:
            is_writable = False
        if not is_writable:
            logger.warning("%s can't be written to: the index is made anew each time", folder)
            folder = Path(spare)
        cache = ChunkCache(str(folder / "thumbnails"), options.cache_bytes)
        gallery = Gallery(opened, folder / "index", cache, commands, measure)
        prune(folder / "index", options.cache_bytes, [one.index.path for one in gallery.shown])
        gallery.start()
        try:
            yield gallery
        finally:
            gallery.close()


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """Return a socket that is bound to an address."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError("--host", host, f"a name or an address of this machine ({error.strerror})") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
            listener.listen()
        except OSError as error:
            reason = f"a port that is free on {host} ({error.strerror}), or none for any that is"
            raise ConfigError("--port", port, reason) from error
        yield listener


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  # asked for by --host
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _page(title: str) -> bytes:
    environment = Environment(loader=PackageLoader("jobs"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("gallery.html.j2").render(title=title).encode("utf-8", "backslashreplace")


def _static() -> Mapping[str, tuple[bytes, str]]:
    """Return the files that the page loads."""
    files = importlib.resources.files("jobs.viewer").iterdir()
    return {
        one.name: (one.read_bytes(), _MEDIA_TYPES[ending])
        for one in files
        if (ending := Path(one.name).suffix) in _MEDIA_TYPES
    }


@contextmanager
def _statements(gallery: Gallery, results: Sequence[str]) -> Iterator[None]:
    """Work out beside the server what is said of the evaluations, in a process that may import torch."""
    if all(one.evaluation is None for one in gallery.shown):
        yield
        return
    program = [sys.executable, "-P", "-m", "jobs.results.statements", *results]
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )

    def wait() -> None:
        out, trouble = process.communicate()
        try:
            gallery.tell(Statements(**json.loads(out)))
        except (ValueError, TypeError):
            if process.returncode is not None and process.returncode >= 0:
                logger.warning("the evaluation can't be shown: %s", trouble.strip().rpartition("\n")[2])
            gallery.tell(None)

    threading.Thread(target=wait, daemon=True, name="statements").start()
    try:
        yield
    finally:
        process.kill()


@contextmanager
def _browser(address: str | None) -> Iterator[None]:
    """Open a browser by a file that only this user may read: others could see an address among its arguments."""
    if address is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="condgen-gallery-") as folder:
        path = Path(folder) / "gallery.html"
        path.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(address)}">')
        webbrowser.open(path.as_uri())
        yield
