"""What is told of a run, and the revision that is noted with it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipelines.training.report import TrainReport
from pipelines.training.revision import source_revision
from pipelines.training.validation_rows import ValidationRow

SUMMARY: dict[str, Any] = {
    "reason": "steps",
    "step": 100,
    "images": 3200,
    "undecodable": 0,
    "seconds": 200.0,
    "losses": {"l2": 0.5},
}


def lines(**changes: Any) -> str:
    return "\n".join(TrainReport(out="run", facts={}, summary=SUMMARY | changes).lines())


def test_a_run_that_waited_for_more_than_a_tenth_of_its_time_is_told_what_helps() -> None:
    assert "waited        23% of the time for data: more CPUs, or --cache DIR" in lines(waited_s=46.0)
    assert "waited" not in lines(waited_s=20.0)
    assert "waited" not in lines()  # a run of an earlier version


def test_the_finished_models_validation_is_told() -> None:
    row = ValidationRow(
        step=100, loss=0.7, losses={"l2": 0.7}, metrics={"auc": 0.875}, images=256, split="val", seconds=3.0
    )
    told = TrainReport(out="run", facts={}, summary=SUMMARY, validation=row).lines()
    assert "in validation l2 0.7000, auc 0.8750 (256 images of val)" in told


def git(folder: Path, *words: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *names, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_revision_is_the_commit_and_tells_of_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "-a", "v1", "-m", "a tag is not the revision")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert source_revision(tmp_path) == head
    (tmp_path / "a.py").write_text("2")
    assert source_revision(tmp_path) == f"{head}-dirty"
    inside = tmp_path / "site-packages"
    inside.mkdir()
    assert source_revision(inside) is None  # an installation inside of somebody's checkout
    monkeypatch.setenv("PATH", str(inside))
    assert source_revision(tmp_path) is None  # no git
