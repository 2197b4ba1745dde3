"""One writer a run: who takes the lease, who waits for it, and that a fenced writer changes nothing that counts."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from condgen.errors import ConfigError, JobError, StorageError
from pipelines.storage.backend import Backend
from pipelines.storage.store import Store, open_store
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.lease import Fence, FencedError, Holder, Lease, _create, read_holder, take_lease
from pipelines.training.process_identity import ProcessIdentity
from pipelines.training.run_folder import METRICS, MetricRow, RunFolder, rows_to_bytes

ELSEWHERE = ProcessIdentity(host="node-7", machine="another boot", pid=71, started="1")
LONG_S = 3600.0
RACES = 100
TAKEN: list[Lease] = []


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty folder of a run, in a local folder and on a real S3 server."""
    if request.param == "local":
        return open_store(tmp_path / "run")
    server = request.getfixturevalue("s3")
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return open_store(f"{server.uri('lease-tests')}/{tmp_path.name}")


@pytest.fixture(autouse=True)
def _no_renewals_afterwards() -> Iterator[None]:
    """End the threads of the leases that a test took, while its storage is there."""
    yield
    while TAKEN:
        TAKEN.pop().release()


def taken(store: Store, ttl_s: float = LONG_S) -> Lease:
    lease = take_lease(store, ttl_s=ttl_s)
    assert isinstance(lease, Lease)
    TAKEN.append(lease)
    return lease


def take_over(store: Store) -> Lease:
    """Take the next epoch as one does who has found the holder dead."""
    lease = _create(store, Fence.newest(store).epoch + 1, LONG_S)
    assert lease is not None
    TAKEN.append(lease)
    return lease


def test_storage_that_takes_a_second_object_of_a_name_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(self: Backend, name: str, data: bytes) -> bool:
        self.write(name, data)
        return True

    monkeypatch.setattr(type(store.backend), "create", overwrite)
    with pytest.raises(ConfigError, match="refuses a second object of one name"):
        take_lease(store)


def lay_down(store: Store, **values: Any) -> None:
    """Write the object of a holder that gives no further sign of life."""
    holder = Holder(**{"epoch": 1, "process": ELSEWHERE, "kept": ()} | values)
    store.write(f"lease/{holder.epoch:08d}.json", holder.to_bytes())


def rows(*steps: int) -> list[MetricRow]:
    facts: dict[str, Any] = {"images": 1, "seconds": 1.0, "losses": {}, "lr": 0.1, "images_per_s": 1.0, "epoch": 0}
    return [MetricRow(step=step, loss=1 / step, undecodable=0, **facts) for step in steps]


@pytest.mark.slow
def test_of_two_drivers_one_wins_each_of_a_hundred_races(store: Store) -> None:
    start = threading.Barrier(2)

    def race(epoch: int) -> Lease | None:
        start.wait()
        return _create(store, epoch, LONG_S)

    with ThreadPoolExecutor(2) as drivers:
        for epoch in range(1, RACES + 1):
            winners = [lease for lease in drivers.map(race, [epoch, epoch]) if lease is not None]
            assert len(winners) == 1
            assert read_holder(store, epoch).token == winners[0].holder.token
            winners[0].release()


def test_a_released_lease_is_taken_at_once(store: Store) -> None:
    with taken(store) as first:
        assert first.fence.epoch == 1
    began = time.monotonic()
    with taken(store) as second:
        assert second.fence.epoch == 2
    assert time.monotonic() - began < LONG_S / 10


@pytest.mark.slow
def test_a_live_run_is_left_alone_and_its_holder_is_told(store: Store) -> None:
    waits: list[Holder] = []
    with taken(store, ttl_s=6.0) as lease:
        lease.note_step(42)
        found = take_lease(store, on_wait=waits.append)
        assert isinstance(found, Holder)
        assert len(waits) == 1
        assert lease.fenced is None
        while take_lease(store).step != 42:  # type: ignore[union-attr]
            pass
    assert str(replace(found, since="2026-11-29T16:00:00+00:00", step=42)) == (
        f"process {found.process.pid} on {found.process.host} since 2026-11-29 16:00:00 UTC, at step 42"
    )


