"""Curves in TensorBoard, as its own reader has them: whole, and each point once, however a run was cut."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from condgen.errors import ConfigError
from pipelines.storage.store import Store, open_store
from pipelines.training.run_folder import MetricRow, RunFolder
from pipelines.training.trackers import Trackers, check_trackers
from pipelines.training.validation_rows import ValidationRow


def row(step: int, loss: float = 0.5) -> MetricRow:
    return MetricRow(
        step=step,
        epoch=1,
        images=step * 4,
        seconds=float(step),
        loss=loss,
        losses={"l2": loss},
        lr=0.1,
        images_per_s=9.0,
        undecodable=0,
        waited=[0.1, 0.3],
    )


def held_out(step: int, loss: float = 0.7) -> ValidationRow:
    return ValidationRow(
        step=step, loss=loss, losses={"l2": loss}, metrics={"auc": 0.9}, images=8, split="val", seconds=1.0
    )


def trackers_of(store: Store, said: list[str]) -> Trackers:
    return Trackers(["tensorboard"], RunFolder(store), fence=lambda: None, config={}, say=said.append)


def curve(folder: Path, run: str, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard" / run)).Reload()
    return [(event.step, round(event.value, 4)) for event in events.Scalars(name)]


def test_a_run_that_was_cut_has_one_curve(tmp_path: Path) -> None:
    store, said = open_store(tmp_path), list[str]()
    with trackers_of(store, said) as trackers:
        for step in (3, 6, 9):
            trackers.add(row(step))
        trackers.add_validation(held_out(4))
        trackers.add(row(12, 0.4))
        trackers.add(row(9, 0.3))  # a worker was lost, and the checkpoint was of step 8
        trackers.add(row(12, 0.2))
    assert curve(tmp_path, "train", "loss") == [(3, 0.5), (6, 0.5), (9, 0.3), (12, 0.2)]

    # Another start of the command, from a checkpoint of step 8: what it finds is in the folder.
    folder = RunFolder(store)
    folder.write_metrics([row(3), row(6)])
    folder.write_validation({4: held_out(4)})
    folder.save_checkpoint(8, {"a": b"x"})
    with trackers_of(store, said) as trackers:
        trackers.add_validation(held_out(8, 0.6))
        trackers.add(row(9, 0.1))
    assert curve(tmp_path, "train", "loss") == [(3, 0.5), (6, 0.5), (9, 0.1)]
    assert curve(tmp_path, "train", "losses/l2") == [(3, 0.5), (6, 0.5), (9, 0.1)]
    assert curve(tmp_path, "train", "waited")[0] == (3, 0.2)
    assert curve(tmp_path, "validation", "loss") == [(4, 0.7), (8, 0.6)]
    assert curve(tmp_path, "validation", "auc") == [(4, 0.9), (8, 0.9)]
    assert len(list(tmp_path.rglob("*.tfevents.*"))) == 2, "one of training and one of validation"
    assert said == []


def test_event_files_lie_in_object_storage_too(s3: Any, tmp_path: Path) -> None:
    store = open_store(f"{s3.uri('trackers')}/run")
    said: list[str] = []
    for last in (6, 9):
        with trackers_of(store, said) as trackers:
            trackers.add(row(3))
            trackers.add(row(last))
    files = s3.filesystem().find("trackers/run/tensorboard/train")
    assert len(files) == 1
    (tmp_path / "tensorboard/train").mkdir(parents=True)
    s3.filesystem().get_file(files[0], str(tmp_path / "tensorboard/train" / Path(files[0]).name))
    assert [step for step, _ in curve(tmp_path, "train", "loss")] == [3, 9]
    assert said == []


def test_a_tracker_that_fails_says_so_once_and_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    said: list[str] = []
    with trackers_of(open_store(tmp_path), said) as trackers:
        for step in (3, 6, 9):
            trackers.add(row(step))
    assert len(said) == 1
    assert said[0].startswith("tensorboard shows no more of this run")


def test_trackers_that_are_unknown_or_not_installed_are_refused() -> None:
    check_trackers(["tensorboard", "tensorboard"])
    with pytest.raises(ConfigError, match=r"--track: got 'tensorbord', .*did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])


@pytest.mark.parametrize(("name", "package"), [("mlflow", "mlflow-skinny"), ("wandb", "wandb")])
def test_what_is_to_be_installed_is_said(name: str, package: str) -> None:
    with pytest.raises(ConfigError, match=rf"--track: got '{name}', allowed: .*: pip install {package}"):
        check_trackers([name])
