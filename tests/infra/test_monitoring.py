"""infra/monitoring: what Prometheus sees of a run and of a batch job, the dashboard's queries, and the alerts.

Prometheus is real, and finds the cluster by the file that Ray's dashboard writes. There is no Grafana here: the
dashboard is held to its schema, and each of its queries is asked of Prometheus while a run and a batch job go on.
"""

import json
import math
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from chaos_cluster import START_S, kill_session
from kube_manifests import OVERLAYS, find, pods, render
from prometheus_server import Prometheus, prometheus, wait_until
from samples import gradient, saved, tar_of
from small_results import write_model

from pipelines.training.gauges import ENDED, GAUGES

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "infra" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = ROOT / "tests" / "infra" / "alerts_test.yaml"
TRAIN = [
    "model.width=8", "model.multipliers=[1,2]", "model.norm_groups=4", "data.size_px=16", "train.batch_size=8",
    "train.steps=1000000", "train.log_every_steps=20", "train.checkpoint_every_steps=200",
]  # fmt: skip


# Alerts: each fires, and is silent.


def promtool(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_prometheus_takes_the_rules_and_the_configuration(promtool_program: str) -> None:
    for done in (
        promtool(promtool_program, "check", "rules", MONITORING / "alerts.yaml"),
        promtool(promtool_program, "check", "config", MONITORING / "prometheus.yml"),
    ):
        assert done.returncode == 0, done.stderr


def test_every_alert_fires_and_is_silent_as_promtool_says(promtool_program: str) -> None:
    tests = yaml.safe_load(CASES.read_text())["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for one in tests for case in one["alert_rule_test"]]
    assert {(name, fires) for name in ALERTS for fires in (True, False)} == set(cases)
    done = promtool(promtool_program, "test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", ["never", "too early"])
@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_that_fires_at_the_wrong_time_is_found(
    alert: str, change: str, promtool_program: str, tmp_path: Path
) -> None:
    content = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    rule = next(rule for group in content["groups"] for rule in group["rules"] if rule.get("alert") == alert)
    rule["for"] = "0s"
    rule["expr"] = "vector(1) > 1" if change == "never" else re.sub(r"(> [\d.]+|== 0)", ">= 0", rule["expr"])
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(content))
    cases = CASES.read_text().replace("../../infra/monitoring/", "")
    (tmp_path / "cases.yaml").write_text(cases)
    done = promtool(promtool_program, "test", "rules", tmp_path / "cases.yaml")
    assert done.returncode != 0
    assert f"alertname: {alert}" in done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_waits_has_a_severity_and_says_what_to_do(alert: str) -> None:
    rule, page = ALERTS[alert], (ROOT / "docs" / "operations.md").read_text()
    assert rule["for"]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    (anchor,) = re.findall(r"docs/operations\.md#([a-z-]+)\.", rule["annotations"]["description"])
    headings = [
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", page, re.M)
    ]
    assert anchor in headings
    assert f"| `{alert}` |" in page


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    from pipelines.batch import metrics

    batch = set(re.findall(r'"(condgen_\w+)"', Path(metrics.__file__).read_text()))
    asked = set(re.findall(r"ray_(condgen_\w+)", json.dumps(DASHBOARD) + json.dumps(RULES)))
    assert asked <= batch | set(GAUGES)
    assert set(GAUGES) <= asked


# The dashboard's structure.


def panels() -> list[dict[str, Any]]:
    return list(DASHBOARD["panels"])


def lost(before: Any, after: Any, path: str = "$") -> Iterator[str]:
    """Yield the places of what a schema did not take over."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            yield from lost(value, after[name], f"{path}.{name}") if name in after else [f"{path}.{name}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif before != after:
        yield path


def as_grafana_reads(dashboard: Mapping[str, Any]) -> Any:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dict(dashboard))))


def test_grafanas_schema_knows_every_field_of_the_dashboard() -> None:
    assert list(lost(DASHBOARD, as_grafana_reads(DASHBOARD))) == []
    broken = json.loads(json.dumps(DASHBOARD).replace('"legendFormat"', '"legend"').replace('"unit"', '"units"'))
    assert len(list(lost(broken, as_grafana_reads(broken)))) == len(targets()) + len(units())


def units() -> list[str]:
    return [panel["fieldConfig"]["defaults"]["unit"] for panel in panels() if panel["type"] != "row"]


def test_units_exist_and_ids_and_titles_are_not_there_twice() -> None:
    from grafana_foundation_sdk.models import units as known

    assert set(units()) <= {value for value in vars(known).values() if isinstance(value, str)}
    assert len({panel["id"] for panel in panels()}) == len(panels())
    rows = [index for index, panel in enumerate(panels()) if panel["type"] == "row"]
    assert [panels()[index]["title"] for index in rows] == ["Training", "Batch jobs", "Machines"]
    for panel in panels():
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(letters)) == len(letters)
        assert panel["type"] == "row" or panel["description"].endswith(".")


def test_panels_lie_on_the_grid_without_overlaps_or_gaps() -> None:
    places = [panel["gridPos"] for panel in panels()]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    height = max(place["y"] + place["h"] for place in places)
    assert sum(place["w"] * place["h"] for place in places) == 24 * height


def test_the_data_source_the_run_and_the_job_are_chosen_by_variables() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert {name: one["type"] for name, one in variables.items()} == {
        "datasource": "datasource",
        "run": "query",
        "job": "query",
    }
    sources = [panel["datasource"]["uid"] for panel in panels() if panel["type"] != "row"]
    assert set(sources) == {"${datasource}"}
    for expr in targets():
        assert ("ray_condgen_train_" in expr) == ("$run" in expr), expr
        assert ("ray_condgen_" in expr and "_train_" not in expr) == ("$job" in expr), expr


def targets() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


# Kubernetes.


def test_the_rules_are_a_resource_of_the_prometheus_operator_by_the_command_of_the_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (command,) = re.findall(r"^    \{\n(?:      .*\n)+    \} \| kubectl apply -f -$", page, re.MULTILINE)
    command = command.replace("kubectl apply -f -", "cat")
    made = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    resource = yaml.safe_load(made)
    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"] == yaml.safe_load((MONITORING / "alerts.yaml").read_text())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_monitor_selects_every_pod_of_ray_that_has_metrics(overlay: str) -> None:
    monitor = yaml.safe_load((MONITORING / "podmonitor.yaml").read_text())
    manifests = render(overlay)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    for pod in pods(manifests):
        ports = [port.get("name") for port in pod.container.get("ports", ())]
        assert (endpoint["port"] in ports) == (pod.role in ("head", "worker")), pod.name
        assert wanted.items() <= pod.labels.items(), pod.name
    (rule,) = find(manifests, "NetworkPolicy", "condgen-metrics")["spec"]["ingress"]
    names = rule["from"][0]["namespaceSelector"]["matchLabels"]
    assert names == {"kubernetes.io/metadata.name": monitor["metadata"]["namespace"]}


# A run and a batch job, seen by Prometheus.


@dataclass(frozen=True)
class Monitored:
    """A cluster with a run and a batch job on it, and the Prometheus that watches them."""

    server: Prometheus
    run: str
    results: str
    train: subprocess.Popen[Any]
    logs: Path

    def substituted(self, expr: str) -> str:
        """Return a query as Grafana sends it."""
        values = {"$run": self.run, "$job": self.results, "$__rate_interval": "30s"}
        for name, value in values.items():
            expr = expr.replace(name, value)
        assert "$" not in expr
        return expr

    def has_data(self, expr: str) -> bool:
        """Return whether a query is answered by numbers now; a rate of nothing divided by nothing is none."""
        return any(math.isfinite(value) for _, value in self.server.query(expr))

    def log_ends(self) -> str:
        """Return the ends of the commands' logs, for an error."""
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.logs.glob("*.log")))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def write_images(folder: Path) -> None:
    """Write a dataset of 64 images, and an archive of 4,000, one of which is broken."""
    images = [(f"{number:05d}.png", saved(gradient(number, (16, 16)))) for number in range(4000)]
    for name, members in (
        ("dataset/train-000000.tar", images[:64]),
        ("archive/images-000000.tar", [*images[:500], ("bad.png", b"bad"), *images[500:]]),
    ):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(tar_of(members))


