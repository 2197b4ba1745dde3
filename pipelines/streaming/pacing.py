"""Pauses that keep Ray Data's scheduling loop from taking the process of its consumer."""

from __future__ import annotations

import time

__all__ = ["PacedLoop"]

_PAUSE_S = 0.02


class PacedLoop:
    """An execution callback that pauses the loop at each step, for a dataset whose consumer is slow (training).

    The loop waits for tasks that are done. One whose output there is no room for yet is done all the time, and Ray 2.60
    then turns without a pause: two streams took 96 % of the Python of a process that trained, whose steps took seven
    times as long.
    """

    def before_execution_starts(self, executor: object) -> None:
        """Do nothing."""

    def on_execution_step(self, executor: object) -> None:  # noqa: ARG002 - Ray's interface
        """Pause."""
        time.sleep(_PAUSE_S)

    def after_execution_succeeds(self, executor: object) -> None:
        """Do nothing."""

    def after_execution_fails(self, executor: object, error: Exception) -> None:
        """Do nothing."""
