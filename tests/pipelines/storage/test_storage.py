"""Storage: writes are whole or not there, reads are whole or errors, faults are tried again and then named."""

import errno
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from condgen.errors import AccessError, ConfigError, MissingError, StorageError
from pipelines.storage.backend import Entry
from pipelines.storage.store import RetryPolicy, Store, open_store

QUICK = RetryPolicy(attempts=3, base_s=0.001)


@pytest.fixture(params=["local", "memory", "s3", "ceph"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store of each sort, two of them on real S3 servers."""
    if request.param == "local":
        return open_store(tmp_path / "stored")
    if request.param == "memory":
        return open_store(f"memory://{tmp_path.name}")
    server = request.getfixturevalue(request.param)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return open_store(f"{server.uri('storage-tests')}/{tmp_path.name}")


def test_what_was_written_is_listed_in_order_and_read(store: Store) -> None:
    for name in ("b/2.bin", "a.bin", "b/10.bin", "Z.bin", ".hidden", "c/.part/x"):
        store.write(name, name.encode())
    names = ["Z.bin", "a.bin", "b/10.bin", "b/2.bin"]
    assert [entry.name for entry in store.list()] == names
    assert store.list() == [Entry(name, len(name)) for name in names]
    assert [entry.name for entry in store.list(recursive=False)] == ["Z.bin", "a.bin"]
    assert [entry.name for entry in store.list("b")] == ["b/10.bin", "b/2.bin"]
    assert store.read("b/2.bin") == b"b/2.bin"
    assert store.read_range("b/10.bin", 2, 4) == b"10"
    assert store.read_range("b/10.bin", 2, 2) == b""
    assert store.size("a.bin") == 5
    assert store.child("b").read("2.bin") == b"b/2.bin"
    assert store.child("b").list() == [Entry("10.bin", 8), Entry("2.bin", 7)]
    assert open_store(store.uri).list() == store.list()
    assert list(store.iter_list()) == store.list()
    assert list(store.iter_list("b")) == store.list("b")
    assert list(store.iter_list("nowhere")) == []


def test_a_file_that_is_filled_is_stored_when_it_is_whole_and_else_nothing_is(store: Store) -> None:
    store.write("deep/x", b"old")
    with pytest.raises(ZeroDivisionError), store.writing("deep/x") as path:
        Path(path).write_bytes(b"half of the n" * (1 // int(not path)))
    assert store.read("deep/x") == b"old"
    with store.writing("deep/x") as path:
        Path(path).write_bytes(b"half of the n")
        assert store.list() == [Entry("deep/x", 3)]
        with Path(path).open("ab") as file:
            file.write(b"ew one")
    assert store.read("deep/x") == b"half of the new one"
    assert store.list() == [Entry("deep/x", 19)]
    assert not Path(path).exists()


def test_what_is_not_there_is_missing_and_an_empty_list(store: Store) -> None:
    store.write("a/b", b"")
    assert store.read("a/b") == b""
    assert (store.exists("a/b"), store.exists("a"), store.exists("c")) == (True, True, False)
    assert store.list("c") == []
    assert store.list("c", recursive=False) == []
    for operation in (store.read, store.size, lambda name: store.read_range(name, 0, 1)):
        with pytest.raises(MissingError, match="nope"):
            operation("nope")
    with pytest.raises(MissingError, match="check"):
        store.child("nope").require()
    assert store.require() is store


def test_a_write_replaces_and_a_delete_can_be_repeated(store: Store) -> None:
    store.write("x", b"old")
    store.write("x", b"new")
    assert store.read("x") == b"new"
    store.delete("x")
    store.delete("x")
    assert not store.exists("x")


def test_an_object_is_created_only_where_there_is_none(store: Store) -> None:
    assert store.create("a/x", b"mine")
    assert store.create("a/x", b"mine"), "an earlier try whose answer was lost is no other writer's"
    assert not store.create("a/x", b"theirs")
    assert store.read("a/x") == b"mine"
    assert [entry.name for entry in store.list(hidden=True)] == ["a/x"]
    store.delete("a/x")
    assert store.create("a/x", b"theirs")


@pytest.mark.parametrize("store", ["local", "s3", "ceph"], indirect=True)  # memory's create looks first: two steps
def test_of_many_who_create_one_name_one_succeeds(store: Store) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> list[bool]:
        won = []
        for index in range(5):
            start.wait()
            won.append(store.create(f"x{index}", bytes([number])))
        return won

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    for index in range(5):
        winners = [number for number in range(8) if won[number][index]]
        assert [bytes([number]) for number in winners] == [store.read(f"x{index}")]


def test_a_file_system_without_links_still_refuses_a_second_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", link)
    store = open_store(tmp_path)
    assert store.create("x", b"mine")
    assert not store.backend.create("x", b"theirs")
    assert store.read("x") == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_range_beyond_the_end_is_an_error_never_short(store: Store) -> None:
    store.write("x", b"0123456789")
    for start, stop in ((5, 11), (10, 11), (100, 200)):
        with pytest.raises(StorageError, match="10 bytes"):
            store.read_range("x", start, stop)
    with pytest.raises(StorageError):
        store.read("x", size_bytes=11)


def test_a_store_travels_to_other_processes_and_threads(store: Store) -> None:
    store.write("x", b"1")
    again: Store = pickle.loads(pickle.dumps(store))  # noqa: S301  # our own bytes
    assert again.read("x") == b"1"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: again.write(f"t/{number}", bytes(number)), range(40)))
    assert [entry.size_bytes for entry in sorted(store.list("t"), key=lambda e: e.size_bytes)] == list(range(40))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\0b"])
def test_names_stay_inside(store: Store, name: str) -> None:
    with pytest.raises(StorageError):
        store.read(name)


def test_a_writer_that_was_killed_leaves_nothing_that_is_listed_and_is_swept(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pipelines.storage.store import open_store
store = open_store({str(tmp_path)!r})
store.write("x", b"old")
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
store.write("x", b"new")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    store = open_store(tmp_path)
    assert store.list() == [Entry("x", 3)]
    assert store.read("x") == b"old"
    open_store(tmp_path).write("y", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_many_writers_of_one_name_leave_one_of_their_objects_and_nothing_else(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new" / "folder", retry=RetryPolicy(base_s=0.001))
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        for _ in range(20):
            store.write("x", bytes([number]) * 10_000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    data = store.read("x")
    assert data == bytes([data[0]]) * 10_000
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["x"]


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_bytes(b"")
    with pytest.raises(StorageError, match="taken"):
        open_store(tmp_path).write("taken", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_links_are_followed_pipes_left_out_and_loops_survived(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "file").symlink_to(tmp_path / "real" / "a")
    (tmp_path / "nothing").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    assert [entry.name for entry in open_store(tmp_path).list() if "loop" not in entry.name] == [
        "file", "link/a", "nothing", "real/a",
    ]  # fmt: skip


@pytest.mark.parametrize("uri", ["nosuchscheme://x/y", "s3://", "s3:///key", ""])
def test_an_address_that_can_not_be_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(ConfigError):
        open_store(uri)


def test_messages_show_no_password() -> None:
    store = open_store("ftp://user:secret@host/folder")
    assert "secret" not in store.uri
    assert "secret" not in repr(store)


def test_a_missing_bucket_and_wrong_keys_are_told_apart(each_s3: Any) -> None:
    each_s3.uri("storage-tests")
    for operation in ("list", "require"):
        for uri in ("s3://no-such-bucket/p", "s3://no-such-bucket"):
            with pytest.raises(MissingError, match="check the bucket"):
                getattr(open_store(uri, retry=QUICK), operation)()
    with pytest.raises(MissingError):
        open_store("s3://no-such-bucket/p", retry=QUICK).write("x", b"")
    operations: list[Callable[[Store], Any]] = [
        Store.list, Store.require, lambda s: s.read("x"), lambda s: s.write("x", b""), lambda s: s.size("x"),
    ]  # fmt: skip
    for key, secret in (("testkey", "wrong"), ("nobody", "wrong")):
        for operation_of in operations:
            wrong = open_store("s3://storage-tests/p", retry=QUICK, key=key, secret=secret)
            with pytest.raises(AccessError, match="check the credentials") as caught:
                operation_of(wrong)
            assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_named() -> None:
    store = open_store("s3://bucket/p", retry=QUICK, endpoint_url="http://127.0.0.1:9", key="k", secret="s")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9.*after 3 tries"):
        store.list()


def test_a_list_of_more_than_a_page_is_whole_and_in_order(each_s3: Any) -> None:
    uri = each_s3.uri("paging-tests")
    names = [f"{number % 7}/{number:04d}" for number in range(1100)]  # S3 lists a thousand at once
    each_s3.filesystem().pipe({f"{uri}/{name}": b"1" for name in names})
    assert [entry.name for entry in open_store(uri).list()] == sorted(names)
    assert [entry.name for entry in open_store(uri).list("3")] == sorted(n for n in names if n.startswith("3/"))
    assert [entry.name for entry in open_store(uri).iter_list()] == sorted(names)


def test_a_large_object_goes_up_in_parts_and_comes_back(each_s3: Any) -> None:
    store = open_store(f"{each_s3.uri('storage-tests')}/large")
    data = os.urandom(101 << 20)
    store.write("x", data)
    assert store.read("x") == data
    assert store.read_range("x", 60 << 20, 61 << 20) == data[60 << 20 : 61 << 20]
    with store.writing("y") as path:
        Path(path).write_bytes(data)
    assert store.read("y") == data


def test_ceph_is_written_to_without_a_setting_of_its_own(ceph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ceph.env.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"{ceph.uri('storage-tests')}/unset")
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
    monkeypatch.delenv("AWS_RESPONSE_CHECKSUM_VALIDATION")
    data = os.urandom(60 << 20)  # more than one part
    store.write("x", data)
    assert store.read("x") == data


def test_a_forked_child_connects_anew(s3: Any) -> None:
    script = f"""
import os
from pipelines.storage.store import open_store
store = open_store({s3.uri("storage-tests") + "/fork"!r})
store.write("x", b"1")
child = os.fork()
if child == 0:
    os._exit(0 if store.read("x") == b"1" else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False, timeout=60).returncode == 0
