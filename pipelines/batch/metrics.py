"""What a batch job tells Ray's metrics, for Prometheus: images by status, seconds by stage, bytes, chunks waiting.

Ray's agent on each node exports them with `ray_` before their names, under the node's `MetricsExportAddress`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from pipelines.cluster.gauges import LastingGauges
from pipelines.results.files import Receipt

__all__ = ["JobMetrics", "WorkerMetrics"]

_JOB = ("results",)
_GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "condgen_chunks_pending": ("Chunks that are not committed yet.", ()),
    "condgen_images_pending": ("Images in them.", ()),
}


class WorkerMetrics:
    """Counters of an actor.

    Args:
        results: the place that it works for, as a tag (Prometheus has `job` for its own).
    """

    def __init__(self, results: str) -> None:
        from ray.util import metrics

        self._tags = {"results": results}
        self._images = metrics.Counter("condgen_images_total", "Images done, by status.", (*_JOB, "status"))
        self._draws = metrics.Counter("condgen_draws_total", "Draws committed.", _JOB)
        self._seconds = metrics.Counter("condgen_stage_seconds_total", "Seconds by stage.", (*_JOB, "stage"))
        self._bytes_in = metrics.Counter("condgen_bytes_in_total", "Bytes read from the archive.", _JOB)
        self._bytes_out = metrics.Counter("condgen_bytes_out_total", "Bytes written to the results.", _JOB)

    def count(self, receipt: Receipt) -> None:
        """Count a chunk that was committed."""
        done = receipt.samples - receipt.errors - receipt.filtered
        for status, count in (("done", done), ("error", receipt.errors), ("filtered", receipt.filtered)):
            _add(self._images, count, {**self._tags, "status": status})
        _add(self._draws, receipt.draws, self._tags)
        for stage, seconds in receipt.seconds.items():
            _add(self._seconds, seconds, {**self._tags, "stage": stage})
        _add(self._bytes_in, receipt.bytes_in, self._tags)
        _add(self._bytes_out, receipt.bytes_out, self._tags)


class JobMetrics:
    """Gauges of what is left to do, which the driver sets.

    Args:
        results: place that the job works for, as a label.
    """

    def __init__(self, results: str) -> None:
        self._gauges = LastingGauges(_GAUGES, {"results": results})

    def exported(self) -> AbstractContextManager[None]:
        """Export them for the time of the block."""
        return self._gauges.exported()

    def left(self, *, chunks: int, images: int) -> None:
        """Say what is left."""
        self._gauges.set("condgen_chunks_pending", chunks)
        self._gauges.set("condgen_images_pending", images)


def _add(counter: Any, value: float, tags: dict[str, str]) -> None:
    if value > 0:  # Ray's counters refuse 0
        counter.inc(value, tags)
