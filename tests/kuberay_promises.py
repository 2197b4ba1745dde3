"""What infra/kuberay promises of itself, each promise with a change of a manifest that breaks it.

The other half of the table: `kuberay_rules` has the rules of KubeRay and Kueue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kube_manifests import (
    REMOVED,
    ROOT,
    Manifest,
    Pod,
    command_of,
    groups,
    number,
    option,
    pods,
    ray_jobs,
    ray_pods,
    seconds,
)
from kuberay_rules import GPU, HEAD, Rule, each_job, has_autoscaler

__all__ = ["PROMISES"]

OURS = ("app.kubernetes.io/part-of", "condgen")
HOOK_START_S = 20
"""Time that a hook has to start Python and Ray (seconds)."""
CLUSTER_WIDE = ("Namespace", "ResourceFlavor", "ClusterQueue")
SECRET_NAME = re.compile(r"secret|password|passwd|credential|access_?key|api_?key|_token$", re.IGNORECASE)
SECRET_TEXT = re.compile(r"(?:AKIA|ASIA)[0-9A-Z]{16}|-----BEGIN|ghp_\w{36}|AIza[\w-]{35}|://[^/\s:@]+:[^/\s@]+@")
CONTAINER = "template.spec.containers.0"
NETWORK = "spec.ingress.0.from"


def each_pod(
    check: Callable[[Pod], Any], roles: Sequence[str] = ("head", "worker", "submitter", "starter")
) -> Callable[[Sequence[Manifest]], Iterator[str]]:
    """Return a rule's function that yields the pods of some roles for which `check` finds the rule broken."""

    def problems(manifests: Sequence[Manifest]) -> Iterator[str]:
        yield from (pod.name for pod in pods(manifests) if pod.role in roles and check(pod))

    return problems


RAY = ("head", "worker")


def may_be_root(pod: Pod) -> bool:
    security, own = pod.spec.get("securityContext", {}), pod.container.get("securityContext", {})
    return not (
        security.get("runAsNonRoot")
        and security.get("runAsUser", 0) > 0
        and security.get("seccompProfile", {}).get("type") == "RuntimeDefault"
        and own.get("allowPrivilegeEscalation") is False
        and own.get("capabilities", {}).get("drop") == ["ALL"]
    )


def writes_elsewhere(pod: Pod) -> bool:
    empty = {volume["name"] for volume in pod.spec.get("volumes", ()) if "emptyDir" in volume}
    places = {mount["mountPath"] for mount in pod.container.get("volumeMounts", ()) if mount["name"] in empty}
    return not pod.container.get("securityContext", {}).get("readOnlyRootFilesystem") or "/tmp" not in places


def autoscaler_is_root(job: Manifest, _manifest: Manifest) -> bool:
    """Return whether the container that KubeRay adds to the head has more rights than its neighbor."""
    cluster = job["rayClusterSpec"]
    if not has_autoscaler(cluster):
        return False
    beside = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["securityContext"]
    return bool(cluster["autoscalerOptions"].get("securityContext") != beside)


def unbounded(pod: Pod) -> bool:
    resources = pod.container.get("resources", {})
    return any(not {"cpu", "memory"} <= set(resources.get(kind, ())) for kind in ("requests", "limits"))


def times_out_of_order(pod: Pod) -> bool:
    drain = float(pod.env.get("CONDGEN_DRAIN_S") or 0)
    save = float(pod.template["metadata"].get("annotations", {}).get("condgen/step-and-save-seconds", "inf"))
    return not pod.spec.get("terminationGracePeriodSeconds", 30) >= drain + HOOK_START_S > drain > save


def stops_at_once(pod: Pod) -> bool:
    return float(pod.env.get("RAY_JOB_STOP_WAIT_TIME_S") or 3) != float(pod.env.get("CONDGEN_DRAIN_S") or 0)


