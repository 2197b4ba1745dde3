"""A cluster of hosts with addresses of their own: KubeRay's start lines as process 1, lost links and hosts, a token.

The head, two workers, the S3 server and a laptop are hosts of namespaces (tests/hosts.py). The lines are those that
KubeRay's operator makes of infra/kuberay, whose hooks run before the end of a host as Kubernetes runs them.
"""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from hosts import Host, Network, why_not
from samples import gradient, saved, tar_of
from scripts import ROOT

pytestmark = [pytest.mark.infra, pytest.mark.timeout(1800)]

WAIT_S = 300.0
BASE = ROOT / "infra" / "kuberay" / "base"
START = "ulimit -n 65536; ray start --block --dashboard-agent-listen-port=52365 --metrics-export-port=8080"
SETTINGS = (
    "model.width=8 model.multipliers=[1,2] model.norm_groups=4 data.size_px=16 data.lanes=4 train.steps=5000 "
    "train.batch_size=8 train.warmup_steps=2 train.log_every_steps=50 train.checkpoint_every_steps=100"
)
PHOTOGRAPHS, BROKEN = 480, 3
# Ray takes a node that does not answer for dead after 20 s, and not after a minute, so that the tests are over sooner.
HEALTH = {
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}


def wait_for(what: str, happened: Callable[[], object], seconds: float = WAIT_S) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what} took longer than {seconds:.0f} s"
        time.sleep(0.2)


