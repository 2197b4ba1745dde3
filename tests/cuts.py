"""Cuts of a training run, drawn by a seed: what is cut, and when; the run must end as if there had been none.

cuts = Cuts(machines, random.Random(1))
cuts.run(make_run, number=25)      # as many runs, one after the other, as it takes for so many cuts
cuts.counts                        # {"worker": 8, "driver": 6, "sigterm": 6, "drain": 5}
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from machines import WAIT_S, Machines, Run

__all__ = ["KINDS", "Cuts"]

KINDS = ("worker", "driver", "sigterm", "drain")
_NODE = ("--num-cpus=2",)
_WORKER = "RayTrainWorker"
_EARLY = 0.4
_DRAIN_S = 30.0
_MOST_FAILURES = 2
"""Workers that are killed one after the other without a newer checkpoint: the third would rightly end the run."""


class Cuts:
    """Cuts over one run after the other, on two machines with CPUs, of which one may be about to leave.

    Args:
        machines: the cluster, without a node at first.
        rng: decides which cuts in which order, and when.
        say: is told of each cut.
    """

    def __init__(self, machines: Machines, rng: random.Random, say: Callable[[str], None] = print) -> None:
        self._machines, self._rng, self._say = machines, rng, say
        self._nodes: list[str] = []
        self._coming: threading.Thread | None = None
        self._begun = time.monotonic()
        self._failures, self._failed_at = 0, -1
        self.counts: Counter[str] = Counter()
        self.moments: Counter[str] = Counter()
        self.start_s, self.train_s = 15.0, 2.0

    def __enter__(self) -> Self:
        self._nodes = [self._machines.add(*_NODE), self._machines.add(*_NODE)]
        return self

    def __exit__(self, *_: object) -> None:
        if self._coming is not None:
            self._coming.join()

    def run(self, make: Callable[[], Run], number: int) -> list[Run]:
        """Make so many cuts in runs that are made one after the other; returns the runs, which are finished.

        Raises:
            AssertionError: a run ended by itself in another way than it should.
        """
        kinds = [kind for _ in range(number) for kind in self._rng.sample(KINDS, len(KINDS))][:number]
        runs: list[Run] = []
        while kinds:
            runs.append(make())
            self._until_done(runs[-1].start(), kinds)
        return runs

    def _until_done(self, run: Run, kinds: list[str]) -> None:
        try:
            while kinds and self._reach_moment(run):
                # What can't be done at this moment, such as the end of a worker that has not begun, comes later.
                for kind in dict.fromkeys(kinds):
                    if told := getattr(self, f"_cut_{kind}")(run):
                        kinds.remove(kind)
                        self._note(kind, told, run)
                    if told or run.code() is not None:
                        break
            code = run.wait()
            assert code == 0, f"it ended with {code}:\n{run.log}"
        finally:
            run.kill()

    def _note(self, kind: str, told: str, run: Run) -> None:
        self.counts[kind] += 1
        seconds, number, step = time.monotonic() - self._begun, self.counts.total(), max(run.checkpoints(), default=0)
        self._say(f"{seconds:7.1f} s  {number:3d} {kind}: {told} (saved: step {step})")

    def _reach_moment(self, run: Run) -> bool:
        """Wait for a random moment: early in a start, or after the next checkpoint; returns whether the run goes on."""
        before = max(run.checkpoints(), default=0)
        if self._rng.random() < _EARLY:
            self.moments["early"] += 1
            return _pause(run, self._rng.uniform(0, self.start_s))
        deadline = time.monotonic() + WAIT_S
        while max(run.checkpoints(), default=0) <= before:
            if run.code() is not None:
                return False
            assert time.monotonic() < deadline, f"no newer checkpoint than that of step {before}:\n{run.log}"
            time.sleep(0.1)
        self.moments["in training"] += 1
        return _pause(run, self._rng.uniform(0, self.train_s))

    def _cut_worker(self, run: Run) -> str:
        there = self._hit_worker(run, signal.SIGKILL)
        return f"SIGKILL of a worker ({there} there)" if there else ""

    def _hit_worker(self, run: Run, number: signal.Signals) -> int:
        """Send a worker a signal, where there is one and the run can bear it; returns how many were there."""
        newest = max(run.checkpoints(), default=0)
        if newest != self._failed_at:
            self._failures, self._failed_at = 0, newest
        workers = self._machines.cluster.workers(_WORKER)
        if not workers or self._failures >= _MOST_FAILURES:
            return 0
        try:
            os.kill(self._rng.choice(workers), number)
        except ProcessLookupError:
            return 0
        self._failures += 1
        return len(workers)

    def _cut_driver(self, run: Run) -> str:
        run.kill()
        self._restart(run)
        return "SIGKILL of the driver, run again"

    def _cut_sigterm(self, run: Run) -> str:
        if self._rng.random() < 0.3 and self._hit_worker(run, signal.SIGTERM):
            return "SIGTERM of a worker"
        run.send(signal.SIGTERM)
        code = run.wait()
        # The last one is that of a process that is still importing: Python has no handler then.
        assert code in (75, 0, -signal.SIGTERM), f"it ended with {code}:\n{run.log}"
        if code == 0:
            return ""
        self._restart(run)
        return f"SIGTERM of the driver, which ended with {code}, run again"

    def _cut_drain(self, run: Run) -> str:
        if self._coming is not None and self._coming.is_alive():
            return ""
        alive = self._machines.alive()
        self._nodes = [node for node in self._nodes if node in alive]
        if len(self._nodes) < 2:
            return ""
        busy = [node for node in self._machines.nodes_with(_WORKER) if node in self._nodes]
        node = self._rng.choice(busy or self._nodes)
        self._machines.drain(node, _DRAIN_S)
        self._nodes.remove(node)
        self._coming = threading.Thread(target=self._replace, args=(node,))
        self._coming.start()
        return f"a machine {'with' if busy else 'without'} workers is drained, with {_DRAIN_S:.0f} s"

    def _restart(self, run: Run) -> None:
        self._failures, self._failed_at = 0, -1
        run.start()

    def _replace(self, node: str) -> None:
        """Add a machine, and take the drained one away when its time is over."""
        deadline = time.monotonic() + _DRAIN_S
        self._nodes.append(self._machines.add(*_NODE))
        while node in self._machines.alive() and time.monotonic() < deadline + 10:
            time.sleep(0.5)
        self._machines.kill(node)


def _pause(run: Run, seconds: float) -> bool:
    """Wait so long, while the command runs; returns whether it does."""
    deadline = time.monotonic() + seconds
    while run.code() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return run.code() is None
