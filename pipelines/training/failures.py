"""How many failures of workers a run bears."""

from __future__ import annotations

__all__ = ["FAILURES", "FailureBudget"]

FAILURES = 3
"""Failures in a row, without a newer checkpoint between them, that end a run."""


class FailureBudget:
    """Counts failures that follow each other without a newer checkpoint; a machine that is taken away is none.

    Args:
        newest_step: step of the newest checkpoint at the start (0 where there is none).
    """

    def __init__(self, newest_step: int) -> None:
        self._newest, self._failures = newest_step, 0

    def count(self, newest_step: int) -> bool:
        """Count a failure; returns whether another attempt may be made.

        Args:
            newest_step: step of the newest checkpoint now.
        """
        self._failures = 1 if newest_step > self._newest else self._failures + 1
        self._newest = newest_step
        return self._failures < FAILURES
