"""The subject of an evaluation: finished results and where their true images are, or a model and a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from condgen.errors import CondgenError, ConfigError, DatasetError
from pipelines.batch.archive import cut_archive, limit_pieces
from pipelines.batch.probe import inspect_model
from pipelines.batch.worker import WorkerSpec
from pipelines.datasets.chunk import CHUNK_SCHEMA, ChunkLimits
from pipelines.datasets.chunking import cut_chunks
from pipelines.datasets.opening import NoShardsError, archive_store, open_archive
from pipelines.evaluation.judging import JudgeSpec, can_judge
from pipelines.evaluation.options import EvaluateOptions
from pipelines.evaluation.references import ArchiveReferences, KeyedReferences
from pipelines.evaluation.sources import AnswerSource, ModelAnswers, StoredAnswers
from pipelines.evaluation.survey import Survey
from pipelines.models.source import ModelSource, PackagedModel, StoredModel, kind_of, open_model
from pipelines.results.commits import PendingChunks
from pipelines.results.plan import Generation, require_plans, take_chunks
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import Store, open_store

__all__ = ["ReferenceSet", "Subject", "model_subject", "open_reference", "results_subject"]

_KEYED_SAMPLES = 16
"""Samples in a chunk of references that are looked up by key: few are read that are not wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSet:
    """The true images.

    Attributes:
        uri: place as the user named it.
        store: store of the images.
        chunks: chunks of the images, in `pipelines.datasets.chunk.CHUNK_SCHEMA`.
        member_names: members of a dataset, see `pipelines.datasets.chunk.read_chunk`.
        split: split of a dataset, None for all of it.
        is_keyed: whether they are looked up by key, and not read along with the archive's chunks.
    """

    uri: str
    store: Store
    chunks: pa.Table
    member_names: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    is_keyed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The subject of an evaluation.

    Attributes:
        kind: `colorize` or `translate`.
        chunks: chunks of the images that are answered for, in `pipelines.datasets.chunk.CHUNK_SCHEMA`.
        reference: the true images.
        make_source: function that gives the answers' source, once the reference is surveyed.
        draws: K, number of draws; 0 where the answer `draws` is not there.
        facts: what `evaluation.json` says about it.
        judge: the model, where it has a likelihood or categories and can be loaded.
        missing: number of images in chunks that are not committed yet.
    """

    kind: str
    chunks: pa.Table
    reference: ReferenceSet
    make_source: Callable[[Survey], AnswerSource]
    draws: int
    facts: Mapping[str, Any]
    judge: JudgeSpec | None = None
    missing: int = 0


def open_reference(
    uri: str, *, split: str | None = None, preferred_split: str | None = None, samples: int = 64, limit: int = 0
) -> ReferenceSet:
    """Open a set of images: a dataset of shards, shards made elsewhere, a folder or prefix of images, or Parquet.

    Args:
        uri: place of the images.
        split: split of a dataset of shards (default: all of it).
        preferred_split: split to take where none is named and a dataset's manifest has this one.
        samples: most images in a chunk.
        limit: most images in all; 0 for no limit.

    Raises:
        DatasetError: there is no image, or no such split.
        MissingError, AccessError, StorageError: they can't be listed.
    """
    archive = open_archive(uri)
    dataset, limits = archive.dataset, ChunkLimits(samples=samples)
    if split is None and dataset is not None and dataset.is_complete and preferred_split in dataset.manifest.splits:
        split = preferred_split
    if split is not None and dataset is None:
        raise NoShardsError(open_store(uri).uri)
    pieces = cut_chunks(dataset.pieces(split=split), limits) if dataset is not None else cut_archive(archive, limits)
    return ReferenceSet(
        uri=uri,
        store=archive.store,
        chunks=pa.concat_tables([CHUNK_SCHEMA.empty_table(), *(limit_pieces(pieces, limit) if limit else pieces)]),
        member_names=dict(dataset.manifest.member_names) if dataset is not None else {},
        split=split,
    )


def results_subject(results: Store, options: EvaluateOptions) -> Subject:
    """Return the subject of an evaluation of finished results.

    Args:
        results: store that `condgen colorize` or `translate` wrote.
        options: reference, split and limit.

    Raises:
        DatasetError: no job was begun there, or nothing of it is done.
        ConfigError: a split of the archive itself.
    """
    generations = require_plans(results, checked=False)
    plan = generations[0].plan
    settings = BatchSettings.from_json(plan.settings)
    chunks, missing = _committed(results, generations, options.limit)
    if not chunks.num_rows:
        raise DatasetError(f"{results.uri} has no draws yet: run its condgen {settings.kind} first")
    archive = archive_store(plan.archive)
    found = _reference_of(chunks, options, plan.archive, archive, settings)
    inputs = archive if found.is_keyed and archive.exists("") else None
    name = "point" if settings.sample.mode == "point" else "draws"

    def make_source(survey: Survey) -> AnswerSource:
        where = (
            KeyedReferences(found.store, found.chunks, survey.keys, found.member_names)
            if found.is_keyed
            else ArchiveReferences(found.store, settings.member)
        )
        return StoredAnswers(
            results=results,
            name=name,
            draws=settings.draws,
            references=where,
            inputs=inputs,
            member=settings.member,
        )

    return Subject(
        kind=settings.kind,
        chunks=chunks,
        reference=found,
        make_source=make_source,
        draws=settings.draws if name == "draws" else 0,
        facts={
            "results": results.uri,
            "archive": plan.archive,
            "model": dict(plan.model),
            "settings": dict(plan.settings),
        },
        judge=_judge_of(plan.model),
        missing=missing,
    )


def _judge_of(model: Mapping[str, str]) -> JudgeSpec | None:
    """Return the trained model that made results, where it is still there; no user's code is run for it."""
    try:
        source = open_model(model["uri"])
        if not isinstance(source, StoredModel | PackagedModel):
            return None
        loaded = source.load(expect_digest=model["digest"])
    except CondgenError:
        return None
    return JudgeSpec(source, model["digest"]) if can_judge(loaded) else None


