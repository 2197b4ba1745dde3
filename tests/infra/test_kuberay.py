"""infra/kuberay: every overlay renders, and what it renders is what an API server, KubeRay and Kueue take.

There is no API server and no operator here. Their schemas and rules are, and each rule is shown to refuse a manifest.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import pytest
import typer
from kube_manifests import OVERLAYS, ROOT, changed, command_of, find, pods, ray_jobs, render, seconds
from kube_schemas import all_problems, definitions, is_custom, pod_problems
from kuberay_promises import PROMISES
from kuberay_rules import OPERATOR_RULES, Rule

from jobs.cli import app as cli
from jobs.cli.batch import JobOptions
from jobs.cli.config import resolve
from jobs.cli.options import Group, _build
from pipelines.results.settings import BatchSettings
from pipelines.training.options import RunOptions

pytestmark = pytest.mark.infra

RULES = [*OPERATOR_RULES, *PROMISES]


def test_the_overlays_are_those_that_the_page_describes() -> None:
    assert OVERLAYS == ["cron", "cron-ray", "dev", "kueue-elastic", "kueue-fixed", "prod"]
    page = (ROOT / "docs" / "operations.md").read_text()
    assert f"{len(OPERATOR_RULES)} that KubeRay's operator and Kueue's webhook have, {len(PROMISES)} promises" in page
    assert [name for name in OVERLAYS if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_api_server_takes_every_manifest_and_every_pod(overlay: str) -> None:
    manifests = render(overlay)
    assert [problem for one in manifests for problem in all_problems(one)] == []
    assert [problem for pod in pods(manifests) for problem in pod_problems(pod)] == []
    assert len(list(ray_jobs(manifests))) >= 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_keeps_all_rules(overlay: str) -> None:
    manifests = render(overlay)
    assert {rule.name: list(rule.problems(manifests)) for rule in RULES if list(rule.problems(manifests))} == {}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name.replace(" ", "-"))
def test_a_rule_refuses_what_breaks_it_alone_and_no_schema_does(rule: Rule) -> None:
    before = render(rule.overlay)
    broken = changed(before, rule.change)
    assert [one.name for one in RULES if list(one.problems(broken))] == [rule.name]
    new = [one for one in broken if one not in before]
    assert [problem for one in new for problem in all_problems(one)] == []


SCHEMA_BREAKS: list[tuple[str, str, Mapping[str, Any], str]] = [
    ("prod", "RayJob/train", {"spec.backofLimit": 1}, "backofLimit"),
    ("prod", "RayJob/train", {"spec.activeDeadlineSeconds": "12h"}, "12h"),
    ("prod", "RayJob/train", {"spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus": 0}, "num-cpus"),
    ("prod", "RayJob/train", {"spec.rayClusterSpec.authOptions.mode": "tokens"}, "tokens"),
    ("prod", "RayJob/train", {"spec.managedBy": "somebody"}, "must be either"),
    (
        "prod",
        "RayJob/train",
        {"spec.deletionStrategy": {"onSuccess": {"policy": "DeleteSelf"}}},
        "requires either BOTH",
    ),
    ("cron-ray", "RayCronJob/train-nightly", {"spec.concurrencyPolicy": "Forbid"}, "concurrencyPolicy"),
    ("kueue-fixed", "ClusterQueue/condgen", {"spec.resourceGroups.0.coveredResources": ["cpu"]}, "coveredResources"),
    ("kueue-fixed", "ResourceFlavor/spot", {"spec.tolerations.0.effect": "Never"}, "effect"),
    ("prod", "PodDisruptionBudget/train-head", {"spec.minAvailible": 1}, "minAvailible"),
    ("prod", "NetworkPolicy/condgen", {"spec.policyTypes": "Ingress"}, "Ingress"),
    ("cron", "CronJob/colorize-nightly", {"spec.concurencyPolicy": "Forbid"}, "concurencyPolicy"),
]


@pytest.mark.parametrize(("overlay", "place", "change", "part"), SCHEMA_BREAKS, ids=lambda value: str(value)[:60])
def test_a_schema_refuses_a_field_that_it_does_not_know_or_a_value_that_it_does_not_take(
    overlay: str, place: str, change: Mapping[str, Any], part: str
) -> None:
    broken = find(changed(render(overlay), {place: change}), *place.split("/"))
    problems = all_problems(broken)
    assert any(part in problem for problem in problems), problems


SECRETS: list[tuple[str, dict[str, Any]]] = [
    ("RayJob/train", {"spec.entrypoint": "condgen train --data s3://AKIAIOSFODNN7EXAMPLE/dataset"}),
    ("RayJob/train", {"spec.rayClusterSpec.headGroupSpec.rayStartParams.redis-password": "https://me:planted@host"}),
    ("ConfigMap/condgen-scripts", {"kind": "Secret"}),
    ("ServiceAccount/condgen", {"metadata.annotations.note": "-----BEGIN RSA PRIVATE KEY-----"}),
]


@pytest.mark.parametrize(("place", "change"), SECRETS, ids=lambda value: str(value)[:40])
def test_a_secret_is_found_wherever_it_was_planted(place: str, change: Mapping[str, Any]) -> None:
    rule = next(rule for rule in PROMISES if rule.name == "no manifest holds a secret")
    assert list(rule.problems(changed(render("prod"), {place: change})))


def test_a_pod_that_kubernetes_would_not_know_is_found_in_a_template() -> None:
    broken = changed(render("prod"), {"RayJob/train": {"spec.submitterPodTemplate.spec.containers.0.tty": "yes"}})
    assert any("yes" in problem for pod in pods(broken) for problem in pod_problems(pod))


def test_the_definitions_have_rules_in_cel_and_each_custom_kind_has_one() -> None:
    assert any("x-kubernetes-validations" in str(schema) for schema in definitions().values())
    kinds = {f"{one['apiVersion']}/{one['kind']}" for name in OVERLAYS for one in render(name) if is_custom(one)}
    assert kinds == set(definitions())


def parsed(command: list[str]) -> dict[str, Any]:
    """Return the options of a command as condgen's command line reads them; a mistake raises."""
    assert command[0] == "condgen"
    context = typer.main.get_command(cli.app).commands[command[1]].make_context(command[1], command[2:])  # type: ignore[attr-defined]
    values = dict(context.params)
    if command[1] == "train":
        resolve(values["preset"], file=None, assignments=values["assignments"] or ())
        return vars(_build(RunOptions, Group(), values))
    _build(BatchSettings, Group(leave_out=("translate", "direction")), values)
    return vars(_build(JobOptions, Group(), values))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_condgen_takes_the_commands_of_an_overlay(overlay: str) -> None:
    for _, job, _ in ray_jobs(render(overlay)):
        options = parsed(command_of(job))
        assert options["wait_for_s"] is not None
        if command_of(job)[1] == "train":
            assert options["max_duration_s"] == seconds(
                shlex.split(job["entrypoint"].partition("--max-duration")[2])[0]
            )


def test_a_command_that_condgen_does_not_take_is_found() -> None:
    with pytest.raises(typer.exceptions.TyperException):
        parsed(["condgen", "train", "--data", "a", "--out", "b", "--worker", "2"])


def test_the_numbers_in_the_comments_are_those_of_the_manifests() -> None:
    text = (ROOT / "infra" / "kuberay" / "base" / "job" / "job.yaml").read_text()
    head = text.partition("apiVersion:")[0]
    times = {name: int(value) for name, value in re.findall(r"^#   ([a-z+][a-z+ ]*?) +(\d+) s ", head, re.MULTILINE)}
    assert times == {"grace period": 110, "drain": 90, "step + save": 60}
    for pod in pods(render("prod")):
        if pod.role in ("head", "worker"):
            assert pod.spec["terminationGracePeriodSeconds"] == times["grace period"]
            assert pod.env["CONDGEN_DRAIN_S"] == str(times["drain"])
            assert pod.template["metadata"]["annotations"]["condgen/step-and-save-seconds"] == str(times["step + save"])
    assert set(re.findall(r"^ +terminationGracePeriodSeconds: (.*)", text, re.MULTILINE)) == {
        "110 # > drain 90 > step + save 60"
    }