class Pods:
    """A Ray cluster as KubeRay makes one; a host that has gone boots again, as KubeRay makes another pod."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._network = Network()
        self.secrets = {"token": secrets.token_hex(32), "key": secrets.token_hex(20)}
        self.submitter: subprocess.Popen[str] | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.trouble: list[BaseException] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self._network.__enter__()
        self.head, self.laptop, self.server = (self._network.host(name) for name in ("head", "laptop", "s3"))
        self.workers = [self._network.host(name) for name in ("worker-1", "worker-2")]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": f"{ROOT}", "HOME": "/tmp", "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        job = yaml.safe_load((BASE / "job" / "job.yaml").read_text())["spec"]["rayClusterSpec"]
        pod = job["headGroupSpec"]["template"]["spec"]
        self.grace_s = float(pod["terminationGracePeriodSeconds"])
        variables = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        script = ROOT / "infra" / "local" / "s3.py"
        serve = f"{sys.executable} {script} start --data /tmp/s3 --host {self.server.address} --secret-key $KEY --json"
        self.server.boot(
            f"{serve} && exec sleep infinity", own | {"KEY": self.secrets["key"]}, log=self._folder / "s3.log"
        )
        wait_for("the S3 server", lambda: "environment" in (self._folder / "s3.log").read_text())
        self.aws = json.loads((self._folder / "s3.log").read_text().splitlines()[-1])["environment"]
        self.env = own | self.aws | variables | HEALTH | {"HOME": "/tmp", "RAY_AUTH_TOKEN": self.secrets["token"]}
        self.laptop.boot("exec sleep infinity", self.env, log=self._folder / "laptop.log")
        self.boot()
        self._keeper.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._network.__exit__(None, None, None)

    def boot(self) -> None:
        """Boot what is down, the head first."""
        with self._lock:
            if not self.head.is_up():
                wait_for("the head", self._head_answers)
                for worker in self.workers:
                    worker.lose()  # it belongs to the head that has gone, and would wait for it for a minute
            for worker in self.workers:
                if not worker.is_up():
                    worker.plug_in()
                    line = f"{START} --address={self.head.address}:6379 --num-cpus=1 --object-store-memory=100000000"
                    worker.boot(line, self.env, log=self._folder / f"{worker.name}.log")

    def _head_answers(self) -> bool:
        if not self.head.is_up():  # or again: Ray gives a node 30 s, which a crowded machine may need more of
            line = f"{START} --head --dashboard-host=0.0.0.0 --num-cpus=0 --object-store-memory=100000000"
            self.head.boot(line, self.env, log=self._folder / "head.log")
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://{self.head.address}:8265/api/gcs_healthz", timeout=5) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def _keep(self) -> None:
        while not self._over.wait(0.5):
            try:
                self.boot()
            except BaseException as error:
                self.trouble.append(error)
                raise

    def submit(self, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `condgen submit` on the laptop."""
        words = (
            sys.executable,
            "-m",
            "jobs",
            "submit",
            "--address",
            f"http://{self.head.address}:8265",
            "--",
            *command,
        )
        self.submitter = self.laptop.start(
            *words, env=env or self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return self.submitter

    def submit_until_done(self, *command: str) -> str:
        """Submit a command, again where its head is lost or it was interrupted, as KubeRay's submitter does."""
        for _ in range(4):
            output, _ = self.submit(*command).communicate(timeout=2 * WAIT_S)  # all that is left
            assert self.submitter is not None
            if self.submitter.returncode == 0:
                return output
        raise AssertionError(f"it ended with {self.submitter.returncode}:\n{output}")

    def has(self, host: Host, kind: str) -> bool:
        """Whether a host has an actor of a class."""
        with suppress(ProcessLookupError):
            return host.run("pgrep", "-f", f"^ray::.*{kind}", env=self.env).returncode == 0
        return False

    def worker_with(self, kind: str, *, is_one: bool = False) -> Host:
        """The first worker that has an actor of a class; waits for one.

        Args:
            kind: the class.
            is_one: wait until there is one alone: who was cut off still has his own, until Ray tells him of his death.
        """
        found: list[Host] = []

        def is_there() -> bool:
            assert not self.trouble, self.trouble
            found[:] = [one for one in self.workers if self.has(one, kind)]
            return len(found) == 1 if is_one else bool(found)

        wait_for(f"a {kind}", is_there)
        return found[0]

    def check_logs(self) -> None:
        """Check that no file in /tmp of a host has a secret, while there are logs that something is found in."""
        assert not self.trouble, self.trouble
        for host in (self.head, *self.workers):
            with suppress(ProcessLookupError):  # a worker that boots
                found = {name: self._files_with(host, text) for name, text in self.secrets.items()}
                assert found == dict.fromkeys(self.secrets, ""), host.name
        assert self.head.address in self._files_with(self.head, self.head.address, "-h")

    def _files_with(self, host: Host, text: str, *options: str) -> str:
        options = options or ("-l",)
        done = host.run("grep", "-rsF", *options, "--", text, "/tmp", env=self.env)
        assert done.returncode in (0, 1, 2), done.stdout  # 2: a file has gone meanwhile
        return str(done.stdout)


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    if reason := why_not():
        pytest.skip(reason)
    with Pods(tmp_path_factory.mktemp("pods")) as pods:
        yield pods


@pytest.fixture(scope="module")
def bucket(pods: Pods, photos: Path) -> Any:
    """A dataset and an archive in the S3 server: `(file system, name of the bucket)`."""
    import s3fs

    files = s3fs.S3FileSystem(
        key=pods.aws["AWS_ACCESS_KEY_ID"], secret=pods.secrets["key"], endpoint_url=pods.aws["AWS_ENDPOINT_URL"],
        skip_instance_cache=True, use_listings_cache=False,
    )  # fmt: skip
    files.mkdir("bucket")
    members = [(f"{number:04d}.jpg", saved(gradient(number, (40, 40)), "JPEG")) for number in range(48)]
    for shard in range(8):
        files.pipe_file(f"bucket/data/train-{shard:06d}.tar", tar_of(members[6 * shard : 6 * shard + 6]))
    pictures = sorted(photos.iterdir())
    for number in range(PHOTOGRAPHS):
        data = pictures[number % len(pictures)].read_bytes()
        files.pipe_file(f"bucket/archive/{number:04d}.jpg", data[:100] if number < BROKEN else data)
    return files


def train(out: str) -> tuple[str, ...]:
    """The arguments of a training whose run is a prefix of the bucket."""
    settings = [word for setting in SETTINGS.split() for word in ("--set", setting)]
    place = ("--preset", "regression-small", "--data", "s3://bucket/data", "--out", f"s3://bucket/{out}")
    return ("train", *place, "--workers", "1", "--gpus-per-worker", "0", "--threads", "1", *settings)


@pytest.fixture(scope="module")
def whole(pods: Pods, bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], bytes]:
    """A training that nothing cuts, on the laptop, beside what the cluster does; the result waits for its model."""
    alone = {name: value for name, value in pods.env.items() if not name.startswith("RAY_")}
    log = tmp_path_factory.mktemp("whole") / "log"
    words = (sys.executable, "-m", "jobs", *train("whole"))
    with log.open("w") as sink:
        process = pods.laptop.start(*words, env=alone, stdout=sink, stderr=sink)

    def model() -> bytes:
        assert process.wait(WAIT_S) == 0, log.read_text()
        return bytes(bucket.cat_file("bucket/whole/model.safetensors"))

    return model


def test_without_the_token_the_cluster_refuses_who_reaches_it(pods: Pods) -> None:
    bare = {name: value for name, value in pods.env.items() if not name.startswith("RAY_AUTH")}
    output, _ = pods.submit("validate", "s3://bucket/data", env=bare).communicate(timeout=WAIT_S)
    assert pods.submitter is not None
    assert pods.submitter.returncode == 2
    assert "RAY_AUTH_TOKEN_PATH" in output
    join = ("ray", "start", f"--address={pods.head.address}:6379", "--num-cpus=1")
    refused = pods.laptop.run(*join, env=bare | {"RAY_AUTH_MODE": "disabled"})
    assert refused.returncode != 0, refused.stdout


