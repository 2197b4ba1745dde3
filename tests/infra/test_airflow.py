"""infra/airflow under a real Airflow, whose `airflow dags test` runs the DAGs against a head of Ray with a token."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from chaos_cluster import kill_session
from ray_head import TINY, Head, wait_for
from samples import gradient, saved, tar_of
from scripts import ROOT
from small_results import write_picture

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]

AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
CODES = """
from datetime import timedelta
from airflow.sdk import DAG
from condgen_operator import CondgenOperator

with DAG("codes", schedule=None, default_args={"retries": 2, "retry_delay": timedelta(seconds=1)}):
    for task in ("0", "1", "2", "75", "75-once", "token"):
        CondgenOperator(task_id=task, command=f"validate {task}", program="sh {{program}}")
    CondgenOperator(task_id="stranger", command="validate /nowhere", cluster="without_token")
    CondgenOperator(task_id="nowhere", command="validate /nowhere", cluster="without_head")
"""
# Called as `sh PROGRAM submit -- validate TASK`; notes each call.
PROGRAM = """
echo "$4" >> {calls}
case "$4" in
    75-once) [ "$(grep -c 75-once {calls})" = 1 ] && exit 75; exit 0 ;;
    token) echo "it was $RAY_AUTH_TOKEN" ;;
    *) exit "$4" ;;
esac
"""


class Airflow:
    """Airflow with a database of its own, this project's DAGs, and a connection to a head."""

    def __init__(self, folder: Path, head: Head) -> None:
        self.home = folder / "airflow"
        self.dags = folder / "dags"
        self.calls = folder / "calls"
        self.dags.mkdir()
        for file in ("condgen_dags.py", "condgen_operator.py"):
            shutil.copy(ROOT / "infra" / "airflow" / file, self.dags)
        program = folder / "program.sh"
        program.write_text(PROGRAM.format(calls=self.calls))
        (self.dags / "codes.py").write_text(CODES.replace("{{program}}", str(program)))
        self.token = Path(head.token["RAY_AUTH_TOKEN_PATH"]).read_text()
        cluster = {"conn_type": "http", "host": "127.0.0.1", "port": head.port}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))}
        self._env = inherited | {
            "HOME": str(folder),
            "CONDGEN": f"env PYTHONPATH={ROOT} {sys.executable} -m jobs",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_CONDGEN_CLUSTER": json.dumps({**cluster, "password": self.token}),
            "AIRFLOW_CONN_WITHOUT_TOKEN": json.dumps(cluster),
            "AIRFLOW_CONN_WITHOUT_HEAD": json.dumps({**cluster, "port": 1, "password": self.token}),
        }
        self._log = folder / "migrate.log"
        self.run("db", "migrate")

    def start(self, *words: str, variables: Mapping[str, str] | None = None) -> subprocess.Popen[Any]:
        """Start a command of Airflow, whose log is `log` then."""
        self._log = self._log.with_name(f"{time.monotonic_ns()}.log")
        env = self._env | {f"AIRFLOW_VAR_{name.upper()}": value for name, value in (variables or {}).items()}
        with self._log.open("w") as log:
            return subprocess.Popen([AIRFLOW, *words], env=env, stdout=log, stderr=log, start_new_session=True)

    def run(self, *words: str, **variables: str) -> int:
        """Run a command of Airflow to its end."""
        process = self.start(*words, variables=variables)
        try:
            return process.wait(timeout=300)
        finally:
            kill_session(process)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def states(self, dag: str) -> dict[str, str]:
        """The state of each task of the newest run of a DAG."""
        newest = "SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1"
        question = f"SELECT task_id, state FROM task_instance WHERE run_id = ({newest})"  # noqa: S608
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            return dict(database.execute(question, (dag,)).fetchall())

    def everything(self) -> str:
        """All that Airflow and condgen wrote into its folders."""
        files = [path for place in (self.home, self.home.parent) for path in place.rglob("*") if path.is_file()]
        return "\n".join(path.read_text(errors="replace") for path in files)


@pytest.fixture(scope="module")
def head(_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    if not AIRFLOW.exists():
        pytest.skip("no Airflow here: make test-infra installs it into .venv-airflow")
    with Head(tmp_path_factory.mktemp("head")) as head:
        yield head


@pytest.fixture(scope="module")
def airflow(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"), head)


def train_command(folder: Path, run: str, steps: int) -> str:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    members = [(f"{number:04d}.jpg", saved(gradient(number, (40, 40)), "JPEG")) for number in range(32)]
    (data / "train-000000.tar").write_bytes(tar_of(members))
    changes = " ".join(f"--set {setting}" for setting in [*TINY, f"train.steps={steps}"])
    return f"train --preset regression-small --data {data} --out {folder / run} --gpus-per-worker 0 {changes}"


def status(run: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        facts: dict[str, Any] = json.loads((run / "status.json").read_text())
        return facts
    return {}


def test_the_schedules_train_and_colorize_on_the_cluster_and_no_log_has_the_token(
    airflow: Airflow, tmp_path: Path
) -> None:
    for number in range(2):
        write_picture(tmp_path / "archive" / f"{number}.png", number)
    variables = {
        "condgen_train": train_command(tmp_path, "run", 4),
        "condgen_colorize": f"colorize {tmp_path / 'archive'} {tmp_path / 'results'} --model {tmp_path / 'run'}",
    }
    assert airflow.run("dags", "test", "condgen_train", **variables) == 0, airflow.log
    assert status(tmp_path / "run")["state"] == "done"
    assert airflow.run("dags", "test", "condgen_colorize", **variables) == 0, airflow.log
    assert json.loads((tmp_path / "results" / "run.json").read_text())
    assert airflow.token not in airflow.everything()


def test_exit_codes_lead_to_what_the_documentation_says(airflow: Airflow) -> None:
    assert airflow.run("dags", "test", "codes") != 0
    assert airflow.states("codes") == {
        "0": "success",
        "1": "failed",
        "2": "failed",
        "75": "failed",
        "75-once": "success",
        "token": "success",
        "stranger": "failed",
        "nowhere": "failed",
    }
    tries = airflow.calls.read_text().split()
    assert {task: tries.count(task) for task in tries} == {"0": 1, "1": 1, "2": 1, "75": 3, "75-once": 2, "token": 1}
    log = airflow.log
    assert (
        log.count("allowed: a cluster that takes the token") == 1
    )  # who has no token is refused, and does not try again
    assert log.count("no cluster answers at http://127.0.0.1:1") == 3
    assert "it was ***" in log
    assert airflow.token not in airflow.everything()


def test_a_task_that_was_lost_is_taken_up_again_and_one_that_is_ended_leaves_a_checkpoint(
    airflow: Airflow, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    variables = {"condgen_train": train_command(tmp_path, "run", 100000)}
    lost = airflow.start("dags", "test", "condgen_train", variables=variables)
    try:
        wait_for("training", lambda: status(run).get("step", 0) >= 5)
    finally:
        kill_session(lost)
    again = airflow.start("dags", "test", "condgen_train", variables=variables)
    try:
        wait_for("the job to be followed", lambda: "runs already: condgen-train-" in airflow.log)
        os.kill(again.pid, signal.SIGTERM)
        wait_for("the end of training", lambda: status(run).get("state") == "interrupted")
        wait_for("the end of the task", lambda: airflow.states("condgen_train") == {"train": "up_for_retry"})
    finally:
        kill_session(again)
    assert (run / "checkpoints" / status(run)["checkpoint"] / "complete.json").exists()
