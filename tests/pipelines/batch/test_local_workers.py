"""Workers without Ray: errors come back as they were, a worker that ends is borne, and none outlives its driver."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import write_archive
from samples import digests
from small_results import job_in

from condgen.errors import CheckpointError, JobError
from pipelines.batch.engine import Functions
from pipelines.batch.job import BatchJob, run_batch
from pipelines.batch.local_workers import LocalWorkers
from pipelines.batch.pool_shape import Resources, runs_here
from pipelines.results.settings import BatchSettings

pytestmark = pytest.mark.slow
HERE = Resources(engine="local", actors=(2, 2))
SETTINGS = BatchSettings(draws=2, chunk_samples=2, batch_size=2)


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalWorkers]:
    with LocalWorkers(HERE) as started:
        started.begin(4)
        yield started


@pytest.fixture
def job(tmp_path: Path) -> BatchJob:
    write_archive(tmp_path / "archive", range(40, 120, 8))
    return replace(job_in(tmp_path, SETTINGS), resources=HERE)


def damaged() -> None:
    raise CheckpointError("model.json is damaged")


class StubbornError(Exception):
    """Can't be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("no")


def stubborn() -> None:
    raise StubbornError("why it failed")


def test_a_worker_answers_in_another_process_on_one_thread(workers: LocalWorkers) -> None:
    assert workers.ask(os.getpid) != os.getpid()
    assert workers.ask(os.getenv, "OMP_NUM_THREADS") == "1"


def test_what_a_function_raises_is_raised_here_and_says_where(workers: LocalWorkers) -> None:
    with pytest.raises(CheckpointError, match=r"model\.json is damaged") as caught:
        workers.ask(damaged)
    assert "in damaged" in "".join(caught.value.__notes__)
    with pytest.raises(JobError, match="a worker failed"):
        workers.ask(stubborn)


def test_workers_that_end_before_they_answer_are_told_after_some_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.batch.local_workers._DEATHS", 2)
    with LocalWorkers(HERE) as started, pytest.raises(JobError, match="workers can't start"):
        started.ask(os._exit, 3)


def test_an_image_that_kills_every_worker_becomes_an_error(
    job: BatchJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.batch.rounds._LONGEST_WAIT_S", 0.0)

    def kills(rgb: np.ndarray, about: object) -> np.ndarray:
        if about.key == "3":  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)
        return rgb

    report = run_batch(replace(job, functions=Functions(before=kills)))
    assert (report.images, report.with_draws, report.errors, report.pace.engine) == (12, 10, 2, "local")
    rows = pq.read_table(tmp_path / "results" / "errors").to_pylist()
    assert [row["error"] for row in rows if row["stage"] == "process"] == ["Killed"]


def test_no_worker_outlives_a_driver_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time; from pipelines.batch.local_workers import LocalWorkers; "
        "from pipelines.batch.pool_shape import Resources; "
        "workers = LocalWorkers(Resources(engine='local', actors=(2, 2))); workers.begin(4); "
        "print(workers.ask(os.getpid), workers._fleet._server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        pids = driver.stdout.readline().split()
        driver.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/stat").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}/stat").exists() for pid in pids)


def test_bytes_are_those_of_workers_on_ray(job: BatchJob, ray_cluster: None, tmp_path: Path) -> None:
    run_batch(job)
    on_ray = replace(job, results=str(tmp_path / "on_ray"), resources=Resources())
    assert run_batch(on_ray).pace.engine == "ray"
    found = digests(tmp_path / "results", "draws/", "errors/")
    assert len(found) > 5
    assert found == digests(tmp_path / "on_ray", "draws/", "errors/")


@pytest.mark.parametrize(
    ("resources", "images", "address", "here"),
    [
        (Resources(), 512, "", True),
        (Resources(), 513, "", False),
        (Resources(), 1, "10.0.0.1:6379", False),
        (Resources(num_gpus=1.0), 1, "", False),
        (Resources(wait_for_s=0.0), 1, "", False),
        (Resources(actors=(1, 2)), 1, "", True),
        (Resources(engine="local"), 10**6, "10.0.0.1:6379", True),
        (Resources(engine="ray"), 1, "", False),
    ],
)
def test_a_small_job_on_one_machine_runs_without_ray(
    monkeypatch: pytest.MonkeyPatch, resources: Resources, images: int, address: str, *, here: bool
) -> None:
    monkeypatch.setattr("pipelines.batch.pool_shape._count_gpus", lambda: 0)
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert runs_here(resources, images) is here


def test_a_small_job_beside_a_gpu_runs_on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.batch.pool_shape._count_gpus", lambda: 1)
    monkeypatch.delenv("RAY_ADDRESS")
    assert not runs_here(Resources(), 1)
