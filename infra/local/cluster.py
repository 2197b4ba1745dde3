#!/usr/bin/env python3
"""A Ray cluster of several nodes on this machine, on loopback, with a token: to try what a real cluster does.

    cluster.py start [--nodes 2] [--cpus 1] [--gpus 0]    # prints export lines: eval "$(infra/local/cluster.py start)"
    cluster.py add [--cpus 1] [--gpus 0]                  # one more node
    cluster.py remove                                     # the newest node is lost, as a machine that breaks is
    cluster.py stop
    cluster.py status                                     # exit code 0 up, 3 down

The head has no CPUs for Ray, as a real one has none. --gpus declares GPUs; there need be none. Each node is a process
of `ray start --block` in a session of its own, whose files are in a folder of their own: no other Ray of this machine
finds it. The environment that is printed is all that condgen, `condgen submit` and `ray` need. Only the standard
library is used; Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

DEFAULT_DATA = Path(__file__).resolve().parent / ".state" / "cluster"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
OBJECT_STORE_BYTES = 256 << 20
STARTED = "Ray runtime started"


class ClusterError(Exception):
    """The cluster can't be started or changed; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node's process: its id, and when it began, in clock ticks since the machine's start (ids are used again)."""

    pid: int
    begun: int

    def is_running(self) -> bool:
        """Whether it is that process that still runs."""
        return _begun(self.pid) == self.begun


@dataclass(kw_only=True)
class Cluster:
    """A cluster: its head's ports, where its files are, and its nodes, of which the head is the first."""

    port: int
    dashboard_port: int
    temp: str
    token: str
    nodes: list[Node] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """What a client of the cluster needs."""
        return {
            "RAY_ADDRESS": f"127.0.0.1:{self.port}",
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard_port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": self.token,
        }

    @property
    def metrics_targets(self) -> Path:
        """The file in which Ray tells Prometheus where its nodes are."""
        return Path(self.temp) / "prom_metrics_service_discovery.json"

    def is_up(self) -> bool:
        """Whether the head runs and its dashboard answers."""
        if not self.nodes or not self.nodes[0].is_running():
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.dashboard_port}/api/gcs_healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def _begun(pid: int) -> int:
    """When a process began; -1 where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] == "Z" else int(fields[19])


def find_ray() -> str:
    """The program `ray`: beside this Python, in the project's environment, then on the PATH."""
    in_project = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "ray"
    for candidate in (Path(sys.executable).parent / "ray", in_project):
        if candidate.exists():
            return str(candidate)
    found = shutil.which("ray")
    if found is None:
        raise ClusterError("no ray found: make the environment first (make demo and make test do)")
    return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def load(data: Path) -> Cluster | None:
    """The cluster that this folder's state tells of, if its head runs."""
    try:
        state = json.loads((data / "cluster.json").read_text())
        cluster = Cluster(**(state | {"nodes": [Node(**node) for node in state["nodes"]]}))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return cluster if cluster.nodes and cluster.nodes[0].is_running() else None


def save(data: Path, cluster: Cluster) -> None:
    """Note a cluster in its folder."""
    (data / "cluster.json").write_text(json.dumps(asdict(cluster), indent=2))


def end(node: Node, number: signal.Signals) -> None:
    """End a node with all of its session."""
    if not node.is_running():
        return
    os.killpg(node.pid, number)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while node.is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    if node.is_running():
        os.killpg(node.pid, signal.SIGKILL)


