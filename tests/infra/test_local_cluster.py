"""infra/local/cluster.py starts real nodes of Ray, closed by a token, and ends all of them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_server import Prometheus, wait_until
from scripts import ROOT

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]

ASK = (
    "import ray; ray.init(log_to_driver=False); "
    "print(sum(node['Alive'] for node in ray.nodes()), ray.cluster_resources().get('CPU'), "
    "ray.cluster_resources().get('GPU'))"
)


def script(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "infra" / "local" / "cluster.py", *words, "--data", data]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def ask(env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", ASK]
    return subprocess.run(command, env=bare | dict(env), capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cluster"
    script(tmp_path / "cluster", "stop")


def sees_the_nodes(data: Path, program: str, count: int) -> None:
    """Check that infra/local/prometheus.py scrapes all nodes and knows the alerts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "infra" / "local" / "prometheus.py", "--cluster", data, "--port", str(port)]
    env = os.environ | {"PATH": f"{Path(program).parent}:{os.environ['PATH']}"}
    with (
        (data / "prometheus.log").open("w") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as server,
    ):
        try:
            asked = Prometheus(f"127.0.0.1:{port}")
            wait_until("nodes that are up", lambda: len([one for _, one in asked.query("up") if one == 1]) == count)
            assert "condgen-train" in {group["name"] for group in asked.get("rules")["groups"]}
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode == 0


def test_a_cluster_grows_loses_a_node_and_ends(data: Path, prometheus_program: str) -> None:
    assert script(data, "status").returncode == 3
    started = script(data, "start", "--nodes", "1", "--gpus", "2")
    assert started.returncode == 0, started.stderr
    env = dict(line.removeprefix("export ").split("=", 1) for line in started.stdout.splitlines())
    assert ask(env).stdout.split() == ["2", "1.0", "2.0"]
    assert (data / "token").stat().st_mode & 0o077 == 0
    assert ask(env | {"RAY_AUTH_MODE": "disabled"}).returncode != 0

    sees_the_nodes(data, prometheus_program, count=2)
    submit = [sys.executable, "-m", "jobs", "submit", "--", "validate", str(data / "no-dataset")]
    done = subprocess.run(submit, env=os.environ | env, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, "no-dataset" in done.stdout + done.stderr) == (2, True), done.stdout + done.stderr

    assert script(data, "start").stdout == started.stdout  # the one that runs
    assert script(data, "add", "--cpus", "3").returncode == 0
    up = script(data, "status")
    assert (up.returncode, up.stdout.split()[-2:]) == (0, ["2", "nodes"])
    assert script(data, "remove").returncode == 0
    assert script(data, "status").stdout.split()[-2:] == ["1", "nodes"]

    assert script(data, "stop").returncode == 0
    assert not data.exists()
    ports = (env["RAY_ADDRESS"].rpartition(":")[2], env["RAY_API_SERVER_ADDRESS"].rpartition(":")[2])
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes())
    assert not [line for line in lines if any(f":{port}".encode() in line for port in ports)]


def test_what_needs_a_cluster_says_so_where_there_is_none(data: Path) -> None:
    added = script(data, "add")
    assert added.returncode == 1
    assert added.stderr == f"error: no cluster runs in {data}: start one first\n"
