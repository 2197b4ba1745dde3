"""Copy a suspended RayJob, start the copy, and follow it to its end: what the CronJob's pod does.

    start.py TEMPLATE      # JOB_NAME, JOB_UID: the Kubernetes Job that this pod belongs to

The copy has the Kubernetes Job's name, so that a second pod of the same Job finds it and follows it; it belongs to that
Job, and goes with it. Exit codes: 0 the RayJob succeeded, 1 it failed, 2 the template can't be copied.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["Api", "copy_of", "follow", "start"]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POLL_S = 15.0
TIMEOUT_S = 30.0
ENDS = ("Complete", "Failed", "ValidationFailed")


class Api:
    """The RayJobs of a namespace, at Kubernetes' API server.

    Args:
        server: address of the API server.
        namespace: namespace of this pod.
        account: folder of the service account: its token, which Kubernetes renews, and the server's certificate.
    """

    def __init__(self, server: str, namespace: str, account: Path = ACCOUNT) -> None:
        self._root = f"{server}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
        self._account = account

    def get(self, name: str) -> dict[str, Any]:
        """Return a RayJob."""
        return self._ask("GET", f"/{name}")

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """Create a RayJob, and return it as it was stored."""
        return self._ask("POST", "", job)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the API server's address
            self._root + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(self._account / 'token').read_text().strip()}",
                "Content-Type": "application/json",
            },
        )
        certificate = self._account / "ca.crt"
        context = ssl.create_default_context(cafile=str(certificate)) if certificate.exists() else None
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310
            return dict(json.load(answer))


def copy_of(template: dict[str, Any], name: str, uid: str) -> dict[str, Any]:
    """Return a copy of a RayJob that is to run, and belongs to the Kubernetes Job of this name."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True}
    metadata = {"name": name, "labels": template["metadata"].get("labels", {}), "ownerReferences": [owner]}
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "metadata": metadata,
        "spec": {**template["spec"], "suspend": False},
    }


def start(api: Api, template: str, name: str, uid: str) -> None:
    """Start a copy of the template, unless another pod of the same Kubernetes Job has done so.

    Raises:
        urllib.error.URLError: the API server refuses the copy, or can't be reached.
    """
    try:
        api.create(copy_of(api.get(template), name, uid))
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        say(f"{name} was started before")


def follow(api: Api, name: str, poll_s: float = POLL_S) -> bool:
    """Say how a RayJob stands whenever that changes, until it ends; return whether it succeeded.

    An API server that does not answer is asked again. A RayJob that was deleted has failed.
    """
    shown = ""
    while True:
        status: dict[str, Any] = {}
        try:
            status = api.get(name).get("status", {})
        except urllib.error.HTTPError as error:
            if error.code == 404:
                say(f"{name} was deleted")
                return False
            say(f"the API server: {error}")
        except OSError as error:
            say(f"the API server: {error}")
        state = status.get("jobDeploymentStatus", "")
        line = " ".join(filter(None, (state, status.get("jobStatus"), status.get("reason"), status.get("message"))))
        if line and line != shown:
            say(f"{name}: {line}")
            shown = line
        if state in ENDS:
            return bool(state == "Complete" and status.get("jobStatus") == "SUCCEEDED")
        time.sleep(poll_s)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def main() -> int:
    """Start the copy and follow it; return the exit code."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    api = Api(server, (ACCOUNT / "namespace").read_text().strip())
    name = os.environ["JOB_NAME"]
    try:
        start(api, sys.argv[1], name, os.environ["JOB_UID"])
    except OSError as error:
        say(f"error: {sys.argv[1]} can't be started as {name}: {error}")
        return 2
    return 0 if follow(api, name) else 1


if __name__ == "__main__":
    raise SystemExit(main())
