"""What KubeRay and Kueue refuse beyond their schemas, each rule with a change of a manifest that breaks it.

The rules are those of KubeRay's `ray-operator/controllers/ray/utils/validation.go` (commit feeaf72fa, 2026-08-19) and
of Kueue's webhook, `pkg/controller/jobs/raycluster/common.go` (commit ff69552e7, 2026-08-22), as far as our manifests
come near them. KubeRay checks its own only after the API server has taken a manifest: a job that breaks one has failed.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kube_manifests import REMOVED, Manifest, groups, ray_jobs

__all__ = ["OPERATOR_RULES", "Rule", "has_autoscaler", "queue_of"]

HEAD = "spec.rayClusterSpec.headGroupSpec"
GPU = "spec.rayClusterSpec.workerGroupSpecs.0"
LABEL = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?")
NAME = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?")
CRON = re.compile(r"(?:[\d*/,-]+ ){4}[\d*/,A-Za-z-]+|@(?:hourly|daily|weekly|monthly|yearly)")


@dataclass(frozen=True)
class Rule:
    """A rule over the manifests of an overlay.

    Attributes:
        name: the rule, as a sentence.
        problems: function that yields what breaks it.
        overlay: overlay that the change is made to.
        change: change that breaks this rule and no other, see `kube_manifests.changed`.
    """

    name: str
    problems: Callable[[Sequence[Manifest]], Iterator[str]]
    overlay: str
    change: Mapping[str, Mapping[str, Any]] = field(hash=False)


def each_job(check: Callable[[Manifest, Manifest], Any]) -> Callable[[Sequence[Manifest]], Iterator[str]]:
    """Return a rule's function that yields the jobs for which `check` finds the rule broken.

    Args:
        check: function of a RayJob's specification and its whole manifest; what is true breaks the rule.
    """

    def problems(manifests: Sequence[Manifest]) -> Iterator[str]:
        yield from (name for name, job, manifest in ray_jobs(manifests) if check(job, manifest))

    return problems


def each_group(check: Callable[[Manifest, Manifest], Any]) -> Callable[[Sequence[Manifest]], Iterator[str]]:
    """Return a rule's function that yields the groups, the head's too, for which `check` finds the rule broken.

    Args:
        check: function of a group and of the cluster that it belongs to; what is true breaks the rule.
    """

    def problems(manifests: Sequence[Manifest]) -> Iterator[str]:
        for name, job, _ in ray_jobs(manifests):
            cluster = job.get("rayClusterSpec")
            for group in (cluster["headGroupSpec"], *groups(job)) if cluster else ():
                if check(group, cluster):
                    yield f"{name} {group.get('groupName', 'head')}"

    return problems


def has_autoscaler(cluster: Manifest, version: str | None = None) -> bool:
    """Return whether a Ray cluster has Ray's autoscaler, of this version if one is given."""
    wanted = version in (None, cluster.get("autoscalerOptions", {}).get("version"))
    return bool(cluster.get("enableInTreeAutoscaling")) and wanted


def deletion_rules(job: Manifest) -> list[Manifest]:
    return list(job.get("deletionStrategy", {}).get("deletionRules", ()))


def ray_version(cluster: Manifest) -> tuple[int, ...]:
    return tuple(map(int, cluster.get("rayVersion", "0").split(".")))


def env_of(group: Manifest) -> set[str]:
    return {one["name"] for one in group["template"]["spec"]["containers"][0].get("env", ())}


def bad_labels(group: Manifest, _cluster: Manifest) -> bool:
    labels = group.get("labels", {})
    return not all(LABEL.fullmatch(key) and (not text or LABEL.fullmatch(text)) for key, text in labels.items())


def bad_replicas(group: Manifest, cluster: Manifest) -> bool:
    if "groupName" not in group:
        return False
    least, most = group.get("minReplicas"), group.get("maxReplicas")
    if least is None or most is None:
        return not has_autoscaler(cluster)
    return not 0 <= least <= most


def bad_schedule(manifests: Sequence[Manifest]) -> Iterator[str]:
    for one in manifests:
        if one["kind"] == "RayCronJob":
            schedule, zone = one["spec"]["schedule"], one["spec"].get("timeZone")
            if not CRON.fullmatch(schedule) or (zone is not None and zone not in zoneinfo.available_timezones()):
                yield one["metadata"]["name"]


def bad_name(_job: Manifest, manifest: Manifest) -> bool:
    longest = 47 if manifest["kind"] == "RayJob" else 36  # a cluster's name, and a cron job's, are longer
    name = manifest["metadata"]["name"]
    return len(name) > longest or not NAME.fullmatch(name)


