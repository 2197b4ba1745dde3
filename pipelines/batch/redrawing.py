"""One draw made again: its row is found by the draws files' statistics, and compared with what the model draws now.

from pipelines.batch import find_draw, redraw

stored = find_draw(open_store("results/"), key="album/3", draw=1)
again = redraw(stored)
again.is_identical          # pixels and bytes, on the same hardware with the same versions
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from condgen.errors import ConfigError, DatasetError, ImageError
from pipelines.batch.engine import Functions
from pipelines.batch.worker import WorkerSpec
from pipelines.cluster.tasks import one_thread
from pipelines.datasets.chunk import Chunk, Sample, image_member, iter_chunks, read_chunk
from pipelines.datasets.opening import archive_store
from pipelines.images.decoding import decode
from pipelines.models.source import ModelSource, open_model
from pipelines.results.files import Draw, Failure, draws_name, read_footer
from pipelines.results.finding import FoundRow, WantedImages, candidates, find_rows
from pipelines.results.plan import Generation, Plan, require_plans
from pipelines.results.settings import BatchSettings
from pipelines.storage.parquet import open_parquet
from pipelines.storage.store import Store

__all__ = ["RedrawnDraw", "StoredDraw", "find_draw", "redraw"]

_READERS = 16
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDraw:
    """A row of a draws file, and all that it was made from.

    Attributes:
        results: store of the job's results.
        plan, chunk: plan and chunk that the draw belongs to.
        place: place of its image in the chunk.
        row: values by column, `image` as bytes and path.
        versions: versions of the packages that made it.
    """

    results: Store
    plan: Plan
    chunk: Chunk
    place: int
    row: Mapping[str, Any]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedrawnDraw:
    """A draw that was made again.

    Attributes:
        stored: the draw as it is in the results.
        image: encoded image that was made now.
        max_difference: largest difference of the pixels (codes; of 255, or of 65535 where they have 16 bits);
            None where the sizes differ.
        versions: versions of the packages that made it now.
    """

    stored: StoredDraw
    image: bytes
    max_difference: int | None
    versions: Mapping[str, str]

    @property
    def is_identical(self) -> bool:
        """Whether the files are the same bytes."""
        return bool(self.image == self.stored.row["image"]["bytes"])

    @property
    def other_versions(self) -> dict[str, tuple[str, str]]:
        """The packages whose version has changed: then and now."""
        then = self.stored.versions
        return {name: (then[name], now) for name, now in self.versions.items() if then.get(name, now) != now}


def find_draw(results: Store, *, key: str, draw: int, source: str | None = None) -> StoredDraw:
    """Find a draw's row: by the plan where it knows the names, and by the Parquet statistics of keys.

    Raises:
        ConfigError: there is no such draw, or there are several images of that key.
        DatasetError: there is no plan, or a draws file is damaged.
        StorageError: see `pipelines.storage.store`.
    """
    generations = require_plans(results, checked=False)
    settings = BatchSettings.from_json(generations[0].plan.settings)
    if not 0 <= draw < settings.draws:
        raise ConfigError("draw", draw, f"0 to {settings.draws - 1}: these results have {settings.draws} of each image")
    wanted = WantedImages.of([(source, key)])

    def look(chunk: Chunk) -> list[FoundRow]:
        return list(find_rows(results, draws_name(chunk.name), wanted))

    hits: list[tuple[Plan, Chunk, FoundRow]] = []
    with ThreadPoolExecutor(_READERS, thread_name_prefix="keys") as pool:
        for generation in generations:
            for chunks in map(list, map(iter_chunks, candidates(generation.stored, wanted))):
                for chunk, of_chunk in zip(chunks, pool.map(look, chunks), strict=True):
                    hits += [(generation.plan, chunk, hit) for hit in of_chunk if hit.draw == draw]
    if len(hits) != 1:
        raise _not_one(results, generations, key, [hit.source for _, _, hit in hits])
    ((plan, chunk, hit),) = hits
    name = draws_name(chunk.name)
    facts = read_footer(results, name)
    without = {one["place"] for one in (*facts["errors"], *facts["filtered"])}
    places = [place for place in chunk.places if place not in without]
    row = open_parquet(results, name).read_row_group(hit.group).slice(hit.row_in_group, 1).to_pylist()[0]
    return StoredDraw(
        results=results,
        plan=plan,
        chunk=chunk,
        place=places[hit.row // settings.draws],
        row=row,
        versions=facts.get("versions", {}),
    )


def _not_one(results: Store, generations: Sequence[Generation], key: str, sources: Sequence[str]) -> ConfigError:
    if len(set(sources)) > 1:
        shown = ", ".join(sorted(set(sources))[:_SHOWN])
        return ConfigError("key", key, f"a key of one image; it is in {len(set(sources))} sources ({shown}): --source")
    if sources:
        return ConfigError("key", key, f"a key of one image; {len(sources)} of {sources[0]} have it")
    for generation in generations:
        name = f"errors/{generation.plan.name}.parquet"
        if results.exists(name):
            with open_parquet(results, name) as file:
                for row in file.read().to_pylist():
                    if row["key"] == key:
                        reason = f"{row['stage']} {row['error']}: {row['message']}"
                        return ConfigError("key", key, f"an image with draws; this one is in errors/ ({reason})")
    total = sum(generation.plan.num_chunks for generation in generations)
    num_files = sum(1 for _ in results.iter_list("draws"))
    unfinished = f"; the job is not complete, {total - num_files} of {total} chunks are missing"
    return ConfigError("key", key, "a key of the column `key`" + (unfinished if num_files < total else ""))


def redraw(
    stored: StoredDraw,
    *,
    archive: str | None = None,
    model: ModelSource | None = None,
    functions: Functions | None = None,
) -> RedrawnDraw:
    """Make a draw again, alone: its image in a batch of the plan's shape, with the settings of the plan.

    Args:
        stored: the draw, as `find_draw` returns it.
        archive: place where the archive is now; None is where the plan says.
        model: the model, whose digest must be the plan's; None is where the plan says.
        functions: the user's own functions, where the job had some.

    Raises:
        ConfigError: the job had functions of the user's own, and none are given.
        CheckpointError: the model is another one.
        DatasetError: the image in the archive is another one, or can't be done any more.
        StorageError: see `pipelines.storage.store`.
    """
    plan, row = stored.plan, stored.row
    settings = BatchSettings.from_json(plan.settings)
    if settings.functions and functions is None:
        raise ConfigError(
            "functions", "none", "the job's own functions: call pipelines.batch.redrawing.redraw with them"
        )
    store = archive_store(archive or plan.archive)
    (sample,) = read_chunk(store, replace(stored.chunk, select=(stored.place,), samples=1))
    _check_source(store, sample, row, settings.member)
    spec = WorkerSpec(
        archive=store,
        results=stored.results,
        model=model or open_model(plan.model["uri"]),
        model_digest=plan.model["digest"],
        settings=settings,
        functions=functions or Functions(),
        run="redraw",
    )
    with one_thread():
        outcome = spec.make_engine().outcomes([(stored.place, sample)])[stored.place]
    if not isinstance(outcome, list):
        what = f"{outcome.stage} {outcome.error}: {outcome.message}" if isinstance(outcome, Failure) else "left out"
        raise DatasetError(f"{row['key']} had draws, and has none now: {what}")
    made: Draw = outcome[row["draw"]]
    return RedrawnDraw(
        stored=stored,
        image=made.image,
        max_difference=_difference(row["image"]["bytes"], made.image),
        versions={name: version(name) for name in stored.versions},
    )


def _check_source(archive: Store, sample: Sample, row: Mapping[str, Any], member: str) -> None:
    try:
        data = image_member(sample, member)
    except ImageError as error:
        raise DatasetError(f"{row['key']} can't be read in {archive.uri}: {error}") from error
    if (sample.key, hashlib.sha256(data).hexdigest()) != (row["key"], row["source_sha256"]):
        raise DatasetError(f"{row['key']} in {archive.uri} is not the image that the draw was made of")


def _difference(stored: bytes, made: bytes) -> int | None:
    if stored == made:
        return 0
    a, b = (decode(data, keep_16_bit=True) for data in (stored, made))
    if a.shape != b.shape or a.dtype != b.dtype:
        return None
    return int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())
