"""The cache of chunks: bounded, verified, safe with many processes, and never in the way."""

import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from samples import tar_of

from condgen.errors import ConfigError, MissingError
from pipelines.datasets.chunk import Chunk, ExtentPart, read_chunk
from pipelines.storage.cache import ChunkCache, cached
from pipelines.storage.store import Store, open_store


@dataclass(frozen=True)
class CountingBackend:
    """Passes ranges on, and counts them."""

    inner: Store
    reads: Counter[str]
    damaged: list[int] = field(default_factory=list)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        self.reads[f"{name} {start} {stop}"] += 1
        data = self.inner.read_range(name, start, stop)
        if self.damaged:
            self.damaged.pop()
            return bytes(len(data))
        return data


@pytest.fixture
def remote(tmp_path: Path) -> Store:
    """A store of four objects of 1,000 bytes, which counts what is read of it."""
    store = open_store(tmp_path / "remote")
    for number in range(4):
        store.write(f"{number}.tar", bytes([number]) * 1000)
    return replace(store, backend=CountingBackend(store, Counter()))  # type: ignore[arg-type]


def reads(store: Store) -> Counter[str]:
    return store.backend.reads  # type: ignore[attr-defined, no-any-return]


def test_a_range_is_fetched_once_and_then_read_from_the_cache(remote: Store, tmp_path: Path) -> None:
    store = cached(remote, ChunkCache(str(tmp_path / "cache"), 10_000))
    for _ in range(3):
        assert store.read_range("1.tar", 100, 600) == bytes([1]) * 500
        assert store.read_range("1.tar", 100, 700) == bytes([1]) * 600
    assert reads(remote) == {"1.tar 100 600": 1, "1.tar 100 700": 1}


def test_without_a_cache_the_store_is_itself(remote: Store) -> None:
    assert cached(remote, None) is remote


def test_another_version_or_place_of_the_same_name_is_fetched_anew(remote: Store, tmp_path: Path) -> None:
    cache = ChunkCache(str(tmp_path / "cache"), 10_000)
    for version in ("a", "b"):
        cached(remote, cache, version).read_range("1.tar", 0, 10)
    cached(replace(remote, uri="elsewhere"), cache, "a").read_range("1.tar", 0, 10)
    assert reads(remote)["1.tar 0 10"] == 3


def test_what_was_used_least_recently_goes_first_and_the_bound_holds(remote: Store, tmp_path: Path) -> None:
    cache = ChunkCache(str(tmp_path / "cache"), 2200)
    store = cached(remote, cache)
    for at_s, name in enumerate(["0.tar", "1.tar", "0.tar", "2.tar"]):
        store.read_range(name, 0, 1000)
        newest = max((tmp_path / "cache").glob("*.chunk"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, ns=(at_s * 10**9, at_s * 10**9))
    assert cache.used_bytes() <= 2200
    for name, fetched in (("0.tar", 1), ("2.tar", 1), ("1.tar", 2)):
        store.read_range(name, 0, 1000)
        assert reads(remote)[f"{name} 0 1000"] == fetched


def test_an_entry_larger_than_the_bound_is_not_kept(remote: Store, tmp_path: Path) -> None:
    cache = ChunkCache(str(tmp_path / "cache"), 500)
    assert cached(remote, cache).read_range("3.tar", 0, 1000) == bytes([3]) * 1000
    assert cache.used_bytes() == 0


@pytest.mark.parametrize(
    "damage", [lambda data: data[:500], lambda data: data[:40] + b"?" + data[41:], lambda data: data[:0]]
)
def test_a_damaged_entry_is_fetched_again(remote: Store, tmp_path: Path, damage: object) -> None:
    store = cached(remote, ChunkCache(str(tmp_path / "cache"), 10_000))
    store.read_range("1.tar", 0, 1000)
    entry = next((tmp_path / "cache").glob("*.chunk"))
    entry.write_bytes(damage(entry.read_bytes()))  # type: ignore[operator]
    for _ in range(2):
        assert store.read_range("1.tar", 0, 1000) == bytes([1]) * 1000
    assert reads(remote)["1.tar 0 1000"] == 2


def test_a_chunk_that_came_damaged_is_not_kept_in_the_cache(tmp_path: Path) -> None:
    data = tar_of((f"{number}.jpg", bytes([number]) * 700) for number in range(3))
    inner = open_store(tmp_path / "remote")
    inner.write("x.tar", data)
    run = ExtentPart(0, len(data) - 1024, 3, hashlib.sha256(data[:-1024]).hexdigest())
    chunk = Chunk(ordinal=0, name="c", shard="x.tar", samples=3, first_sample=0, runs=(run,))
    backend = CountingBackend(inner, Counter(), damaged=[1])
    store = cached(replace(inner, backend=backend), ChunkCache(str(tmp_path / "cache"), 10_000))  # type: ignore[arg-type]
    for _ in range(2):
        samples = read_chunk(store, chunk)
        assert [sample.members["jpg"][0] for sample in samples] == [0, 1, 2]
    assert sum(backend.reads.values()) == 2


@pytest.mark.slow
def test_the_folder_is_looked_through_only_where_the_bound_may_be_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ChunkCache(str(tmp_path / "cache"), 100_000)
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or scandir(path))
    monkeypatch.setattr(Path, "glob", lambda *_: [])  # it looks for what was left, and by scandir too
    for number in range(96):  # 1,000 bytes each
        cache.put(f"{number}", bytes(1000 - 32))
    assert len(looked) == 1  # of a folder that nothing is known of
    for number in range(96, 1096):
        cache.put(f"{number}", bytes(1000 - 32))
    assert len(looked) <= 1 + 1000 / 4
    assert 90_000 < cache.used_bytes() <= 100_000
    assert cache.get("1095") == bytes(968)
    cache.forget("1095")
    (tmp_path / "cache" / ".lock").write_bytes(b"?")
    cache.put("again", bytes(968))
    assert cache.used_bytes() <= 100_000