@pytest.fixture(scope="module")
def monitored(prometheus_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    folder = tmp_path_factory.mktemp("monitored")
    temp = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie in it
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"}
    started: list[subprocess.Popen[Any]] = []

    def start(name: str, *command: object, **more: str) -> subprocess.Popen[Any]:
        with (folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                list(map(str, command)), env={**env, **more}, stdout=log, stderr=log, start_new_session=True
            )
        started.append(process)
        return process

    try:
        start(
            "head", Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={free_port()}",
            f"--dashboard-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}", "--num-cpus=4",
            f"--temp-dir={temp}", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000",
        )  # fmt: skip
        wait_until("the head", lambda: "Ray runtime started" in (folder / "head.log").read_text(), 2 * START_S)
        address = (temp / "ray_current_cluster").read_text().strip()
        write_images(folder)
        settings = [word for one in TRAIN for word in ("--set", one)]
        train = start(
            "train", sys.executable, "-m", "jobs", "train", "--preset", "regression-small",
            "--data", folder / "dataset", "--out", folder / "run", "--gpus-per-worker", "0", "--threads", "1",
            *settings, RAY_ADDRESS=address,
        )  # fmt: skip
        start(
            "colorize", sys.executable, "-m", "jobs", "colorize", folder / "archive", folder / "results", "--model",
            write_model(folder / "model"), "--draws", "2", "--chunk-samples", "4", "--actors", "1", RAY_ADDRESS=address,
        )  # fmt: skip
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(MONITORING / "alerts.yaml")]
        config["scrape_configs"][0]["file_sd_configs"] = [
            {"files": [str(temp / "prom_metrics_service_discovery.json")], "refresh_interval": "1s"}
        ]
        with prometheus(prometheus_program, config, folder) as server:
            yield Monitored(server, str(folder / "run"), str(folder / "results"), train, folder)
    finally:
        for process in reversed(started):
            kill_session(process)
        shutil.rmtree(temp, ignore_errors=True)


