"""How many processes of one kind the nodes have room for, and the wait until there is enough.

What is asked for decides, not what happens to be there: nodes that are still to come are waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from condgen.errors import ConfigError
from pipelines.cluster.nodes import Node, usable_nodes

__all__ = ["Demand", "default_wait", "wait_for_room"]

_POLL_S = 1.0
_WAIT_S = 30 * 60.0
_EPSILON = 1e-9


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Processes that are wanted, all of one kind.

    Attributes:
        least, most: smallest and largest number of processes (at least 1).
        gpus: GPUs of each process; 0 has it run on CPUs.
        field: option that asks for them, as an error names it.
    """

    least: int
    most: int
    gpus: float = 0.0
    field: str = "workers"

    @property
    def is_elastic(self) -> bool:
        """Whether the number may change while the job runs."""
        return self.least < self.most

    def fit(self, nodes: Iterable[Node]) -> int:
        """Return how many processes the usable nodes have room for, at most ``most``; it may be fewer than ``least``.

        With GPUs, each node has room for its GPUs, if it has a CPU at all. On CPUs alone, a fixed number always fits:
        they share the CPUs. An elastic number has a whole CPU for each, and a quarter of all CPUs, at least one,
        remains for decoding.
        """
        usable = usable_nodes(nodes)
        cpus = sum(node.cpus for node in usable)
        if self.gpus:
            room = sum(int(node.gpus / self.gpus + _EPSILON) for node in usable if node.cpus > 0)
        elif not self.is_elastic:
            room = self.most if cpus > 0 else 0
        else:
            whole = sum(int(node.cpus) for node in usable)
            room = min(whole, int(cpus - max(1.0, cpus // 4)))
            if room < 1 and self.least == 1 and cpus > 0:
                room = 1  # a machine of one CPU: training and decoding share it
        return max(0, min(self.most, room))

    def has_room(self, nodes: Iterable[Node]) -> bool:
        """Return whether the usable nodes have room for the smallest number."""
        return self.fit(nodes) >= self.least

    def bundles(self) -> list[dict[str, float]]:
        """Return what an autoscaler is asked for: the resources of each process."""
        gpus = {"GPU": self.gpus} if self.gpus else {}
        return [{"CPU": 1.0, **gpus} for _ in range(self.most)]

    def describe(self, nodes: Iterable[Node]) -> str:
        """Return what is waited for and what is there: ``waiting for 8 GPUs, 2 are there``."""
        usable = usable_nodes(nodes)
        if self.gpus:
            wanted, there = self.least * self.gpus, sum(node.gpus for node in usable)
            if there < wanted:
                return f"waiting for {_count(wanted, 'GPU')}, {there:g} {'is' if there == 1 else 'are'} there"
            kind = f" of {_count(self.gpus, 'GPU')}"
        elif self.is_elastic:
            kind = " of a CPU"
        else:
            return "waiting for a CPU, none is there"
        room = self.fit(usable)
        return f"waiting for room for {self.least}{kind} each, there is room for {room}"

    def refusal(self, nodes: Sequence[Node], waited_s: float) -> ConfigError:
        """Return the error that says what is there after the wait, and what can be done."""
        usable = usable_nodes(nodes)
        gpus, cpus = (sum(getattr(node, name) for node in usable) for name in ("gpus", "cpus"))
        there = f"{_count(gpus, 'GPU')} and {_count(cpus, 'CPU')} on {_count(len(usable), 'node')}"
        each = f" of {_count(self.gpus, 'GPU')} each" if self.gpus else ""
        waited = f" after {waited_s:.0f} s" if waited_s else ""
        room = self.fit(usable)
        return ConfigError(
            self.field,
            f"{self.least}{each}",
            f"what there is room for{waited}: {room}, on {there}; a longer --wait-for waits for more nodes",
        )


def default_wait(*, own_cluster: bool) -> float:
    """Return how long nodes are waited for where nothing was asked for (seconds): no others come to this machine."""
    return 0.0 if own_cluster else _WAIT_S


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def wait_for_room(
    look: Callable[[], Sequence[Node]],
    demand: Demand,
    *,
    wait_s: float,
    tell: Callable[[str], None],
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Sequence[Node]:
    """Wait until the nodes have room for the smallest number that is wanted, and return them.

    Args:
        look: function that returns the nodes as they are now.
        demand: processes that are wanted.
        wait_s: longest time to wait (seconds); 0 refuses at once what does not fit.
        tell: function that is told what is waited for, once and at each change.
        pause: function that waits for some seconds; what it raises ends the wait.
        clock: clock of the wait (seconds).

    Raises:
        ConfigError: the time is over; it says what is there.
    """
    began, told = clock(), ""
    while not demand.has_room(nodes := look()):
        waited_s = clock() - began
        if waited_s >= wait_s:
            raise demand.refusal(nodes, waited_s if wait_s else 0.0)
        text = demand.describe(nodes)
        if text != told:
            tell(text)
            told = text
        pause(min(_POLL_S, max(0.0, wait_s - waited_s)))
    return nodes
