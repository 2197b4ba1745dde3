"""The images of results as files, under the archive's own names; `condgen extract` runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from condgen.errors import ConfigError, DatasetError, MissingError
from pipelines.cluster.starting import usable_cpus
from pipelines.cluster.tasks import run_tasks
from pipelines.images.encoding import SUFFIXES
from pipelines.results.account import committed
from pipelines.results.extraction.chunks import (
    ExtractedChunks,
    Extraction,
    extract_chunks,
    read_digests,
    read_identities,
)
from pipelines.results.files import draws_name
from pipelines.results.names import Names, name_images
from pipelines.results.plan import Generation, job_digest, require_plans
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import Store, open_store

__all__ = ["MARK", "RAY_FROM_BYTES", "ExtractReport", "extract_results"]

T = TypeVar("T")

MARK = ".condgen-extract.json"
"""In the destination: what it holds. Its name begins with a dot, so that no listing takes it for an image."""

RAY_FROM_BYTES = 4 << 30
"""From this many bytes of draws files on, where both places are reached from any machine, Ray does it; else threads."""

_FORMAT = "condgen-extract-1"
_THREADS_AFAR = 16
_CHUNKS_A_TASK = 4


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """How an extraction went.

    Attributes:
        results, destination: places read and written.
        counts: counts of the results, as run.json has them.
        by_shard: whether the images are in folders of their shards.
        found: account of the images.
        files: number of files that there are to be.
    """

    results: str
    destination: str
    counts: Mapping[str, int]
    by_shard: bool
    found: ExtractedChunks
    files: int

    @property
    def exit_code(self) -> int:
        """The exit code: 1 where not all is there."""
        return 0 if self._is_whole else 1

    @property
    def _is_whole(self) -> bool:
        return self.found.images == self.counts["with_draws"] and self.found.written + self.found.left == self.files

    def lines(self) -> list[str]:
        """Return the report, a line each."""
        found, counts = self.found, self.counts
        lines = [
            f"images in     {counts['images']:,}",
            (
                f"files         {found.written + found.left:,} of {found.images:,} images: {found.written:,} written "
                f"({found.bytes_out / 1e6:,.1f} MB), {found.left:,} were there"
            ),
            f"errors        {counts['errors']:,}" + (f", see {self.results}/errors" if counts["errors"] else ""),
        ]
        if counts["filtered"]:
            lines.append(f"filtered      {counts['filtered']:,}")
        if self.by_shard:
            lines.append("folders       one a shard: keys are in several shards")
        if found.renamed:
            lines.append(f"names         {found.renamed:,} are not the archive's own, which are taken or can't be had")
        if found.images != counts["with_draws"]:
            lines.append(f"missing       {counts['with_draws'] - found.images:,} images: see condgen verify")
        if found.blocked:
            lines.append(
                f"not written   {found.blocked:,} files that are there already and are something else "
                f"({', '.join(found.examples)}): --overwrite, or another DEST"
            )
        return [*lines, f"written to    {self.destination}"]


def extract_results(
    results: str,
    destination: str,
    *,
    draw: int | None = 0,
    overwrite: bool = False,
    cluster: Callable[[], AbstractContextManager[None]] = nullcontext,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> ExtractReport:
    """Write the images of complete results as files. The same again leaves what is there.

    Args:
        results: place that `condgen colorize` or `translate` wrote.
        destination: a folder or prefix.
        draw: which draw of each image (from 0; None for all).
        overwrite: write over files that are something else.
        cluster: context that starts Ray and ends it, where there is much to do; by default Ray starts by itself.
        watch: function that is told how many images are done, and of how many.

    Raises:
        ConfigError: no such draw, or a destination that holds something else.
        DatasetError: the results are not complete, or damaged.
        StorageError: see `pipelines.storage.store`.
    """
    store, target = open_store(results).require(), open_store(destination)
    generations, settings = _plans(store, draw)
    plan = generations[0].plan
    if any(target.is_inside(place) for place in (store, open_store(plan.archive.partition("::")[0]))):
        raise ConfigError("dest", target.uri, "a place outside ARCHIVE and RESULTS")
    work, found = _Work(store, target, generations, committed(store)), ExtractedChunks()
    counts, suffix, is_empty = _counts(work), SUFFIXES[settings.output.output_format], _is_empty(target)
    with cluster() if work.by_ray else nullcontext():
        names = work.names(suffix)
        job = job_digest(plan.model["digest"], dict(plan.settings))
        facts = {"format": _FORMAT, "results": store.uri, "job": job, "draw": draw, "by_shard": names.by_shard}
        is_alone = _is_alone(target, facts, is_empty=is_empty, overwrite=overwrite)
        mark = {**facts, "is_alone": is_alone}
        target.write_json(MARK, {**mark, "is_complete": False})
        extraction = Extraction(
            draws=settings.draws,
            draw=draw,
            suffix=suffix,
            by_shard=names.by_shard,
            is_empty=is_empty,
            is_ours=is_alone,
            overwrite=overwrite,
        )
        for part in work.extract(extraction, names):
            found.add(part)
            watch(found.images, counts["with_draws"])
    files = found.images * (1 if draw is not None else settings.draws)
    report = ExtractReport(
        results=results, destination=destination, counts=counts, by_shard=names.by_shard, found=found, files=files
    )
    if report.exit_code == 0:
        target.write_json(MARK, {**mark, "is_complete": True, "counts": dict(counts)})
    return report


def _plans(store: Store, draw: int | None) -> tuple[Sequence[Generation], BatchSettings]:
    """Return the plans of results, and their settings, which must have that draw."""
    generations = require_plans(store)
    settings = BatchSettings.from_json(generations[0].plan.settings)
    if draw is not None and not 0 <= draw < settings.draws:
        raise ConfigError("--draw", draw, f"0 to {settings.draws - 1}, or all")
    return generations, settings


def _is_empty(target: Store) -> bool:
    """Return whether nothing is there, as far as can be told without listing all of it."""
    if not target.exists(""):
        return True
    return "://" not in target.uri and not any(Path(target.uri).iterdir())


def _counts(work: _Work) -> Mapping[str, int]:
    """Return the counts of run.json, which complete results have."""
    store, total = work.results, sum(one.plan.num_chunks for one in work.generations)
    missing = sum(draws_name(name) not in work.sizes for name, _ in work.chunks())
    if missing or not store.exists("run.json"):
        left = f"{missing:,} of {total:,} chunks are missing" if missing else "run.json is missing"
        raise DatasetError(f"{store.uri} is not complete, {left}: run the job to its end, then extract")
    try:
        counts = json.loads(store.read("run.json"))["counts"]
        return {name: int(counts[name]) for name in ("images", "with_draws", "errors", "filtered")}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{store.uri}/run.json is damaged: delete it and run the job again") from error


def _is_alone(target: Store, mark: Mapping[str, Any], *, is_empty: bool, overwrite: bool) -> bool:
    """Return whether all that is in the destination was put there by this same extraction.

    Raises:
        ConfigError: another one put files there.
    """
    try:
        there = json.loads(target.read(MARK))
    except MissingError:
        return is_empty
    except ValueError:
        there = None
    if overwrite or not isinstance(there, dict):
        return False
    for name in ("job", "draw", "by_shard"):
        if there.get(name) != mark[name]:
            was = "all draws" if there.get("draw") is None else f"draw {there.get('draw')}"
            allowed = f"another DEST, or --overwrite: it has {was} of {there.get('results')}, under the same names"
            raise ConfigError("dest", target.uri, allowed)
    return there.get("is_alone") is True


@dataclass(frozen=True, slots=True)
class _Work:
    """The two passes over the draws files: names, then images."""

    results: Store
    target: Store
    generations: Sequence[Generation]
    sizes: Mapping[str, int]

    @property
    def by_ray(self) -> bool:
        """Whether Ray does it: there is much, and any machine reaches both places."""
        return all("://" in place.uri for place in (self.results, self.target)) and (
            sum(self.sizes.values()) >= RAY_FROM_BYTES
        )

    @property
    def threads(self) -> int:
        """The number of threads: storage, near or far, is waited for; images are not looked at."""
        afar = any("://" in place.uri for place in (self.results, self.target))
        return _THREADS_AFAR if afar else 2 * usable_cpus()

    def chunks(self) -> Iterator[tuple[str, bool]]:
        """Yield the chunks of all plans, and whether they are of loose files."""
        for piece in (piece for one in self.generations for piece in one.stored.pieces(["name", "shard"])):
            for name, shard in zip(piece["name"].to_pylist(), piece["shard"].to_pylist(), strict=True):
                yield name, shard is None

    def names(self, suffix: str) -> Names:
        """Return how the images are named."""
        is_loose = dict(self.chunks())
        tasks = ((self.results, batch, suffix) for batch in _batches(self.chunks()))
        parts = run_tasks(read_digests, tasks, self.threads, on_ray=self.by_ray)
        digests = {name: (flat, nested) for part in parts for name, flat, nested in part}
        ordered = {name: digests[name] for name in is_loose}
        return name_images(ordered, lambda name: read_identities(self.results, name, is_loose[name]), suffix)

    def extract(self, extraction: Extraction, names: Names) -> Iterator[ExtractedChunks]:
        """Write the images."""
        chunks = (
            (name, self.sizes[draws_name(name)], is_loose, names.others.get(name, {}))
            for name, is_loose in self.chunks()
        )
        tasks = ((self.results, self.target, extraction, batch) for batch in _batches(chunks))
        return run_tasks(extract_chunks, tasks, self.threads, on_ray=self.by_ray)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(items)
    return iter(lambda: list(islice(waiting, _CHUNKS_A_TASK)), [])
