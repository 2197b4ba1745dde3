"""Local folders as the backend of a ``Store``, without detours."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipelines.storage.backend import Entry

__all__ = ["LocalBackend"]

_TEMPORARY = ".condgen-write-"
_PAGE = 10_000
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})

_swept: set[tuple[int, str]] = set()


@dataclass(frozen=True)
class LocalBackend:
    """A folder of this machine, or of a file system that is mounted on it.

    A write goes to a hidden name beside its target, is flushed to the disk and renamed. The writer holds a lock on it
    while it lives, by which the next writer in that folder knows the leftovers of a crash, and removes them.
    """

    root: str

    advice_missing = "no such file or folder: check the path"
    advice_access = "permission denied: check the owner and the mode of the path"

    @property
    def confines_names(self) -> bool:
        """True but for the root of all files."""
        return self.root != "/"

    def child(self, name: str) -> LocalBackend:
        """Return the backend of a folder under this one."""
        return LocalBackend(self._path(name))

    def read(self, name: str) -> bytes:
        """Return all bytes of a file."""
        with Path(self._path(name)).open("rb", buffering=0) as file:
            return file.readall()

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, or fewer where the file ends before."""
        descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            pieces = []
            while start < stop:  # Linux gives at most 2 GiB a call
                piece = os.pread(descriptor, min(stop - start, 1 << 30), start)
                if not piece:
                    break
                pieces.append(piece)
                start += len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            os.close(descriptor)

    def write(self, name: str, data: bytes) -> None:
        """Store a file atomically."""
        self._put(name, data, os.replace)

    def create(self, name: str, data: bytes) -> bool:
        """Store a file atomically unless there is one of that name; return whether it was stored."""
        if self.exists(name):
            return False
        try:
            self._put(name, data, _link)
        except FileExistsError:
            return False
        return True

    def _put(self, name: str, data: bytes, publish: Callable[[str, str], None]) -> None:
        """Write a file under a temporary name, and give it its own by a call of the system that can't be divided."""
        draft = _LocalDraft(self._path(name))
        try:
            draft.fill(data)
            draft.store(publish)
        finally:
            draft.discard()

    def draft(self, name: str) -> _LocalDraft:
        """Return a file with a temporary name, which is to become one with its own."""
        return _LocalDraft(self._path(name))

    def exists(self, name: str) -> bool:
        """Return whether there is a file or folder."""
        try:
            Path(self._path(name)).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        path = Path(self._path(name))
        if path.is_dir():
            raise FileNotFoundError(errno.ENOENT, "it is a folder", name)
        return path.stat().st_size

    def is_file(self, name: str) -> bool:
        """Return whether there is a file of that name, and no folder."""
        return Path(self._path(name)).is_file()

    def list(self, prefix: str, recursive: bool, hidden: bool = False) -> list[Entry]:
        """Return the files under a folder; a link to nothing is listed, for its reader to complain of."""
        top = self._path(prefix)
        if not Path(top).is_dir():
            return []
        start = f"{prefix}/" if prefix else ""
        found = _walk(top, start, recursive, hidden, frozenset())
        return [entry for name, path in found if (entry := _entry(name, path)) is not None]

    def pages(self, prefix: str) -> Callable[[], Sequence[Entry] | None]:
        """Return a function that lists files page by page; their names alone are held."""
        names: Iterator[str] | None = None

        def read() -> Sequence[Entry] | None:
            nonlocal names
            if names is None:
                top, start = self._path(prefix), f"{prefix}/" if prefix else ""
                found = _walk(top, start, True, False, frozenset()) if Path(top).is_dir() else ()
                names = iter(sorted(name for name, _ in found))
            page = list(islice(names, _PAGE))
            entries = (_entry(name, self._path(name)) for name in page)
            return [entry for entry in entries if entry is not None] if page else None

        return read

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        Path(self._path(name)).unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if name else self.root


class _LocalDraft:
    """A file under a temporary name, locked while its writer lives.

    Args:
        target: path that it is to have.
    """

    def __init__(self, target: str) -> None:
        self._target, self._folder = target, str(Path(target).parent)
        Path(self._folder).mkdir(parents=True, exist_ok=True)
        if (os.getpid(), self._folder) not in _swept:
            _swept.add((os.getpid(), self._folder))
            _sweep(self._folder)
        self.path = f"{self._folder}/{_TEMPORARY}{secrets.token_hex(8)}"
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _lock(self._descriptor)
        except BaseException:
            self.discard()
            raise

    def fill(self, data: bytes) -> None:
        """Write bytes behind those that are there."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view[: 1 << 30]) :]

    def store(self, publish: Callable[[str, str], None] = os.replace) -> None:
        """Flush the file to the disk, and give it its name by a call of the system that can't be divided."""
        os.fsync(self._descriptor)
        try:
            publish(self.path, self._target)
        except FileNotFoundError as error:  # swept between its creation and its lock: to be tried again
            raise InterruptedError(errno.EINTR, "the temporary file was removed by another writer") from error
        _sync_folder(self._folder)

    def discard(self) -> None:
        """Remove the temporary file, if it still has that name."""
        os.close(self._descriptor)
        Path(self.path).unlink(missing_ok=True)


def _walk(
    folder: str, start: str, recursive: bool, hidden: bool, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, str]]:
    """Yield the names of files, or of links to nothing, and their paths."""
    status = Path(folder).stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that it is in
        return
    with os.scandir(folder) as found:
        for item in found:
            if item.name.startswith(".") and not hidden:
                continue
            if item.is_dir():
                if recursive and not (item.name.startswith(".") and not os.access(item.path, os.R_OK | os.X_OK)):
                    yield from _walk(item.path, f"{start}{item.name}/", recursive, hidden, above | {here})
            elif item.is_file() or (item.is_symlink() and not Path(item.path).exists()):
                yield start + item.name, item.path


def _entry(name: str, path: str) -> Entry | None:
    """Return what is listed of a file, or of a link to nothing; None where neither is there any more."""
    try:
        status = os.stat(path)  # noqa: PTH116  # for each of millions of files
    except FileNotFoundError:
        return Entry(name, 0) if Path(path).is_symlink() else None
    # A copy that keeps its time stamp is new to the file system all the same.
    return Entry(name, status.st_size, max(status.st_mtime, status.st_ctime))


def _link(temporary: str, target: str) -> None:
    """Give a file a name that no file has yet, and take its temporary one away.

    Raises:
        FileExistsError: there is a file of that name.
    """
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Such a mount can still refuse a second file of one name; a reader may find it empty for a moment.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        os.replace(temporary, target)  # noqa: PTH105  # as `write` does
    else:
        Path(temporary).unlink(missing_ok=True)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:  # a sweeper has it, and removes it
            raise InterruptedError(errno.EINTR, "the temporary file was removed by another writer") from error
        # A file system without locks: nothing is swept there either.


def _sweep(folder: str) -> None:
    """Remove the temporary files of writers that are gone."""
    for path in Path(folder).glob(f"{_TEMPORARY}*"):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:  # its writer is alive, or there are no locks
            continue
        finally:
            os.close(descriptor)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF):  # not every mount can
            raise
    finally:
        os.close(descriptor)
