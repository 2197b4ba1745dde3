"""Checkpoints that are written while training goes on, and one download of them a machine."""

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from condgen.errors import CheckpointError, StorageError
from condgen.families import build
from condgen.presets import TrainConfig
from pipelines.storage.backend import Backend
from pipelines.storage.store import Store, open_store
from pipelines.streaming.epoch_order import StreamPosition
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.fetching import fetch_checkpoint
from pipelines.training.loop import Loop
from pipelines.training.run_folder import METRICS, MetricRow, RunFolder, rows_from_bytes
from pipelines.training.saving import CheckpointWriter, Snapshot, load_raw_model, restore

ROW = MetricRow(
    step=3, epoch=0, images=12, seconds=1.0, loss=0.5, losses={}, lr=0.1, images_per_s=9.0, undecodable=0, stalled_s=0.2
)


def small_loop(ema_decay: float = 0.9) -> Loop:
    torch.manual_seed(0)
    model = build("regression", {"width": 8, "multipliers": [1], "norm_groups": 4, "blocks_per_level": 1})
    return Loop(model, TrainConfig(ema_decay=ema_decay), to_batch=lambda item, _: item)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_snapshot_holds_what_was_there_when_it_was_taken(ema_decay: float) -> None:
    loop = small_loop(ema_decay)
    loop.state.step = 3
    for optimizer in loop.optimizers.values():
        for parameter in loop.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    before = {name: value.clone() for name, value in loop.model.state_dict().items()}
    moments = [value["exp_avg"].clone() for one in loop.optimizers.values() for value in one.state.values()]
    snapshot = Snapshot.of(loop, {"at": 7}, [ROW], {"size_px": 16})
    for optimizer in loop.optimizers.values():
        optimizer.step()  # training goes on, in the same tensors
    files = snapshot.files()

    again = small_loop(ema_decay)
    again.model.load_state_dict(load_raw_model(files).state_dict())
    position = StreamPosition(epoch=1, batch=2)
    restore(again, files, lambda saved: position if saved == {"at": 7} else StreamPosition())
    assert (again.state.step, again.state.position) == (3, position)
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for value, expected in zip(
        (value["exp_avg"] for one in again.optimizers.values() for value in one.state.values()), moments, strict=True
    ):
        assert torch.equal(value, expected)
        assert value.stride() == expected.stride()  # a fused optimizer would mix up the weights
    assert rows_from_bytes(files[METRICS]) == [ROW]


def test_files_of_another_version_are_told(tmp_path: Path) -> None:
    loop = small_loop()
    files = Snapshot.of(loop, {}, [], {}).files()
    with pytest.raises(CheckpointError, match="another version of condgen"):
        restore(loop, files | {"state.json": b'{"loop": {"steep": 1}, "stream": {}}'}, lambda _: StreamPosition())


@dataclass(frozen=True)
class FakeSnapshot:
    """Stands for a snapshot whose files take their time."""

    step: int
    may_end: threading.Event
    rows: tuple[MetricRow, ...] = (ROW,)

    def files(self) -> dict[str, bytes]:
        assert self.may_end.wait(30)
        return {"a": b"%d" % self.step}


def test_training_goes_on_while_a_checkpoint_is_written_and_the_next_one_waits(tmp_path: Path) -> None:
    folder = RunFolder(open_store(tmp_path))
    writer = CheckpointWriter(folder)
    first, second = (FakeSnapshot(step, threading.Event()) for step in (5, 10))
    writer.save(lambda: first)  # type: ignore[arg-type,return-value]
    assert folder.newest() is None, "save returned before the checkpoint was whole"
    assert writer.take_stalled_s() < 10
    threading.Timer(0.2, first.may_end.set).start()
    writer.save(lambda: second)  # type: ignore[arg-type,return-value]
    assert folder.newest() == CheckpointName(5)
    assert writer.take_stalled_s() >= 0.1
    assert writer.take_stalled_s() == 0
    second.may_end.set()
    writer.wait()
    assert folder.newest_checkpoint() == (10, {"a": b"10"})


def test_an_upload_that_failed_is_told_at_the_next_checkpoint_and_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_bytes(b"a file where the folder should be")
    ready = threading.Event()
    ready.set()
    writer = CheckpointWriter(RunFolder(open_store(tmp_path)))
    for tell in (lambda: writer.save(lambda: FakeSnapshot(6, ready)), writer.wait):  # type: ignore[arg-type,return-value]
        writer.save(lambda: FakeSnapshot(5, ready))  # type: ignore[arg-type,return-value]
        with pytest.raises(StorageError, match="checkpoints"):
            tell()
        writer.wait()


@dataclass(frozen=True)
class CountingBackend:
    """Notes which files were read whole."""

    inner: Backend
    read_names: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, name: str) -> bytes:
        self.read_names.append(name)
        return self.inner.read(name)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with a checkpoint, whose reads are noted; the temporary directory is the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    store = open_store(tmp_path / "run")
    RunFolder(store).save_checkpoint(5, {"a": b"first", "b": b"second"})
    return RunFolder(replace(store, backend=CountingBackend(store.backend)))


def reads(store: Store, name: str) -> int:
    backend: Any = store.backend
    return sum(one.endswith(f"/{name}") for one in backend.read_names)


def test_of_the_workers_of_a_machine_one_downloads_a_checkpoint(saved: RunFolder, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as workers:
        files = list(workers.map(lambda _: fetch_checkpoint(saved, CheckpointName(5), readers=4), range(4)))
    assert files == [{"a": b"first", "b": b"second"}] * 4
    assert [reads(saved.store, name) for name in "ab"] == [1, 1]
    assert [path.name for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == ["lock"], "it is cleaned up"


def test_what_an_attempt_that_died_left_behind_is_removed(saved: RunFolder, tmp_path: Path) -> None:
    fetch_checkpoint(saved, CheckpointName(5), readers=2)
    RunFolder(saved.store).save_checkpoint(6, {"a": b"next"})
    assert fetch_checkpoint(saved, CheckpointName(6), readers=2) == {"a": b"next"}
    assert fetch_checkpoint(saved, CheckpointName(6), readers=2) == {"a": b"next"}
    assert [path.name for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == ["lock"]


def test_a_copy_that_is_damaged_or_a_disk_that_is_full_costs_a_download_and_not_the_run(
    saved: RunFolder, tmp_path: Path
) -> None:
    fetch_checkpoint(saved, CheckpointName(5), readers=3)
    [copy] = (tmp_path / "tmp").rglob("a")
    copy.write_bytes(b"firsf")
    assert fetch_checkpoint(saved, CheckpointName(5), readers=3)["a"] == b"first"
    copy.unlink()
    assert fetch_checkpoint(saved, CheckpointName(5), readers=3)["a"] == b"first"
    (tmp_path / "run" / "checkpoints" / "step-00000005" / "a").write_bytes(b"firsf")
    with pytest.raises(CheckpointError, match="a is damaged"):
        fetch_checkpoint(saved, CheckpointName(5), readers=3)
