"""The files of an archive that no plan has: counted in the plan, in the report and by `verify`."""

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from condgen.errors import ConfigError, DatasetError
from jobs.results.verify import run as verify
from pipelines.batch.archive import Selection
from pipelines.batch.estimate import estimate_job
from pipelines.batch.job import BatchJob, BatchRun, list_job
from pipelines.batch.probe import inspect_model
from pipelines.batch.report import Pace
from pipelines.datasets.chunk import iter_chunks
from pipelines.results.plan import load_plans
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import open_store
from tests.small_results import write_model, write_picture

SETTINGS = BatchSettings(draws=1, batch_size=2, precision="fp32")


@pytest.fixture
def job(tmp_path: Path) -> BatchJob:
    """A folder in which there is everything at once."""
    folder = tmp_path / "archive"
    for number in range(3):
        write_picture(folder / f"{number}.png", number)
    (folder / "broken.jpg").write_bytes(b"no image")
    for name in ("README.md", "manifest.json", "list.csv", "@eaDir/0.png", ".thumbnails/0.png", "a.parquet"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"words")
    with tarfile.open(folder / "backup.tar", "w") as tar:
        tar.add(folder / "0.png", "0.png")
    selection = Selection(taken_as="images")
    model = write_model(tmp_path / "model")
    return BatchJob(
        archive=str(folder), results=str(tmp_path / "results"), model=model, settings=SETTINGS, selection=selection
    )


def run_here(job: BatchJob) -> BatchRun:
    """Do a job in this process, without Ray."""
    listed = list_job(job)
    run = BatchRun(listed, inspect_model(listed.source, listed.settings))
    engine = run.worker_spec().make_engine()
    for chunk in iter_chunks(run.begin()):
        engine.run(chunk)
    return run


def test_rows_errors_and_left_out_are_the_listing(job: BatchJob) -> None:
    with pytest.raises(DatasetError, match="4 images and 1 shard and 1 Parquet file: say which"):
        run_here(replace(job, selection=Selection()))
    run = run_here(job)
    account = run.account()
    left_out = load_plans(open_store(job.results))[0].plan.left_out
    listing = open_store(job.archive).list(hidden=True)
    assert (account.with_draws, account.errors) == (3, 1)
    assert account.with_draws + account.errors + sum(left_out.values()) == len(listing)
    assert left_out == {".csv": 1, ".json": 1, ".md": 1, ".parquet": 1, ".tar": 1, "hidden or a system's": 2}


def test_the_report_and_verify_count_what_is_left_out(job: BatchJob) -> None:
    run = run_here(job)
    report = run.finish(run.account(), Pace())
    assert "archive       4 images; 7 other files left out" in report.lines()[0]
    lines = verify(job.results).lines()
    assert any(line.startswith("left out      7 other files of the archive (2 hidden") for line in lines)
    assert "complete" in lines[-1]


def test_a_job_that_goes_on_needs_not_be_told_again_and_not_otherwise(job: BatchJob) -> None:
    run_here(job)
    assert run_here(replace(job, selection=Selection())).pending().num_rows == 0
    with pytest.raises(ConfigError, match="'images', as these results were begun"):
        run_here(replace(job, selection=Selection(taken_as="shards")))


def test_plans_of_archives_without_others_are_as_they_were(job: BatchJob, tmp_path: Path) -> None:
    write_picture(tmp_path / "pure" / "0.png", 0)
    run_here(replace(job, archive=str(tmp_path / "pure"), selection=Selection()))
    assert not {b"left_out", b"taken_as"} & set((Path(job.results) / "plan/000.json").read_bytes().split(b'"'))


def test_the_named_member_is_done_and_checked_against_the_archive(job: BatchJob, tmp_path: Path) -> None:
    write_picture(tmp_path / "front.png", 1)
    write_picture(tmp_path / "back.png", 2)
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards/x.tar", "w") as tar:
        for name in ("front.png", "back.png"):
            tar.add(tmp_path / name, f"a.{name}")
    job = replace(job, archive=str(tmp_path / "shards"), selection=Selection())
    assert run_here(job).account().kinds == {"read Members": 1}
    job = replace(job, results=str(tmp_path / "second"), settings=replace(SETTINGS, member="back.png"))
    run = run_here(job)
    assert run.account().with_draws == 1
    run.finish(run.account(), Pace())
    assert verify(job.results, archive=job.archive).exit_code == 0
    with pytest.raises(ConfigError, match="member"):
        run_here(replace(job, settings=replace(SETTINGS, member="front.png")))


def test_an_estimate_writes_and_removes_nothing(job: BatchJob) -> None:
    BatchRun(listed := list_job(job), inspect_model(listed.source, listed.settings)).begin()
    before = {path: path.read_bytes() for path in Path(job.results).rglob("*") if path.is_file()}
    assert before
    estimate = estimate_job(replace(job, settings=replace(SETTINGS, seed=9)))
    assert (estimate.images, estimate.tried_images) == (4, 4)
    assert {path: path.read_bytes() for path in Path(job.results).rglob("*") if path.is_file()} == before
