"""A batch job's rounds: pending chunks are handed to workers until none is left; failures are borne with patience."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from condgen.errors import JobError, StorageError
from pipelines.batch.worker import LostWorkerError, Workers, WorkerSpec
from pipelines.results.commits import PendingChunks
from pipelines.results.files import Receipt

__all__ = ["run_chunks"]

logger = logging.getLogger(__name__)

# Rounds that fail and commit nothing are begun again for so long: a node's place is filled, a full disk emptied.
_ROUNDS = 4
_PATIENCE_S = 300.0
_LONGEST_WAIT_S = 30.0


def run_chunks(pending: Callable[[], PendingChunks], spec: WorkerSpec, workers: Workers) -> Iterator[Receipt]:
    """Do all chunks that are pending, and yield a receipt for each as it is committed.

    A failure that the workers can't recover from by themselves (a node lost with its blocks) ends a round, and so does
    storage that gives no answer, perhaps to one machine alone. The chunks that are pending then are the next round.
    Rounds that commit nothing are begun again for some minutes.

    Args:
        pending: function that lists the chunks not committed; it is called before each round.
        spec: everything that the workers need.
        workers: the workers.

    Raises:
        StorageError: the archive or the results can't be read or written, or give no answer for minutes.
        JobError: rounds fail and commit nothing.
    """
    patience = _Patience()
    while True:
        committed = 0
        try:
            chunks = pending()
            if not chunks.num_rows:
                return
            for receipt in workers.round(chunks, spec):
                committed += 1
                yield receipt
        except (LostWorkerError, StorageError) as error:
            if isinstance(error, StorageError) and not error.passes:
                raise
            patience.wait(error, committed)
            continue
        if not committed:
            return


class _Patience:
    """Waits between rounds that fail, and ends the job where they fail for too long without committing a chunk."""

    def __init__(self) -> None:
        self._failed = 0
        self._since = time.monotonic()

    def wait(self, error: LostWorkerError | StorageError, committed: int) -> None:
        """Wait after a round that failed, longer each time.

        Raises:
            JobError, StorageError: rounds have failed for too long.
        """
        if committed:
            self._failed, self._since = 0, time.monotonic()
        self._failed += 1
        if self._failed > _ROUNDS and time.monotonic() - self._since > _PATIENCE_S:
            if isinstance(error, StorageError):
                raise error
            raise JobError(f"the workers fail again and again: {error}") from error
        seconds = min(_LONGEST_WAIT_S, 2.0 ** (self._failed - 1)) if not committed else 0.0
        logger.warning("a round of chunks ended early, the next begins in %.0f s: %s", seconds, error)
        time.sleep(seconds)
