"""A run's folder: whose it is, which checkpoint counts, and what a resumed run keeps of the metrics."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

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


def steps(folder: RunFolder) -> list[int]:
    return sorted({int(entry.name.split("/")[1].removeprefix("step-")) for entry in folder.store.list("checkpoints")})


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
    with pytest.raises(ConfigError, match=r"train\.steps: got 5, allowed: 10 or more, with which .*/run was begun"):
        folder.claim(CONFIG | {"train": {"steps": 5}})
    with pytest.raises(ConfigError, match=r"model\.depth"):
        folder.claim(CONFIG | {"model": CONFIG["model"] | {"depth": 3}})


def test_a_run_of_an_earlier_version_lacks_fields_that_have_their_defaults(folder: RunFolder) -> None:
    folder.claim(CONFIG)
    today = CONFIG | {"train": {"steps": 10, "accumulate": 1}}
    folder.check(today, {"train": {"steps": 99, "accumulate": 1}})
    with pytest.raises(ConfigError, match=r"train\.accumulate: got 2, allowed: 1, "):
        folder.check(CONFIG | {"train": {"steps": 10, "accumulate": 2}}, {"train": {"accumulate": 1}})


def test_a_finished_run_whose_limits_are_raised_goes_on(folder: RunFolder) -> None:
    def config(steps: int, max_seconds: float = 0.0) -> dict[str, Any]:
        return CONFIG | {"train": {"steps": steps, "max_seconds": max_seconds}}

    folder.claim(config(10))
    folder.finish({}, {"step": 10, "seconds": 5.0, "reason": "steps"})
    assert folder.claim(config(10)) is not None
    assert folder.claim(config(20)) is None
    assert folder.finished() is None
    assert json.loads(folder.store.read("config.json")) == json.loads(json.dumps(config(20)))
    with pytest.raises(ConfigError, match="20 or more"):
        folder.check(config(10))
    with pytest.raises(ConfigError, match=r"train\.max_seconds: got 5"):
        folder.check(config(20, 5.0))


def test_a_run_that_ended_by_time_goes_on_where_the_time_is_raised(folder: RunFolder) -> None:
    def config(max_seconds: float, steps: int = 10) -> dict[str, Any]:
        return CONFIG | {"train": {"steps": steps, "max_seconds": max_seconds}}

    folder.claim(config(60.0))
    folder.finish({}, {"step": 7, "seconds": 60.1, "reason": "max_seconds"})
    assert folder.claim(config(60.0, steps=20)) is not None, "it would end again at once"
    assert folder.claim(config(0.0)) is None


def test_the_best_checkpoints_are_kept_besides_the_newest(folder: RunFolder) -> None:
    for step, loss in ((1, 0.5), (2, 0.3), (3, 0.1), (4, 0.4), (5, None), (6, 0.2), (7, 0.9)):
        folder.save_checkpoint(step, {"a": b"x"}, loss=loss, keep_best=2)
    assert steps(folder) == [2, 3, 6, 7]
    folder.save_checkpoint(8, {"a": b"x"}, loss=0.9, keep_best=2)
    assert steps(folder) == [3, 6, 7, 8]


def test_a_checkpoint_that_is_whole_is_not_written_again(folder: RunFolder) -> None:
    folder.save_checkpoint(5, {"a": b"five"})
    folder.save_checkpoint(5, {"a": b"others"})
    assert folder.newest_checkpoint() == (5, {"a": b"five"})


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


def test_rows_of_earlier_versions_have_no_time_that_training_stood_still(folder: RunFolder) -> None:
    line = json.dumps({name: value for name, value in asdict(row(5)).items() if name != "stalled_s"})
    folder.store.write("metrics.jsonl", f"{line}\n".encode())
    assert folder.read_metrics(5) == [row(5)]


def test_a_run_is_finished_when_its_last_file_is_there(folder: RunFolder) -> None:
    assert folder.finished() is None
    folder.finish({"model.safetensors": b"x"}, {"step": 3})
    assert folder.finished() == {"step": 3}