@pytest.mark.usefixtures("whole")
def test_a_batch_job_loses_no_row_to_a_cut_link_a_lost_host_and_a_new_head(pods: Pods, bucket: Any) -> None:
    import pyarrow.parquet as pq

    command = ("colorize", "s3://bucket/archive", "s3://bucket/results", "--draws", "3", "--chunk-samples", "8")

    def chunks() -> int:
        with suppress(FileNotFoundError):
            return len(bucket.ls("bucket/results/draws"))
        return 0

    def one_more(than: int) -> None:
        def happened() -> bool:
            assert submitter.poll() is None, submitter.communicate()[0]
            return chunks() > than

        wait_for("a chunk", happened)

    submitter = pods.submit(*command)
    one_more(than=0)
    cut = pods.worker_with("ChunkWorker")
    cut.unplug()
    one_more(than=chunks())
    time.sleep(20)
    cut.plug_in()
    one_more(than=chunks())
    pods.worker_with("ChunkWorker").lose()
    one_more(than=chunks())
    pods.check_logs()
    pods.head.lose()
    submitter.communicate(timeout=WAIT_S)
    assert submitter.returncode != 0
    pods.submit_until_done(*command)
    pods.check_logs()
    keys = [key for path in bucket.ls("bucket/results/draws") for key in _column(pq, bucket, path, "key")]
    errors = [key for path in bucket.ls("bucket/results/errors") for key in _column(pq, bucket, path, "key")]
    assert sorted(keys) == sorted(3 * [f"{number:04d}" for number in range(BROKEN, PHOTOGRAPHS)])
    assert sorted(errors) == [f"{number:04d}" for number in range(BROKEN)]


def _column(pq: Any, files: Any, path: str, name: str) -> list[str]:
    with files.open(path, "rb") as file:
        values: list[str] = pq.read_table(file, columns=[name])[name].to_pylist()
        return values


def test_training_ends_with_the_same_bytes_after_links_hosts_and_heads_were_lost(
    pods: Pods, bucket: Any, whole: Callable[[], bytes]
) -> None:
    """A cut link, a deleted worker pod, a lost worker, a deleted head pod, a lost head; within the grace period."""

    def epoch() -> int:
        """The attempt that has saved the newest checkpoint; attempts that saved none are left out."""
        with suppress(FileNotFoundError):  # of a checkpoint that is removed while they are listed
            found = bucket.glob("bucket/cut/checkpoints/step-*/complete.json")
            return max((int(path.split("/")[-2].rpartition("-e")[2]) for path in found), default=0)
        return 0

    def saved_after(before: int) -> None:
        def happened() -> bool:
            assert submitter.poll() is None, submitter.communicate()[0]
            return epoch() > before

        wait_for(f"a checkpoint of an attempt after {before}", happened)

    def status() -> Any:
        return json.loads(bucket.cat_file("bucket/cut/status.json"))

    submitter = pods.submit(*train("cut"))
    saved_after(0)
    before, cut = epoch(), pods.worker_with("RayTrainWorker", is_one=True)
    cut.unplug()
    saved_after(before)
    cut.plug_in()

    before, leaving = epoch(), pods.worker_with("RayTrainWorker", is_one=True)
    worker_s = leaving.leave(("bash", str(BASE / "leave_worker.sh")), pods.env, pods.grace_s)
    saved_after(before)

    before = epoch()
    pods.worker_with("RayTrainWorker", is_one=True).lose()
    saved_after(before)

    pods.check_logs()
    head_s = pods.head.leave((sys.executable, str(BASE / "leave_head.py")), pods.env, pods.grace_s)
    assert status()["state"] == "interrupted"
    submitter.communicate(timeout=WAIT_S)
    assert submitter.returncode != 0

    pods.boot()
    before, submitter = epoch(), pods.submit(*train("cut"))
    saved_after(before)
    pods.check_logs()
    pods.head.lose()
    submitter.communicate(timeout=WAIT_S)
    pods.submit_until_done(*train("cut"))
    pods.check_logs()
    print(f"ended within {worker_s:.0f} s (worker) and {head_s:.0f} s (head) of {pods.grace_s:.0f} s")
    assert max(worker_s, head_s) < pods.grace_s
    assert bucket.cat_file("bucket/cut/model.safetensors") == whole()


def test_what_was_written_holds_no_secret(pods: Pods, bucket: Any) -> None:
    """Runs and results of the jobs before, whose logs were looked at while there were any: no key, no token."""
    written = [path for path in bucket.find("bucket") if not path.endswith((".tar", ".jpg"))]
    assert {"run.json", "status.json"} <= {Path(path).name for path in written}
    assert any(path.endswith(".parquet") for path in written)  # of the batch job; so run the tests above, too
    for path in written:
        data = bucket.cat_file(path)
        assert not [name for name, value in pods.secrets.items() if value.encode() in data], path
