"""Samples in processes of their own: only what kills its own process twice is an error, a random kill is none."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fakes import poisoned_engine, write_image
from PIL import Image

from condgen.errors import JobError
from pipelines.batch.archive import plan_archive
from pipelines.batch.engine import ChunkEngine
from pipelines.batch.isolation import IsolatedEngine
from pipelines.datasets.chunk import Chunk, ChunkLimits, iter_chunks, read_chunk
from pipelines.results.files import Failure, read_footer
from pipelines.storage.store import Store, open_store


@pytest.fixture
def archive(tmp_path: Path) -> Store:
    root = tmp_path / "archive"
    for number in range(5):
        write_image(root / f"{number}.png", 60 + 20 * number)
    return open_store(str(root))


def chunk_of(archive: Store) -> Chunk:
    (chunk,) = iter_chunks(plan_archive(archive, ChunkLimits()))
    return chunk


def isolated(make: Callable[[], ChunkEngine], seconds: float = 120.0) -> IsolatedEngine:
    return IsolatedEngine(pickle.dumps(make), sample_seconds=seconds)


def test_a_poisonous_image_is_an_error_and_the_others_have_the_bytes_of_a_healthy_run(
    archive: Store, tmp_path: Path
) -> None:
    Image.fromarray(np.full((24, 40, 3), 255, np.uint8)).save(tmp_path / "archive" / "2-poison.png")
    results, healthy = (open_store(str(tmp_path / name)) for name in ("results", "healthy"))
    chunk = chunk_of(archive)
    engine = poisoned_engine(archive, results)
    receipt = engine.run(chunk, isolated(partial(poisoned_engine, archive, results)).outcomes)
    assert (receipt.samples, receipt.draws, receipt.errors) == (6, 10, 1)
    (error,) = read_footer(results, f"draws/{chunk.name}.parquet")["errors"]
    assert (error["source"], error["stage"], error["error"]) == ("2-poison.png", "process", "Killed")

    archive.delete("2-poison.png")
    alone = poisoned_engine(archive, healthy).outcomes(list(enumerate(read_chunk(archive, chunk_of(archive)))))
    found = isolated(partial(poisoned_engine, archive, results)).outcomes(
        list(enumerate(read_chunk(archive, chunk_of(archive))))
    )
    assert found == alone


def test_one_death_that_is_not_the_images_own_leaves_no_trace(archive: Store, tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    fuse.touch()
    placed = list(enumerate(read_chunk(archive, chunk_of(archive))))
    found = isolated(partial(poisoned_engine, archive, archive, fuse)).outcomes(placed)
    assert not fuse.exists()
    assert not any(isinstance(outcome, Failure) for outcome in found.values())


def test_an_image_that_hangs_is_given_up_and_the_others_are_done(archive: Store, tmp_path: Path) -> None:
    Image.fromarray(np.full((24, 40, 3), 255, np.uint8)).save(tmp_path / "archive" / "2-poison.png")
    placed = list(enumerate(read_chunk(archive, chunk_of(archive))))
    began = time.monotonic()
    found = isolated(partial(poisoned_engine, archive, archive, hangs=True), seconds=2).outcomes(placed)
    failures = [outcome for outcome in found.values() if isinstance(outcome, Failure)]
    assert [(failure.key, failure.stage) for failure in failures] == [("2-poison", "process")]
    assert time.monotonic() - began < 50  # three times 2 s, and the processes' start; the hang is of 60 s


def never_ready() -> ChunkEngine:
    raise SystemExit(3)


def test_processes_that_never_begin_are_the_jobs_error_and_no_images(archive: Store) -> None:
    placed = list(enumerate(read_chunk(archive, chunk_of(archive))))
    with pytest.raises(JobError, match="before they begin"):
        isolated(never_ready).outcomes(placed)
