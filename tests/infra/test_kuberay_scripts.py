"""The scripts that infra/kuberay runs in its pods: the hooks before a pod's end, and the start of a nightly copy."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import pytest
from kube_manifests import KUBERAY, find, render

pytestmark = pytest.mark.infra

WORKER = KUBERAY / "base" / "leave_worker.sh"
JOB = "colorize-nightly-29384720"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def leave_head() -> ModuleType:
    return load(KUBERAY / "base" / "leave_head.py")


def submitted(**changes: Any) -> Any:
    from ray.job_submission import DriverInfo, JobDetails, JobStatus, JobType

    driver = DriverInfo(id="0300", node_ip_address=changes.pop("address", "10.0.0.1"), pid="71")
    facts = {"type": JobType.SUBMISSION, "status": JobStatus.RUNNING, "entrypoint": "condgen train", **changes}
    return JobDetails(**{"driver_info": driver, **facts})


def test_the_commands_of_a_head_are_its_own_running_submissions(leave_head: ModuleType) -> None:
    from ray.job_submission import JobStatus, JobType

    others = [
        submitted(status=JobStatus.STOPPED),
        submitted(type=JobType.DRIVER),  # such as a worker's hook, which asks Ray who it is
        submitted(address="10.0.0.2"),
        submitted(driver_info=None),
    ]
    assert leave_head.find_commands(others, "10.0.0.1") == []
    assert leave_head.find_commands([*others, submitted()], "10.0.0.1") == [71]


PROGRAM = """
import signal, sys, time
def note(*_):
    time.sleep(0.3)
    sys.exit(75)
signal.signal(signal.SIGTERM, note if sys.argv[1] == "saves" else signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def test_the_heads_hook_waits_until_a_command_has_saved_and_no_longer_than_it_may(leave_head: ModuleType) -> None:
    leave_head.POLL_S = 0.05
    commands = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, kind], stdout=subprocess.PIPE) for kind in ("saves", "hangs")
    ]
    saves, hangs = commands
    try:
        for command in commands:
            assert command.stdout is not None
            assert command.stdout.readline() == b"ready\n"
        threading.Thread(target=saves.wait, daemon=True).start()  # Ray's supervisor waits for its command, too
        assert leave_head.end([saves.pid], 30.0) == []
        assert saves.wait() == 75
        began = time.monotonic()
        assert leave_head.end([saves.pid, hangs.pid], 0.5) == [hangs.pid]
        assert 0.5 <= time.monotonic() - began < 10
    finally:
        for command in commands:
            command.kill()
            command.wait()


def run_worker_hook(tmp_path: Path, program: str, raylet_s: float = 60.0, **env: str) -> tuple[int, float, list[str]]:
    """Run the worker's hook in a process namespace with a `ray` and a raylet of ours, which ends after a while.

    Returns the hook's exit code, its time (seconds) and the arguments of `ray`.
    """
    fake = tmp_path / "ray"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\n{program}\n')
    fake.chmod(0o755)
    shutil.copy(str(shutil.which("sleep")), tmp_path / "raylet")
    inside = f'"{tmp_path}/raylet" {raylet_s} & bash "{WORKER}"'
    command = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "bash", "-c", inside]
    began = time.monotonic()
    done = subprocess.run(command, env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **env}, check=False)
    asked = tmp_path / "asked"
    return done.returncode, time.monotonic() - began, asked.read_text().splitlines() if asked.exists() else []


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="process namespaces need root")


@needs_root
def test_the_workers_hook_tells_ray_and_leaves_it_the_time(tmp_path: Path) -> None:
    code, took_s, asked = run_worker_hook(tmp_path, "exit 0", CONDGEN_DRAIN_S="2")
    assert code == 0
    assert took_s >= 1
    from ray.scripts.scripts import drain_node  # its real command line reads what the hook says

    assert asked[0] == "drain-node"
    parsed = drain_node.make_context("drain-node", asked[1:]).params
    assert parsed["reason"] == "DRAIN_NODE_REASON_PREEMPTION"
    assert parsed["deadline_remaining_seconds"] == 2
    assert parsed["node_id"] is None


@needs_root
def test_the_workers_hook_ends_when_ray_has_ended(tmp_path: Path) -> None:
    code, took_s, _ = run_worker_hook(tmp_path, "exit 0", raylet_s=1.5, CONDGEN_DRAIN_S="60")
    assert code == 0
    assert 1 <= took_s < 20


