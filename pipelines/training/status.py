"""How a run stands, for those who look at it from outside: the driver keeps status.json in the run's folder.

    {"state": "running", "reason": "", "step": 4200, "steps": 100000, "epoch": 3, "images_per_s": 812.4, "workers": 8,
     "workers_wanted": 8, "lease": {"epoch": 2, "host": "head-0", "pid": 71, "since": "2026-11-29T16:00:00+00:00"},
     "updated": "2026-11-29T17:12:31+00:00", "checkpoint": "step-00004000-e0002"}

The file is for people, dashboards and schedulers. Training does not depend on it, and never fails because of it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from condgen.errors import CondgenError
from pipelines.storage.store import RetryPolicy, Store, json_bytes
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.lease import Fence, FencedError, Lease
from pipelines.training.run_folder import RunFolder

__all__ = ["State", "StatusFile", "read_state"]

logger = logging.getLogger(__name__)

State: TypeAlias = Literal["waiting", "running", "validating", "interrupted", "done", "failed"]

_STATUS = "status.json"
_INTERVAL_S = 2.0
_LOOK_S = 10.0
"""Shortest time between two looks for the newest checkpoint (seconds)."""
# Training does not wait for its status: a storage that is out for a moment costs one update.
_RETRY = RetryPolicy(attempts=2)


class StatusFile:
    """The status.json of a run, which its driver writes; safe in threads.

    Args:
        folder: folder of the run.
        lease: this process's lease of it; nothing is written once another process has taken it over (default: none).
        interval_s: shortest time between two writes of one state (seconds; default 2).
        on_write: function that is called with the state after each write (default: none).
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        lease: Lease | None = None,
        interval_s: float = _INTERVAL_S,
        on_write: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = replace(folder.store, retry=_RETRY)
        self._lease = lease
        self._interval_s, self._on_write = interval_s, on_write
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
        }
        self._written_state: str | None = None
        self._written_at = -float("inf")
        self._timer: threading.Timer | None = None
        self._checkpoint: CheckpointName | None = None
        self._looked_at = -float("inf")

    def update(self, *, state: State | None = None, **fields: Any) -> None:
        """Change some fields; what is not given stays as it was.

        Another state is written at once, and everything else at most once an interval: the last change of an interval
        is written at its end. No trouble is raised: it is logged.

        Args:
            state: state of the run (default: as before). Its reason is empty unless one is given with it.
            fields: the other fields, by name: ``reason``, ``step``, ``steps``, ``epoch`` (of the data),
                ``images_per_s``, ``workers`` and ``workers_wanted``. ``lease``, ``checkpoint`` (the name of the newest
                whole one) and ``updated`` come by themselves.

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
        try:
            fence = replace(self._lease.fence if self._lease else Fence.newest(self._store), store=self._store)
            now: dict[str, Any] = {
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
                "checkpoint": self._newest(fence),
            }
            if self._lease is not None:
                now["lease"] = self._lease.holder.to_status()
                fence.check()
            self._store.write(_STATUS, json_bytes(self._values | now))
            self._on_write(self._values["state"])
        except FencedError:
            pass  # the status is another driver's now, and this one ends with that error
        except CondgenError as error:
            logger.warning("status.json is not up to date: %s", error)
        # After a failed write too, so that a storage that is out is not asked at each step.
        self._written_state, self._written_at = self._values["state"], time.monotonic()

    def _newest(self, fence: Fence) -> str | None:
        now_s = time.monotonic()
        if now_s >= self._looked_at + _LOOK_S or self._values["state"] != self._written_state:
            self._checkpoint, self._looked_at = next(iter(fence.complete()[-1:]), None), now_s
        return str(self._checkpoint) if self._checkpoint else None


def read_state(store: Store) -> str | None:
    """Return the state that a run's status.json tells; None where there is none that can be read."""
    try:
        return str(json.loads(store.read(_STATUS))["state"])
    except (CondgenError, ValueError, KeyError, TypeError):
        return None
