"""`condgen train` through a real Ray: the same at any number of workers, cut anywhere, gone on at the next sample."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import safetensors.torch
from PIL import Image
from samples import saved, tar_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from condgen.errors import ConfigError, JobError
from condgen.presets import Preset
from jobs.cli.config import resolve
from pipelines.storage.store import open_store
from pipelines.training import TrainOptions, TrainReport, describe_run, engine, train
from pipelines.training.lease import Lease, take_lease

# A run starts a controller, workers and Ray Data: seconds on idle cores, minutes on crowded ones.
pytestmark = pytest.mark.timeout(600)

SETTINGS = [
    "model.width=8",
    "model.multipliers=[1,2]",
    "model.norm_groups=4",
    "data.size_px=16",
    "data.lanes=4",
    "train.steps=12",
    "train.batch_size=8",
    "train.warmup_steps=2",
    "train.log_every_steps=3",
    "train.checkpoint_every_steps=4",
]


def settings(*more: str) -> Preset:
    return resolve("regression-small", assignments=[*SETTINGS, *more])


@pytest.fixture(scope="module")
def dataset(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen shards of three crops of photographs, one of which is cut short, and a shard that is held out."""
    folder = tmp_path_factory.mktemp("data") / "dataset"
    folder.mkdir()
    pictures = [Image.open(path).convert("RGB") for path in sorted(photos.iterdir())]
    rng = np.random.default_rng(0)
    for shard in range(17):
        members = []
        for number in range(3 * shard, 3 * shard + 3):
            picture = pictures[number % len(pictures)]
            left, top = (int(rng.integers(0, side - 40)) for side in picture.size)
            data = saved(picture.crop((left, top, left + 40, top + 40)), "JPEG")
            members.append((f"{number:04d}.jpg", data[:60] if number == 7 else data))
        split = "train" if shard < 16 else "val"
        (folder / f"{split}-{shard:06d}.tar").write_bytes(tar_of(members))
    return folder


def run(dataset: Path, out: Path, *more: str, **options: Any) -> TrainReport:
    return train(TrainOptions(preset=settings(*more), data=str(dataset), out=str(out), **options))


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def is_saved(out: Path, step: int) -> bool:
    return any(out.glob(f"checkpoints/step-{step:08d}-e*/complete.json"))


def weights(out: Path) -> dict[str, Any]:
    return safetensors.torch.load_file(out / "model.safetensors")


