"""status.json: what those see who look at a run from outside."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.storage.store import open_store
from pipelines.training.lease import Lease, take_lease
from pipelines.training.run_folder import RunFolder
from pipelines.training.status import StatusFile


def read(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "status.json").read_text())
    return values


def test_a_change_of_state_is_written_at_once_and_steps_at_most_once_an_interval(tmp_path: Path) -> None:
    status = StatusFile(RunFolder(open_store(tmp_path)), interval_s=0.3)
    status.update(state="waiting", reason="waiting for 8 GPUs, 2 are there", workers_wanted=8)
    assert read(tmp_path)["reason"] == "waiting for 8 GPUs, 2 are there"
    status.update(state="running", workers=8, steps=100)
    assert (read(tmp_path)["state"], read(tmp_path)["reason"]) == ("running", "")
    for step in range(1, 50):
        status.update(step=step, images_per_s=9.5)
    assert read(tmp_path)["step"] == 0
    deadline = time.monotonic() + 10
    while read(tmp_path)["step"] != 49:  # the last of an interval is written without another call
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert read(tmp_path) | {"updated": ""} == {
        "state": "running",
        "reason": "",
        "step": 49,
        "steps": 100,
        "epoch": 0,
        "images_per_s": 9.5,
        "workers": 8,
        "workers_wanted": 8,
        "lease": None,
        "checkpoint": None,
        "updated": "",
    }
    assert read(tmp_path)["updated"].endswith("+00:00")


def test_a_storage_that_is_out_costs_a_line_in_the_log_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_bytes(b"a file where the folder should be")
    status = StatusFile(RunFolder(open_store(tmp_path / "taken")))
    with caplog.at_level(logging.WARNING):
        status.update(state="running")
    assert "status.json is not up to date" in caplog.text


def test_the_newest_checkpoint_is_named_and_an_attempt_may_take_an_epoch_of_its_own(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    lease = take_lease(store)
    assert isinstance(lease, Lease)
    with lease:
        status = StatusFile(RunFolder(store), lease=lease)
        status.update(state="running")
        assert read(tmp_path)["checkpoint"] is None
        RunFolder(store, lease.advance()).save_checkpoint(7, {"a": b"x"})
        status.update(state="interrupted")
        assert (read(tmp_path)["checkpoint"], read(tmp_path)["lease"]["epoch"]) == ("step-00000007-e0002", 2)


def test_a_field_that_is_not_there_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no field 'steep'"):
        StatusFile(RunFolder(open_store(tmp_path))).update(steep=1)


def test_a_driver_whose_run_was_taken_over_says_nothing_more(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = take_lease(store)
    assert isinstance(first, Lease)
    ours = StatusFile(RunFolder(store), lease=first)
    ours.update(state="running")
    assert read(tmp_path)["lease"]["epoch"] == 1
    first.release()
    second = take_lease(store)
    assert isinstance(second, Lease)
    with second:
        StatusFile(RunFolder(store), lease=second).update(state="running")
        ours.update(state="failed")
        assert (read(tmp_path)["state"], read(tmp_path)["lease"]["epoch"]) == ("running", 2)
