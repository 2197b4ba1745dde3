"""Who may write into a run's folder: one driver at a time, by a lease with an epoch.

    lease/00000003.json   {"epoch": 3, "host": "head-0", "pid": 71, "beat": 41, "kept": ["step-00000100-e0002"], ...}

- Whoever creates the object of the next epoch, which only one can, is the run's one writer from then on.
- The holder rewrites its own epoch's object three times in the time that the lease is good for (``ttl_s``), each time
  with another ``beat``. Nobody else ever writes that object.
- A starter takes the next epoch at once if the holder has released its lease, or was a process of this machine that is
  gone. Otherwise it watches the beat on a clock of its own, so that no two clocks are compared: a beat that changes is
  a live run, and one that stays for the whole time is a dead one.
- A new holder notes once which checkpoints were whole when it began (``kept``). These and those of its own epoch count
  from then on, so that what a fenced writer still writes is not read: its epoch is in the names of its folders.
- Before each commit a writer checks that there is no newer epoch (``Fence.check``).

The objects of older epochs stay: epochs have no gaps, and a check is one request.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from condgen.errors import CondgenError, ConfigError, JobError, MissingError
from pipelines.storage.store import Store, json_bytes
from pipelines.training.checkpoint_names import CheckpointName, checkpoint_files, complete_checkpoints
from pipelines.training.process_identity import ProcessIdentity

__all__ = ["DEFAULT_TTL_S", "Fence", "FencedError", "Holder", "Lease", "take_lease"]

logger = logging.getLogger(__name__)

DEFAULT_TTL_S = 30.0
"""Time after which a holder that gives no sign of life is taken for dead (seconds)."""
_FOLDER = "lease"
_BEATS = 3
_LOOKS = 30


class FencedError(JobError):
    """Another writer has taken the run over; nothing more is written."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The content of one epoch's object: who holds the lease, and how it stands.

    Attributes:
        epoch: number of the epoch, from 1.
        process: process of the driver.
        since: time at which that driver took the lease (UTC, ISO 8601, by its own clock).
        ttl_s: time without a new beat after which the holder is taken for dead (seconds).
        beat: number that each renewal changes.
        step: step that training had reached at the last renewal.
        released: whether the holder has ended and gives the lease back.
        kept: names of the checkpoints that were whole when the epoch began; None until the holder has looked.
        token: random text by which a holder knows its own object.
    """

    epoch: int
    process: ProcessIdentity
    since: str = ""
    ttl_s: float = DEFAULT_TTL_S
    beat: int = 0
    step: int = 0
    released: bool = False
    kept: tuple[str, ...] | None = None
    token: str = ""

    def __str__(self) -> str:
        since = f" since {self.since.replace('T', ' ').replace('+00:00', ' UTC')}" if self.since else ""
        return f"process {self.process.pid} on {self.process.host}{since}, at step {self.step}"

    def to_status(self) -> dict[str, Any]:
        """Return what status.json tells of it."""
        return {"epoch": self.epoch, "host": self.process.host, "pid": self.process.pid, "since": self.since}

    def to_bytes(self) -> bytes:
        """Return the object's content."""
        return json_bytes(asdict(self))

    @classmethod
    def parse(cls, epoch: int, data: bytes) -> Holder:
        """Return the holder of an epoch; of content that can't be read, one of whom nothing else is known."""
        try:
            values = json.loads(data)
            kept = values["kept"]
            process = ProcessIdentity(**values["process"])
            return cls(**values | {"process": process, "kept": None if kept is None else tuple(kept), "epoch": epoch})
        except (ValueError, KeyError, TypeError):
            return cls(epoch=epoch, process=ProcessIdentity(host="an unknown host", machine="", pid=0, started=""))