@needs_root
def test_the_workers_hook_waits_for_the_heads_as_well_where_nobody_heard_it(tmp_path: Path) -> None:
    code, took_s, asked = run_worker_hook(tmp_path, "exit 1", CONDGEN_DRAIN_S="2")
    assert code == 0
    assert took_s >= 1
    assert asked
    assert run_worker_hook(tmp_path, "exit 0")[0] != 0  # without its time it can't be right


class FakeApiServer(ThreadingHTTPServer):
    """The RayJobs of one namespace, over HTTP; answers with `statuses` one after the other, the last one again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.statuses: list[Any] = []
        self.tokens: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    server: FakeApiServer

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        job = self.server.jobs.get(name)
        answer = self.server.statuses[0] if name == JOB and self.server.statuses else {}
        if len(self.server.statuses) > 1 and name == JOB:
            self.server.statuses.pop(0)
        if isinstance(answer, int) or job is None:
            self._answer(answer if isinstance(answer, int) else 404, {})
        else:
            self._answer(200, {**job, "status": answer})

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = job["metadata"]["name"]
        if name in self.server.jobs:
            self._answer(409, {})
        else:
            self.server.jobs[name] = job
            self._answer(201, job)

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        assert "/apis/ray.io/v1/namespaces/condgen/rayjobs" in self.path
        self.server.tokens.add(self.headers["Authorization"])
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def script() -> ModuleType:
    return load(KUBERAY / "overlays" / "cron" / "start.py")


@pytest.fixture
def api(script: ModuleType, server: FakeApiServer, tmp_path: Path) -> Any:
    (tmp_path / "token").write_text("the-account's\n")
    template = find(render("cron"), "RayJob", "colorize-nightly")
    template["metadata"].update(uid="1", resourceVersion="7", annotations={"kubectl.kubernetes.io/last-applied": "{}"})
    server.jobs["colorize-nightly"] = template
    return script.Api(f"http://127.0.0.1:{server.server_port}", "condgen", tmp_path)


def test_a_nightly_copy_runs_belongs_to_its_job_and_is_a_rayjob(
    script: ModuleType, api: Any, server: FakeApiServer
) -> None:
    from kube_schemas import custom_problems

    script.start(api, "colorize-nightly", JOB, "the-uid")
    copy = server.jobs[JOB]
    assert copy["spec"] == {**server.jobs["colorize-nightly"]["spec"], "suspend": False}
    assert set(copy["metadata"]) == {"name", "labels", "ownerReferences"}
    assert copy["metadata"]["ownerReferences"][0]["uid"] == "the-uid"
    assert custom_problems(copy) == []
    assert server.tokens == {"Bearer the-account's"}


def test_a_second_pod_of_a_job_follows_the_copy_of_the_first(
    script: ModuleType, api: Any, server: FakeApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    script.start(api, "colorize-nightly", JOB, "1")
    script.start(api, "colorize-nightly", JOB, "1")
    assert f"{JOB} was started before" in capsys.readouterr().out
    assert len(server.jobs) == 2


def test_a_template_that_is_not_there_is_an_error(script: ModuleType, api: Any) -> None:
    with pytest.raises(HTTPError):
        script.start(api, "nothing", JOB, "1")


RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
ENDS: dict[str, tuple[list[Any], bool]] = {
    "succeeded": ([{}, RUNNING, 503, {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}], True),
    "failed": ([RUNNING, {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"}], False),
    "stopped": ([{"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}], False),
    "tried again": (
        [{"jobDeploymentStatus": "Retrying"}, RUNNING, {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}],
        True,
    ),
    "refused": ([{"jobDeploymentStatus": "ValidationFailed", "message": "no such field"}], False),
    "deleted": ([RUNNING, 404], False),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_copy_is_followed_to_its_end(
    end: str, script: ModuleType, api: Any, server: FakeApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    script.start(api, "colorize-nightly", JOB, "1")
    server.statuses, succeeded = list(ENDS[end][0]), ENDS[end][1]
    assert script.follow(api, JOB, poll_s=0.01) is succeeded
    assert capsys.readouterr().out.startswith(("colorize-nightly-", "the API server"))


def test_an_api_server_that_is_away_is_asked_again(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    answers: list[Callable[[], dict[str, Any]]] = [
        lambda: (_ for _ in ()).throw(OSError("no route")),
        lambda: {"status": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}},
    ]
    api = script.Api("http://127.0.0.1:1", "condgen", tmp_path)
    api.get = lambda _name: answers.pop(0)()
    assert script.follow(api, JOB, poll_s=0.01)
