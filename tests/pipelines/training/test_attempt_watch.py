"""When an attempt is asked to stop, and by whom; the attempt here is a fake that notes what it is asked."""

import signal
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

from pipelines.cluster.nodes import Node
from pipelines.training import attempt_watch
from pipelines.training.attempt_watch import AttemptWatch
from pipelines.training.failures import FailureBudget
from pipelines.training.monitor import WorkerPlace
from pipelines.training.signals import Received


class FakeAttempt:
    """An attempt of two workers on nodes a and b, which ends when it is asked to, if it obeys, or when it is killed."""

    workers = 2

    def __init__(self, *, ends_after: int = 1000, obeys: bool = True) -> None:
        self.places = [WorkerPlace(rank=0, node="a"), WorkerPlace(rank=1, node="b")]
        self.failure = None
        self.stops: list[list[str]] = []
        self.saves = 0
        self.kills = 0
        self.rounds = 0
        self._ends_after, self._obeys = ends_after, obeys

    def wait(self, _seconds: float) -> bool:
        self.rounds += 1
        return self.rounds > self._ends_after or self.kills > 0 or (self._obeys and bool(self.stops))

    def stop(self, leaving: Collection[str] = ()) -> None:
        self.stops.append(sorted(leaving))

    def save(self) -> None:
        self.saves += 1

    def kill(self) -> None:
        self.kills += 1


class FakeLease:
    fenced = None


def node(name: str, **more: Any) -> Node:
    return Node(id=name, name=f"host-{name}", cpus=2, **more)


BOTH = [node("a"), node("b")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is due at once, and so is every deadline after the loss of a node."""
    for name in ("_NODES_S", "_RESIZE_S", "_LOST_S"):
        monkeypatch.setattr(attempt_watch, name, 0.0)


def watched(
    attempt: FakeAttempt,
    nodes: Callable[[], Sequence[Node]] = lambda: BOTH,
    *,
    received: Received | None = None,
    unfit: Callable[[Sequence[Node]], str] = lambda _: "",
    left_s: float = float("inf"),
) -> AttemptWatch:
    watch: Any = AttemptWatch(
        attempt,  # type: ignore[arg-type]
        received or Received(),
        look=nodes,
        unfit=unfit,
        left_s=lambda: left_s,
        lease=FakeLease(),  # type: ignore[arg-type]
    )
    watch.wait()
    return watch


def test_an_attempt_is_left_alone_where_nothing_happens() -> None:
    attempt = FakeAttempt(ends_after=20)
    watch = watched(attempt)
    assert (attempt.stops, attempt.saves, attempt.kills, watch.cause, watch.lost) == ([], 0, 0, "", [])


def test_a_machine_that_leaves_stops_all_and_its_worker_is_named_as_leaving() -> None:
    attempt = FakeAttempt()
    watch = watched(attempt, lambda: [node("a", draining=True), node("b"), node("c", draining=True)])
    assert attempt.stops == [["a"]]
    assert (watch.cause, watch.text) == ("drain", "node host-a is about to leave")


def test_a_machine_without_a_worker_may_leave() -> None:
    attempt = FakeAttempt(ends_after=20)
    assert watched(attempt, lambda: [*BOTH, node("c", draining=True)]).cause == ""


def test_room_for_another_number_counts_when_it_is_seen_twice_in_a_row() -> None:
    now_and_then = iter(["room for 4", "", "room for 4", "", "room for 4", ""])
    attempt = FakeAttempt(ends_after=5)
    assert watched(attempt, unfit=lambda _: next(now_and_then)).cause == ""
    attempt = FakeAttempt()
    watch = watched(attempt, unfit=lambda _: "room for 4")
    assert (watch.cause, watch.text, attempt.rounds) == ("resize", "room for 4", 3)


def test_a_machine_that_is_gone_is_named_and_what_is_left_of_the_attempt_is_ended() -> None:
    attempt = FakeAttempt()
    watch = watched(attempt, lambda: [node("a"), node("b", alive=False, reason="spot")])
    assert [(one.name, one.reason) for one in watch.lost] == [("host-b", "spot")]
    assert attempt.kills == 1
    assert attempt.stops == []


def test_signals_and_the_longest_duration_stop_all_once() -> None:
    received = Received()
    received.note(signal.SIGTERM)
    attempt = FakeAttempt()
    assert watched(attempt, received=received).cause == "signal"
    assert attempt.stops == [[]]
    attempt = FakeAttempt()
    assert watched(attempt, left_s=-1.0).cause == "duration"
    assert attempt.stops == [[]]


def test_a_checkpoint_that_a_signal_asks_for_stops_nothing() -> None:
    received = Received()
    received.note(signal.SIGUSR2)
    attempt = FakeAttempt(ends_after=10)
    assert watched(attempt, received=received).cause == ""
    assert (attempt.saves, attempt.stops) == (1, [])


def test_workers_that_do_not_stop_in_time_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_watch, "_STOP_S", 0.0)
    received = Received()
    received.note(signal.SIGTERM)
    attempt = FakeAttempt(obeys=False)
    watched(attempt, received=received)
    assert attempt.kills == 1


def test_a_machine_that_leaves_during_another_stop_is_still_named() -> None:
    attempt = FakeAttempt(ends_after=3, obeys=False)
    watch = watched(attempt, lambda: [node("a", draining=True), node("b")], left_s=-1.0)
    assert watch.cause == "duration"
    assert attempt.stops[0] == []
    assert ["a"] in attempt.stops


def test_failures_count_in_a_row_without_a_newer_checkpoint() -> None:
    budget = FailureBudget(newest_step=0)
    assert [budget.count(0), budget.count(0)] == [True, True]
    assert budget.count(50)  # a newer checkpoint: the count begins again
    assert [budget.count(50), budget.count(50)] == [True, False]


def test_a_resumed_run_s_first_failures_do_not_count_its_old_checkpoint_as_new() -> None:
    budget = FailureBudget(newest_step=400)
    assert [budget.count(400) for _ in range(3)] == [True, True, False]