def start_node(data: Path, cluster: Cluster, *options: str) -> None:
    """Start a node, wait until it has joined, and note it.

    Ray gives a node 30 s for its start, which a crowded machine may need more of: it is started again, within
    `START_TIMEOUT_S`.

    Raises:
        ClusterError: it does not start; the end of its log is in the message.
    """
    log = data / f"node-{len(cluster.nodes)}.log"
    command = [
        *(find_ray(), "start", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1"),
        "--dashboard-agent-listen-port=0",  # 52365 may be another Ray's, and submitted commands go to the head's agent
        *(f"--temp-dir={cluster.temp}", f"--object-store-memory={OBJECT_STORE_BYTES}", *options),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": cluster.token, "RAY_ADDRESS": ""}
    path = f"{Path(find_ray()).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment["PATH"] = path  # submitted commands run `condgen` from it
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        node = Node(pid=process.pid, begun=_begun(process.pid))
        while process.poll() is None and time.monotonic() < deadline:
            if STARTED in log.read_text(errors="replace"):
                cluster.nodes.append(node)
                save(data, cluster)
                return
            time.sleep(0.1)
        end(node, signal.SIGKILL)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise ClusterError(f"a node did not start:\n{tail}")


def resources(cpus: int, gpus: int) -> list[str]:
    """The options of `ray start` that say what a node has."""
    return [f"--num-cpus={cpus}", f"--num-gpus={gpus}"]


def start(data: Path, nodes: int, cpus: int, gpus: int) -> Cluster:
    """Start a cluster, or return the one that runs there already."""
    if (running := load(data)) is not None:
        return running
    stop(data)
    data.mkdir(parents=True)
    token = data / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    port, dashboard_port, client_port = free_ports(3)
    temp = tempfile.mkdtemp(prefix="condgen-ray-")  # short, as paths of sockets must be
    cluster = Cluster(port=port, dashboard_port=dashboard_port, temp=temp, token=str(token))
    try:
        dashboard = ("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}")
        ports = (f"--port={port}", f"--ray-client-server-port={client_port}")
        start_node(data, cluster, "--head", *ports, *dashboard, *resources(0, 0))
        for _ in range(nodes):
            add(data, cluster, cpus, gpus)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not cluster.is_up():
            if time.monotonic() > deadline:
                raise ClusterError(f"the dashboard does not answer: {temp}/session_latest/logs/dashboard.log")
            time.sleep(0.2)
    except BaseException:
        stop(data)
        raise
    return cluster


def add(data: Path, cluster: Cluster, cpus: int, gpus: int) -> None:
    """Have one more node join."""
    start_node(data, cluster, f"--address=127.0.0.1:{cluster.port}", *resources(cpus, gpus))


def stop(data: Path) -> None:
    """End all nodes and remove the cluster's files."""
    try:
        state = json.loads((data / "cluster.json").read_text())
    except (OSError, ValueError):
        state = {"nodes": [], "temp": ""}
    for node in reversed(state["nodes"]):
        end(Node(**node), signal.SIGTERM)
    if state["temp"]:
        shutil.rmtree(state["temp"], ignore_errors=True)
    shutil.rmtree(data, ignore_errors=True)


def running(data: Path) -> Cluster:
    """The cluster of a folder.

    Raises:
        ClusterError: none runs.
    """
    cluster = load(data)
    if cluster is None:
        raise ClusterError(f"no cluster runs in {data}: start one first")
    return cluster


def remove(data: Path, cluster: Cluster) -> None:
    """Lose the newest node without a word to the others."""
    if len(cluster.nodes) < 2:
        raise ClusterError("there is no node but the head")
    end(cluster.nodes.pop(), signal.SIGKILL)
    save(data, cluster)


def main() -> int:
    """Read the arguments and do what they ask."""
    parser = argparse.ArgumentParser(description="A Ray cluster of several nodes on this machine.")
    parser.add_argument("action", choices=["start", "add", "remove", "stop", "status"])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="logs and token (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=2, help="nodes beside the head (default: %(default)s)")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of a node (default: %(default)s)")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs that a node declares (default: %(default)s)")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    try:
        if arguments.action == "start":
            cluster = start(data, arguments.nodes, arguments.cpus, arguments.gpus)
            print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in cluster.environment().items()))
        elif arguments.action == "add":
            add(data, running(data), arguments.cpus, arguments.gpus)
        elif arguments.action == "remove":
            remove(data, running(data))
        elif arguments.action == "stop":
            stop(data)
        else:
            found = load(data)
            up = found is not None and found.is_up()
            alive = sum(node.is_running() for node in found.nodes[1:]) if found is not None else 0
            print(f"up http://127.0.0.1:{found.dashboard_port}, {alive} nodes" if found is not None and up else "down")
            return 0 if up else 3
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
