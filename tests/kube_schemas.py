"""Manifests against the schemas that an API server would hold them to: structural ones with CEL rules, and Kubernetes'.

A custom resource definition holds an OpenAPI schema. An API server checks an object by it, refuses fields that it does
not know (`kubectl apply` asks for that), and evaluates `x-kubernetes-validations` wherever they stand.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from kube_manifests import Manifest, Pod

CRDS = Path(__file__).resolve().parent / "infra" / "crds"
KUBERNETES = ("1.33", "1.37")
"""The oldest and the newest release whose schemas the plain kinds are held to."""
QUANTITY_OR_PORT = {"anyOf": [{"type": "integer"}, {"type": "string"}]}


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """Return the custom resources' schemas by `group/version/kind`."""
    loaded = [json.loads(gzip.decompress(path.read_bytes())) for path in sorted(CRDS.glob("*.json.gz"))]
    return {f"{one['group']}/{one['version']}/{one['kind']}": one["schema"] for one in loaded}


def is_custom(manifest: Manifest) -> bool:
    """Return whether a manifest's kind is a custom resource."""
    return manifest["apiVersion"].partition("/")[0] in ("ray.io", "kueue.x-k8s.io")


def custom_problems(manifest: Manifest) -> list[str]:
    """Return what an API server with the custom resource's definition would refuse; empty where it takes it."""
    name = f"{manifest['apiVersion']}/{manifest['kind']}"
    if name not in definitions():
        return [f"no definition of {name} is here"]
    found = [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(manifest)]
    return found + list(_cel_problems(definitions()[name], manifest, "$"))


@cache
def _validator(name: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(_closed(definitions()[name], top=True))


def _closed(schema: dict[str, Any], *, top: bool = False) -> dict[str, Any]:
    """Return a structural schema as a JSON schema that admits no unknown fields."""
    if schema.get("x-kubernetes-int-or-string"):
        return {**QUANTITY_OR_PORT, **{name: value for name, value in schema.items() if name == "pattern"}}
    closed = {name: value for name, value in schema.items() if not name.startswith("x-")}
    if "properties" in schema:
        closed["properties"] = {name: _closed(one) for name, one in schema["properties"].items()}
        if top:
            closed["properties"]["metadata"] = {"type": "object"}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        closed["additionalProperties"] = _closed(schema["additionalProperties"])
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    return closed


def _cel_problems(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Yield the rules in a schema that a value breaks, there and below; rules about changes need an older object."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{path}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        for name, one in value.items():
            below = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(below, dict):
                yield from _cel_problems(below, one, f"{path}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for index, one in enumerate(value):
            yield from _cel_problems(schema["items"], one, f"{path}[{index}]")


def _holds(rule: str, value: Any) -> bool:
    import celpy  # some seconds, and not before a test asks

    return bool(_program(rule).evaluate({"self": celpy.json_to_cel(value)}))


@cache
def _program(rule: str) -> Any:
    import celpy

    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def plain_problems(manifest: Manifest) -> list[str]:
    """Return what Kubernetes' own schemas refuse in a manifest of a plain kind, unknown fields too."""
    return list(_plain_problems(json.dumps(manifest)))


@cache  # overlays have much in common, and each look reads a schema of megabytes
def _plain_problems(text: str) -> tuple[str, ...]:
    import kubernetes_validate

    manifest: Manifest = json.loads(text)
    found = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{manifest['kind']} {manifest['metadata'].get('name')} ({version}): {error.message}")
    return tuple(found)


def pod_problems(pod: Pod) -> list[str]:
    """Return what Kubernetes' schema of a Pod refuses in a template; an operator would find it only when it starts."""
    metadata = {"name": "checked", **pod.template.get("metadata", {})}
    problems = plain_problems({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.template["spec"]})
    return [f"{pod.name}: {problem}" for problem in problems]


def all_problems(manifest: Manifest) -> list[str]:
    """Return what the schema of a manifest's kind refuses."""
    return custom_problems(manifest) if is_custom(manifest) else plain_problems(manifest)
