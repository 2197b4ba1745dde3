"""What is asked for decides: nodes that are there, that leave, that are still to come, and the wait for them."""

from collections.abc import Sequence
from typing import Any

import pytest

from condgen.errors import ConfigError
from pipelines.cluster.capacity import Demand, wait_for_room
from pipelines.cluster.nodes import Node, parse_nodes


def node(name: str, cpus: float = 1.0, gpus: float = 0.0, **more: bool) -> Node:
    return Node(id=name, name=name, cpus=cpus, gpus=gpus, **more)


def record(name: str, **more: Any) -> dict[str, Any]:
    """A record as `ray.nodes()` has it."""
    return {"NodeID": name, "NodeManagerHostname": f"host-{name}", "Alive": True, "Resources": {"CPU": 4.0}, **more}


def test_nodes_are_read_from_the_records_of_ray() -> None:
    alive, draining, dead = parse_nodes(
        [
            record("a", Resources={"CPU": 8.0, "GPU": 2.0}),
            record("b"),
            record("c", Alive=False, Resources={}, DeathReasonMessage="health check\nfailed"),
        ],
        draining={"b": 0},
    )
    assert (alive.name, alive.cpus, alive.gpus, alive.usable) == ("host-a", 8, 2, True)
    assert (draining.draining, draining.usable) == (True, False)
    assert (dead.usable, dead.reason) == (False, "health check failed")


@pytest.mark.parametrize(
    ("nodes", "gpus", "room"),
    [
        ([], 1, 0),
        ([node("a")], 1, 0),
        ([node("a", gpus=2)], 1, 2),
        ([node("a", gpus=2), node("b", gpus=4)], 1, 6),
        ([node("a", gpus=2), node("b", gpus=4, draining=True)], 1, 2),
        ([node("a", gpus=2), node("b", gpus=4, alive=False)], 1, 2),
        ([node("a", gpus=3), node("b", gpus=3)], 2, 2),  # a process has the GPUs of one node
        ([node("a", gpus=1)], 0.5, 2),
        ([node("a", cpus=0, gpus=8)], 1, 0),
        ([node("a", gpus=16)], 1, 8),
    ],
)
def test_processes_with_gpus_fit_on_nodes_that_stay(nodes: Sequence[Node], gpus: float, room: int) -> None:
    assert Demand(least=1, most=8, gpus=gpus).fit(nodes) == room


def test_a_fixed_number_of_processes_shares_whatever_cpus_there_are() -> None:
    demand = Demand(least=8, most=8)
    assert demand.fit([node("a")]) == 8
    assert demand.fit([node("a", cpus=0)]) == 0


class Nodes:
    """Nodes that come one after the other, one a second, and a clock that the pauses move."""

    def __init__(self, *comings: Sequence[Node]) -> None:
        self.comings = comings
        self.now = 0.0
        self.told: list[str] = []

    def look(self) -> Sequence[Node]:
        return self.comings[min(int(self.now), len(self.comings) - 1)]

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, demand: Demand, wait_s: float) -> Sequence[Node]:
        return wait_for_room(
            self.look, demand, wait_s=wait_s, tell=self.told.append, pause=self.pause, clock=lambda: self.now
        )


def test_nodes_to_come_are_waited_for_and_each_change_is_told_once() -> None:
    two, five, eight = [node("a", gpus=2)], [node("a", gpus=5)], [node("a", gpus=5), node("b", gpus=3)]
    nodes = Nodes([], [], two, two, two, five, eight)
    assert nodes.wait(Demand(least=8, most=8, gpus=1), 60) == eight
    assert nodes.told == [
        "waiting for 8 GPUs, 0 are there",
        "waiting for 8 GPUs, 2 are there",
        "waiting for 8 GPUs, 5 are there",
    ]


def test_an_elastic_demand_is_met_by_the_smallest_number() -> None:
    nodes = Nodes([node("a", gpus=1)], [node("a", gpus=2)])
    assert nodes.wait(Demand(least=2, most=8, gpus=1), 60) == [node("a", gpus=2)]
    assert nodes.told == ["waiting for 2 GPUs, 1 is there"]


def test_gpus_that_are_spread_too_thin_are_told_as_such() -> None:
    nodes = Nodes([node("a", gpus=1), node("b", gpus=1)], [node("a", gpus=2)])
    nodes.wait(Demand(least=1, most=1, gpus=2), 60)
    assert nodes.told == ["waiting for room for 1 of 2 GPUs each, there is room for 0"]


@pytest.mark.parametrize(("wait_s", "waited"), [(0.0, ""), (30.0, " after 30 s")])
def test_what_does_not_come_in_time_is_refused_with_what_is_there(wait_s: float, waited: str) -> None:
    nodes = Nodes([node("a", cpus=16, gpus=2)])
    with pytest.raises(ConfigError) as refused:
        nodes.wait(Demand(least=8, most=8, gpus=1), wait_s)
    assert str(refused.value).startswith(
        f"workers: got '8 of 1 GPU each', allowed: what there is room for{waited}: 2, on 2 GPUs and 16 CPUs on 1 node"
    )
    assert bool(nodes.told) == bool(wait_s)


def test_an_autoscaler_is_asked_for_the_largest_number() -> None:
    assert Demand(least=1, most=2, gpus=1).bundles() == [{"CPU": 1.0, "GPU": 1}] * 2
    assert Demand(least=1, most=1).bundles() == [{"CPU": 1.0}]
