"""Machines that come and go, all of them on this one, and a `condgen train` on them whose command the test holds.

    machines.add("--num-cpus=2")
    run = Run(folder / "run", options, env=machines.env).start()
    run.until(lambda: bool(run.checkpoints()))
    run.send(signal.SIGTERM)
    assert run.wait() == 75, run.log

The command runs in a process of its own, as a scheduler starts it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chaos_cluster import START_S, ChaosCluster, kill_session

from pipelines.storage.store import open_store
from pipelines.training.run_folder import METRICS, RunFolder, rows_from_bytes

__all__ = ["WAIT_S", "Machines", "Run", "local_env", "training_workers"]

WAIT_S = 600.0


def training_workers(driver: int) -> list[int]:
    """The processes of Ray Train's workers that descend from a driver's process: those of its own Ray."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = []
    for process in parents:
        ancestor = process
        while ancestor in parents and ancestor != driver:
            ancestor = parents[ancestor]
        with contextlib.suppress(OSError):
            if ancestor == driver and b"RayTrainWorker" in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found


class Machines:
    """A head node without CPUs, where the driver is, and nodes beside it."""

    def __init__(self, cluster: ChaosCluster) -> None:
        self.cluster = cluster
        self._nodes: dict[str, subprocess.Popen[Any]] = {}
        self._timers: list[threading.Timer] = []
        self.env = cluster.env | {"RAY_ADDRESS": cluster.address}

    def add(self, *resources: str) -> str:
        """Add a node and wait until it is there; returns its id."""
        before = self.alive()
        process = self.cluster.add_node(*resources)
        deadline = time.monotonic() + 2 * START_S
        while not (new := self.alive() - before):
            assert time.monotonic() < deadline, "a node does not start"
            if process.poll() is not None:  # Ray gives a node 30 s, which a crowded machine may need more of
                self.cluster.end_node(process)
                process = self.cluster.add_node(*resources)
            time.sleep(0.5)
        name = new.pop()
        self._nodes[name] = process
        return name

    def alive(self) -> set[str]:
        """The ids of the nodes with CPUs that are there."""
        return set(self.cluster.ask("ids"))

    def nodes_with(self, kind: str) -> list[str]:
        """The ids of the nodes that have actors of a class."""
        busy = [process for process, raylet in self.cluster.raylets() if self.cluster.actors(raylet, kind)]
        return sorted(node for node, process in self._nodes.items() if process in busy)

    def kill(self, node: str) -> None:
        """SIGKILL a node, and all that is left of it, unless that was done before."""
        if (process := self._nodes.pop(node, None)) is not None:
            self.cluster.end_node(process)

    def drain(self, node: str, seconds: float) -> None:
        """Say that a node is about to leave."""
        assert self.cluster.ask("drain", node, seconds)

    def take_back(self, node: str, seconds: float) -> None:
        """Do what a cloud does with a spot machine: a notice, and the machine is gone when its time is over."""
        self.drain(node, seconds)
        self._timers.append(threading.Timer(seconds, self.kill, [node]))
        self._timers[-1].start()

    def end(self) -> None:
        """Kill all nodes, and wait until the cluster has noticed."""
        for timer in self._timers:
            timer.cancel()
            timer.join()
        for node in list(self._nodes):
            self.kill(node)
        deadline = time.monotonic() + START_S
        while self.alive():
            assert time.monotonic() < deadline, "a node does not end"
            time.sleep(0.2)


class Run:
    """A run's command, its folder, and what its command has printed.

    Args:
        out: folder of the run, a local path or a URI.
        arguments: of `condgen train`, without `--out`.
        env: environment of the command.
        log: local file that takes the command's output.
    """

    def __init__(self, out: Path | str, arguments: Sequence[str], *, env: dict[str, str], log: Path) -> None:
        self.out, self._arguments, self._env, self._log = str(out), arguments, env, log
        self.store = open_store(self.out)
        self.process: subprocess.Popen[Any] | None = None

    def beside(self, log: Path) -> "Run":
        """The same command, to be started while the first one may run."""
        return Run(self.out, self._arguments, env=self._env, log=log)

    def start(self, *more: str) -> "Run":
        """Start the command, with more arguments."""
        command = [sys.executable, "-m", "jobs", "train", *self._arguments, "--out", self.out, *more]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log, start_new_session=True)
        return self

    def send(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def code(self) -> int | None:
        """The exit code, None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        assert self.process is not None
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        """SIGKILL the command, where it runs."""
        if self.process is not None and self.process.poll() is None:
            kill_session(self.process)

    @property
    def log(self) -> str:
        """What all commands of the run have printed."""
        return self._log.read_text()

    @property
    def steps(self) -> list[int]:
        """The steps of the rows of metrics."""
        return [row.step for row in rows_from_bytes(self.store.read(METRICS))] if self.store.exists(METRICS) else []

    def checkpoints(self) -> list[int]:
        """The steps of the whole checkpoints that count."""
        return [one.step for one in RunFolder(self.store).fence_now().complete()]

    def until(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened, while the command runs."""
        deadline = time.monotonic() + WAIT_S
        while not happened():
            assert self.code() is None, f"it ended by itself:\n{self.log}"
            assert time.monotonic() < deadline, f"it took too long:\n{self.log}"
            time.sleep(0.05)


def local_env() -> dict[str, str]:
    """The environment of a command that starts a Ray of its own."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
