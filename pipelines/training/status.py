"""How a run stands, for those who look at it from outside: the driver keeps status.json in the run's folder.

    {"state": "running", "reason": "", "step": 4200, "steps": 100000, "epoch": 3, "images_per_s": 812.4, "workers": 8,
     "workers_wanted": 8, "lease": {"epoch": 2, "host": "head-0", "pid": 71, "since": "2026-11-29T16:00:00+00:00"},
     "updated": "2026-11-29T17:12:31+00:00", "checkpoint": "step-00004000-e0002"}

The file is for people, dashboards and schedulers. Nothing in training reads it, and training never fails because of it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from condgen.errors import CondgenError
from pipelines.storage.store import RetryPolicy, json_bytes
from pipelines.training.run_folder import RunFolder

__all__ = ["State", "StatusFile"]

logger = logging.getLogger(__name__)

State: TypeAlias = Literal["waiting", "running", "validating", "interrupted", "done", "failed"]

_STATUS = "status.json"
_INTERVAL_S = 2.0
# Training does not wait for its status: a storage that is out for a moment costs one update.
_RETRY = RetryPolicy(attempts=2)


class StatusFile:
    """The status.json of a run, which its driver writes; safe in threads.

    Args:
        folder: folder of the run; with a fence, nothing is written once another writer has taken the run over.
        interval_s: shortest time between two writes of one state (seconds; default 2).
    """

    def __init__(self, folder: RunFolder, *, interval_s: float = _INTERVAL_S) -> None:
        store = replace(folder.store, retry=_RETRY)
        self._folder = RunFolder(store, replace(folder.fence, store=store) if folder.fence else None)
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {
            "state": "waiting",
            "reason": "",
            "step": 0,
            "steps": 0,
            "epoch": 0,
            "images_per_s": 0.0,
            "workers": 0,
            "workers_wanted": 0,
            "lease": None,
            "checkpoint": None,
        }
        self._written_state: str | None = None
        self._written_at = -float("inf")
        self._timer: threading.Timer | None = None

    def update(self, *, state: State | None = None, **fields: Any) -> None:
        """Change some fields; what is not given stays as it was.

        Another state is written at once, and everything else at most once an interval: the last change of an interval
        is written at its end. No trouble is raised: it is logged.

        Args:
            state: state of the run (default: as before). Its reason is empty unless one is given with it.
            fields: the other fields, by name: ``reason``, ``step``, ``steps``, ``epoch`` (of the data),
                ``images_per_s``, ``workers``, ``workers_wanted``, ``lease`` (``epoch``, ``host``, ``pid``, ``since``)
                and ``checkpoint`` (the name of its folder).

        Raises:
            TypeError: there is no such field.
        """
        with self._lock:
            unknown = fields.keys() - self._values.keys()
            if unknown:
                raise TypeError(f"status.json has no field {sorted(unknown)[0]!r}")
            if state is not None and state != self._values["state"]:
                self._values["reason"] = ""
            self._values |= fields | ({"state": state} if state is not None else {})
            wait_s = self._written_at + self._interval_s - time.monotonic()
            if wait_s <= 0 or self._values["state"] != self._written_state:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(wait_s, self._write_later)
                self._timer.daemon = True
                self._timer.start()

    def _write_later(self) -> None:
        with self._lock:
            if self._timer is not None:  # else a change of state was quicker
                self._write()

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        values = self._values | {"updated": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            self._folder.write(_STATUS, json_bytes(values))
        except CondgenError as error:
            logger.warning("status.json is not up to date: %s", error)
        # Of a failed write too, so that a storage that is out is not asked at each step.
        self._written_state, self._written_at = self._values["state"], time.monotonic()
