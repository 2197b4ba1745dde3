"""Several nodes of Ray on this machine, of our own, and a hand in them.

Every process of the cluster is `ray start --block` of ours in a session of its own, with a token of its own, and is
ended by its id; nothing is written where other clusters of this machine would look. Linux only: processes are found
in /proc.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

__all__ = ["START_S", "ChaosCluster", "kill_session"]

START_S = 150.0
_FILL_S = 15.0
_SYSTEM = {"health_check_period_ms": 500, "health_check_failure_threshold": 6, "health_check_initial_delay_ms": 2000}


def _wait_for(what: str, ready: Callable[[], bool], seconds: float = START_S) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took longer than {seconds:.0f} s")
        time.sleep(0.1)


def kill_session(process: subprocess.Popen[Any]) -> None:
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
        self._asking = threading.Lock()
        self._started = 0
        self.spill = self._temp / "spill"
        self.is_spill_mounted = False

    def __enter__(self) -> Self:
        self.spill.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "chaos", str(self.spill)], capture_output=True, check=False
        )
        self.is_spill_mounted = mounted.returncode == 0
        try:
            self._head = self._start_head()
            _wait_for("the head node", self._head_stands, 2 * START_S)
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
                kill_session(process)
        if self.is_spill_mounted:
            subprocess.run(["umount", "-l", str(self.spill)], check=False)
        shutil.rmtree(self._temp, ignore_errors=True)

    def _start_head(self) -> subprocess.Popen[Any]:
        return self._start(
            "--head", f"--port={self.address.rpartition(':')[2]}", "--num-cpus=0", "--include-dashboard=false",
            f"--system-config={json.dumps(_SYSTEM)}", f"--object-spilling-directory={self.spill}",
        )  # fmt: skip

    def _head_stands(self) -> bool:
        """Whether the head node has started; one that Ray gave up, after its 30 s, is started again."""
        assert self._head is not None
        if self._head.poll() is not None:
            kill_session(self._head)
            self._head = self._start_head()
        return "Ray runtime started" in (self._folder / f"node-{self._started}.log").read_text()

    def _start(self, *options: str) -> subprocess.Popen[Any]:
        self._started += 1
        with (self._folder / f"node-{self._started}.log").open("w") as log:
            return subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats",
                    "--node-ip-address=127.0.0.1", f"--temp-dir={self._temp}", "--object-store-memory=80000000",
                    "--include-log-monitor=false",
                    *options,
                ],
                env=self.env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def add_node(self, *resources: str) -> subprocess.Popen[Any]:
        """Have another worker node join, some seconds from now, with these options of `ray start`."""
        self._nodes.append(self._start(f"--address={self.address}", *(resources or ("--num-cpus=1",))))
        return self._nodes[-1]

    def end_node(self, node: subprocess.Popen[Any]) -> None:
        """SIGKILL a worker node's raylet, then all that is left of it; nothing takes its place."""
        for one, raylet in self.raylets():
            if one is node:
                os.kill(raylet, signal.SIGKILL)
        time.sleep(0.5)  # its workers see that it is gone, and end by themselves
        kill_session(node)
        self._nodes.remove(node)

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

    def workers(self, kind: str = "ChunkWorker") -> list[int]:
        """The processes of actors of one class; those of a batch job where nothing is said."""
        return sorted(pid for _, pid in self.placed(kind))

    def placed(self, kind: str) -> list[tuple[int, int]]:
        """The processes of actors of one class, each after the raylet that it belongs to."""
        return [(raylet, pid) for _, raylet in self.raylets() for pid in self.actors(raylet, kind)]

    @staticmethod
    def actors(raylet: int, kind: str) -> list[int]:
        """The processes of actors of one class on one node."""
        titles = ((pid, _title(pid)) for pid in _children(raylet))
        return [pid for pid, title in titles if title.startswith("ray::") and kind in title]

    def kill_node(self, place: int) -> bool:
        """SIGKILL a raylet, where another worker node remains; a new node joins afterwards."""
        raylets = self.raylets()
        if len(raylets) < 2:
            return False
        node, raylet = raylets[place % len(raylets)]
        os.kill(raylet, signal.SIGKILL)
        time.sleep(0.5)  # its workers see that it is gone, and end by themselves
        kill_session(node)
        self._nodes.remove(node)
        self.add_node()
        return True

    def ask(self, *question: Any) -> Any:
        """Have the hand, a driver of its own at the cluster, do something; safe in threads."""
        with self._asking:
            self._hand.stdin.write(json.dumps(question) + "\n")
            self._hand.stdin.flush()
            line = self._hand.stdout.readline()
        assert line, f"the hand has ended: {self._folder / 'hand.log'}"
        return json.loads(line)


class _Hand:
    """The other end of `ChaosCluster.ask`: it answers questions of one line each."""

    def __init__(self, address: str) -> None:
        import ray

        self._address = address
        self._ballast: list[Any] = []
        self._filling: threading.Thread | None = None
        self._refusal = ""
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")

    def nodes(self) -> int:
        """Live nodes with CPUs."""
        import ray

        return sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))

    def ids(self) -> list[str]:
        """The ids of the live nodes with CPUs."""
        import ray

        return sorted(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))

    def drain(self, node: str, seconds: float) -> bool:
        """What a cloud does that takes a spot machine back: a notice, and the time until then."""
        from ray._raylet import GcsClient
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason

        preemption, deadline_ms = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"), (time.time() + seconds) * 1000
        accepted, _ = GcsClient(address=self._address).drain_node(node, preemption, "spot", int(deadline_ms))
        return bool(accepted)

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
        """Put objects until the cluster refuses one; the name of its refusal, or that it neither takes nor refuses it.

        Ray may also wait until a spill succeeds. The disk is only free again once this has returned.
        """
        self._refusal = "nothing was refused"
        self._filling = threading.Thread(target=self._fill, daemon=True)
        self._filling.start()
        self._filling.join(_FILL_S)
        return "nothing happened" if self._filling.is_alive() else self._refusal

    def _fill(self) -> None:
        import numpy as np
        import ray

        filling = self._filling
        for _ in range(60):
            if self._filling is not filling:
                return
            try:
                self._ballast.append(ray.put(np.ones(4 << 20, np.uint8)))
            except ray.exceptions.RayError as error:
                self._refusal = type(error).__name__
                return

    def free(self) -> bool:
        """Let go of what was put."""
        filling, self._filling = self._filling, None
        self._ballast.clear()
        if filling is not None:
            filling.join(START_S)  # its put has room now
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
