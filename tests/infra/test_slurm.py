"""infra/slurm on a real Slurm of two nodes: what its jobs leave, and what follows when they are cut."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from samples import gradient, saved, tar_of
from scripts import ROOT, load_script

pytestmark = [pytest.mark.infra, pytest.mark.timeout(900)]

SCRIPT = ROOT / "infra" / "slurm" / "condgen.sbatch"
START_S = 400.0
SETTINGS = [
    "model.width=8",
    "model.multipliers=[1,2]",
    "model.norm_groups=4",
    "data.size_px=16",
    "data.lanes=4",
    "train.steps=600",
    "train.batch_size=8",
    "train.warmup_steps=2",
    "train.log_every_steps=20",
    "train.checkpoint_every_steps=20",
]
TRAIN = ["--preset", "regression-small", "--threads", "1", *(word for text in SETTINGS for word in ("--set", text))]


class Slurm:
    """A Slurm cluster, and what its user does with it."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        bin_folder = Path(sys.executable).parent
        self.env = {**os.environ, **env, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
        self.folder = folder

    def call(self, *command: str | Path, **env: str) -> str:
        done = subprocess.run(
            [*map(str, command)], env=self.env | env, cwd=self.folder, capture_output=True, text=True, timeout=60,
            check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def submit(self, *arguments: str | Path, options: tuple[str, ...] = (), **env: str) -> str:
        """Submit the script with these arguments; returns the job's number."""
        return self.call("sbatch", "--parsable", *options, SCRIPT, *arguments, **env)

    def job(self, job: str) -> dict[str, str]:
        """What Slurm tells of a job: `JobState`, `Restarts`, `ExitCode`."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def log(self, job: str) -> str:
        """What a job has printed."""
        path = self.folder / f"condgen-{self.job(job)['JobId']}.log"
        return path.read_text() if path.exists() else ""

    def said(self, job: str) -> list[str]:
        """The lines of a job's log that are the job's own."""
        return [line for line in self.log(job).splitlines() if not line.startswith("slurmstepd")]

    def wait(self, job: str, what: str, ready: Callable[[], Any], seconds: float = START_S) -> None:
        """Wait until something has happened to a job."""
        deadline = time.monotonic() + seconds
        while not ready():
            told = self.job(job)
            is_late = time.monotonic() > deadline or (told["JobState"] in ENDS and not ready())
            assert not is_late, f"{what} did not come in {seconds:.0f} s: {told}\n{self.log(job)}"
            time.sleep(0.1)

    def wait_for_first(self, job: str) -> None:
        """Wait until the `condgen` of a job runs that has one of ours."""
        self.wait(job, "the start", lambda: "first" in self.log(job))

    def end(self, job: str, seconds: float = START_S) -> tuple[str, str, int]:
        """Wait for a job's end; returns its state, its exit code, and how often it was started again."""
        self.wait(job, "the job", lambda: self.job(job)["JobState"] in ENDS, seconds)
        told = self.job(job)
        return told["JobState"], told["ExitCode"].partition(":")[0], int(told["Restarts"])


REQUEUED = "interrupted: job {} goes back into the queue"
ENDS = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


@pytest.fixture(scope="module")
def slurm(_s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A controller and two nodes on this machine."""
    script = load_script("slurm")
    try:
        script.require_programs()
    except script.ServerError as error:
        pytest.skip(str(error))
    data = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: sockets lie in it
    try:
        script.start(data)
        yield Slurm(script.environment(data), tmp_path_factory.mktemp("jobs"))
    finally:
        script.stop(data)


RAY = """#!/bin/bash
while [ $# -gt 1 ]; do
    if [ "$1" = --temp-dir ]; then echo "127.0.0.1:1" >"$2/ray_current_cluster"; fi
    shift
done
while :; do sleep 1; done
"""
CONDGEN = """#!{python}
import os, signal, sys, time
asked = []
def end(*_):  # as in condgen, a second signal changes nothing: Slurm may send it to this process and to the script
    asked.append(True)
    if len(asked) > 1:
        return
    print("asked to end", flush=True)
    sys.exit(int(sys.argv[2]))
signal.signal(signal.SIGTERM, end)
first = not os.environ.get("SLURM_RESTART_COUNT")
print("first" if first else "again", flush=True)
if sys.argv[1] == "exit":
    sys.exit(int(sys.argv[2]) if first else 0)
time.sleep(300 if first else 0)
"""


@pytest.fixture(scope="module")
def fakes(slurm: Slurm) -> dict[str, str]:
    """Jobs whose `ray` does nothing, and whose `condgen` ends with a code, at once or at SIGTERM: queued together."""
    folder = slurm.folder / "bin"
    folder.mkdir()
    for name, text in (("ray", RAY), ("condgen", CONDGEN.format(python=sys.executable))):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}:{slurm.env['PATH']}"}
    # Slurm looks every half a minute for jobs that are near their limits: this one starts first.
    limit = ("--time=1", "--signal=B:TERM@20")
    return {
        "limited": slurm.submit("sleep", "75", options=limit, **env),
        "cancelled": slurm.submit("sleep", "75", **env),
        "batch": slurm.submit("sleep", "130", **env),
        "array": slurm.submit("exit", "%a", options=("--array=0,1,2,75",), **env),  # the last has the array's number
        "stopped": slurm.submit("exit", "130", **env),
    }


def test_the_script_is_clean() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_job_that_is_cancelled_ends(slurm: Slurm, fakes: dict[str, str]) -> None:
    job = fakes["cancelled"]
    slurm.wait_for_first(job)
    slurm.call("scancel", job)
    assert slurm.end(job)[::2] == ("CANCELLED", 0)
    assert slurm.log(job).count("asked to end") == 1
    assert "goes back" not in slurm.log(job)


def test_a_batch_job_that_is_asked_to_end_goes_back_into_the_queue(slurm: Slurm, fakes: dict[str, str]) -> None:
    job = fakes["batch"]
    slurm.wait_for_first(job)
    slurm.call("scancel", "--batch", "--signal=TERM", job)
    assert slurm.end(job) == ("COMPLETED", "0", 1)


def test_a_task_that_was_interrupted_goes_back_into_the_queue_alone_and_one_that_failed_ends(
    slurm: Slurm, fakes: dict[str, str]
) -> None:
    array = fakes["array"]
    ends = {code: slurm.end(f"{array}_{code}") for code in (0, 1, 2, 75)}
    assert ends == {
        0: ("COMPLETED", "0", 0),
        1: ("FAILED", "1", 0),
        2: ("FAILED", "2", 0),
        75: ("COMPLETED", "0", 1),
    }
    assert slurm.end(fakes["stopped"]) == ("FAILED", "130", 0)  # Slurm did not ask it to end
    assert slurm.said(f"{array}_75") == ["first", REQUEUED.format(f"{array}_75"), "again"]


def test_a_job_near_its_time_limit_is_asked_to_end_and_goes_back_into_the_queue(
    slurm: Slurm, fakes: dict[str, str]
) -> None:
    job = fakes["limited"]
    assert slurm.end(job) == ("COMPLETED", "0", 1)
    assert slurm.said(job) == ["first", "asked to end", REQUEUED.format(job), "again"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight shards of six images."""
    folder = tmp_path_factory.mktemp("dataset")
    for shard in range(8):
        numbers = range(6 * shard, 6 * shard + 6)
        members = [(f"{number:04d}.jpg", saved(gradient(number, (40, 40)), "JPEG")) for number in numbers]
        (folder / f"train-{shard:06d}.tar").write_bytes(tar_of(members))
    return folder


@pytest.fixture(scope="module")
def uncut(condgen: Callable[..., Any], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two workers that nothing cuts."""
    out = tmp_path_factory.mktemp("runs") / "uncut"
    done = condgen("train", "--data", dataset, "--out", out, "--workers", "2", *TRAIN)
    assert done.code == 0, done.err
    return out


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def ray_starts(job: str) -> list[tuple[str, dict[str, str]]]:
    """The command line and the environment of each `ray start` of a job that runs."""
    starts = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes().decode().split("\0")
            if f"/tmp/ray-{job}-" in " ".join(words) and "start" in words:
                lines = (path / "environ").read_bytes().decode().split("\0")
                starts.append((" ".join(words), dict(line.split("=", 1) for line in lines if "=" in line)))
    return starts


def was_hidden(slurm: Slurm, token: str, job: str) -> bool:
    """Whether a token is in no command line of this machine, and in nothing that Slurm tells or has written."""
    told = slurm.call("scontrol", "show", "--details", "job", job) + slurm.call("scontrol", "show", "step")
    texts = [told.encode()]
    written = [*Path(slurm.env["SLURM_CONF"]).parent.rglob("*"), *slurm.folder.glob("*.log")]
    for path in [*Path("/proc").glob("[0-9]*/cmdline"), *written]:
        with suppress(OSError):  # a folder, a socket, a process or a file that is gone
            texts.append(path.read_bytes())
    assert len(texts) > 20
    return not any(token.encode() in text for text in texts)


def test_a_training_on_two_nodes_that_is_requeued_and_interrupted_ends_with_the_very_same_bytes(
    slurm: Slurm, uncut: Path, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def saved_by(epoch: int) -> bool:
        return any(out.glob(f"checkpoints/step-*-e{epoch:04d}/complete.json"))

    job = slurm.submit("train", "--data", dataset, "--out", out, *TRAIN, options=("--nodes=2", "--time=30"))
    slurm.wait(job, "a checkpoint", lambda: saved_by(1))
    starts = ray_starts(job)
    assert len(starts) == 2
    (token,) = {env["RAY_AUTH_TOKEN"] for _, env in starts}
    assert len(token) == 64
    assert was_hidden(slurm, token, job)
    slurm.call("scontrol", "requeue", job)
    slurm.wait(job, "a checkpoint of the second start", lambda: saved_by(2))
    assert "SIGTERM, a checkpoint of step" in slurm.log(job)
    slurm.call("scancel", "--batch", "--signal=TERM", job)
    assert slurm.end(job) == ("COMPLETED", "0", 2)
    assert slurm.log(job).count("SIGTERM, a checkpoint of step") == 2
    assert json.loads((out / "status.json").read_text())["state"] == "done"
    assert digest(out) == digest(uncut)
    assert not list(Path("/tmp").glob(f"ray-{job}-*"))


def rows(folder: Path) -> int:
    return sum(int(pq.read_metadata(path).num_rows) for path in folder.glob("*.parquet"))


def test_tasks_of_an_array_that_share_a_machine_do_not_meet_and_account_for_every_image(
    slurm: Slurm, uncut: Path, tmp_path: Path
) -> None:
    archive, results = tmp_path / "archive", tmp_path / "results"
    for part in range(2):
        (archive / f"part-{part}").mkdir(parents=True)
        for number in range(9):
            image = saved(gradient(10 * part + number, (40, 40)), "JPEG")
            (archive / f"part-{part}" / f"{number}.jpg").write_bytes(image[:60] if number == 4 else image)
    places = (f"{archive}/part-%a", f"{results}/part-%a")
    array = slurm.submit("colorize", *places, "--model", uncut, "--draws", "1", options=("--array=0-1",))
    tokens: set[str] = set()

    def both_run() -> bool:
        starts = [ray_starts(slurm.job(f"{array}_{task}")["JobId"]) for task in range(2)]
        tokens.update(env["RAY_AUTH_TOKEN"] for task in starts for _, env in task)
        return all(starts)

    slurm.wait(f"{array}_1", "both tasks at once", both_run)
    assert len(tokens) == 2
    assert [slurm.end(f"{array}_{task}") for task in range(2)] == [("COMPLETED", "0", 0)] * 2
    for part in range(2):
        draws, errors = (rows(results / f"part-{part}" / name) for name in ("draws", "errors"))
        assert (draws, errors) == (8, 1)
    assert all(was_hidden(slurm, token, array) for token in tokens)
