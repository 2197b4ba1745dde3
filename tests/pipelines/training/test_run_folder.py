"""A run's folder: whose it is, which checkpoint counts, and what a resumed run keeps of the metrics."""

from pathlib import Path

import pytest

from condgen.errors import CheckpointError, ConfigError
from pipelines.storage.store import open_store
from pipelines.training.run_folder import MetricRow, RunFolder

CONFIG = {
    "model": {"width": 8, "multipliers": (1, 2)},
    "train": {"steps": 10},
    "versions": {"torch": "1"},
    "workers": 1,
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(open_store(tmp_path / "run"))


def row(step: int) -> MetricRow:
    return MetricRow(
        step=step,
        epoch=0,
        images=step * 4,
        seconds=1.0,
        loss=0.5,
        losses={"l2": 0.5},
        lr=0.1,
        images_per_s=9.0,
        undecodable=0,
    )


def test_a_folder_belongs_to_one_configuration(folder: RunFolder) -> None:
    folder.claim(CONFIG)
    folder.claim(CONFIG | {"versions": {"torch": "2"}, "workers": 2})
    with pytest.raises(ConfigError, match=r"train\.steps: got 20, allowed: 10, with which .*/run was begun"):
        folder.claim(CONFIG | {"train": {"steps": 20}})
    with pytest.raises(ConfigError, match=r"model\.depth"):
        folder.claim(CONFIG | {"model": CONFIG["model"] | {"depth": 3}})


def test_the_newest_complete_checkpoint_counts(folder: RunFolder) -> None:
    assert folder.newest_checkpoint() is None
    folder.save_checkpoint(5, {"a": b"five"})
    folder.store.write("checkpoints/step-00000010/a", b"cut before its mark")
    assert folder.newest_checkpoint() == (5, {"a": b"five"})
    folder.save_checkpoint(10, {"a": b"ten"})
    assert folder.newest_checkpoint() == (10, {"a": b"ten"})


def test_the_last_two_checkpoints_are_kept_and_what_was_cut_is_swept(folder: RunFolder) -> None:
    folder.store.write("checkpoints/step-00000003/a", b"cut before its mark")
    for step in (5, 10, 15):
        folder.save_checkpoint(step, {"a": b"x"})
    kept = {entry.name.split("/")[1] for entry in folder.store.list("checkpoints")}
    assert kept == {"step-00000010", "step-00000015"}


def test_a_damaged_checkpoint_is_told_from_a_whole_one(folder: RunFolder, tmp_path: Path) -> None:
    folder.save_checkpoint(5, {"a": b"five"})
    (tmp_path / "run/checkpoints/step-00000005/a").write_bytes(b"fivf")
    with pytest.raises(CheckpointError, match="step-00000005/a is damaged: delete its folder"):
        folder.newest_checkpoint()


def test_a_resumed_run_keeps_the_rows_up_to_its_checkpoint(folder: RunFolder) -> None:
    assert folder.read_metrics(100) == []
    folder.write_metrics([row(5), row(10), row(15)])
    assert folder.read_metrics(10) == [row(5), row(10)]


def test_a_run_is_finished_when_its_last_file_is_there(folder: RunFolder) -> None:
    assert folder.finished() is None
    folder.finish({"model.safetensors": b"x"}, {"step": 3})
    assert folder.finished() == {"step": 3}
