"""What is asked of a worker between two steps, by its machine's signals and by the driver. Free of torch.

Each worker brings its request into the sum that all make at each step, so that all save and end at the same step.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from pipelines.training.monitor import Wishes
from pipelines.training.signals import Received

__all__ = ["Request", "Requests"]

_POLL_S = 0.5
_OTHERS_POLL_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a worker brings into the sum of a step.

    Attributes:
        stop: whether all are to save a checkpoint and end.
        save: whether all are to save a checkpoint and go on.
        leaving: ranks on machines that are about to leave, as far as this worker knows.
    """

    stop: bool = False
    save: bool = False
    leaving: frozenset[int] = frozenset()


class Requests:
    """The requests of one worker; a call returns what is asked now.

    Args:
        rank: the worker's rank. All workers hear of a stop, so that one that waits for data ends, too; worker 0 alone
            brings in the driver's other wishes.
        monitor: handle of the driver's ``Monitor``.
        received: signals of this process.
    """

    def __init__(self, rank: int, monitor: Any, received: Received) -> None:
        self._rank, self._monitor, self._received = rank, monitor, received
        self._wishes, self._saves_done = Wishes(), 0
        self._ended = threading.Event()

    def __enter__(self) -> Requests:
        threading.Thread(target=self._listen, name="requests", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def wants_stop(self) -> bool:
        """Return whether all are to save a checkpoint and end, as far as this worker knows."""
        return self._wishes.stop or self._received.stop.is_set()

    def __call__(self) -> Request:
        wishes, is_ending = self._wishes, self._received.stop.is_set()
        save = self._received.take_save() or (self._rank == 0 and wishes.saves > self._saves_done)
        self._saves_done = wishes.saves
        leaving = wishes.leaving | ({self._rank} if is_ending else set())
        return Request(stop=wishes.stop or is_ending, save=save, leaving=leaving)

    def _listen(self) -> None:
        import ray

        while not self._ended.wait(_OTHERS_POLL_S if self._rank else _POLL_S):
            try:
                self._wishes = ray.get(self._monitor.wishes.remote())
            except ray.exceptions.RayError:
                # The driver starts another attempt; where it is gone itself, Ray ends its workers.
                self._wishes = Wishes(stop=True)
                return
