"""`condgen train` on a cluster of several nodes, all on this machine: nodes come, leave, die and are waited for.

The command runs in a process of its own, as a scheduler starts it; the test has a hand in the nodes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_cluster import START_S, ChaosCluster
from PIL import Image
from samples import saved, tar_of

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

SETTINGS = [
    "model.width=8",
    "model.multipliers=[1,2]",
    "model.norm_groups=4",
    "data.size_px=16",
    "data.lanes=4",
    "train.batch_size=8",
    "train.warmup_steps=2",
    "train.log_every_steps=1",
]
WAIT_S = 240.0


@pytest.fixture(scope="module")
def dataset(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen shards of three crops of photographs."""
    folder = tmp_path_factory.mktemp("data") / "dataset"
    folder.mkdir()
    images = [Image.open(path).convert("RGB").resize((40, 40)) for path in sorted(photos.iterdir())]
    for shard in range(16):
        numbers = range(3 * shard, 3 * shard + 3)
        members = [(f"{number:04d}.jpg", saved(images[number % len(images)], "JPEG")) for number in numbers]
        (folder / f"train-{shard:06d}.tar").write_bytes(tar_of(members))
    return folder


class Machines:
    """A head node without CPUs, where the driver is, and nodes beside it."""

    def __init__(self, cluster: ChaosCluster) -> None:
        self._cluster = cluster
        self._nodes: list[subprocess.Popen[Any]] = []
        self.env = cluster.env | {"RAY_ADDRESS": cluster.address}

    def add(self, *resources: str) -> tuple[subprocess.Popen[Any], str]:
        """Add a node and wait until it is there; returns its process and its id."""
        before = set(self._cluster.ask("ids"))
        process = self._cluster.add_node(*resources)
        deadline = time.monotonic() + 2 * START_S
        while not (new := set(self._cluster.ask("ids")) - before):
            assert time.monotonic() < deadline, "a node does not start"
            if process.poll() is not None:  # Ray gives a node 30 s, which a crowded machine may need more of
                self._cluster.end_node(process)
                process = self._cluster.add_node(*resources)
            time.sleep(0.5)
        self._nodes.append(process)
        return process, new.pop()

    def kill(self, process: subprocess.Popen[Any]) -> None:
        self._nodes.remove(process)
        self._cluster.end_node(process)

    def end(self) -> None:
        for process in list(self._nodes):
            self.kill(process)
        deadline = time.monotonic() + START_S
        while self._cluster.ask("ids"):
            assert time.monotonic() < deadline, "a node does not end"
            time.sleep(0.2)

    def drain(self, node: str, seconds: float) -> None:
        assert self._cluster.ask("drain", node, seconds)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, condgen_process: object) -> Iterator[ChaosCluster]:
    with ChaosCluster(tmp_path_factory.mktemp("cluster"), {}, nodes=0) as cluster:
        cluster.ask("nodes")  # its head takes drivers
        yield cluster


@pytest.fixture
def machines(cluster: ChaosCluster) -> Iterator[Machines]:
    """The cluster, without a node at first, and without one at the end."""
    machines = Machines(cluster)
    yield machines
    machines.end()


class Run:
    """A run's command and its folder."""

    def __init__(self, machines: Machines | None, dataset: Path, out: Path) -> None:
        self.machines, self.dataset, self.out = machines, dataset, out
        self._process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        self._log = out.with_suffix(".log")

    def start(self, *options: str, steps: int = 30, every: int = 5) -> "Run":
        settings = [*SETTINGS, f"train.steps={steps}", f"train.checkpoint_every_steps={every}"]
        command = [
            sys.executable, "-m", "jobs", "train", "--preset", "regression-small", "--data", str(self.dataset),
            "--out", str(self.out), *[part for text in settings for part in ("--set", text)], *options,
        ]  # fmt: skip
        local = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        env = local if self.machines is None else self.machines.env
        with self._log.open("a") as log:
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        return self

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(WAIT_S)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def steps(self) -> list[int]:
        """The steps of the rows of metrics."""
        path = self.out / "metrics.jsonl"
        return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []

    def checkpoints(self) -> list[int]:
        folders = sorted(path.parent.name for path in self.out.glob("checkpoints/*/complete.json"))
        return [int(folder.split("-")[1]) for folder in folders]

    def until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not happened():
            assert self._process is not None
            assert self._process.poll() is None, f"it ended by itself:\n{self.log}"
            assert time.monotonic() < deadline, f"it took too long:\n{self.log}"
            time.sleep(0.05)