def bad_deadline(job: Manifest, _manifest: Manifest) -> bool:
    limits = [job.get(name, 1) for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds")]
    return min(limits) <= 0 or job.get("backoffLimit", 0) < 0


def queue_of(manifest: Manifest) -> str | None:
    """Return the queue of Kueue that a manifest waits in."""
    queue = manifest["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
    return None if queue is None else str(queue)


def in_queue(check: Callable[[Manifest, Manifest], Any]) -> Callable[[Sequence[Manifest]], Iterator[str]]:
    """Return a rule's function as `each_job` does, for the jobs that wait in a queue."""
    return each_job(lambda job, manifest: queue_of(manifest) is not None and check(job, manifest))


def not_elastic(job: Manifest, manifest: Manifest) -> bool:
    mark = manifest["metadata"].get("annotations", {}).get("kueue.x-k8s.io/elastic-job")
    return has_autoscaler(job["rayClusterSpec"]) and mark != "true"


def missing_queues(manifests: Sequence[Manifest]) -> Iterator[str]:
    queues = {one["metadata"]["name"]: one["spec"]["clusterQueue"] for one in manifests if one["kind"] == "LocalQueue"}
    flavors = {one["metadata"]["name"] for one in manifests if one["kind"] == "ResourceFlavor"}
    clusters = [one for one in manifests if one["kind"] == "ClusterQueue"]
    for name, _, manifest in ray_jobs(manifests):
        queue = queue_of(manifest)
        if queue is not None and queues.get(queue) not in [one["metadata"]["name"] for one in clusters]:
            yield f"{name}: no queue {queue}"
    for one in clusters:
        used = {flavor["name"] for part in one["spec"]["resourceGroups"] for flavor in part["flavors"]}
        yield from (f"{one['metadata']['name']}: no flavor {name}" for name in sorted(used - flavors))


def eight_groups(there: list[Manifest]) -> list[Manifest]:
    return [there[0], *({**there[1], "groupName": f"cpu-{index}"} for index in range(7))]


DELETE_SELF = {"condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 60}, "policy": "DeleteSelf"}
DELETE_WORKERS = {"condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 60}, "policy": "DeleteWorkers"}
NO_SHUTDOWN = {"spec.shutdownAfterJobFinishes": False, "spec.ttlSecondsAfterFinished": 0}

OPERATOR_RULES = [
    Rule(
        "a head under autoscaler v2 is never restarted in place",
        each_group(
            lambda group, cluster: (
                has_autoscaler(cluster, "v2")
                and "groupName" not in group
                and group["template"]["spec"].get("restartPolicy", "Never") != "Never"
            )
        ),
        "prod",
        {"RayJob/train": {f"{HEAD}.template.spec.restartPolicy": "Always"}},
    ),
    Rule(
        "a worker under autoscaler v2 is never restarted in place",
        each_group(
            lambda group, cluster: (
                has_autoscaler(cluster, "v2")
                and "groupName" in group
                and group["template"]["spec"].get("restartPolicy", "Never") != "Never"
            )
        ),
        "prod",
        {"RayJob/train": {f"{GPU}.template.spec.restartPolicy": "OnFailure"}},
    ),
    Rule(
        "labels of Ray's nodes stand at the top level of a group",
        each_group(lambda group, _: "labels" in group.get("rayStartParams", {})),
        "prod",
        {"RayJob/train": {f"{GPU}.rayStartParams.labels": "market=spot"}},
    ),
    Rule(
        "labels of Ray's nodes are labels as Kubernetes has them",
        each_group(bad_labels),
        "prod",
        {"RayJob/train": {f"{GPU}.labels.market": "spot or not"}},
    ),
    Rule(
        "Ray's resources stand in rayStartParams or in resources, not in both",
        each_group(
            lambda group, _: (
                group.get("resources")
                and {"num-cpus", "num-gpus", "memory", "resources"} & set(group.get("rayStartParams", {}))
            )
        ),
        "prod",
        {"RayJob/train": {f"{HEAD}.resources": {"CPU": "0"}}},
    ),
    Rule(
        "deletionRules exclude shutdownAfterJobFinishes",
        each_job(lambda job, _: deletion_rules(job) and job.get("shutdownAfterJobFinishes")),
        "prod",
        {"RayJob/train": {"spec.deletionStrategy": {"deletionRules": [DELETE_SELF]}}},
    ),
    Rule(
        "no deletion rule takes an autoscaler's workers",
        each_job(
            lambda job, _: (
                has_autoscaler(job["rayClusterSpec"])
                and any(one["policy"] == "DeleteWorkers" for one in deletion_rules(job))
            )
        ),
        "prod",
        {"RayJob/train": {"spec.deletionStrategy": {"deletionRules": [DELETE_WORKERS]}, **NO_SHUTDOWN}},
    ),
    Rule(
        "only a cluster that is shut down has a time until then",
        each_job(lambda job, _: job.get("ttlSecondsAfterFinished") and not job.get("shutdownAfterJobFinishes")),
        "prod",
        {"RayJob/train": {"spec.shutdownAfterJobFinishes": False}},
    ),
    Rule(
        "only a job whose cluster is shut down can be suspended",
        each_job(lambda job, _: job.get("suspend") and not job.get("shutdownAfterJobFinishes")),
        "cron",
        {"RayJob/colorize-nightly": NO_SHUTDOWN},
    ),
    Rule(
        "a job's name leaves room for those of its cluster and its service",
        each_job(bad_name),
        "cron-ray",
        {"RayCronJob/train-nightly": {"metadata.name": "train-every-night-until-the-run-is-done"}},
    ),
    Rule(
        "a group's bounds are ordered, and both are there where no autoscaler is",
        each_group(bad_replicas),
        "kueue-fixed",
        {"RayJob/train": {"spec.rayClusterSpec.workerGroupSpecs.1.minReplicas": 3}},
    ),
    Rule(
        "the token needs a version of Ray that knows it, and says which",
        each_job(
            lambda job, _: (
                job["rayClusterSpec"].get("authOptions", {}).get("mode") == "token"
                and ray_version(job["rayClusterSpec"]) < (2, 52, 0)
            )
        ),
        "prod",
        {"RayJob/train": {"spec.rayClusterSpec.rayVersion": REMOVED}},
    ),
    Rule(
        "a job has no authentication by Kubernetes' tokens",
        each_job(lambda job, _: job["rayClusterSpec"].get("authOptions", {}).get("enableK8sTokenAuth")),
        "prod",
        {"RayJob/train": {"spec.rayClusterSpec.authOptions.enableK8sTokenAuth": True}},
    ),
    Rule(
        "a group's own idle time and priority need autoscaler v2",
        each_group(
            lambda group, cluster: (
                ("idleTimeoutSeconds" in group or group.get("priority")) and not has_autoscaler(cluster, "v2")
            )
        ),
        "kueue-fixed",
        {"RayJob/train": {f"{GPU}.idleTimeoutSeconds": 60}},
    ),
    Rule(
        "the autoscaler's version stands in autoscalerOptions alone",
        each_job(lambda job, _: "RAY_enable_autoscaler_v2" in env_of(job["rayClusterSpec"]["headGroupSpec"])),
        "prod",
        {
            "RayJob/train": {
                f"{HEAD}.template.spec.containers.0.env.5": {"name": "RAY_enable_autoscaler_v2", "value": "1"}
            }
        },
    ),
    Rule(
        "no group is suspended under an autoscaler",
        each_group(lambda group, cluster: group.get("suspend") and has_autoscaler(cluster)),
        "prod",
        {"RayJob/train": {f"{GPU}.suspend": True}},
    ),
    Rule(
        "a job that is submitted beside the head has no template of a submitter",
        each_job(
            lambda job, _: (
                job.get("submissionMode") == "SidecarMode"
                and ("submitterPodTemplate" in job or "submitterConfig" in job)
            )
        ),
        "prod",
        {"RayJob/train": {"spec.submissionMode": "SidecarMode"}},
    ),
    Rule(
        "a job that starts no cluster of its own is not tried again",
        each_job(lambda job, _: job.get("clusterSelector") and job.get("backoffLimit")),
        "prod",
        {"RayJob/train": {"spec.clusterSelector": {"ray.io/cluster": "standing"}}},
    ),
    Rule(
        "limits of time are more than none, and of tries at least none",
        each_job(bad_deadline),
        "prod",
        {"RayJob/train": {"spec.backoffLimit": -1}},
    ),
    Rule(
        "what needs a gate that is off by default is left out",
        each_job(lambda job, _: {"networkPolicy", "tlsOptions", "historyServerOptions"} & set(job["rayClusterSpec"])),
        "prod",
        {"RayJob/train": {"spec.rayClusterSpec.networkPolicy": {"mode": "DenyAll"}}},
    ),
    Rule(
        "a schedule is five fields without a zone, and the zone is one that there is",
        bad_schedule,
        "cron-ray",
        {"RayCronJob/train-nightly": {"spec.schedule": "TZ=UTC 0 20 * * *"}},
    ),
    Rule(
        "under Kueue there are at most 7 groups of workers",  # Kueue's newest releases take 17
        in_queue(lambda job, _: len(groups(job)) > 7),
        "kueue-elastic",
        {"RayJob/train": {"spec.rayClusterSpec.workerGroupSpecs": eight_groups}},
    ),
    Rule(
        "under Kueue no group is called head",
        in_queue(lambda job, _: any(group["groupName"] == "head" for group in groups(job))),
        "kueue-elastic",
        {"RayJob/train": {"spec.rayClusterSpec.workerGroupSpecs.1.groupName": "head"}},
    ),
    Rule(
        "under Kueue a cluster is deleted when its job is over",
        in_queue(lambda job, _: not job.get("shutdownAfterJobFinishes")),
        "kueue-fixed",
        {"RayJob/train": NO_SHUTDOWN},
    ),
    Rule(
        "under Kueue a cluster with an autoscaler is an elastic job",
        in_queue(not_elastic),
        "kueue-elastic",
        {"RayJob/train": {"metadata.annotations.[kueue.x-k8s.io/elastic-job]": REMOVED}},
    ),
    Rule(
        "the queue of a job is there, and so are its machines",
        missing_queues,
        "kueue-fixed",
        {"RayJob/train": {"metadata.labels.[kueue.x-k8s.io/queue-name]": "other"}},
    ),
]
