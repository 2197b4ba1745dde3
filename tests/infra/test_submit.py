"""`condgen submit` and its like against a real head of Ray with a token: jobs, logs that are cut, stops, exit codes."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from ray._private.authentication_test_utils import reset_auth_token_state
from ray_head import TINY, Head, free_port, wait_for
from samples import gradient, saved, tar_of
from scripts import ROOT

from condgen.errors import Interrupted
from jobs.submission import exit_code
from pipelines.cluster.submission import Cluster, Submission, base_name

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]


class Proxy:
    """Takes connections to the dashboard, and cuts those that are open when it is told to."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def cut(self) -> int:
        """Cut all connections, and return how many there were."""
        cut, self._open = self._open, []
        for one in cut:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        return len(cut) // 2

    def close(self) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    @staticmethod
    def _copy(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    patch = pytest.MonkeyPatch()
    with Head(tmp_path_factory.mktemp("head")) as head, patch.context() as here:
        for name, value in head.token.items():
            here.setenv(name, value)
        here.setenv("RAY_API_SERVER_ADDRESS", head.address)
        reset_auth_token_state()  # Ray reads these variables once a process, and other tests may have had it do so
        yield head
    reset_auth_token_state()


def run_shell(cluster: Cluster, script: str, *words: str) -> Submission:
    """Submit a shell script under the name of a command."""
    job, _ = cluster.submit(["validate", *words], entrypoint=f"exec sh -c '{script}'", runtime_env={})
    return job


def condgen(head: Head, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *words]
    return subprocess.run(command, env=head.env, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_the_exit_code_of_a_command_comes_through(head: Head, code: int) -> None:
    cluster = Cluster(head.address)
    log: list[str] = []
    job = cluster.follow(run_shell(cluster, f"echo said; exit {code}", f"code-{code}").name, log.append)
    assert exit_code(job) == code
    assert "".join(log).count("said\n") == 1


def test_the_command_line_ends_as_its_job_does_and_status_tells_it(head: Head) -> None:
    done = condgen(head, "submit", "--address", head.address, "--", "validate", "/nowhere/at all")
    name = f"{base_name(['validate', '/nowhere/at all'])}-1"
    assert done.returncode == 2
    assert "error: could not find /nowhere/at all" in done.stdout
    assert done.stderr.splitlines()[-1] == f"{name}: failed, exit code 2"
    listed = condgen(head, "status", "--address", head.address)
    assert f"{name}  failed" in listed.stdout
    assert "condgen validate '/nowhere/at all'" in listed.stdout
    assert "error: could not find" in condgen(head, "logs", name, "--address", head.address).stdout


def test_a_command_that_runs_is_not_run_twice_and_one_that_has_ended_is_run_again(head: Head) -> None:
    def submit(_: int) -> tuple[Submission, bool]:
        cluster = Cluster(head.address)
        return cluster.submit(["index", "s3://bucket/x"], entrypoint="exec sleep 300", runtime_env={})

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(submit, range(4)))
    assert {job.name for job, _ in found} == {f"{base_name(['index', 's3://bucket/x'])}-1"}
    assert [is_new for _, is_new in found].count(True) == 1
    cluster = Cluster(head.address)
    assert exit_code(cluster.stop(found[0][0].name)) == 75
    again, is_new = submit(0)
    assert (again.number, is_new) == (2, True)
    cluster.stop(again.name)


def test_a_log_is_whole_though_its_connection_is_cut(head: Head) -> None:
    proxy = Proxy(head.port)
    with pytest.MonkeyPatch.context() as here:
        here.setenv("RAY_API_SERVER_ADDRESS", proxy.address)
        cluster = Cluster(proxy.address)
        script = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i of the log; sleep 0.25; done"
        name = run_shell(cluster, script, "cut").name
        log: list[str] = []
        cuts: list[int] = []

        def cut() -> None:
            for part in (5, 20):
                wait_for("the log", lambda part=part: f"line {part} of" in "".join(log))
                cuts.append(proxy.cut())

        cutter = threading.Thread(target=cut)
        cutter.start()
        job = cluster.follow(name, log.append)
        cutter.join()
        proxy.close()
    assert cuts
    assert all(cuts)
    assert job.state == "SUCCEEDED"
    lines = [line for line in "".join(log).splitlines() if line.startswith("line ")]
    assert lines == [f"line {number} of the log" for number in range(1, 41)]


def test_a_job_is_followed_over_a_restart_of_the_dashboard(head: Head) -> None:
    told: list[str] = []
    cluster = Cluster(head.address, say=told.append, patience_s=90.0)
    script = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i of the log; sleep 0.5; done"
    name = run_shell(cluster, script, "restart").name
    log: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(cluster.follow, name, log.append)
        wait_for("the log", lambda: "line 5 of" in "".join(log))
        try:
            head.restart_dashboard(3.0)
        finally:
            job = followed.result(timeout=120)
    assert job.state == "SUCCEEDED"
    assert told[:1] == ["the cluster gives no answer: waiting for it"]
    lines = [line for line in "".join(log).splitlines() if line.startswith("line ")]
    assert lines == [f"line {number} of the log" for number in range(1, 41)]


def test_a_training_that_is_stopped_leaves_a_checkpoint_and_goes_on(head: Head, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    members = [(f"{number:04d}.jpg", saved(gradient(number, (40, 40)), "JPEG")) for number in range(32)]
    (data / "train-000000.tar").write_bytes(tar_of(members))
    changes = [word for setting in TINY for word in ("--set", setting)]
    train = ["train", "--preset", "regression-small", "--data", str(data), "--out", str(run), *changes]
    submit = ["submit", "--address", head.address, "--detach", "--", *train, "--gpus-per-worker", "0"]
    name = f"{base_name(submit[submit.index('--') + 1 :])}-1"
    assert condgen(head, *submit).returncode == 0

    def step() -> int:
        with suppress(OSError, ValueError):
            return int(json.loads((run / "status.json").read_text())["step"])
        return 0

    wait_for("training", lambda: step() >= 5)
    stopped = condgen(head, "stop", name, "--address", head.address)
    assert stopped.stdout == f"{name}: stopped\n"
    told = condgen(head, "status", name, "--address", head.address).stdout
    status = json.loads(told.partition("status.json: ")[2])
    assert status["state"] == "interrupted"
    assert "exit code 75" in told
    checkpoint = run / "checkpoints" / status["checkpoint"] / "complete.json"
    assert checkpoint.exists()
    assert condgen(head, *submit).returncode == 0
    wait_for("training to go on", lambda: step() > status["step"])
    condgen(head, "stop", name[:-1] + "2", "--address", head.address)


def test_an_uploaded_project_is_what_runs_in_the_driver_and_in_its_workers(head: Head, tmp_path: Path) -> None:
    project, archive, seen = (tmp_path / name for name in ("project", "archive", "seen"))
    for folder in (archive, seen):
        folder.mkdir()
    for package in ("condgen", "pipelines", "jobs"):
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    note = f"import pathlib, sys; (pathlib.Path({str(seen)!r}) / pathlib.Path(sys.argv[0]).name).touch()\n"
    with (project / "pipelines" / "__init__.py").open("a") as file:
        file.write(note)
    for number in range(3):
        (archive / f"{number}.jpg").write_bytes(saved(gradient(number, (40, 40)), "JPEG"))
    colorize = ("colorize", str(archive), str(tmp_path / "results"), "--draws", "1")
    done = condgen(head, "submit", "--address", head.address, "--upload", str(project), "--", *colorize)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in seen.iterdir()} >= {"__main__.py", "default_worker.py"}


def test_without_the_token_the_cluster_refuses(head: Head, tmp_path: Path) -> None:
    bare = {name: value for name, value in head.env.items() if not name.startswith("RAY_AUTH")} | {
        "HOME": str(tmp_path)
    }
    command = [sys.executable, "-m", "jobs", "status", "--address", head.address]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "RAY_AUTH_TOKEN_PATH" in done.stderr


def test_an_address_where_nothing_answers_is_a_line(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", head.address)
    with pytest.raises(Interrupted, match="no cluster answers"):
        Cluster(f"http://127.0.0.1:{free_port()}")