@pytest.fixture
def make_run(machines: Machines, dataset: Path, tmp_path: Path) -> Iterator[Callable[[], Run]]:
    runs: list[Run] = []

    def make() -> Run:
        runs.append(Run(machines, dataset, tmp_path / "run"))
        return runs[-1]

    yield make
    for run in runs:
        run.kill()


@pytest.mark.long
def test_gpus_that_come_later_are_waited_for_and_not_replaced_by_cpus(
    machines: Machines, make_run: Callable[[], Run]
) -> None:
    run = make_run().start("--wait-for", "3m", steps=4)
    run.until(lambda: "waiting for 1 GPU, 0 are there" in run.log)
    assert not run.steps
    machines.add("--num-cpus=2", "--num-gpus=1")  # a declared one: no worker touches CUDA
    assert run.wait() == 0, run.log
    assert run.steps == [1, 2, 3, 4]


def test_machines_that_do_not_come_in_time_are_an_error_that_says_what_is_there(make_run: Callable[[], Run]) -> None:
    run = make_run().start("--wait-for", "1s", "--workers", "2")
    assert run.wait() == 2
    assert "workers: got '2 of 1 GPU each', allowed: what there is room for after 1 s: 0, on 0 GPUs" in run.log


@pytest.mark.long
def test_workers_follow_the_nodes_that_come_and_leave_and_no_step_is_lost(
    machines: Machines, make_run: Callable[[], Run]
) -> None:
    """1 → 2 → 1 → elsewhere: the second node brings room, and takes it away again; then that of the workers drains."""
    _, first = machines.add("--num-cpus=2")
    run = make_run().start("--gpus-per-worker", "0", "--workers", "1:2", steps=100_000, every=50)
    run.until(lambda: bool(run.checkpoints()))
    _, second = machines.add("--num-cpus=2")
    run.until(lambda: "there is room for 2 workers in place of 1: training goes on from step" in run.log)
    resized = run.checkpoints()[-1]
    run.until(lambda: run.checkpoints()[-1] > resized)
    machines.drain(second, 60)  # both workers are on the first node: all of the decoding was here
    # A node that does nothing at that moment leaves at once, before its drain can be seen.
    left = ("there is room for 1 worker in place of 2: training goes on from step", "is gone (spot): training goes on")
    run.until(lambda: any(text in run.log for text in left))
    machines.add("--num-cpus=2")
    machines.drain(first, 60)
    run.until(lambda: "is about to leave: training goes on from step" in run.log)
    drained = run.checkpoints()[-1]
    run.until(lambda: run.checkpoints()[-1] > drained)
    run.send(signal.SIGTERM)
    assert run.wait() == 75, run.log
    last = run.checkpoints()[-1]
    assert last >= drained
    assert run.steps == list(range(1, last + 1))


@pytest.mark.long
def test_a_run_whose_node_is_killed_goes_on_elsewhere_and_names_it(
    machines: Machines, make_run: Callable[[], Run]
) -> None:
    node, _ = machines.add("--num-cpus=2", "--num-gpus=1")
    run = make_run().start("--wait-for", "3m", steps=60, every=5)
    run.until(lambda: len(run.checkpoints()) > 0)
    machines.kill(node)
    run.until(lambda: "is gone" in run.log)
    assert "training goes on from step" in run.log
    machines.add("--num-cpus=2", "--num-gpus=1")
    assert run.wait() == 0, run.log
    assert run.steps == list(range(1, 61))


@pytest.mark.long
def test_sigterm_saves_a_checkpoint_and_the_same_command_goes_on_to_the_same_bytes(
    dataset: Path, tmp_path: Path, condgen_process: object
) -> None:
    whole, cut = Run(None, dataset, tmp_path / "whole"), Run(None, dataset, tmp_path / "cut")
    try:
        assert whole.start(steps=600, every=100).wait() == 0, whole.log
        cut.start("--max-duration", "2h", steps=600, every=100)
        cut.until(lambda: bool(cut.checkpoints()))
        cut.send(signal.SIGUSR2)
        cut.until(lambda: any(step % 100 for step in cut.checkpoints()))
        cut.send(signal.SIGTERM)
        assert cut.wait() == 75, cut.log
        assert "run the same command again to go on" in cut.log
        assert 0 < cut.checkpoints()[-1] < 600
        assert cut.start(steps=600, every=100).wait() == 0, cut.log
    finally:
        whole.kill()
        cut.kill()
    assert cut.steps == whole.steps == list(range(1, 601))
    assert (cut.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