@dataclass(frozen=True)
class Fence:
    """The right of one epoch to write into a run's folder; a driver hands it to its workers.

    Attributes:
        store: folder of the run.
        epoch: the writer's epoch; 0 stands before the first lease and counts what versions 0.1 and 0.2 wrote.
        kept: checkpoints of earlier epochs that count; None stands for all of epoch 0.
    """

    store: Store = field(repr=False)
    epoch: int
    kept: frozenset[CheckpointName] | None

    @classmethod
    def newest(cls, store: Store) -> Fence:
        """Return the fence of the newest epoch, for those who read a run."""
        return _fence_of(store, newest_epoch(store))

    def check(self) -> None:
        """Return where this epoch is still the newest.

        Raises:
            FencedError: there is a newer one; the error names its holder.
            StorageError: the storage gives no answer.
        """
        if self.epoch and self.store.is_file(_name(self.epoch + 1)):
            holder = read_holder(self.store, newest_epoch(self.store))
            raise FencedError(f"{self.store.uri} was taken over by {holder}: nothing more is written here")

    def counts(self, checkpoint: CheckpointName) -> bool:
        """Return whether a checkpoint is one to go on from: of this epoch, or kept from before it."""
        if checkpoint.epoch == self.epoch:
            return True
        return checkpoint in self.kept if self.kept is not None else False

    def complete(self, names: Iterable[str] | None = None) -> list[CheckpointName]:
        """Return the whole checkpoints that count, in order.

        Args:
            names: names of all files below ``checkpoints`` (default: they are listed).
        """
        names = checkpoint_files(self.store) if names is None else names
        return [one for one in complete_checkpoints(names) if self.counts(one)]


