"""Small images for a page of a bounded size: the more there are, the smaller they become."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condgen.errors import CondgenError, ImageError
from pipelines.images.decoding import decode

__all__ = ["Quality", "encode_within", "qualities_for", "thumbnail"]


@dataclass(frozen=True, slots=True)
class Quality:
    """How large and how good thumbnails are: the longer side at most (pixels), and JPEG's quality."""

    size_px: int
    jpeg: int


QUALITIES = tuple(Quality(*one) for one in ((512, 85), (384, 85), (320, 85), (256, 80), (192, 78), (128, 72), (96, 60)))
_BYTES_A_PIXEL = 0.18
_ASPECT = 0.72


def qualities_for(count: int, budget_bytes: int) -> Sequence[Quality]:
    """Return the qualities at which so many thumbnails may fit a budget, the best first; always one at least."""
    fitting = [one for one in QUALITIES if count * one.size_px**2 * _ASPECT * _BYTES_A_PIXEL <= budget_bytes]
    return fitting or QUALITIES[-1:]


def thumbnail(
    data: bytes | CondgenError, size_px: int, decoder: Callable[..., NDArray[np.uint8]] = decode
) -> Image.Image | str:
    """Return an image of at most `size_px` pixels a side, or why there is none.

    Args:
        data: an encoded image, or why it can't be had.
        size_px: its longer side at most (pixels).
        decoder: a function such as `pipelines.images.decoding.decode`.
    """
    if isinstance(data, CondgenError):
        return str(data)
    try:
        image = Image.fromarray(decoder(data, min_size_px=size_px))
    except ImageError as error:
        return str(error)
    image.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    return image


def encode_within(
    images: Sequence[Image.Image], budget_bytes: int, qualities: Sequence[Quality] = QUALITIES
) -> tuple[list[str], Quality]:
    """Return images as data URIs that have at most `budget_bytes` together, if the least quality makes them fit.

    Args:
        images: thumbnails; they are made smaller where they have to be.
        budget_bytes: bound of the sum of all URIs.
        qualities: what is tried, one after the other.
    """
    for quality in qualities:
        uris = [_uri(image, quality) for image in images]
        if sum(map(len, uris)) <= budget_bytes:
            break
    return uris, quality


def _uri(image: Image.Image, quality: Quality) -> str:
    if max(image.size) > quality.size_px:
        image = image.copy()
        image.thumbnail((quality.size_px, quality.size_px), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality.jpeg, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"
