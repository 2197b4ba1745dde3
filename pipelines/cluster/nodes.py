"""The cluster's nodes, as Ray tells of them, and what its autoscaler is asked for."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Node", "answers", "is_own_cluster", "look_at_nodes", "parse_nodes", "request_bundles", "usable_nodes"]

_ANSWER_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of the cluster, or what is left to say of one that is gone.

    Attributes:
        id: Ray's id of the node (hexadecimal).
        name: name of the machine, for people.
        address: host and port of Ray's process on it.
        cpus, gpus: all CPUs and GPUs of it, whether they are in use or not.
        alive: whether it is there.
        draining: whether it is about to leave: Ray puts nothing new on it.
        reason: reason for its end, in Ray's words; empty where it is alive or none is known.
    """

    id: str
    name: str
    address: tuple[str, int] = ("", 0)
    cpus: float = 0.0
    gpus: float = 0.0
    alive: bool = True
    draining: bool = False
    reason: str = ""

    @property
    def usable(self) -> bool:
        """Whether something can be started on it."""
        return self.alive and not self.draining


def parse_nodes(records: Iterable[Mapping[str, Any]], draining: Collection[str] = ()) -> list[Node]:
    """Return the nodes of the records of ``ray.nodes()``, also those that are gone.

    Args:
        records: records of ``ray.nodes()``.
        draining: ids of the nodes that are about to leave.
    """
    return [
        Node(
            id=record["NodeID"],
            name=record.get("NodeManagerHostname") or record.get("NodeName") or record["NodeID"][:8],
            address=(record.get("NodeManagerAddress", ""), int(record.get("NodeManagerPort", 0))),
            cpus=float(record.get("Resources", {}).get("CPU", 0.0)),
            gpus=float(record.get("Resources", {}).get("GPU", 0.0)),
            alive=bool(record["Alive"]),
            draining=record["NodeID"] in draining,
            reason=" ".join(str(record.get("DeathReasonMessage") or record.get("DeathReason") or "").split()),
        )
        for record in records
    ]


def look_at_nodes() -> list[Node]:
    """Return the nodes of the cluster that is connected as they are now, also those that are gone.

    Raises:
        ray.exceptions.RayError, RuntimeError: the cluster does not answer.
    """
    import ray
    import ray._private.state as ray_state  # Ray Train's own watcher asks there: no public name tells of drains

    return parse_nodes(cast("Any", ray).nodes(), cast("Any", ray_state.state).get_draining_nodes())


def answers(node: Node) -> bool:
    """Return whether the node's own process of Ray takes a connection: its death is known at once in this way."""
    try:
        socket.create_connection(node.address, timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True


def usable_nodes(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes on which something can be started."""
    return [node for node in nodes if node.usable]


def is_own_cluster() -> bool:
    """Return whether this process started the cluster that it is connected to, on this machine."""
    import ray._private.worker as ray_worker  # there is no public name

    node = getattr(ray_worker, "_global_node", None)
    return node is not None and bool(node.is_head())


def request_bundles(bundles: Sequence[Mapping[str, float]]) -> None:
    """Ask the cluster's autoscaler for room for bundles of resources, in place of what was asked before.

    Args:
        bundles: resources of each bundle by name; an empty list takes the request back.
    """
    from ray.autoscaler.sdk import request_resources

    cast("Any", request_resources)(bundles=[dict(bundle) for bundle in bundles])
