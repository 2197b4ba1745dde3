"""What a report shows of the images that failed: some rows of each plan's errors, and inputs where they can be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from PIL import Image

from condgen.errors import CondgenError, DatasetError
from jobs.report.results_files import Originals, ResultsFiles
from jobs.report.thumbnails import thumbnail
from pipelines.images.partial import decode_partly
from pipelines.storage.parquet import read_parquet
from pipelines.storage.store import Store

__all__ = ["FailedImage", "read_failures", "show_inputs"]

MAX_ERRORS = 100
MAX_SHOWN = 24
NOT_SHOWN = f"the inputs of {MAX_SHOWN} errors are shown"


@dataclass(frozen=True, slots=True)
class FailedImage:
    """A row of a table of errors, with the name of its plan and its input, or why that is not shown."""

    row: Mapping[str, str]
    plan: str
    image: Image.Image | str = NOT_SHOWN


def read_failures(store: Store, most: int = MAX_ERRORS) -> list[FailedImage]:
    """Return the first errors, of each plan its share."""
    found: list[FailedImage] = []
    names = [entry.name for entry in store.list("errors") if entry.name.endswith(".parquet")]
    tables = sorted(((name, read_parquet(store.read(name))) for name in names), key=_num_rows)
    for place, (name, table) in enumerate(tables):
        share = -(-(most - len(found)) // (len(tables) - place))
        plan = name.removeprefix("errors/").removesuffix(".parquet")
        found += [FailedImage(row, plan) for row in table.slice(0, share).to_pylist()]
    return sorted(found, key=lambda one: one.plan)


def _num_rows(item: tuple[str, pa.Table]) -> int:
    return int(item[1].num_rows)


def show_inputs(
    failures: Sequence[FailedImage], files: ResultsFiles, originals: Originals, size_px: int
) -> list[FailedImage]:
    """Return errors with their inputs: the first of each reason, then others, `MAX_SHOWN` at most.

    Args:
        failures: rows of errors.
        files, originals: files to look into.
        size_px: longer side of the thumbnails at most (pixels).
    """
    reasons: dict[tuple[str, str], int] = {}
    rank = []
    for place, one in enumerate(failures):
        reason = one.row["stage"], one.row["error"]
        reasons[reason] = reasons.get(reason, -1) + 1
        rank.append((reasons[reason], place))
    shown = {place for _, place in sorted(rank)[:MAX_SHOWN]}
    return [
        FailedImage(one.row, one.plan, thumbnail(_input(one.row, files, originals), size_px, decode_partly))
        if place in shown
        else one
        for place, one in enumerate(failures)
    ]


def _input(row: Mapping[str, str], files: ResultsFiles, originals: Originals) -> bytes | CondgenError:
    identity = row["source"], row["key"]
    try:
        for number in files.candidates(row["source"]):
            (images,) = files.read([number])
            if identity in images.failures:
                (data,) = originals.read(images.chunk, [images.failures[identity]["place"]])
                return data
    except CondgenError as error:
        return error
    return DatasetError("its chunk was not found among the first of its shard")
