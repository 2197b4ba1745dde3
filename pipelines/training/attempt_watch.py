"""The watch over an attempt asks the workers to stop where machines leave or come, or where the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from pipelines.cluster.nodes import Node, answers
from pipelines.training.attempt import Attempt
from pipelines.training.lease import Lease
from pipelines.training.signals import Received

__all__ = ["AttemptWatch", "Cause"]

Cause: TypeAlias = Literal["", "signal", "duration", "drain", "resize"]

_POLL_S = 0.3
_NODES_S = 1.0
_RESIZE_S = 10.0
_RESIZE_LOOKS = 2
_FAILURE_S = 60.0
"""Time that workers have to end by themselves after one has met an error that lasts (seconds)."""
_LOST_S = 10.0
"""Time that Ray Train has to end an attempt whose node is gone, before its workers are ended (seconds)."""
_STOP_S = 600.0
"""Time that workers have for their last checkpoint, before they are ended (seconds)."""


class AttemptWatch:
    """The watch over one attempt.

    Args:
        attempt: attempt that has been started.
        received: signals of the driver's process.
        look: function that returns the nodes as they are now.
        unfit: function that says why another attempt would suit these nodes better; an empty text where it would not.
        left_s: function that returns the time until the longest duration is over (seconds).
        lease: lease of the run's folder; an attempt whose lease another driver has taken is ended.

    Attributes:
        cause: what the workers were asked to stop for; empty where they were not.
        text: the cause, for people.
        lost: nodes with workers that are gone.
    """

    def __init__(
        self,
        attempt: Attempt,
        received: Received,
        *,
        look: Callable[[], Sequence[Node]],
        unfit: Callable[[Sequence[Node]], str],
        left_s: Callable[[], float],
        lease: Lease,
    ) -> None:
        self.attempt = attempt
        self.cause: Cause = ""
        self.text = ""
        self.lost: list[Node] = []
        self._received, self._look, self._unfit, self._left_s = received, look, unfit, left_s
        self._lease = lease
        self._deadline = float("inf")
        self._next_nodes = self._next_resize = 0.0
        self._resize_looks = 0

    def wait(self) -> None:
        """Wait until the attempt has ended, for whatever reason.

        Raises:
            JobError: the cluster does not answer any more.
        """
        self._next_resize = time.monotonic() + _RESIZE_S
        while not self.attempt.wait(_POLL_S):
            now = time.monotonic()
            if self.attempt.failure is not None:
                self._end_by(now + _FAILURE_S)
            if self._received.take_save():
                self.attempt.save()
            if self._received.stop.is_set():
                self._stop("signal", "SIGTERM")
            elif self._left_s() <= 0:
                self._stop("duration", "the longest duration is over")
            if now >= self._next_nodes:
                self._next_nodes = now + _NODES_S
                self._watch_nodes(self._look())
            if now > self._deadline or self._lease.fenced is not None:
                self.attempt.kill()

    def find_lost(self) -> None:
        """Look once more for nodes that are gone: a worker can be known to be dead earlier than its machine.

        A node that Ray still counts on is asked whether it answers.
        """
        with_workers = {place.node for place in self.attempt.places}
        known = {node.id for node in self.lost}
        for node in self._look():
            if node.id in with_workers - known and not (node.alive and answers(node)):
                self.lost.append(node)

    def _watch_nodes(self, nodes: Sequence[Node]) -> None:
        with_workers = {place.node for place in self.attempt.places}
        known = {node.id for node in self.lost}
        gone = [node for node in nodes if node.id in with_workers - known and not node.alive]
        if gone:
            self.lost += gone
            self._end_by(time.monotonic() + _LOST_S)
        leaving = [node for node in nodes if node.id in with_workers and node.alive and node.draining]
        if leaving and self.cause != "drain":
            names = ", ".join(node.name for node in leaving)
            self._stop("drain", f"node {names} is about to leave", leaving=[node.id for node in leaving])
        if not self.cause and time.monotonic() >= self._next_resize:
            self._next_resize = time.monotonic() + _RESIZE_S
            text = self._unfit(nodes)
            self._resize_looks = self._resize_looks + 1 if text else 0
            if self._resize_looks >= _RESIZE_LOOKS:
                self._stop("resize", text)

    def _stop(self, cause: Cause, text: str, leaving: Sequence[str] = ()) -> None:
        """Ask the workers to stop, once, and again where a machine leaves meanwhile."""
        if self.cause and cause != "drain":
            return
        self.attempt.stop(leaving)
        if not self.cause:
            self.cause, self.text = cause, text
            self._end_by(time.monotonic() + _STOP_S)

    def _end_by(self, deadline: float) -> None:
        self._deadline = min(self._deadline, deadline)