def test_every_query_of_the_dashboard_is_answered_while_a_run_and_a_batch_job_go_on(monitored: Monitored) -> None:
    unanswered = [monitored.substituted(expr) for expr in targets()]

    def ask() -> bool:
        unanswered[:] = [expr for expr in unanswered if not monitored.has_data(expr)]
        return not unanswered

    try:
        wait_until("the answer to every query", ask, 420.0)
    except AssertionError as error:
        raise AssertionError(f"no data for {json.dumps(unanswered, indent=1)}\n{monitored.log_ends()}") from error
    for metric, label, value in (
        ("ray_condgen_train_step", "run", monitored.run),
        ("ray_condgen_images_total", "results", monitored.results),
    ):
        assert f"label_values({metric}, {label})" in json.dumps(DASHBOARD["templating"])
        assert monitored.server.get(f"label/{label}/values", **{"match[]": metric}) == [value]


def test_the_gauges_are_those_of_status_json_and_every_rule_is_evaluated(monitored: Monitored) -> None:
    def last(name: str) -> float:
        """Return a gauge's newest value; on a crowded machine a gauge may be late, and vanish for a moment."""
        ((_, value),) = monitored.server.query(f'max(last_over_time(ray_{name}{{run="{monitored.run}"}}[1m]))')
        return value

    def status() -> dict[str, Any]:
        return dict(json.loads((Path(monitored.run) / "status.json").read_text()))

    value = {name: last(name) for name in GAUGES}
    assert 0 < value["condgen_train_step"] < value["condgen_train_steps_wanted"] == 1_000_000
    wait_until("as many steps in status.json", lambda: status()["step"] >= value["condgen_train_step"])
    assert (value["condgen_train_workers"], value["condgen_train_restarts"]) == (1, 0)
    assert 0 <= value["condgen_train_data_wait_ratio"] <= 1
    written_s = datetime.fromisoformat(status()["updated"]).timestamp()
    wait_until("the write of status.json", lambda: last("condgen_train_status_timestamp_seconds") >= written_s)
    newest = wait_until("a checkpoint", lambda: status()["checkpoint"])
    completed_s = (Path(monitored.run) / "checkpoints" / newest / "complete.json").stat().st_mtime
    wait_until("its time", lambda: last("condgen_train_checkpoint_timestamp_seconds") >= completed_s)
    assert monitored.server.query("condgen:train_running") == [
        ({"__name__": "condgen:train_running", "run": monitored.run}, 1.0)
    ]
    groups = monitored.server.get("rules")["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert health == dict.fromkeys([*ALERTS, "condgen:train_running"], "ok")
    assert not [rule["name"] for group in groups for rule in group["rules"] if rule.get("state") == "firing"]


def test_a_driver_that_ends_says_so_before_it_leaves(monitored: Monitored) -> None:
    monitored.train.send_signal(signal.SIGTERM)
    assert monitored.train.wait(120) == 75
    newest = "topk(1, max by (state) (last_over_time(ray_condgen_train_status_timestamp_seconds[1h])))"
    wait_until("the end", lambda: [labels["state"] for labels, _ in monitored.server.query(newest)] == [ENDED], 30.0)
    assert json.loads((Path(monitored.run) / "status.json").read_text())["state"] == "interrupted"
    wait_until("the end of its gauges", lambda: not monitored.server.query("condgen:train_running"), 60.0)