class Lease:
    """A lease that this process holds; a thread renews it until it is released. It is a context manager.

    Args:
        store: folder of the run.
        holder: content of the object that this process has just created.
    """

    def __init__(self, store: Store, holder: Holder) -> None:
        self._store = store
        self._step = 0
        self._lock = threading.Lock()
        self._fenced: FencedError | None = None
        self._following: Holder | None = None
        self._ended = threading.Event()
        self._begin(holder)
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def fence(self) -> Fence:
        """The right to write, for this process and its workers."""
        return self._fence

    @property
    def holder(self) -> Holder:
        """What others read of this lease."""
        return self._holder

    @property
    def fenced(self) -> FencedError | None:
        """The error that tells who has taken the run over, or None; known within a third of ``ttl_s``."""
        return self._fenced

    def note_step(self, step: int) -> None:
        """Tell others, from the next renewal on, which step training has reached."""
        self._step = step

    def advance(self) -> Fence:
        """Take the next epoch for another attempt, and return its fence.

        Workers of the attempt before, which may live on behind a network that was cut, are fenced by it.

        Raises:
            FencedError: another process was quicker.
            StorageError: the storage gives no answer; another call goes on where this one has stopped.
        """
        with self._lock:
            if self._following is None:
                epoch = self._holder.epoch + 1
                self._following = replace(self._holder, epoch=epoch, beat=0, kept=None, token=secrets.token_hex(16))
            name, following = _name(self._following.epoch), self._following
            is_ours = self._store.create(name, following.to_bytes())
            if not is_ours and read_holder(self._store, following.epoch).token != following.token:
                self._fence.check()
                raise FencedError(f"{self._store.uri} was taken over: nothing more is written here")
            self._begin(following)
            self._following = None
            return self._fence

    def release(self) -> None:
        """Give the lease back, so that the next driver need not wait; storage trouble is logged."""
        self._ended.set()
        self._thread.join(self._holder.ttl_s)
        with self._lock, contextlib.suppress(FencedError):
            try:
                self._fence.check()
                self._write(replace(self._holder, beat=self._holder.beat + 1, released=True))
            except FencedError:
                raise
            except CondgenError as error:
                logger.warning("the run's lease was not released, and the next start waits for it: %s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _begin(self, holder: Holder) -> None:
        """Note which checkpoints are whole, now that no earlier writer can make another one count."""
        before = _fence_of(self._store, holder.epoch - 1).complete()
        self._fence = Fence(self._store, holder.epoch, frozenset(before))
        self._write(replace(holder, kept=tuple(map(str, before))))

    def _write(self, holder: Holder) -> None:
        holder = replace(holder, step=self._step)
        self._store.write(_name(holder.epoch), holder.to_bytes())
        self._holder = holder

    def _renew(self) -> None:
        while not self._ended.wait(self._holder.ttl_s / _BEATS):
            with self._lock:
                if self._following is not None:  # the next epoch may be there already, and is ours
                    continue
                try:
                    self._fence.check()
                    self._write(replace(self._holder, beat=self._holder.beat + 1))
                except FencedError as error:
                    self._fenced = error
                    return
                except CondgenError as error:
                    logger.warning("the run's lease could not be renewed: %s", error)


def take_lease(
    store: Store, *, ttl_s: float = DEFAULT_TTL_S, on_wait: Callable[[Holder], None] | None = None
) -> Lease | Holder:
    """Take the lease of a run, or return its holder where the run is live.

    Args:
        store: folder of the run.
        ttl_s: time without a sign of life after which others may take this lease (seconds; default 30). The holder's
            own decides how long this call watches.
        on_wait: function that is called once with a holder that has to be watched.

    Raises:
        AccessError, StorageError: the storage gives no answer.
        ConfigError: the storage can't tell who of two was first.
    """
    watched: Holder | None = None
    since_s = 0.0
    while True:
        epoch = newest_epoch(store)
        holder = read_holder(store, epoch) if epoch else None
        now_s = time.monotonic()
        if holder is None or holder.released or holder.process.is_gone():
            can_take = True
        elif watched is None or watched.epoch != holder.epoch:
            if watched is None and on_wait:
                on_wait(holder)
            watched, since_s, can_take = holder, now_s, False
        elif watched.beat != holder.beat:
            return holder
        else:
            can_take = now_s - since_s >= holder.ttl_s
        if can_take:
            lease = _create(store, epoch + 1, ttl_s)
            if lease is not None:
                return lease
        else:
            time.sleep(min(1.0, (holder.ttl_s if holder else ttl_s) / _LOOKS))


def newest_epoch(store: Store) -> int:
    """Return the number of the newest epoch, 0 where there is none."""
    names = (entry.name.rpartition("/")[2].partition(".") for entry in store.list(_FOLDER))
    return max((int(stem) for stem, _, extension in names if extension == "json" and stem.isdecimal()), default=0)


def read_holder(store: Store, epoch: int) -> Holder:
    """Return the holder of an epoch."""
    return Holder.parse(epoch, store.read(_name(epoch)))


def _create(store: Store, epoch: int, ttl_s: float) -> Lease | None:
    """Return the lease of a new epoch, or None where another process was quicker.

    Raises:
        ConfigError: the storage took a second object of the same name, so that it can't tell who was first.
    """
    since = datetime.now(UTC).isoformat(timespec="seconds")
    process = ProcessIdentity.own()
    holder = Holder(epoch=epoch, process=process, since=since, ttl_s=ttl_s, token=secrets.token_hex(16))
    if not store.create(_name(epoch), holder.to_bytes()):
        return None
    if store.create(_name(epoch), replace(holder, token=secrets.token_hex(16)).to_bytes()):
        wanted = "storage that refuses a second object of one name, or two drivers could write one run (this server "
        raise ConfigError("out", store.uri, wanted + "ignores If-None-Match)")
    return Lease(store, holder)


def _fence_of(store: Store, epoch: int) -> Fence:
    """Return the fence of an epoch; a holder that died before it looked leaves what counted before it."""
    while epoch:
        try:
            kept = read_holder(store, epoch).kept
        except MissingError:
            kept = None
        if kept is not None:
            names = (CheckpointName.parse(name) for name in kept)
            return Fence(store, epoch, frozenset(name for name in names if name is not None))
        epoch -= 1
    return Fence(store, 0, None)


def _name(epoch: int) -> str:
    return f"{_FOLDER}/{epoch:08d}.json"