def _committed(results: Store, generations: Sequence[Generation], limit: int) -> tuple[pa.Table, int]:
    """Return the committed chunks, and the number of images in all others.

    Where there is a limit, they are the first that have so many images together: a draws file is measured as a whole.
    """
    pending = PendingChunks.of(results, generations)
    places, images, begin = [], 0, 0
    for generation, is_pending in zip(generations, pending.is_pending, strict=True):
        samples = [piece["samples"].to_numpy() for piece in generation.stored.pieces(["samples"])]
        done = np.flatnonzero(~is_pending)
        before = images + np.append(0, np.cumsum(np.concatenate([np.zeros(0, np.int64), *samples])[done]))
        wanted = done[before[:-1] < limit] if limit else done
        places += (begin + wanted).tolist()
        images, begin = int(before[-1]), begin + len(is_pending)
    return take_chunks(generations, places), pending.num_samples


def _reference_of(
    chunks: pa.Table, options: EvaluateOptions, archive_uri: str, archive: Store, settings: BatchSettings
) -> ReferenceSet:
    """Return the archive itself, where the reference is it or a copy with the same chunks; else a set with keys."""
    reference, split = options.reference, options.split
    own = ReferenceSet(uri=reference or archive_uri, store=archive, chunks=chunks)
    if reference is None or open_store(reference).uri == open_store(archive_uri).uri:
        if split is not None:
            raise ConfigError("--split", split, "nothing where the reference is the results' own archive: leave it out")
        return own
    if split is None:
        same = open_reference(reference, samples=settings.chunk_samples)
        if _contents(chunks) <= _contents(same.chunks):
            return replace(own, store=same.store, member_names=same.member_names)
    return replace(open_reference(reference, split=split, samples=_KEYED_SAMPLES), is_keyed=True)


def _contents(chunks: pa.Table) -> set[str]:
    """Return the digests of what the chunks consist of, which end their names."""
    return {name.rpartition("-")[2] for name in chunks["name"].to_pylist()}


def model_subject(source: ModelSource, data: str, options: EvaluateOptions) -> Subject:
    """Return the subject of an evaluation of a model on a dataset.

    Args:
        source: source of the model.
        data: a dataset, shards, a folder of images, or Parquet; pairs (`input`, `target`) are answered for the input.
        options: split, limit, point, draws (None is 5 of a model that draws, without `point`, and else 0), and
            settings, whose kind, draws and mode are set here.

    Raises:
        ConfigError: the model can't do what is asked for.
        DatasetError, CheckpointError, StorageError: the data or the model can't be read.
    """
    loaded = source.load()
    kind, draws, point, limit = kind_of(loaded), options.draws, options.point, options.limit
    stochastic = loaded.model.is_stochastic
    num_draws = draws if draws is not None else 5 if stochastic and not point else 0
    settings = replace(options.settings, kind=kind)
    asked = {"point": settings.as_point()} if point or not stochastic else {}
    if num_draws and (stochastic or draws is not None):
        asked["draws"] = replace(settings, draws=num_draws)
    found = open_reference(data, split=options.split, preferred_split="test", limit=limit)
    chunks = found.chunks
    workers = {name: _worker(source, found.store, one) for name, one in asked.items()}
    one = next(iter(workers.values()))
    answers = ModelAnswers(workers=workers, member_names=found.member_names)
    return Subject(
        kind=kind,
        chunks=chunks,
        reference=replace(found, chunks=chunks),
        make_source=lambda _: answers,
        draws=num_draws if "draws" in workers else 0,
        facts={
            "data": data,
            "split": found.split,
            "model": {"uri": source.uri, "family": loaded.model.family, "digest": one.model_digest},
            "settings": {name: worker.settings.to_json() for name, worker in workers.items()},
        },
        judge=JudgeSpec(source, one.model_digest) if can_judge(loaded) else None,
    )


def _worker(source: ModelSource, archive: Store, settings: BatchSettings) -> WorkerSpec:
    model = inspect_model(source, settings)
    return WorkerSpec(
        archive=archive,
        results=archive,  # nothing is written: the engine is asked for outcomes alone
        model=source,
        model_digest=model.digest,
        settings=model.settings,
    )