def test_errors_of_the_store_pass_through(remote: Store, tmp_path: Path) -> None:
    cache = ChunkCache(str(tmp_path / "cache"), 10_000)
    with pytest.raises(MissingError):
        cached(remote, cache).read_range("nope", 0, 1)
    assert cache.used_bytes() == 0


def test_a_cache_that_can_not_be_written_is_passed_by(remote: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = cached(remote, ChunkCache(str(tmp_path / "file" / "cache"), 10_000))
    for _ in range(2):
        assert store.read_range("1.tar", 0, 10) == bytes([1]) * 10
    assert reads(remote)["1.tar 0 10"] == 2


def test_a_bound_is_a_number_of_bytes() -> None:
    with pytest.raises(ConfigError, match=r"cache\.size_bytes"):
        ChunkCache("x", 0)


_READER = """
import sys
from pipelines.storage.cache import ChunkCache, cached
from pipelines.storage.store import open_store
remote, folder, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = cached(open_store(remote), ChunkCache(folder, 40_000))
for step in range(300):
    number = (seed * 7 + step * 5) % 60
    start = number * 10
    data = store.read_range(f"{number % 4}.tar", start, start + 1000)
    assert data == bytes([number % 4]) * 1000, (number, data[:4])
"""


@pytest.mark.slow
def test_many_processes_share_a_cache_smaller_than_what_they_read(tmp_path: Path) -> None:
    store = open_store(tmp_path / "remote")
    for number in range(4):
        store.write(f"{number}.tar", bytes([number]) * 2000)
    folder = tmp_path / "cache"

    def run(seed: int) -> subprocess.CompletedProcess[bytes]:
        arguments = [sys.executable, "-c", _READER, str(tmp_path / "remote"), str(folder), str(seed)]
        return subprocess.run(arguments, capture_output=True, check=False, timeout=120)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(run, range(4)))
    assert [process.stderr.decode() for process in done] == [""] * 4
    cache = ChunkCache(str(folder), 40_000)
    assert 20_000 < cache.used_bytes() <= 40_000
    assert not list(folder.glob(".writing-*"))


def test_a_writer_that_was_killed_leaves_nothing_wrong(remote: Store, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    script = f"""
import os, signal
from pathlib import Path
from pipelines.storage.cache import ChunkCache
Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
ChunkCache({str(folder)!r}, 10_000).put("x", bytes(1000))
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(folder.glob(".writing-*"))) == 1
    cache = ChunkCache(str(folder), 10_000)
    assert cache.get("x") is None
    assert cache.used_bytes() == 0
    assert cached(remote, cache).read_range("1.tar", 0, 1000) == bytes([1]) * 1000
    assert not list(folder.glob(".writing-*"))