def test_a_holder_elsewhere_that_gives_no_sign_of_life_is_succeeded_after_its_time(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    lay_down(store, ttl_s=0.5)
    began = time.monotonic()
    with taken(store) as lease:
        assert time.monotonic() - began >= 0.5
        assert lease.fence.epoch == 2


@pytest.mark.parametrize("lost", ["question", "answer"])
@pytest.mark.parametrize("operation", ["create", "list", "write"])
def test_an_epoch_that_the_storage_did_not_answer_for_is_taken_by_the_next_call(
    store: Store, monkeypatch: pytest.MonkeyPatch, operation: str, lost: str
) -> None:
    ask = getattr(Store, operation)
    is_out = False

    def out(self: Store, *arguments: Any) -> Any:
        if is_out and lost == "answer":
            ask(self, *arguments)
        if is_out:
            raise StorageError(self.uri, operation, "no answer", passes=True)
        return ask(self, *arguments)

    monkeypatch.setattr(Store, operation, out)
    with taken(store, ttl_s=0.3) as lease:
        is_out = True
        with pytest.raises(StorageError):
            lease.advance()
        time.sleep(0.3)  # some renewals
        is_out = False
        assert lease.advance().epoch == 2
        time.sleep(0.3)
        assert lease.fenced is None
        assert lease.holder.epoch == 2
        assert lease.holder.beat > 0
        lease.fence.check()
    assert taken(store).fence.epoch == 3


def test_an_epoch_that_another_took_while_the_storage_gave_no_answer_is_theirs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(self: Store, *_: Any) -> bool:
        raise StorageError(self.uri, "write", "no answer", passes=True)

    with taken(store) as lease:
        with monkeypatch.context() as here:
            here.setattr(Store, "create", out)
            with pytest.raises(StorageError):
                lease.advance()
        take_over(store)
        with pytest.raises(FencedError, match="taken over"):
            lease.advance()


HOLD = """
import sys, time
from pipelines.storage.store import open_store
from pipelines.training.lease import take_lease
from pipelines.training.run_folder import RunFolder
store = open_store(sys.argv[1])
folder = RunFolder(store, take_lease(store, ttl_s=float(sys.argv[2])).fence)
step = 0
while True:
    step += 1
    folder.save_checkpoint(step, {"model.safetensors": b"old %d" % step})
    print(step, flush=True)
"""


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[Callable[[float], subprocess.Popen[str]]]:
    """Start a process that holds the lease of tmp_path/run and saves checkpoints; it has saved some on return."""
    started: list[subprocess.Popen[str]] = []

    def start(ttl_s: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(tmp_path / "run"), str(ttl_s)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_after_kill_9_a_start_on_the_same_machine_does_not_wait(
    tmp_path: Path, holding: Callable[[float], subprocess.Popen[str]]
) -> None:
    process = holding(LONG_S)
    process.kill()  # not waited for: a process that nobody has buried is gone as well
    while (Path("/proc") / str(process.pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    with taken(open_store(tmp_path / "run")) as lease:
        assert lease.fence.epoch == 2
        assert len(lease.fence.complete()) >= 2


@pytest.mark.slow
def test_a_writer_that_was_stopped_past_its_lease_and_continued_is_fenced(
    tmp_path: Path, holding: Callable[[float], subprocess.Popen[str]]
) -> None:
    store, process = open_store(tmp_path / "run"), holding(1.0)
    process.send_signal(signal.SIGSTOP)
    with taken(store) as lease:
        folder = RunFolder(store, lease.fence)
        newest = folder.newest()
        assert newest is not None
        folder.save_checkpoint(newest.step + 1, {"model.safetensors": b"new"})
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=120) == 1
        assert process.stderr is not None
        last = process.stderr.read().splitlines()[-1]
        assert f"was taken over by process {lease.holder.process.pid} on" in last
        assert folder.newest_checkpoint() == (newest.step + 1, {"model.safetensors": b"new"})
        assert folder.read_checkpoint(newest)["model.safetensors"] == b"old %d" % newest.step


class Stop:
    """Stops a writer once, before one of its operations, until it is told to go on."""

    def __init__(self, before: int) -> None:
        self.left = before
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.reached.set()
            assert self.go_on.wait(60)


@dataclass(frozen=True)
class StoppingBackend:
    """A storage whose writer can be stopped before any operation, as SIGSTOP does."""

    inner: Backend
    stop: Stop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            self.stop()
            return value(*arguments, **options)

        return call


def config(steps: int) -> dict[str, Any]:
    return {"train": {"steps": steps, "max_seconds": 0.0}}


def end(folder: RunFolder, step: int, text: bytes) -> None:
    """Save checkpoints up to a step, and finish, as a worker does."""
    for at in (step - 1, step):
        folder.write_metrics(rows(at))
        files = {"model.safetensors": text, METRICS: rows_to_bytes(rows(at))}
        folder.save_checkpoint(at, files, loss=1 / at, keep_best=1)
    summary = {"step": step, "seconds": 1.0}
    folder.finish({"model.safetensors": text, METRICS: rows_to_bytes(rows(step))}, summary)


@pytest.mark.slow
def test_a_writer_is_fenced_wherever_it_was_stopped(tmp_path: Path) -> None:
    stopped_at = 0
    for before in range(1, 200):
        store, stop = open_store(tmp_path / str(before)), Stop(before)
        first = taken(store)
        fence = replace(first.fence, store=replace(store, backend=StoppingBackend(store.backend, stop)))
        RunFolder(store, first.fence).claim(config(20))
        for at in (5, 10):
            RunFolder(store, first.fence).save_checkpoint(at, {"model.safetensors": b"early"}, loss=1 / at)
        with ThreadPoolExecutor(1) as thread:
            old = thread.submit(end, RunFolder(fence.store, fence), 20, b"old")
            while not stop.reached.wait(0.01) and not old.done():
                pass
            if not stop.reached.is_set():
                old.result()
                break
            stopped_at = before
            second = take_over(store)
            folder = RunFolder(store, second.fence)
            assert folder.claim(config(30)) is None
            end(folder, 30, b"new")
            stop.go_on.set()
            with pytest.raises(FencedError, match="was taken over by"):
                old.result()
        assert folder.finished() == {"step": 30, "seconds": 1.0}, before
        assert store.read("model.safetensors") == b"new", before
        assert folder.read_metrics(99) == rows(30), before
        for one in RunFolder(store).fence_now().complete():
            assert folder.read_checkpoint(one)["model.safetensors"] in (b"new", b"old", b"early")
        assert folder.newest_checkpoint() == (30, folder.read_checkpoint(CheckpointName(30, 2)))
        for lease in (first, second):
            lease.release()
        assert json.loads(store.read("lease/00000002.json"))["released"]
        assert not json.loads(store.read("lease/00000001.json"))["released"]
    assert stopped_at > 30, "it was stopped at too few points"


def test_a_checkpoint_that_a_fenced_writer_completes_late_does_not_count(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = taken(store)
    RunFolder(store, first.fence).save_checkpoint(5, {"a": b"x"})
    second = take_over(store)
    for name in ("a", "complete.json"):
        store.write(CheckpointName(20, 1).file(name), b"by one that was stopped after its check")
    assert RunFolder(store, second.fence).newest() == CheckpointName(5, 1)
    RunFolder(store, second.fence).save_checkpoint(6, {"a": b"y"})
    assert not store.list("checkpoints/step-00000020-e0001"), "what does not count is swept"
    for lease in (first, second):
        lease.release()


def test_another_attempt_fences_the_workers_of_the_one_before(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with taken(store) as lease:
        before = RunFolder(store, lease.fence)
        before.save_checkpoint(5, {"a": b"x"})
        after = RunFolder(store, lease.advance())
        with pytest.raises(JobError, match="taken over"):
            before.save_checkpoint(6, {"a": b"y"})
        assert after.newest() == CheckpointName(5, 1)
        after.save_checkpoint(6, {"a": b"z"})
        assert RunFolder(store).newest_checkpoint() == (6, {"a": b"z"})


def test_checkpoints_of_earlier_versions_and_before_a_holder_that_died_young_count(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    RunFolder(store).save_checkpoint(4, {"a": b"of 0.2"})
    assert store.is_file("checkpoints/step-00000004/complete.json")
    lay_down(store, released=True, kept=None)
    with taken(store) as lease:
        assert lease.fence.epoch == 2
        assert RunFolder(store, lease.fence).newest_checkpoint() == (4, {"a": b"of 0.2"})


def test_an_object_that_can_not_be_read_is_a_holder_of_whom_nothing_is_known() -> None:
    holder = Holder.parse(3, b'{"epoch": 3, ')
    assert (holder.epoch, holder.kept, holder.process.is_gone()) == (3, None, False)


def test_a_process_is_gone_when_another_has_its_number_and_unknown_on_another_machine() -> None:
    own = ProcessIdentity.own()
    assert not own.is_gone()
    assert replace(own, started="1").is_gone()
    assert not replace(own, started="1", machine="another boot").is_gone()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert replace(own, pid=child.pid).is_gone()
