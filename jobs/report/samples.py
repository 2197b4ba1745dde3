"""The images that a report shows: their inputs, draws and originals, and what is known of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from jobs.report.choice import Choice
from jobs.report.measured import Column, EvaluatedImages, measure_thumbnails, shown_values
from jobs.report.results_files import ChunkImages, Originals, ResultsFiles
from jobs.report.thumbnails import thumbnail
from jobs.viewer.commands import extract_command, redraw_command

__all__ = ["Sample", "SampleImage", "read_samples", "with_values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleImage:
    """One image of a sample.

    Attributes:
        role: `input`, `draw` or `original`.
        draw: number of the draw; None of others.
        label: short name of it.
        image: a thumbnail, or why there is none.
    """

    role: str
    label: str
    image: Image.Image | str
    draw: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An image of the archive that a report shows.

    Attributes:
        source, key, width, height: values of its rows (pixels).
        images: input, draws, and the original where the input is grey.
        chosen: reasons why it is shown.
        values: numbers and copied columns, by name.
        details: all that its rows say, by name.
        redraw, extract: commands.
    """

    source: str
    key: str
    width: int
    height: int
    images: Sequence[SampleImage]
    chosen: Sequence[str]
    details: Mapping[str, Any]
    redraw: Sequence[str]
    extract: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def image(self, role: str) -> Image.Image | str:
        """Return the thumbnail of its input or original."""
        return next((one.image for one in self.images if one.role == role), f"no {role}")

    @property
    def draws(self) -> list[Image.Image | str]:
        """The thumbnails of its draws."""
        return [one.image for one in self.images if one.role == "draw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    results: str
    originals: Originals
    is_color: bool
    num_draws: int
    columns: Sequence[str]
    size_px: int


def read_samples(
    files: ResultsFiles,
    choice: Choice,
    *,
    results: str,
    originals: Originals,
    settings: Mapping[str, Any],
    size_px: int,
    watch: Callable[[int], None] = lambda _done: None,
) -> list[Sample]:
    """Read the chosen images, in the order of the archive.

    Args:
        files, originals: draws files and the archive.
        choice: images to read.
        results: place of the results, as it was named.
        settings: the plan's.
        size_px: longer side of the thumbnails at most (pixels).
        watch: function that is told how many more are done.
    """
    reading = _Reading(
        results=results,
        originals=originals,
        is_color=settings.get("kind", "colorize") == "colorize",
        num_draws=settings["draws"],
        columns=[name for name, _ in settings.get("columns", ())],
        size_px=size_px,
    )
    by_chunk: dict[int, list[int]] = {}
    for number, place in sorted(choice.reasons):
        by_chunk.setdefault(number, []).append(place)
    samples: list[Sample] = []
    for number, places in by_chunk.items():
        (images,) = files.read([number])
        rows = images.rows(places, reading.num_draws)
        data = originals.read(images.chunk, [images.places[place] for place in places])
        for place, original in zip(places, data, strict=True):
            whole = thumbnail(original, size_px)
            samples.append(_sample(reading, images, rows[place], whole, choice.reasons[number, place]))
        watch(len(places))
    return samples


def _sample(
    reading: _Reading,
    images: ChunkImages,
    rows: Sequence[Mapping[str, Any]],
    whole: Image.Image | str,
    chosen: Sequence[str],
) -> Sample:
    draws = sorted(rows, key=lambda row: int(row["draw"]))
    first = draws[0]
    source, key = first["source"], first["key"]
    given = whole.convert("L") if reading.is_color and isinstance(whole, Image.Image) else whole
    shown = [SampleImage(role="input", label="grey input" if reading.is_color else "input", image=given)]
    for row in draws:
        image = thumbnail(row["image"]["bytes"], reading.size_px)
        shown.append(SampleImage(role="draw", label=f"draw {row['draw']}", image=image, draw=row["draw"]))
    if reading.is_color:
        shown.append(SampleImage(role="original", label="original", image=whole))
    return Sample(
        source=source,
        key=key,
        width=first["width"],
        height=first["height"],
        images=shown,
        chosen=chosen,
        values={name: _plain(first[name]) for name in reading.columns if first.get(name) is not None},
        details={"chunk": images.chunk.name, **_details(draws)},
        redraw=[redraw_command(reading.results, source, key, row["draw"]) for row in draws],
        extract=extract_command(reading.results, source, key),
    )


def _details(draws: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = {name: _plain(value) for name, value in draws[0].items() if name not in ("draw", "image", "image_sha256")}
    for row in draws:
        size = len(row["image"]["bytes"])
        first[f"draw {row['draw']}"] = f"{row['image']['path']}, {size:,} bytes, sha256 {row['image_sha256']}"
    return first


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: a number that is none, such as NaN, as a text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def with_values(
    samples: Sequence[Sample], evaluated: EvaluatedImages | None, *, is_color: bool
) -> tuple[Sequence[Column], list[Sample]]:
    """Return the columns of numbers, and samples with those of an evaluation or what their thumbnails tell."""
    if evaluated is not None:
        values = evaluated.values([(one.source, one.key) for one in samples])
        numbers = [values.get((one.source, one.key), {}) for one in samples]
        columns = evaluated.columns
    else:
        role = "original" if is_color else "input"
        columns, numbers = measure_thumbnails([(one.image(role), one.draws) for one in samples], is_color=is_color)
    return columns, [
        replace(one, values={**shown_values(found), **one.values}) for one, found in zip(samples, numbers, strict=True)
    ]
