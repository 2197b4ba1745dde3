"""`condgen train` through a real Ray: the same at any number of workers, cut anywhere, gone on at the next sample."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import safetensors.torch
from chaos_cluster import kill_session
from machines import training_workers
from PIL import Image
from samples import saved, tar_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from condgen.errors import ConfigError, JobError, StorageError
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
    "train.steps=600",
    "train.batch_size=8",
    "train.warmup_steps=2",
    "train.log_every_steps=20",
    "train.checkpoint_every_steps=20",
]
ROWS = list(range(20, 601, 20))


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
    assert [row["step"] for row in rows] == ROWS
    assert rows[-1]["images"] + rows[-1]["undecodable"] == 4800  # 600 steps of 8; the epochs of 48 have no padding
    assert rows[-1]["undecodable"] == 100  # one picture in each of the 100 epochs
    assert rows[-1]["loss"] < rows[0]["loss"]
    kept = sorted(path.parent.name for path in (whole / "checkpoints").glob("*/complete.json"))
    assert kept == ["step-00000580-e0001", "step-00000600-e0001"]
    assert json.loads((whole / "config.json").read_text())["train"]["steps"] == 600
    loaded = load_model(open_store(whole))
    assert loaded.model.family == "regression"
    assert loaded.extra["size_px"] == 16
    checkpoint = load_model(open_store(whole / "checkpoints/step-00000580-e0001"))
    assert checkpoint.extra["step"] == 580
    status = json.loads((whole / "status.json").read_text())
    assert (status["state"], status["step"], status["steps"]) == ("done", 600, 600)
    assert (status["checkpoint"], status["lease"]["pid"]) == ("step-00000600-e0001", os.getpid())
    assert json.loads((whole / "lease/00000001.json").read_text())["released"]


def test_a_finished_run_says_so_without_starting_anything(
    whole: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_workers", lambda *_, **__: pytest.fail("it trained again"))
    report = run(dataset, whole)
    assert report.already
    assert any("finished before" in line for line in report.lines())
    assert not (whole / "lease/00000002.json").exists()


def test_a_run_whose_driver_was_killed_before_it_could_say_that_it_is_done_says_so_at_the_next_start(
    whole: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_workers", lambda *_, **__: pytest.fail("it trained again"))
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run/status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "running", "step": 200}))
    assert run(dataset, tmp_path / "run").already
    status = json.loads(path.read_text())
    assert (status["state"], status["step"], status["lease"]["epoch"]) == ("done", 600, 2)


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
    report = run(dataset, tmp_path / "run", "train.steps=610", "train.keep_best=1")
    assert (report.already, report.summary["step"]) == (False, 610)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [*ROWS, 610]
    assert json.loads((tmp_path / "run/config.json").read_text())["train"]["steps"] == 610
    kept = sorted(path.parent.name for path in (tmp_path / "run/checkpoints").glob("*/complete.json"))
    assert kept == ["step-00000580-e0001", "step-00000600-e0001", "step-00000610-e0002"]
    with pytest.raises(ConfigError, match=r"train\.steps: got 600, allowed: 610 or more"):
        run(dataset, tmp_path / "run")


@pytest.fixture
def machine(ray_cluster: None, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A second node of the session's Ray, with more CPUs than the first: a worker is put there. It is on its way."""
    import ray

    ray_program, address = str(Path(sys.executable).parent / "ray"), ray.get_runtime_context().gcs_address
    node = [
        "--node-ip-address=127.0.0.1",
        "--num-cpus=3",
        "--object-store-memory=80000000",
        "--include-log-monitor=false",
        f"--address={address}",
    ]
    # In a folder of its own: else ray.init, wherever on this machine, would take the cluster for its own.
    with tempfile.TemporaryDirectory(prefix="node-", ignore_cleanup_errors=True) as folder:
        with (tmp_path / "node.log").open("w") as log:
            started = subprocess.Popen(
                [ray_program, "start", "--block", f"--temp-dir={folder}", *node],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        yield started
        kill_session(started)
        while machine_id():
            time.sleep(0.2)


def machine_id() -> str:
    """The id of the second node; empty where it is not there."""
    import ray

    nodes = (node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU") == 3)
    return next((str(node["NodeID"]) for node in nodes), "")


def drain(node: str) -> None:
    """Do what a cloud does that takes a machine back in half a minute."""
    import ray
    from ray._raylet import GcsClient
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    assert client.drain_node(node, reason, "spot", int((time.time() + 30) * 1000))[0]


class Commands:
    """`condgen train` into one folder, in one process after the other; each is cut."""

    def __init__(self, dataset: Path, out: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
        place = ["--preset", "regression-small", "--data", dataset, "--out", out]
        self._arguments = [*place, *(part for text in SETTINGS for part in ("--set", text))]
        self._out, self._start = out, start
        self._epoch = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str, **env: str) -> None:
        """Start the command."""
        self.process = self._start("train", *self._arguments, *more, **env)

    def until_saved(self) -> None:
        """Wait until an attempt that is newer than those before has saved a checkpoint: epochs count attempts."""
        self.until(lambda: self._last_epoch() > self._epoch)
        self._epoch = self._last_epoch()

    def _last_epoch(self) -> int:
        saved = self._out.glob("checkpoints/step-*/complete.json")
        return max((int(path.parent.name.rpartition("-e")[2]) for path in saved), default=0)

    def until(self, happened: Callable[[], object]) -> None:
        """Wait until something has happened, while the command runs."""
        assert self.process is not None
        deadline = time.monotonic() + 240
        while not happened():
            assert self.process.poll() is None, f"it ended by itself: {self.process.communicate()}"
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal and wait for the end; returns the exit code and what was written to stderr."""
        assert self.process is not None
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=120)
        assert not (self._out / "run.json").exists(), "it was quicker than the signal"
        return self.process.returncode, errors

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def commands(
    dataset: Path, tmp_path: Path, condgen_process: Callable[..., subprocess.Popen[str]]
) -> Iterator[Commands]:
    commands = Commands(dataset, tmp_path / "run", condgen_process)
    yield commands
    commands.kill()


def test_a_run_that_is_cut_in_every_way_ends_with_the_very_same_bytes(
    whole: Path, dataset: Path, tmp_path: Path, machine: subprocess.Popen[bytes], commands: Commands
) -> None:
    """A killed worker, Ctrl-C, a machine that is drained, SIGTERM, a killed driver; each in the midst of training."""
    import ray

    out = tmp_path / "run"

    def state() -> str:
        return str(json.loads((out / "status.json").read_text())["state"])

    on_machines = ("--gpus-per-worker", "0", "--threads", "1")
    address = ray.get_runtime_context().gcs_address
    commands.start(*on_machines, RAY_ADDRESS=address)
    commands.until_saved()
    for worker in training_workers(os.getpid()):
        os.kill(worker, signal.SIGKILL)
    commands.until_saved()
    code, errors = commands.end(signal.SIGINT)
    last = errors.strip().splitlines()[-1]
    assert (code, last, state()) == (130, "stopped; run the same command again to go on", "interrupted")
    assert re.search(r"^a worker failed \(.+\): training goes on from step \d+$", errors, re.MULTILINE)
    assert "Traceback" not in errors

    while not machine_id():
        assert machine.poll() is None, (tmp_path / "node.log").read_text()
        time.sleep(0.1)
    commands.start(*on_machines, RAY_ADDRESS=address)
    commands.until_saved()
    drain(machine_id())
    commands.until_saved()
    code, errors = commands.end(signal.SIGTERM)
    last = errors.strip().splitlines()[-1]
    assert (code, state()) == (75, "interrupted")
    # Ray may take away a machine whose workers have saved and ended before anyone looks again.
    assert re.search(r"(is about to leave|is gone \(spot\)): training goes on from step \d+$", errors, re.MULTILINE)
    saved = re.search(r"SIGTERM, a checkpoint of step (\d+) is saved: run the same command again to go on$", last)
    assert saved
    assert is_saved(out, int(saved[1]))

    commands.start(*on_machines, RAY_ADDRESS=address)
    commands.until_saved()
    code, _ = commands.end(signal.SIGKILL)
    assert (code, state()) == (-signal.SIGKILL, "running")

    beside = ("train.validate_every_steps=20", "train.sheet_every_steps=20")
    report = run(dataset, out, *beside, trackers=("tensorboard",))
    assert state() == "done"
    clocks = ("seconds", "images_per_s", "stalled_s", "waited")
    rows, expected = ([{k: v for k, v in row.items() if k not in clocks} for row in metrics(at)] for at in (out, whole))
    # One worker, the same machine, the same threads: not a bit differs, with validation beside it or without.
    assert rows == expected
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    was_validated(out, report)


def was_validated(out: Path, report: TrainReport) -> None:
    """Check what validation, sheets and TensorBoard have left of a run that was cut."""
    rows = [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert (rows[-1]["step"], rows[-1]["images"], set(rows[-1]["losses"])) == (600, 3, {"l2"})
    assert report.validation is not None
    assert report.validation.metrics == rows[-1]["metrics"]
    assert (out / "sheets/step-00000600.png").stat().st_size > 1000
    events = {name: EventAccumulator(str(out / "tensorboard" / name)).Reload() for name in ("train", "validation")}
    assert [event.step for event in events["train"].Scalars("loss")] == ROWS
    assert [event.step for event in events["validation"].Scalars("auc")] == [row["step"] for row in rows]


def test_three_workers_go_on_to_the_same_model(whole: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "checkpoints/step-00000600-e0001")
    for name in ("run.json", "model.safetensors", "model.json"):
        (out / name).unlink()
    run(dataset, out, workers=3)  # of two lanes, one and one
    assert [row["step"] for row in metrics(out)] == ROWS
    for cut, never in zip(metrics(out), metrics(whole), strict=True):
        for name in ("step", "images", "undecodable"):
            assert cut[name] == never[name]
        assert cut["loss"] == pytest.approx(never["loss"], rel=1e-3)  # sums in another order
    for name, value in weights(whole).items():
        np.testing.assert_allclose(weights(out)[name], value, atol=2e-3)


def test_a_loss_that_explodes_ends_in_one_line(ray_cluster: None, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"not finite at step 2: lower train\.learning_rate"):
        run(dataset, tmp_path / "run", "train.learning_rate=1e20", "train.grad_clip_norm=0")


def test_an_error_of_one_workers_own_is_told_at_once_and_a_crash_of_a_group_is_tried_again() -> None:
    import torch

    from pipelines.training.worker import _lasting

    assert isinstance(_lasting(JobError("x"), 4), JobError)
    assert isinstance(_lasting(StorageError("x", "read", "refused"), 1), StorageError)
    assert _lasting(StorageError("x", "read", "no answer", passes=True), 1) is None
    assert "batch_size" in str(_lasting(torch.OutOfMemoryError("CUDA out of memory"), 4))
    assert "ZeroDivisionError: x" in str(_lasting(ZeroDivisionError("x"), 1))
    assert _lasting(RuntimeError("Connection closed by peer"), 2) is None


def test_a_dry_run_tells_all_and_starts_nothing(dataset: Path, tmp_path: Path) -> None:
    options = TrainOptions(preset=settings(), data=str(dataset), out=str(tmp_path / "run"))
    text = "\n".join(describe_run(options).lines())
    assert "48 samples in 16 chunks" in text
    assert "6 steps of 8, 4 lanes, windows of 2 chunks" in text
    assert "parameters" in text
    assert "600 steps, 100.0 epochs, 1 worker" in text
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
