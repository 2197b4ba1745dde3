"""Gauges of Ray's metrics that last as long as their process wants them to.

A process of Ray reports a gauge once, after it was set, and its node's agent forgets it 20 seconds later (twice
`metrics_report_interval_ms`). What changes seldom would be gone most of the time, so these are set again every few
seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, cast

__all__ = ["Gauge", "LastingGauges", "MakeGauge", "ray_gauge"]

logger = logging.getLogger(__name__)

_AGAIN_S = 5.0
"""Half of Ray's interval of reports (seconds): each report has every gauge."""


class Gauge(Protocol):
    """A gauge of Ray's metrics."""

    def set(self, value: float, tags: dict[str, str]) -> None: ...


MakeGauge = Callable[[str, str, tuple[str, ...]], Gauge]


def ray_gauge(name: str, description: str, tag_keys: tuple[str, ...]) -> Gauge:
    """Return a gauge of Ray's own, of this name, help text and labels."""
    from ray.util import metrics

    return cast("Gauge", metrics.Gauge(name, description, tag_keys))


class LastingGauges:
    """Some gauges with common labels; safe in threads.

    Their values are kept from the beginning, and exported while ``exported`` is entered.

    Args:
        gauges: help text and own labels of each gauge, by its name.
        labels: labels that all of them have.
        make: function that makes a gauge of its name, help text and labels (default: Ray's).
        again_s: time after which all are set again (seconds; default 5).
    """

    def __init__(
        self,
        gauges: Mapping[str, tuple[str, tuple[str, ...]]],
        labels: Mapping[str, str],
        *,
        make: MakeGauge = ray_gauge,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._texts, self._labels, self._make, self._again_s = gauges, dict(labels), make, again_s
        self._lock = threading.Lock()
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._gauges: dict[str, Gauge] = {}

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge, with its own labels."""
        all_labels = {**self._labels, **labels}
        with self._lock:
            self._values[name, tuple(all_labels.items())] = value
            if name in self._gauges:
                self._set_one(name, value, all_labels)

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Export the gauges for the time of the block, in which this process is connected to Ray."""
        with self._lock:
            self._gauges = {
                name: self._make(name, text, (*self._labels, *own)) for name, (text, own) in self._texts.items()
            }
        self._set_all()
        ended = threading.Event()
        thread = threading.Thread(target=self._set_again, args=(ended,), name="gauges", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            try:
                thread.join()
            finally:
                with self._lock:
                    self._gauges = {}

    def _set_again(self, ended: threading.Event) -> None:
        while not ended.wait(self._again_s):
            self._set_all()

    def _set_all(self) -> None:
        with self._lock:
            for (name, labels), value in self._values.items():
                self._set_one(name, value, dict(labels))

    def _set_one(self, name: str, value: float, labels: dict[str, str]) -> None:
        try:
            self._gauges[name].set(value, labels)
        except (TypeError, ValueError) as error:  # what Ray does not take ends no job
            logger.debug("%s=%r %r is not exported: %s", name, value, labels, error)
