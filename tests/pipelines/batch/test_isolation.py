"""Samples in processes of their own: only what kills its own process twice is an error, a random kill is none."""

import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fakes import poisoned_engine, write_archive
from PIL import Image

from condgen.errors import JobError
from pipelines.batch.archive import plan_archive
from pipelines.batch.engine import ChunkEngine
from pipelines.batch.isolation import IsolatedEngine
from pipelines.cluster.imports import python_command
from pipelines.datasets.chunk import Chunk, ChunkLimits, iter_chunks, read_chunk
from pipelines.results.files import Failure, read_footer
from pipelines.storage.store import Store, open_store


@pytest.fixture
def archive(tmp_path: Path) -> Store:
    return write_archive(tmp_path / "archive", range(60, 160, 20), bad=False)


def chunk_of(archive: Store) -> Chunk:
    (chunk,) = iter_chunks(plan_archive(archive, ChunkLimits()))
    return chunk


def isolated(make: Callable[[], ChunkEngine], seconds: float = 120.0) -> IsolatedEngine:
    return IsolatedEngine(pickle.dumps(make), sample_seconds=seconds)


@pytest.mark.slow
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


@pytest.mark.slow
def test_one_death_that_is_not_the_images_own_leaves_no_trace(archive: Store, tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    fuse.touch()
    placed = list(enumerate(read_chunk(archive, chunk_of(archive))))
    found = isolated(partial(poisoned_engine, archive, archive, fuse)).outcomes(placed)
    assert not fuse.exists()
    assert not any(isinstance(outcome, Failure) for outcome in found.values())


@pytest.mark.slow
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


@pytest.mark.slow
def test_processes_that_never_begin_are_the_jobs_error_and_no_images(archive: Store) -> None:
    placed = list(enumerate(read_chunk(archive, chunk_of(archive))))
    with pytest.raises(JobError, match="before they begin"):
        isolated(never_ready).outcomes(placed)


WORKER = """
import pickle
from functools import partial
from fakes import poisoned_engine
from pipelines.batch.isolation import IsolatedEngine
from pipelines.datasets.chunk import Sample
from pipelines.storage.store import open_store
place = open_store('archive')
make = pickle.dumps(partial(poisoned_engine, place, place, hangs=True))
IsolatedEngine(make).outcomes([(0, Sample(source='white.png', key='white', members={'png': place.read('white.png')}))])
"""


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_when_the_worker_is_killed_its_fork_server_and_a_child_that_hangs_end_with_it(tmp_path: Path) -> None:
    """All of it in a folder where a user's own `pipelines` lies, which is not imported in place of ours."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").write_text("raise RuntimeError('not ours')")
    (tmp_path / "archive").mkdir()
    Image.fromarray(np.full((24, 40, 3), 255, np.uint8)).save(tmp_path / "archive" / "white.png")
    worker = subprocess.Popen(python_command(WORKER.strip()), cwd=tmp_path)
    try:
        family: list[int] = []
        while len(family) < 2:
            assert worker.poll() is None
            servers = children_of(worker.pid)
            family = servers + [child for server in servers for child in children_of(server)]
            time.sleep(0.1)
        time.sleep(1.0)  # the child reads its sample, and hangs
        assert all(map(is_alive, family))
    finally:
        worker.kill()
        worker.wait()
    deadline = time.monotonic() + 30
    while any(map(is_alive, family)) and time.monotonic() < deadline:
        time.sleep(0.1)
    survivors = list(filter(is_alive, family))
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)
    assert not survivors
