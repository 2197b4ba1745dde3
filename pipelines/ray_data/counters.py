"""Counts of what was kept, skipped and dropped, right whatever Ray does again.

    tally = Tally()
    photos = keep(read_single(uri, tally=tally), large_enough, tally=tally)
    photos.materialize()
    tally.counts()  # {"read": 90, "decode: CutImage": 2, "kept": 70, "too small": 18}

A task reports its counts under the name of its work: the chunk that it read, or the identities of the samples that it
looked at. A report under a name that is known takes the old one's place, so that a task which Ray runs again, after a
lost worker or for a lost block, changes nothing; nor does running the whole dataset again. Reports are held by an actor
of Ray's, a few dozen bytes a block, and are complete for what has been consumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from condgen.errors import JobError

__all__ = ["Tally", "work_name"]


class Tally:
    """Named counts that tasks add to. Travels to them by pickle; its counts live as long as it does in the driver."""

    def __init__(self) -> None:
        import ray

        self._board: Any = ray.remote(num_cpus=0)(_Board).remote()

    def report(self, work: str, counts: Mapping[str, int]) -> None:
        """Put down the counts of a piece of work, in the place of those that were reported for it before.

        Raises:
            JobError: the actor that counts is gone.
        """
        self._ask(self._board.report.remote(work, dict(counts)))

    def counts(self) -> dict[str, int]:
        """Return the sums of all reports, by name in alphabetical order.

        Raises:
            JobError: the actor that counts is gone.
        """
        found: dict[str, int] = self._ask(self._board.counts.remote())
        return found

    def _ask(self, answer: Any) -> Any:
        import ray

        try:
            return ray.get(answer)
        except ray.exceptions.RayActorError as error:
            raise JobError("the counts of what was dropped were lost with their node: run it again") from error


class _Board:
    """The actor: the newest report of each piece of work."""

    def __init__(self) -> None:
        self._reports: dict[bytes, dict[str, int]] = {}

    def report(self, work: str, counts: dict[str, int]) -> None:
        self._reports[hashlib.sha256(work.encode()).digest()[:16]] = counts

    def counts(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for counts in self._reports.values():
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        return dict(sorted(total.items()))


def work_name(step: str, identities: Iterable[object]) -> str:
    """Return the name of a step's work on these samples."""
    digest = hashlib.sha256(step.encode())
    for identity in identities:
        digest.update(b"\0" + repr(identity).encode())
    return digest.hexdigest()
