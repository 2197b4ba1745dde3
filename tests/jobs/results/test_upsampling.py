"""How color comes to full size is part of the plan; results of before there was a choice go on as they were begun."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_results import job_in, run_job, write_model, write_picture

import jobs.batch
import jobs.results.redraw
import jobs.results.verify
from condgen.errors import ConfigError
from jobs.cli import app as cli
from pipelines.batch.job import BatchJob
from pipelines.images.decoding import decode
from pipelines.models.options import ColorizeOptions
from pipelines.results.settings import BatchSettings, OutputOptions

PNG = OutputOptions(output_format="png")
SETTINGS = BatchSettings(draws=2, seed=5, batch_size=4, chunk_samples=3, precision="fp32", output=PNG)


def job(root: Path, results: str = "results", **options: Any) -> BatchJob:
    return job_in(root, replace(SETTINGS, colorize=ColorizeOptions(**options)), results=results)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        write_picture(tmp_path / f"archive/{number}.png", number, size=(90, 70))
    (tmp_path / "archive/none.dat").write_text("an error")
    return tmp_path


def plan(results: Path, name: str = "000") -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((results / f"plan/{name}.json").read_text())["settings"]
    return settings


def images(results: Path) -> dict[tuple[str, int], np.ndarray]:
    rows = [row for path in sorted((results / "draws").iterdir()) for row in pq.read_table(path).to_pylist()]
    return {(row["key"], row["draw"]): decode(row["image"]["bytes"]) for row in rows}


def begin_as_before(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin results as a version did that knew no other way than bilinear."""
    to_json = BatchSettings.to_json
    with monkeypatch.context() as before:
        before.setattr(
            BatchSettings,
            "to_json",
            lambda settings: {name: value for name, value in to_json(settings).items() if name != "upsampling"},
        )
        run_job(job(root, upsampling="bilinear"))
    assert "upsampling" not in plan(root / "results")


def test_new_results_are_guided_and_their_plan_says_so(root: Path) -> None:
    run_job(job(root))
    run_job(job(root, "plain", upsampling="bilinear"))
    assert plan(root / "results")["upsampling"] == "guided"
    assert plan(root / "plain")["upsampling"] == "bilinear"
    guided, plain = images(root / "results"), images(root / "plain")
    assert guided.keys() == plain.keys()
    assert all(not np.array_equal(guided[name], plain[name]) for name in guided)
    for results in ("results", "plain"):
        assert jobs.results.redraw.run(str(root / results), key="2", draw=1).redrawn.is_identical


def test_results_are_continued_as_they_were_begun(root: Path) -> None:
    run_job(job(root, upsampling="bilinear"), stop_after=1)
    with pytest.raises(ConfigError, match=r"^upsampling: got 'guided', allowed: 'bilinear'"):
        run_job(job(root, upsampling="guided"))
    assert run_job(job(root)) is not None
    assert plan(root / "results")["upsampling"] == "bilinear"


def test_results_of_before_there_was_a_choice_go_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_as_before(root, monkeypatch)
    before = images(root / "results")
    write_picture(root / "archive/new.png", 9, size=(90, 70))
    run_job(job(root))  # what is new
    run_job(replace(job(root), retry_errors=True))  # and what failed
    assert all("upsampling" not in plan(root / "results", name) for name in ("001", "002"))

    run_job(job(root, "plain", upsampling="bilinear"))
    after, plain = images(root / "results"), images(root / "plain")
    assert after.keys() == plain.keys() > before.keys()
    assert all(np.array_equal(after[name], plain[name]) for name in after)
    assert jobs.results.verify.run(str(root / "results")).exit_code == 0
    for key in ("1", "new"):
        assert jobs.results.redraw.run(str(root / "results"), key=key, draw=1).redrawn.is_identical


def test_results_of_before_there_was_a_choice_are_not_guided_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_as_before(root, monkeypatch)
    with pytest.raises(ConfigError, match=r"^upsampling: got 'guided', allowed: 'bilinear'"):
        run_job(job(root, upsampling="guided"))


@pytest.mark.parametrize(("arguments", "wanted"), [([], "auto"), (["--upsampling", "bilinear"], "bilinear")])
def test_the_command_line_says_how(
    arguments: list[str], wanted: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[BatchJob] = []

    def run(job: BatchJob, **_: Any) -> None:
        asked.append(job)
        raise ConfigError("stop", "here", "nothing more")

    monkeypatch.setattr(jobs.batch, "run", run)
    cli._run(["colorize", str(root / "archive"), str(root / "r"), "--model", write_model(root / "model"), *arguments])
    assert [job.settings.colorize.upsampling for job in asked] == [wanted], capsys.readouterr().err


def test_an_unknown_way_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"upsampling.*bilinear"):
        run_job(job(root, upsampling="bilinea"))