def not_probed(pod: Pod) -> bool:
    probes = [pod.container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")]
    return any(one.get("httpGet") != {"path": "/api/healthz", "port": 52365} for one in probes)


def has_no_hook(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield the Ray pods without a hook before their end, or whose hook is no script that the pod mounts."""
    scripts = {one["metadata"]["name"]: set(one["data"]) for one in manifests if one["kind"] == "ConfigMap"}
    for pod in ray_pods(manifests):
        command = pod.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [""])
        mounts = {mount["mountPath"]: mount["name"] for mount in pod.container.get("volumeMounts", ())}
        maps = {one["name"]: one["configMap"]["name"] for one in pod.spec.get("volumes", ()) if "configMap" in one}
        folder, _, script = command[-1].rpartition("/")
        wanted = "leave_head.py" if pod.role == "head" else "leave_worker.sh"
        if script != wanted or script not in scripts.get(maps.get(mounts.get(folder, ""), ""), ()):
            yield pod.name


def without_token(pod: Pod) -> bool:
    cluster = pod.job["rayClusterSpec"]
    return cluster.get("authOptions", {}).get("mode") != "token" or pod.env.get("RAY_AUTH_MODE") != "token"


def bad_accounts(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield the pods that run as an account that is not there, and those with a token that they do not need."""
    accounts = {one["metadata"]["name"] for one in manifests if one["kind"] == "ServiceAccount"}
    for pod in pods(manifests):
        account = pod.spec.get("serviceAccountName")
        if pod.role != "submitter" and account not in accounts:
            yield f"{pod.name}: no account {account}"
        if pod.role != "starter":
            needs = pod.role == "head" and has_autoscaler(pod.job["rayClusterSpec"])
            if pod.spec.get("automountServiceAccountToken", True) != needs:
                yield f"{pod.name}: the token of Kubernetes"


def secrets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield what looks like a secret: its kind, an environment variable's name, or a text anywhere."""
    for one in manifests:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Secret":
            yield name
        for path, value in _texts(one):
            if SECRET_TEXT.search(value):
                yield f"{name} {path}"
    for pod in pods(manifests):
        yield from (f"{pod.name} {key}" for key, value in pod.env.items() if value and SECRET_NAME.search(key))


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(one, f"{path}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(one, f"{path}.{index}")


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def operator_labels(pod: Pod) -> dict[str, str]:
    """Return the labels that a pod will have: its template's, and KubeRay's."""
    return {**pod.labels, **({"ray.io/node-type": pod.role} if pod.role in RAY else {})}


def bad_budgets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield the heads without a budget of their own, and the budgets of anything else."""
    budgets = [one for one in manifests if one["kind"] == "PodDisruptionBudget"]
    kept: list[list[Pod]] = []
    for one in budgets:
        chosen = [pod for pod in pods(manifests) if matches(one["spec"]["selector"], operator_labels(pod))]
        kept.append(chosen)
        if [pod.role for pod in chosen] != ["head"] or one["spec"].get("minAvailable") != 1:
            yield one["metadata"]["name"]
    heads = [pod.name for pod in pods(manifests) if pod.role == "head"]
    yield from sorted(set(heads) - {pod.name for chosen in kept for pod in chosen})


def open_ways(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield the pods that no policy closes both ways, and the ways in that are open to more than they name."""
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    for pod in pods(manifests):
        closed = {
            way
            for one in policies
            if matches(one["spec"]["podSelector"], operator_labels(pod))
            for way in one["spec"]["policyTypes"]
        }
        if closed != {"Ingress", "Egress"}:
            yield pod.name
    for one in policies:
        for way in one["spec"].get("ingress", ()):
            sources = way.get("from", [{}])
            if not all(source.get("podSelector", {}).get("matchLabels") for source in sources):
                yield f"{one['metadata']['name']}: from anywhere"
            within = all(source.get("podSelector") == {"matchLabels": dict([OURS])} for source in sources)
            if not within and "ports" not in way:
                yield f"{one['metadata']['name']}: to every port"


def metadata_server(manifests: Sequence[Manifest]) -> Iterator[str]:
    for one in manifests:
        for way in one["spec"].get("egress", ()) if one["kind"] == "NetworkPolicy" else ():
            for block in filter(None, (target.get("ipBlock") for target in way["to"])):
                if "169.254.0.0/16" not in block.get("except", ()) or "ports" not in way:
                    yield one["metadata"]["name"]


def bad_head(job: Manifest, _manifest: Manifest) -> bool:
    head = job["rayClusterSpec"]["headGroupSpec"]
    return head["rayStartParams"].get("num-cpus") != "0" or "nvidia.com/gpu" in head["template"]["spec"]["containers"][
        0
    ]["resources"].get("limits", {})


def taken_away(pod: Pod) -> bool:
    kinds = pod.spec.get("nodeSelector", {}).get("karpenter.sh/capacity-type")
    return bool(groups(pod.job)[0]["groupName"] == "gpu" and kinds != "on-demand")


def bad_gpu_group(job: Manifest, _manifest: Manifest) -> bool:
    """Return whether a job with an autoscaler lacks 0 to N spot machines with GPUs, or those with CPUs alone."""
    if not has_autoscaler(job["rayClusterSpec"]):
        return False
    found = {}
    for group in groups(job):
        spec = group["template"]["spec"]
        limits = spec["containers"][0]["resources"]["limits"]
        spot = spec["nodeSelector"].get("karpenter.sh/capacity-type") == "spot"
        found[number(limits.get("nvidia.com/gpu", 0)) > 0] = spot and group["minReplicas"] == 0 < group["maxReplicas"]
    return found != {True: True, False: True}


def bad_limits(job: Manifest, _manifest: Manifest) -> bool:
    """Return whether a job's limits of time are missing, or cut a command that would have ended by itself."""
    if not {"backoffLimit", "activeDeadlineSeconds", "preRunningDeadlineSeconds"} <= set(job):
        return True
    duration = seconds(option(command_of(job), "--max-duration") or "0")
    drain = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    return bool(job["activeDeadlineSeconds"] <= job["preRunningDeadlineSeconds"] + duration + drain)


def bad_size(job: Manifest, _manifest: Manifest) -> bool:
    """Return whether a training command asks for more GPUs than its groups can have."""
    workers = option(command_of(job), "--workers")
    if workers is None or option(command_of(job), "--gpus-per-worker") == "0":
        return False
    room = sum(
        group["maxReplicas"]
        * number(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        for group in groups(job)
        if group["groupName"] == "gpu"
    )
    return int(workers.rpartition(":")[2]) > room


def over_quota(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield what jobs of a fixed size ask for, all together, beyond the quota of their queue."""
    quota: dict[str, float] = {}
    for one in manifests:
        if one["kind"] == "ClusterQueue":
            flavors = [flavor for part in one["spec"]["resourceGroups"] for flavor in part["flavors"]]
            for resource in (resource for flavor in flavors for resource in flavor["resources"]):
                quota[resource["name"]] = quota.get(resource["name"], 0) + number(resource["nominalQuota"])
    asked: dict[str, float] = {}
    for pod in ray_pods(manifests) if quota else ():
        count = next((one["replicas"] for one in groups(pod.job) if one["template"] == pod.template), 1)
        for name, quantity in pod.container["resources"]["requests"].items():
            asked[name] = asked.get(name, 0) + count * number(quantity)
    yield from (f"{name}: {value:g}" for name, value in asked.items() if value > quota[name])


def bad_images(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield images without a version, and those of another project or version than the rest."""
    seen = set()
    for pod in pods(manifests):
        name, _, tag = pod.container["image"].partition("@") if "@" in pod.container["image"] else _tag(pod)
        seen.add((name, re.sub(r"-(?:cpu|gpu)$", "", tag)))
        if tag in ("", "latest"):
            yield pod.name
    if len(seen) > 1:
        yield f"several versions: {sorted(seen)}"


def _tag(pod: Pod) -> tuple[str, str, str]:
    name, colon, tag = pod.container["image"].rpartition(":")
    return (name, colon, tag) if colon and "/" not in tag else (pod.container["image"], "", "")


def other_ray(job: Manifest, _manifest: Manifest) -> bool:
    pinned = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    return bool(job["rayClusterSpec"].get("rayVersion", pinned[1]) != pinned[1])


def stray(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield what is not in the namespace that the overlay makes."""
    namespace = next(one["metadata"]["name"] for one in manifests if one["kind"] == "Namespace")
    for one in manifests:
        if one["kind"] not in CLUSTER_WIDE and one["metadata"].get("namespace") != namespace:
            yield f"{one['kind']}/{one['metadata']['name']}"
        for subject in one.get("subjects", ()):
            if subject.get("namespace") != namespace:
                yield f"{one['kind']}/{one['metadata']['name']} {subject['name']}"


def bad_nights(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield the schedules of which two runs could overlap, or that end before their RayJob has had all of its tries."""
    for one in manifests:
        if one["kind"] == "CronJob":
            limit = one["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"]
            tries = [(job["backoffLimit"] + 1) * job["activeDeadlineSeconds"] for _, job, _ in ray_jobs(manifests)]
            if one["spec"].get("concurrencyPolicy") != "Forbid" or limit <= max(tries):
                yield one["metadata"]["name"]
        elif one["kind"] == "RayCronJob":  # every day at an hour: nothing forbids two runs but their length
            minute, hour, *days = one["spec"]["schedule"].split()
            daily = minute.isdecimal() and hour.isdecimal() and days == ["*", "*", "*"]
            if daily and one["spec"]["jobTemplate"]["activeDeadlineSeconds"] >= 24 * 3600:
                yield one["metadata"]["name"]


PROMISES = [
    Rule("no pod runs as root or can gain rights", each_pod(may_be_root), "cron",
         {"CronJob/colorize-nightly": {"spec.jobTemplate.spec.template.spec.securityContext.runAsNonRoot": REMOVED}}),
    Rule("a pod writes to its own empty folders alone", each_pod(writes_elsewhere), "prod",
         {"RayJob/train": {f"{GPU}.{CONTAINER}.volumeMounts.0.mountPath": "/var/tmp"}}),
    Rule("the autoscaler beside the head has no more rights than the head", each_job(autoscaler_is_root), "prod",
         {"RayJob/train": {"spec.rayClusterSpec.autoscalerOptions.securityContext": REMOVED}}),
    Rule("a pod says what it needs, and has a limit", each_pod(unbounded), "dev",
         {"RayJob/train": {f"{GPU}.{CONTAINER}.resources.limits.memory": REMOVED}}),
    Rule("the grace period is longer than the drain, and that longer than a step and a checkpoint",
         each_pod(times_out_of_order, RAY), "prod",
         {"RayJob/train": {f"{GPU}.template.spec.terminationGracePeriodSeconds": 90}}),
    Rule("Ray waits for a stopped command as long as the head's hook does", each_pod(stops_at_once, ("head",)), "prod",
         {"RayJob/train": {f"{HEAD}.{CONTAINER}.env.2": REMOVED}}),
    Rule("Ray's pods are probed", each_pod(not_probed, RAY), "prod",
         {"RayJob/train": {f"{GPU}.{CONTAINER}.livenessProbe": REMOVED}}),
    Rule("a pod that goes asks for a checkpoint before", has_no_hook, "prod",
         {"RayJob/train": {f"{GPU}.{CONTAINER}.lifecycle": REMOVED}}),
    Rule("who speaks to Ray has the token", each_pod(without_token, (*RAY, "submitter")), "dev",
         {"RayJob/train": {"spec.rayClusterSpec.authOptions.mode": "disabled"}}),
    Rule("a pod is a service account, and has Kubernetes' token only if it asks Kubernetes", bad_accounts, "prod",
         {"RayJob/train": {f"{GPU}.template.spec.automountServiceAccountToken": True}}),
    Rule("no manifest holds a secret", secrets, "prod",
         {"RayJob/train": {f"{GPU}.{CONTAINER}.env.4": {"name": "AWS_SECRET_ACCESS_KEY", "value": "planted"}}}),
    Rule("a head, and nothing else, has a budget of disruptions, by a number that Kubernetes can count", bad_budgets,
         "prod", {"PodDisruptionBudget/train-head": {"spec.maxUnavailable": 0, "spec.minAvailable": REMOVED}}),
    Rule("every pod's network is closed but for what is named", open_ways, "cron",
         {"NetworkPolicy/condgen": {"spec.ingress.0": {}}}),
    Rule("no pod reaches its machine's metadata", metadata_server, "prod",
         {"NetworkPolicy/condgen": {"spec.egress.2.to.0.ipBlock.except": REMOVED}}),
    Rule("a head has no room for tasks, and no GPU", each_job(bad_head), "prod",
         {"RayJob/train": {f"{HEAD}.rayStartParams.num-cpus": REMOVED}}),
    Rule("a head is on a machine that is not taken away", each_pod(taken_away, ("head",)), "prod",
         {"RayJob/train": {f"{HEAD}.template.spec.nodeSelector.[karpenter.sh/capacity-type]": "spot"}}),
    Rule("an elastic cluster has 0 to N spot machines with GPUs, and others with CPUs alone", each_job(bad_gpu_group),
         "prod", {"RayJob/train": {f"{GPU}.minReplicas": 1}}),
    Rule("a job has limits, and they leave its command the time to end by itself", each_job(bad_limits), "prod",
         {"RayJob/train": {"spec.activeDeadlineSeconds": 11 * 3600}}),
    Rule("a training command asks for no more GPUs than there can be", each_job(bad_size), "prod",
         {"RayJob/train": {f"{GPU}.maxReplicas": 4}}),
    Rule("jobs of a fixed size fit into the quota together", over_quota, "kueue-fixed",
         {"RayJob/train": {f"{GPU}.replicas": 5, f"{GPU}.maxReplicas": 5}}),
    Rule("the images of an overlay are one version, which is named", bad_images, "prod",
         {"RayJob/train": {"spec.submitterPodTemplate.spec.containers.0.image": "example.com/condgen:latest"}}),
    Rule("the Ray that KubeRay is told of is the pinned one", each_job(other_ray), "prod",
         {"RayJob/train": {"spec.rayClusterSpec.rayVersion": "2.59.0"}}),
    Rule("two shells read a command, and find its words alone",
         each_job(lambda job, _: re.search(r"[^\w\s./:=,@+-]", job["entrypoint"])), "prod",
         {"RayJob/train": {"spec.entrypoint": lambda there: there + " --set 'train.steps=5'"}}),
    Rule("all is in the namespace that the overlay makes", stray, "cron",
         {"Role/condgen-starter": {"metadata.namespace": "default"}}),
    Rule("two nights do not overlap, and a night ends after its job", bad_nights, "cron",
         {"CronJob/colorize-nightly": {"spec.concurrencyPolicy": "Allow"}}),
]  # fmt: skip
