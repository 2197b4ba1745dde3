"""Faults of storage: those that pass are tried again, and what lasts is told at once."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from condgen.errors import AccessError, MissingError, StorageError
from pipelines.storage.backend import Entry
from pipelines.storage.store import RetryPolicy, Store, open_store

QUICK = RetryPolicy(attempts=3, base_s=0.001)


@dataclass(frozen=True)
class FaultyBackend:
    """A storage of one object ``x`` whose reads fail as told before they work."""

    faults: list[Any] = field(default_factory=list)
    data: bytes = b"0123456789"

    advice_missing = "check the path"
    advice_access = "check the credentials"

    def child(self, name: str) -> Self:
        return self

    def read(self, name: str) -> bytes:
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BaseException):
            raise fault
        return self.data if fault is None else fault

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        return self.read(name)[start:stop]

    def write(self, name: str, data: bytes) -> None:
        self.read(name)

    def create(self, name: str, data: bytes) -> bool:
        self.read(name)
        return False

    def exists(self, name: str) -> bool:
        return bool(self.read(name))

    def size(self, name: str) -> int:
        return len(self.data)

    def is_file(self, name: str) -> bool:
        return bool(self.read(name))

    def list(self, prefix: str, recursive: bool, hidden: bool = False) -> list[Entry]:
        self.read(prefix)
        return [Entry("b", 1), Entry("a", 2), Entry(".hidden", 3), Entry("d/.tmp/x", 4)]

    def delete(self, name: str) -> None:
        self.read(name)


class ClientPayloadError(Exception):
    """Named as aiohttp's, by which it is known."""


class NoCredentialsError(Exception):
    """Named as botocore's."""


def faulty(*faults: Any) -> Store:
    return Store(FaultyBackend(list(faults)), "s3://bucket/p", QUICK)


def test_a_create_whose_answer_was_lost_is_the_writers_own(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Lossy(FaultyBackend):
        """Stores the object, and fails before it says so."""

        def create(self, name: str, data: bytes) -> bool:
            stored = open_store(tmp_path).backend.create(name, data)
            self.read(name)
            return stored

        def read(self, name: str) -> bytes:
            if self.faults:
                raise self.faults.pop()
            return (tmp_path / name).read_bytes()

    assert Store(Lossy([TimeoutError("lost")]), "s3://bucket/p", QUICK).create("x", b"mine")
    assert not Store(Lossy([TimeoutError("lost")]), "s3://bucket/p", QUICK).create("x", b"theirs")


@pytest.mark.parametrize("fault", [
    TimeoutError("read"), ConnectionResetError(), OSError(errno.EBUSY, "SlowDown"), OSError(errno.EREMOTEIO, "500"),
    OSError(errno.EIO, "io"), ClientPayloadError("Response payload is not completed"), b"012", b"",
])  # fmt: skip
def test_passing_faults_are_tried_again(fault: Any) -> None:
    assert faulty(fault, fault).read("x", size_bytes=10) == b"0123456789"
    assert faulty(fault, fault).read_range("x", 2, 9) == b"2345678"
    store = faulty(fault, fault, fault)
    with pytest.raises(StorageError, match=r"could not read s3://bucket/p/x: .*\(after 3 tries\)") as caught:
        store.read("x", size_bytes=10)
    assert (caught.value.operation, caught.value.uri) == ("read", "s3://bucket/p/x")
    assert type(caught.value) is StorageError


@pytest.mark.parametrize(("fault", "error"), [
    (FileNotFoundError(), MissingError),
    (PermissionError("Forbidden"), AccessError),
    (NoCredentialsError("Unable to locate credentials"), AccessError),
    (OSError(errno.ENOSPC, "No space left on device"), StorageError),
    (ValueError("odd"), StorageError),
])  # fmt: skip
def test_lasting_faults_are_not_tried_again(fault: Exception, error: type[StorageError]) -> None:
    store = faulty(fault)
    with pytest.raises(error) as caught:
        store.write("x", b"")
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert store.read("x") == b"0123456789"


def test_hidden_names_are_not_listed_and_lists_are_sorted() -> None:
    assert faulty().list() == [Entry("a", 2), Entry("b", 1)]
    assert [entry.name for entry in faulty().list(hidden=True)] == [".hidden", "a", "b", "d/.tmp/x"]


def test_a_long_listing_goes_on_where_a_page_failed_and_refuses_one_without_order() -> None:
    class Pages(FaultyBackend):
        listed = (["a", "b"], OSError(errno.ECONNRESET, "reset"), [".hidden"], ["c", "d"])

        def pages(self, prefix: str) -> Callable[[], list[Entry] | None]:
            listed = list(self.listed)

            def read() -> list[Entry] | None:
                page = listed.pop(0) if listed else None
                if isinstance(page, OSError):
                    raise page
                return None if page is None else [Entry(name, 1) for name in page]

            return read

    store = Store(Pages(), "s3://bucket/p", QUICK)
    with pytest.raises(StorageError, match="lists names in no order"):
        list(store.iter_list())
    Pages.listed = (["a", "b"], OSError(errno.ECONNRESET, "reset"), ["b/.hidden"], ["c", "d"])
    assert [entry.name for entry in store.iter_list()] == ["a", "b", "c", "d"]


def test_waits_double_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    for failed in range(1, 9):
        RetryPolicy(base_s=1, max_s=10).wait(failed)
    assert all(0.5 * bound <= wait <= bound for wait, bound in zip(waits, [1, 2, 4, 8, 10, 10, 10, 10], strict=True))
