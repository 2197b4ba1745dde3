"""What breaks a cluster on purpose: several nodes of Ray on this machine, a job on them, and faults drawn by a seed.

    with ChaosCluster(folder, env) as cluster:
        chaos = Chaos(cluster, job, proxy, seed=1)
        chaos.run(faults=30)
        chaos.counts     # {"worker": 9, "actor": 5, "node": 4, "driver": 4, "s3": 6, "disk": 2}

Every process of the cluster is `ray start --block` of ours in a session of its own, with a token of its own, and is
ended by its id; nothing is written where other clusters of this machine would look. Linux only: processes are found
in /proc.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import FaultProxy

__all__ = ["KINDS", "Chaos", "ChaosCluster", "Job"]

KINDS = ("worker", "actor", "node", "driver", "s3", "disk")
_WEIGHTS = (5, 3, 2, 3, 5, 2)
_S3_FAULTS = ("slow_down", "reset", "cut", "stall")
_DISK_S = 6.0
_PROGRESS_S = 4.0
_START_S = 150.0
_SYSTEM = {"health_check_period_ms": 500, "health_check_failure_threshold": 6, "health_check_initial_delay_ms": 2000}


def _wait_for(what: str, ready: Callable[[], bool], seconds: float = _START_S) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took longer than {seconds:.0f} s")
        time.sleep(0.1)


def _kill_session(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a session of its own, and all of that session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


class ChaosCluster:
    """A head node without CPUs, which no fault hits, and worker nodes of one CPU each.

    Args:
        folder: for logs.
        env: of all processes, so of all workers too.
        nodes: how many worker nodes.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], nodes: int = 2) -> None:
        self._folder = folder
        self._temp = Path(tempfile.mkdtemp(prefix="chaos-"))  # short: sockets lie in it
        self.env = {
            **os.environ,
            **env,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._wanted = nodes
        self._head: subprocess.Popen[Any] | None = None
        self._nodes: list[subprocess.Popen[Any]] = []
        self._hand: subprocess.Popen[str] | None = None
        self._started = 0
        self.spill = self._temp / "spill"
        self.is_spill_mounted = False

    def __enter__(self) -> ChaosCluster:
        self.spill.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "chaos", str(self.spill)], capture_output=True, check=False
        )
        self.is_spill_mounted = mounted.returncode == 0
        try:
            port = self.address.rpartition(":")[2]
            self._head = self._start(
                "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
                f"--system-config={json.dumps(_SYSTEM)}", f"--object-spilling-directory={self.spill}",
            )  # fmt: skip
            _wait_for("the head node", self._answers)
            self._hand = subprocess.Popen(
                [sys.executable, __file__, self.address],
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(self._folder / "hand.log").open("w"),
                text=True,
                start_new_session=True,
            )
            for count in range(1, self._wanted + 1):
                self.add_node()
                _wait_for("a worker node", lambda count=count: self.live_nodes() == count)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in [self._hand, *self._nodes, self._head]:
            if process is not None:
                _kill_session(process)
        if self.is_spill_mounted:
            subprocess.run(["umount", "-l", str(self.spill)], check=False)
        shutil.rmtree(self._temp, ignore_errors=True)

    def _answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            return False
        return True

    def _start(self, *options: str) -> subprocess.Popen[Any]:
        self._started += 1
        with (self._folder / f"node-{self._started}.log").open("w") as log:
            return subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats",
                    "--node-ip-address=127.0.0.1", f"--temp-dir={self._temp}", "--object-store-memory=80000000",
                    *options,
                ],
                env=self.env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def add_node(self) -> None:
        """Have another worker node join, some seconds from now."""
        self._nodes.append(self._start(f"--address={self.address}", "--num-cpus=1"))

    def live_nodes(self) -> int:
        """Worker nodes that the cluster counts on. One that did not manage to start is tried again."""
        for node in [node for node in self._nodes if node.poll() is not None]:
            self._nodes.remove(node)
            self.add_node()
        return int(self.ask("nodes"))

    def raylets(self) -> list[tuple[subprocess.Popen[Any], int]]:
        """The worker nodes whose raylet runs, and its process id."""
        found = []
        for node in self._nodes:
            inner = [pid for pid in _children(node.pid) if "/raylet/raylet " in _title(pid)]
            found += [(node, pid) for pid in inner]
        return found

    def workers(self) -> list[int]:
        """The processes of the job's actors."""
        return sorted(
            pid
            for _, raylet in self.raylets()
            for pid in _children(raylet)
            if (title := _title(pid)).startswith("ray::") and "ChunkWorker" in title
        )

    def kill_node(self, place: int) -> bool:
        """SIGKILL a raylet, where another worker node remains; a new node joins afterwards."""
        raylets = self.raylets()
        if len(raylets) < 2:
            return False
        node, raylet = raylets[place % len(raylets)]
        os.kill(raylet, signal.SIGKILL)
        time.sleep(0.5)  # its workers see that it is gone, and end by themselves
        _kill_session(node)
        self._nodes.remove(node)
        self.add_node()
        return True

    def ask(self, *question: Any) -> Any:
        """Have the hand, a driver of its own at the cluster, do something."""
        assert self._hand is not None
        assert self._hand.stdin is not None
        assert self._hand.stdout is not None
        self._hand.stdin.write(json.dumps(question) + "\n")
        self._hand.stdin.flush()
        line = self._hand.stdout.readline()
        assert line, f"the hand has ended: {self._folder / 'hand.log'}"
        return json.loads(line)


