"""One download a machine: of the workers of a node that go on from a checkpoint, the first fetches its files.

The others find them in a folder of the machine's temporary directory, and the last one removes it. A lock lets one
worker read at a time: what they read is in memory by then, and the storage gives each file once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condgen.errors import CheckpointError
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.run_folder import RunFolder

__all__ = ["fetch_checkpoint"]

_FETCHED, _READERS, _LOCK = "fetched", "readers", "lock"


def fetch_checkpoint(folder: RunFolder, checkpoint: CheckpointName, *, readers: int) -> dict[str, bytes]:
    """Return the files of a checkpoint, whose digests are checked in every worker.

    Args:
        folder: folder of the run.
        checkpoint: name of a whole checkpoint.
        readers: number of workers on this machine that call this; one alone reads from the run's folder.

    Raises:
        CheckpointError: a file has changed since it was written.
        StorageError: a file can't be read.
    """
    if readers > 1:
        try:
            with _own_place(folder.store.uri) as place:
                return _fetch(folder, checkpoint, place, readers)
        except (OSError, CheckpointError):
            pass  # the disk is full, or someone else's file is in the way: the storage has them all
    return folder.read_checkpoint(checkpoint)


def _fetch(folder: RunFolder, checkpoint: CheckpointName, place: Path, readers: int) -> dict[str, bytes]:
    here = place / f"{checkpoint}-for-{folder.fence.epoch if folder.fence else 0}"
    for other in place.iterdir():
        if other.is_dir() and other != here:
            shutil.rmtree(other)
    if not (here / _FETCHED).exists():
        here.mkdir(exist_ok=True)
        for name in folder.digests(checkpoint):
            (here / name).write_bytes(folder.store.read(checkpoint.file(name)))
        (here / _FETCHED).touch()
    files = folder.read_checkpoint(checkpoint, read=lambda name: (here / name).read_bytes())
    with (here / _READERS).open("a+b") as done:
        done.write(b".")
        done.flush()
        is_last = done.tell() >= readers
    if is_last:
        shutil.rmtree(here)
    return files


@contextmanager
def _own_place(uri: str) -> Iterator[Path]:
    """Make the folder of a run in the temporary directory, and hold its lock.

    Raises:
        OSError: it can't be made, or is another user's.
    """
    top = Path(tempfile.gettempdir()) / f"condgen-checkpoints-{os.getuid()}"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.is_symlink() or top.stat().st_uid != os.getuid():
        raise PermissionError(f"{top} is another user's")
    place = top / hashlib.sha256(uri.encode()).hexdigest()[:16]
    place.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(descriptor)