@pytest.fixture(scope="module")
def whole(ray_cluster: None, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    report = run(dataset, out)
    assert report.summary["reason"] == "steps"
    return out


def test_a_run_leaves_a_model_metrics_checkpoints_and_its_configuration(whole: Path) -> None:
    from pipelines.models.source import load_model

    rows = metrics(whole)
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    assert rows[-1]["images"] + rows[-1]["undecodable"] == 96  # 12 steps of 8; the epochs of 48 have no padding
    assert rows[-1]["undecodable"] == 2  # one picture in each of the two epochs
    assert rows[-1]["loss"] < rows[0]["loss"]
    kept = sorted(path.parent.name for path in (whole / "checkpoints").glob("*/complete.json"))
    assert kept == ["step-00000008-e0001", "step-00000012-e0001"]
    assert json.loads((whole / "config.json").read_text())["train"]["steps"] == 12
    loaded = load_model(open_store(whole))
    assert loaded.model.family == "regression"
    assert loaded.extra["size_px"] == 16
    checkpoint = load_model(open_store(whole / "checkpoints/step-00000008-e0001"))
    assert checkpoint.extra["step"] == 8
    status = json.loads((whole / "status.json").read_text())
    assert (status["state"], status["step"], status["steps"]) == ("done", 12, 12)
    assert (status["checkpoint"], status["lease"]["pid"]) == ("step-00000012-e0001", os.getpid())
    assert json.loads((whole / "lease/00000001.json").read_text())["released"]


def test_a_finished_run_says_so_without_starting_anything(
    whole: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_workers", lambda *_, **__: pytest.fail("it trained again"))
    report = run(dataset, whole)
    assert report.already
    assert any("finished before" in line for line in report.lines())


def test_another_configuration_in_the_same_folder_is_refused_with_the_field(whole: Path, dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.learning_rate: got 0\.5"):
        run(dataset, whole, "train.learning_rate=0.5")


@pytest.mark.slow
def test_a_second_start_of_a_live_run_says_who_holds_it_and_does_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_workers", lambda *_, **__: pytest.fail("it trained beside the other"))
    with cast("Lease", take_lease(open_store(tmp_path / "run"), ttl_s=30.0)) as lease:
        report = run(dataset, tmp_path / "run")
        holder = f"process {os.getpid()} on {lease.holder.process.host} since"
        assert report.lines()[-1].startswith(f"live          {holder}")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_finished_run_whose_steps_are_raised_goes_on(whole: Path, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    report = run(dataset, tmp_path / "run", "train.steps=14", "train.keep_best=1")
    assert (report.already, report.summary["step"]) == (False, 14)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [3, 6, 9, 12, 14]
    assert json.loads((tmp_path / "run/config.json").read_text())["train"]["steps"] == 14
    kept = sorted(path.parent.name for path in (tmp_path / "run/checkpoints").glob("*/complete.json"))
    assert kept == ["step-00000008-e0001", "step-00000012-e0001", "step-00000014-e0002"]
    with pytest.raises(ConfigError, match=r"train\.steps: got 12, allowed: 14 or more"):
        run(dataset, tmp_path / "run")


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert process.poll() is None, f"it ended by itself: {process.communicate()}"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def process(
    dataset: Path, tmp_path: Path, condgen_process: Callable[..., subprocess.Popen[str]]
) -> Iterator[subprocess.Popen[str]]:
    """`condgen train` into tmp_path/run, in a process of its own with a Ray of its own, so that it can be cut."""
    assignments = [part for text in SETTINGS for part in ("--set", text)]
    place = ["--data", dataset, "--out", tmp_path / "run"]
    started = condgen_process("train", "--preset", "regression-small", *place, *assignments)
    yield started
    if started.poll() is None:
        started.kill()
    started.communicate()


def test_a_run_killed_halfway_on_one_core_ends_with_the_very_same_bytes(
    whole: Path, dataset: Path, tmp_path: Path, process: subprocess.Popen[str]
) -> None:
    out = tmp_path / "run"
    os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})  # it must not wait for a CPU that is not there
    wait_for(lambda: is_saved(out, 4), process)
    process.kill()
    process.communicate()
    assert not (out / "run.json").exists()
    beside = ("train.validate_every_steps=4", "train.sheet_every_steps=8")
    report = run(dataset, out, *beside, trackers=("tensorboard",))
    assert [row["step"] for row in metrics(out)] == [3, 6, 9, 12]
    for cut, never in zip(metrics(out), metrics(whole), strict=True):
        assert {k: cut[k] for k in ("loss", "images", "epoch", "undecodable")} == {
            k: never[k] for k in ("loss", "images", "epoch", "undecodable")
        }
    # One worker, the same machine, the same threads: not a bit differs, with validation beside it or without.
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    rows = [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert (rows[-1]["step"], rows[-1]["images"], set(rows[-1]["losses"])) == (12, 3, {"l2"})
    assert report.validation is not None
    assert report.validation.metrics == rows[-1]["metrics"]
    assert (out / "sheets/step-00000012.png").stat().st_size > 1000
    events = {name: EventAccumulator(str(out / "tensorboard" / name)).Reload() for name in ("train", "validation")}
    assert [event.step for event in events["train"].Scalars("loss")] == [3, 6, 9, 12]
    assert [event.step for event in events["validation"].Scalars("auc")] == [row["step"] for row in rows]
    assert json.loads((out / "status.json").read_text())["state"] == "done"


def test_sigterm_saves_where_it_is_and_the_run_goes_on_to_the_very_same_bytes(
    whole: Path, dataset: Path, tmp_path: Path, process: subprocess.Popen[str]
) -> None:
    out = tmp_path / "run"
    wait_for(lambda: is_saved(out, 4), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    if not (out / "run.json").exists():  # else it was quicker than the signal
        assert process.returncode == 75
        assert errors.strip().splitlines()[-1].endswith("is saved: run the same command again to go on")
        assert json.loads((out / "status.json").read_text())["state"] == "interrupted"
    run(dataset, out)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_ctrl_c_saves_where_it_is_and_four_workers_go_on_to_the_same_model(
    whole: Path, dataset: Path, tmp_path: Path, process: subprocess.Popen[str]
) -> None:
    out = tmp_path / "run"
    wait_for(lambda: is_saved(out, 4), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    if not (out / "run.json").exists():  # else it was quicker than the signal
        assert process.returncode == 130
        assert errors.strip().splitlines()[-1] == "stopped; run the same command again to go on"
        assert "Traceback" not in errors
        assert max(int(one.name.split("-")[1]) for one in (out / "checkpoints").iterdir()) > 4
    run(dataset, out, workers=4)
    assert metrics(out)[-1]["step"] == 12
    for cut, never in zip(metrics(out), metrics(whole), strict=True):
        assert (cut["step"], cut["images"], cut["undecodable"]) == (
            never["step"],
            never["images"],
            never["undecodable"],
        )
        assert cut["loss"] == pytest.approx(never["loss"], rel=1e-3)  # sums in another order
    for name, value in weights(whole).items():
        np.testing.assert_allclose(weights(out)[name], value, atol=2e-3)


def training_workers() -> list[int]:
    """The processes of Ray Train's workers that descend from this one (its own Ray's)."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = []
    for process in parents:
        ancestor = process
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        with contextlib.suppress(OSError):
            if ancestor == os.getpid() and b"RayTrainWorker" in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found


def test_a_killed_worker_is_started_again_by_itself(ray_cluster: None, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed = []

    def kill_once() -> None:
        while not is_saved(out, 4):
            time.sleep(0.02)
        for process in training_workers():
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    report = run(dataset, out, "train.steps=40")
    killer.join(5)
    assert killed
    assert report.summary["step"] == 40
    assert [row["step"] for row in metrics(out)] == [*range(3, 40, 3), 40]


def test_a_loss_that_explodes_ends_in_one_line(ray_cluster: None, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"not finite at step 2: lower train\.learning_rate"):
        run(dataset, tmp_path / "run", "train.learning_rate=1e20", "train.grad_clip_norm=0")


def test_an_error_of_one_workers_own_is_told_at_once_and_a_crash_of_a_group_is_tried_again() -> None:
    import torch

    from pipelines.training.worker import _lasting

    assert isinstance(_lasting(JobError("x"), 4), JobError)
    assert "batch_size" in str(_lasting(torch.OutOfMemoryError("CUDA out of memory"), 4))
    assert "ZeroDivisionError: x" in str(_lasting(ZeroDivisionError("x"), 1))
    assert _lasting(RuntimeError("Connection closed by peer"), 2) is None


def test_a_dry_run_tells_all_and_starts_nothing(dataset: Path, tmp_path: Path) -> None:
    options = TrainOptions(preset=settings(), data=str(dataset), out=str(tmp_path / "run"))
    text = "\n".join(describe_run(options).lines())
    assert "48 samples in 16 chunks" in text
    assert "6 steps of 8, 4 lanes, windows of 2 chunks" in text
    assert "parameters" in text
    assert "12 steps, 2.0 epochs, 1 worker" in text
    assert re.search(r"memory +about 0\.\d\d GiB a worker: .* for the activations of 8 images", text)
    assert not (tmp_path / "run").exists()


def test_more_workers_than_lanes_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers: got 5, allowed: 1 to 4, the number of lanes"):
        run(dataset, tmp_path / "run", workers=5)


def test_the_same_command_with_another_seed_has_another_model(whole: Path, dataset: Path, tmp_path: Path) -> None:
    """The promise of equal bytes would be empty if everything were equal."""
    job, _ = engine.prepare(TrainOptions(preset=settings("train.seed=1"), data=str(dataset), out=str(tmp_path)))
    from pipelines.training.first_model import build_model

    seeded = build_model(job).state_dict()
    same = build_model(replace(job, options=replace(job.options, preset=settings()))).state_dict()
    assert any(not np.array_equal(seeded[name], same[name]) for name in seeded)