@dataclass
class Job:
    """A command that is run again when it was killed.

    Attributes:
        command: of the driver.
        cwd: its working directory.
        committed: counts the chunks that are committed.
        chunks: in all.
        brake: the file that holds the model while it is there.
        kills: how often the driver was killed.
    """

    command: Sequence[str]
    cwd: Path
    committed: Callable[[], int]
    chunks: int
    brake: Path
    kills: int = 0
    outputs: list[str] = field(default_factory=list)
    _process: subprocess.Popen[Any] | None = None

    def start(self, cluster: ChaosCluster) -> None:
        """Run the command."""
        env = {**cluster.env, "RAY_ADDRESS": cluster.address}
        self._log = self.cwd / f"driver-{self.kills}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self.cwd, env=env, stdout=log, stderr=log, start_new_session=True
            )

    def code(self) -> int | None:
        """The exit code, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def output(self) -> str:
        """What it has written, stdout and stderr."""
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        _kill_session(self._process)
        self.outputs.append(self.output())
        self.kills += 1

    def end(self, seconds: float) -> int:
        """Wait for its end."""
        assert self._process is not None
        return self._process.wait(seconds)


class Chaos:
    """Faults over one job, one every few seconds, each kind at least once.

    Args:
        cluster: on which the job runs.
        job: not started yet.
        proxy: between the workers and S3.
        seed: decides which faults in which order, whom they hit and when.
        say: is told of each fault.
    """

    def __init__(
        self, cluster: ChaosCluster, job: Job, proxy: FaultProxy, seed: int, say: Callable[[str], None] = print
    ) -> None:
        self._cluster, self._job, self._proxy, self._say = cluster, job, proxy, say
        self._rng = random.Random(seed)
        self._disk_until = 0.0
        self.counts: Counter[str] = Counter()
        self.details: Counter[str] = Counter()
        self._begun = time.monotonic()

    def plan(self, faults: int) -> list[str]:
        """The kinds of so many faults, each kind at least once where there are enough."""
        kinds = [*KINDS[:faults], *self._rng.choices(KINDS, _WEIGHTS, k=max(0, faults - len(KINDS)))]
        self._rng.shuffle(kinds)
        return kinds

    def run(self, faults: int, *, every_s: tuple[float, float] = (1.5, 3.0)) -> None:
        """Start the job, hurt it so often, and see it to its end.

        Raises:
            AssertionError: it ended by itself, or not at all.
        """
        self._job.brake.touch()
        self._job.start(self._cluster)
        try:
            for done, kind in enumerate(self.plan(faults)):
                self._pause(self._rng.uniform(*every_s), done / faults, _PROGRESS_S)
                self._until_hit(kind, done / faults)
                self.counts[kind] += 1
            self._job.brake.unlink(missing_ok=True)
            self._release_disk()
            code = self._job.end(300)
        except BaseException:
            self._job.kill()
            raise
        self._say(f"{self._time():6.1f} s  the job has ended with {code}")
        assert code == 0, self._job.output()

    def _time(self) -> float:
        return time.monotonic() - self._begun

    def _pause(self, seconds: float, share: float, more_s: float = 0.0) -> None:
        """Let the job work so long, and a little longer where it is behind its share; but not past its share."""
        until = time.monotonic() + seconds
        latest, is_ahead = until + more_s, False
        while time.monotonic() < until or (not is_ahead and time.monotonic() < latest):
            is_ahead = self._job.committed() >= 1 + share * (self._job.chunks - 2)
            if is_ahead:
                self._job.brake.touch()
            else:
                self._job.brake.unlink(missing_ok=True)
            if self._disk_until and time.monotonic() > self._disk_until:
                self._release_disk()
            code = self._job.code()
            assert code is None, f"the driver ended by itself with {code}: {self._job.output()}"
            time.sleep(0.1)

    def _until_hit(self, kind: str, share: float) -> None:
        deadline = time.monotonic() + _START_S
        while not (told := getattr(self, f"_hit_{kind}")()):
            assert time.monotonic() < deadline, f"nothing to hit for {kind}"
            self._pause(0.3, share)
        self._say(f"{self._time():6.1f} s  {kind}: {told}  ({self._job.committed()} of {self._job.chunks} chunks)")

    def _hit_worker(self) -> str:
        workers = self._cluster.workers()
        if not workers:
            return ""
        pid = self._rng.choice(workers)
        os.kill(pid, signal.SIGKILL)
        return f"SIGKILL of an actor's process ({len(workers)} there)"

    def _hit_actor(self) -> str:
        final = self._rng.random() < 0.5
        killed = self._cluster.ask("kill_actor", self._rng.randrange(100), final)
        return f"ray.kill of an actor, {'for good' if final else 'to be restarted'}" if killed else ""

    def _hit_node(self) -> str:
        if self._cluster.live_nodes() < 2:
            return ""
        return "SIGKILL of a raylet" if self._cluster.kill_node(self._rng.randrange(100)) else ""

    def _hit_driver(self) -> str:
        self._job.kill()
        self._job.start(self._cluster)
        return "SIGKILL of the driver, run again"

    def _hit_s3(self) -> str:
        fault, times = self._rng.choice(_S3_FAULTS), self._rng.randint(1, 3)
        self._proxy.inject(fault, 1 if fault == "stall" else times, after=self._rng.randrange(4))
        self.details[fault] += 1
        return f"S3 {fault}"

    def _hit_disk(self) -> str:
        if self._disk_until:
            return ""
        if self._cluster.is_spill_mounted:
            with (self._cluster.spill / "full").open("wb") as sink:
                try:
                    for _ in range(64):
                        sink.write(bytes(1 << 18))
                        sink.flush()
                except OSError:
                    pass
        else:
            self._cluster.spill.chmod(0o500)
        self._disk_until = time.monotonic() + _DISK_S
        refused = self._cluster.ask("fill")
        what = "full disk (tmpfs)" if self._cluster.is_spill_mounted else "unwritable folder"
        self.details[f"disk: {refused}"] += 1
        return f"{what} under the spill directory, object store filled until {refused}"

    def _release_disk(self) -> None:
        if self._disk_until:
            self._cluster.ask("free")
            (self._cluster.spill / "full").unlink(missing_ok=True)
            self._cluster.spill.chmod(0o755)
            self._disk_until = 0.0


class _Hand:
    """The other end of `ChaosCluster.ask`: it answers questions of one line each."""

    def __init__(self, address: str) -> None:
        import ray

        self._address = address
        self._ballast: list[Any] = []
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")

    def nodes(self) -> int:
        """Live nodes with CPUs."""
        import ray

        return sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))

    def kill_actor(self, place: int, final: bool) -> bool:
        """What `ray.kill` asks of the cluster, for one of another driver's actors."""
        from ray._private import grpc_utils, state
        from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

        found = state.actors()
        alive = sorted(
            name for name, one in found.items() if "ChunkWorker" in one["ActorClassName"] and one["State"] == "ALIVE"
        )
        if not alive:
            return False
        channel = grpc_utils.init_grpc_channel(self._address)
        request = gcs_service_pb2.KillActorViaGcsRequest(
            actor_id=bytes.fromhex(alive[place % len(alive)]), force_kill=True, no_restart=final
        )
        gcs_service_pb2_grpc.ActorInfoGcsServiceStub(channel).KillActorViaGcs(request, timeout=20)
        channel.close()
        return True

    def fill(self) -> str:
        """Put objects until the cluster refuses one; the name of its refusal."""
        import numpy as np
        import ray

        try:
            for _ in range(60):
                self._ballast.append(ray.put(np.ones(4 << 20, np.uint8)))
        except ray.exceptions.RayError as error:
            return type(error).__name__
        return "nothing was refused"

    def free(self) -> bool:
        """Let go of what was put."""
        self._ballast.clear()
        return True


def _serve(address: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    hand = _Hand(address)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(hand, name)(*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
