"""What a report's page holds of its images: thumbnails for its plain list, and the items that its script reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from jobs.report.failures import FailedImage
from jobs.report.samples import Sample
from jobs.report.thumbnails import Quality, encode_within

__all__ = ["PageItems", "make_items"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageItems:
    """The items of a page.

    Attributes:
        images, errors: items as the viewer takes them; each thumbnail is the id of an image of the page.
        uris: data URIs of the thumbnails, by id.
        reasons: the first error of each reason, with the number of the rows shown that have it.
        quality: quality of the thumbnails.
    """

    images: Sequence[Mapping[str, Any]]
    errors: Sequence[Mapping[str, Any]]
    uris: Mapping[str, str]
    reasons: Sequence[tuple[Mapping[str, Any], int]]
    quality: Quality


def make_items(
    samples: Sequence[Sample],
    failures: Sequence[FailedImage],
    *,
    retry: str | None,
    qualities: Sequence[Quality],
    budget_bytes: int,
) -> PageItems:
    """Return the items of samples and errors; their thumbnails fit a budget together.

    Args:
        samples, failures: what the page shows.
        retry: the command that tries again what failed.
        qualities: qualities of the thumbnails, the best first.
        budget_bytes: bound of all thumbnails.
    """
    images = [_image_item(sample, f"i{place}") for place, sample in enumerate(samples)]
    errors = [_error_item(failure, f"e{place}", retry) for place, failure in enumerate(failures)]
    thumbnails: dict[str, Image.Image] = {}
    for item, sample in zip(images, samples, strict=True):
        for shown, picture in zip(item["pictures"], sample.images, strict=True):
            if isinstance(picture.image, Image.Image):
                thumbnails[shown["thumb"]] = picture.image
    for item, failure in zip(errors, failures, strict=True):
        if isinstance(failure.image, Image.Image):
            thumbnails[item["pictures"][0]["thumb"]] = failure.image
    uris, quality = encode_within(list(thumbnails.values()), budget_bytes, qualities)
    return PageItems(
        images=images,
        errors=errors,
        uris=dict(zip(thumbnails, uris, strict=True)),
        reasons=_reasons(errors),
        quality=quality,
    )


def _image_item(sample: Sample, name: str) -> dict[str, Any]:
    pictures = [
        _picture(one.image, f"{name}-{place}", one.role, one.label, sample.key, draw=one.draw)
        for place, one in enumerate(sample.images)
    ]
    return {
        "id": name,
        "source": sample.source,
        "key": sample.key,
        "width": sample.width,
        "height": sample.height,
        "pictures": pictures,
        "values": {**sample.values, "chosen": "; ".join(sample.chosen)},
        "error": None,
        "commands": {"redraw": list(sample.redraw), "extract": sample.extract, "retry": None},
        "details": {**sample.values, **sample.details},
    }


def _error_item(failure: FailedImage, name: str, retry: str | None) -> dict[str, Any]:
    row = failure.row
    return {
        "id": name,
        "source": row["source"],
        "key": row["key"],
        "width": None,
        "height": None,
        "pictures": [_picture(failure.image, f"{name}-0", "input", "input", row["key"])],
        "values": {"plan": failure.plan},
        "error": {part: row[part] for part in ("stage", "error", "message")},
        "commands": {"redraw": [], "extract": None, "retry": retry},
    }


def _picture(
    image: Image.Image | str, name: str, role: str, label: str, key: str, *, draw: int | None = None
) -> dict[str, Any]:
    is_there = isinstance(image, Image.Image)
    return {
        "role": role,
        "draw": draw,
        "result": "A",
        "label": label,
        "alt": f"{key}, {label}",
        "thumb": name if is_there else None,
        "full": None,
        "missing": "" if is_there else image,
    }


def _reasons(errors: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    by_reason: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for item in errors:
        by_reason.setdefault((item["error"]["stage"], item["error"]["error"]), []).append(item)
    groups = sorted(by_reason.values(), key=len, reverse=True)
    return [(items[0], len(items)) for items in groups]
