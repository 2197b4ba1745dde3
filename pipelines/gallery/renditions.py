"""Images as a browser is sent them: thumbnails, made when they are asked for and kept on disk, and full size.

JPEG, PNG and WebP leave as they are stored; whatever else an archive holds is decoded here and sent as JPEG, and so are
the grey input of a colorization and what can be decoded of an image that failed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condgen.errors import ImageError
from pipelines.gallery.stored_results import Outcome, StoredResults
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.images.partial import decode_partly
from pipelines.images.signatures import format_of
from pipelines.storage.cache import ChunkCache

__all__ = ["ROLES", "THUMBNAIL_PX", "Rendition", "Renditions"]

ROLES = ("input", "draw", "original")
THUMBNAIL_PX = 320
"""The longer side of a thumbnail."""

MAX_PIXELS = 200_000_000
"""Images of more are not decoded to be shown."""

_THUMBNAIL_QUALITY = 82
_FULL_QUALITY = 95
_FULL_DECODERS = 2
_SENT_AS_STORED: Mapping[str, str] = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}

Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Rendition:
    """An image for a browser: its file, its media type, and whether its address will never mean another one."""

    data: bytes
    media_type: str
    is_lasting: bool


class Renditions:
    """The images of some results, as a browser is sent them. Safe in threads.

    Args:
        results: the results by their names.
        cache: cache of thumbnails; None for none.
    """

    def __init__(self, results: Mapping[str, StoredResults], cache: ChunkCache | None) -> None:
        self._results, self._cache = results, cache
        self._full = threading.Semaphore(_FULL_DECODERS)

    def thumbnail(self, name: str, place: int, role: str, number: int = 0, version: str = "") -> Rendition:
        """Return the thumbnail of an image.

        Args:
            name: name of the results.
            place: place of the image in them.
            role: one of `ROLES`.
            number: number of the draw.
            version: version of the image that the address names (`ImageRow.version`); empty for none.

        Raises:
            CondgenError: it can't be had, or it can't be decoded.
        """
        entry = self._entry(name, place, role, number, version)
        kept = self._cache.get(entry) if self._cache is not None and version else None
        if kept is not None:
            return Rendition(kept, "image/jpeg", is_lasting=True)
        results = self._results[name]
        outcome = results.outcome(place)
        rgb = _pixels(results, outcome, role, number, THUMBNAIL_PX)
        image = Image.fromarray(rgb)
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
        data = encode(np.asarray(image), quality=_THUMBNAIL_QUALITY)
        is_lasting = bool(version) and version == _version(outcome)
        if is_lasting and self._cache is not None:
            self._cache.put(entry, data)
        return Rendition(data, "image/jpeg", is_lasting)

    def full(self, name: str, place: int, role: str, number: int = 0, version: str = "") -> Rendition:
        """Return an image at its full size; arguments and errors are those of `thumbnail`."""
        results = self._results[name]
        outcome = results.outcome(place)
        is_lasting = bool(version) and version == _version(outcome)
        if outcome.status == "draws" and not _is_made_grey(results, role):
            data = _stored(results, outcome, role, number)
            media_type = _SENT_AS_STORED.get(format_of(data[:64]) or "")
            if media_type is not None:
                return Rendition(data, media_type, is_lasting)
        with self._full:
            rgb = _pixels(results, outcome, role, number, None)
            return Rendition(encode(rgb, quality=_FULL_QUALITY), "image/jpeg", is_lasting)

    def _entry(self, name: str, place: int, role: str, number: int, version: str) -> str:
        results = self._results[name]
        facts = [results.store.uri, results.plan.digest, place, role, number, version, THUMBNAIL_PX]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _version(outcome: Outcome) -> str:
    return outcome.file.version if outcome.file is not None else ""


def _is_made_grey(results: StoredResults, role: str) -> bool:
    return results.is_color and role == "input"


def _stored(results: StoredResults, outcome: Outcome, role: str, number: int) -> bytes:
    """Return an image as it is stored, in the results or in the archive."""
    if role == "draw":
        return results.draw(outcome, number)
    return results.given(outcome, target=role == "original" and not results.is_color)


def _pixels(results: StoredResults, outcome: Outcome, role: str, number: int, min_size_px: int | None) -> Rgb:
    if outcome.failure.get("stage") == "process":
        raise ImageError("decode", "NotTried", "it ended the process that decoded it, and so it is not decoded here")
    data = _stored(results, outcome, role, number)
    failed = outcome.status == "error"
    decoder: Callable[..., Rgb] = decode_partly if failed else decode
    rgb = decoder(data, min_size_px=min_size_px, max_pixels=MAX_PIXELS)
    if _is_made_grey(results, role):
        rgb = np.asarray(Image.fromarray(rgb).convert("L").convert("RGB"))
    return rgb
