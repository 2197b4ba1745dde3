"""Plans in pieces: the same bytes as plans made whole, whatever the pieces, and nothing left of one that was cut."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from condgen.errors import DatasetError
from pipelines.batch.archive import NewChunks, cut_archive, limit_pieces, plan_archive
from pipelines.datasets.chunk import CHUNK_SCHEMA, ERRORS_SCHEMA, ChunkLimits, iter_chunks
from pipelines.datasets.chunking import chunk_table, cut_chunks
from pipelines.datasets.extent import Extent, extents_to_table
from pipelines.datasets.manifest import Dataset, Manifest
from pipelines.datasets.opening import Archive
from pipelines.datasets.stored_chunks import StoredChunks
from pipelines.results import plan as plan_module
from pipelines.results.commits import DrawsListing, PendingChunks
from pipelines.results.failures import FailureList
from pipelines.results.files import Failure, _with_features, draws_name, write_errors
from pipelines.results.plan import Generation, load_plans, take_chunks, write_plan
from pipelines.storage.parquet import StoredParquet, parquet_bytes
from pipelines.storage.store import Store, open_store

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.node.name)


def extents(shards: int, rng: random.Random) -> pa.Table:
    """The index of some shards of up to 40 extents each."""
    found: list[Extent] = []
    for shard in range(shards):
        start = 0
        for _ in range(rng.randint(1, 40)):
            stop = start + 512 * rng.randint(2, 90)
            sha256 = f"{rng.getrandbits(256):064x}" if rng.random() < 0.9 else ""
            samples = rng.randint(1, 16)
            name = f"train-{shard:06d}.tar"
            found.append(Extent(shard=name, start=start, stop=stop, samples=samples, sha256=sha256))
            start = stop
    return extents_to_table(found)


def pieces_of(table: pa.Table, rng: random.Random, most: int) -> Iterator[pa.Table]:
    """A table in pieces of any length, empty ones too."""
    at = 0
    while at < table.num_rows:
        rows = rng.randint(0, most)
        yield table.slice(at, rows)
        at += rows


def archive_of(store: Store, index: pa.Table, piece_rows: int) -> Archive:
    extents = StoredParquet.of_table(index, row_group_size=piece_rows)
    return Archive(store, Dataset(store, Manifest(kind="single", shards=()), extents))


def write(results: Store, chunks: Any, **values: Any) -> Generation:
    values = {"archive": "a", "model": {"digest": "d"}, "settings": {}} | values
    return write_plan(results, chunks, **values)


@pytest.mark.parametrize("limits", [ChunkLimits(samples=64), ChunkLimits(samples=20, size_bytes=100_000)])
def test_an_index_cut_in_pieces_gives_the_chunks_of_the_whole(rng: random.Random, limits: ChunkLimits) -> None:
    index = extents(30, rng)
    whole = chunk_table(index, limits)
    assert whole["samples"].to_pylist() == [sum(run.samples for run in chunk.runs) for chunk in iter_chunks(whole)]
    for most in (1, 7, 200):
        assert pa.concat_tables(cut_chunks(pieces_of(index, rng, most), limits)).equals(whole)


@pytest.mark.parametrize("generation", [0, 3])
def test_a_plan_written_in_pieces_has_the_bytes_of_one_made_whole(
    rng: random.Random, tmp_path: Path, generation: int
) -> None:
    chunks = chunk_table(extents(600, rng), ChunkLimits(samples=16))
    assert chunks.num_rows > 2 * 4096
    results = open_store(tmp_path / "results")
    stored = write(results, pieces_of(chunks, rng, 3000), generation=generation)
    if generation:
        names = pa.array([f"g003-{name}" for name in chunks["name"].to_pylist()])
        chunks = chunks.set_column(1, CHUNK_SCHEMA.field("name"), names)
    data = results.read(f"plan/{generation:03d}.parquet")
    assert data == parquet_bytes(chunks, compression="zstd", row_group_size=4096)
    assert stored.chunks.equals(chunks)
    assert (stored.plan.num_chunks, stored.plan.num_samples) == (
        chunks.num_rows,
        sum(chunks["samples"].to_pylist()),
    )
    places = sorted(rng.sample(range(chunks.num_rows), 20))
    assert take_chunks([stored], places).equals(chunks.take(places))


def test_what_is_cut_while_a_plan_is_written_leaves_nothing_behind(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pipelines.datasets.chunk import CHUNK_SCHEMA, Chunk, chunks_to_table
from pipelines.results.plan import write_plan
from pipelines.storage.store import open_store
def pieces():
    for at in range(0, 20_000, 5_000):
        them = range(at, at + 5_000)
        yield chunks_to_table(Chunk(ordinal=n, name=f"{{n:08d}}", shard="x", samples=1, first_sample=n) for n in them)
        if at == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)
for stop_at in (10_000, -1):
    if stop_at < 0 or os.fork() == 0:
        write_plan(open_store({str(tmp_path)!r}), pieces(), archive="a", model={{"digest": "d"}}, settings={{}})
    else:
        assert os.wait()[1] == signal.SIGKILL
        (left,) = os.listdir({str(tmp_path / "plan")!r})
        assert left.startswith(".condgen-write-") and os.stat({str(tmp_path / "plan")!r} + "/" + left).st_size > 4
        assert open_store({str(tmp_path)!r}).list() == []
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=120)
    (plan,) = load_plans(open_store(tmp_path))
    assert plan.plan.num_chunks == 20_000
    assert sorted(path.name for path in (tmp_path / "plan").iterdir()) == ["000.json", "000.parquet"]


@pytest.mark.parametrize("held", [64 << 20, 0])
def test_a_list_with_other_bytes_is_refused_however_large_it_is(
    rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr("pipelines.storage.parquet.HELD_BYTES", held)
    monkeypatch.setattr(plan_module, "HELD_BYTES", held)
    results = open_store(tmp_path)
    chunks = chunk_table(extents(5, rng), ChunkLimits(samples=16))
    write(results, chunks)
    assert load_plans(results)[0].chunks.equals(chunks)
    data = bytearray(results.read("plan/000.parquet"))
    data[len(data) // 3] ^= 1
    results.write("plan/000.parquet", bytes(data))
    with pytest.raises(DatasetError, match="damaged"):
        load_plans(results)


def test_growth_in_pieces_plans_what_no_plan_has(rng: random.Random, tmp_path: Path) -> None:
    limits, store = ChunkLimits(samples=32), open_store(tmp_path)
    grown = extents(40, rng)
    shards = [f"train-{shard:06d}.tar" for shard in range(40)]
    old = set(rng.sample(shards, 25))
    index = grown.filter(pa.array([name in old for name in grown["shard"].to_pylist()]))
    planned: list[pa.Table] = [plan_archive(archive_of(store, index, 50), limits)]
    for piece_rows in (9, 1000):
        stored = [StoredChunks(StoredParquet.of_table(table, row_group_size=5)) for table in planned]
        added = pa.concat_tables(cut_archive(archive_of(store, grown, piece_rows), limits, None, stored))
        fresh = grown.filter(pa.array([name not in old for name in grown["shard"].to_pylist()]))
        assert added.equals(chunk_table(fresh, limits))
        assert not list(cut_archive(archive_of(store, grown, piece_rows), limits, None, [*stored, _stored(added)]))


def _stored(table: pa.Table) -> StoredChunks:
    return StoredChunks(StoredParquet.of_table(table, row_group_size=3))


def test_a_limit_in_pieces_is_that_of_the_whole(rng: random.Random) -> None:
    chunks = chunk_table(extents(10, rng), ChunkLimits(samples=20))
    total = sum(chunks["samples"].to_pylist())
    for limit in (1, 19, 20, 21, total // 2, total - 1, total, total + 5):
        limited = pa.concat_tables(limit_pieces(pieces_of(chunks, rng, 6), limit))
        assert sum(limited["samples"].to_pylist()) == min(limit, total)
        assert limited["name"].to_pylist()[:-1] == chunks["name"].to_pylist()[: limited.num_rows - 1]
    assert list(limit_pieces(pieces_of(chunks, rng, 6), -3)) == []


def test_new_chunks_are_held_only_where_there_are_few(rng: random.Random) -> None:
    few = chunk_table(extents(3, rng), ChunkLimits())
    new = NewChunks(lambda: pieces_of(few, rng, 4))
    assert new.is_all
    assert pa.concat_tables(new.pieces()).equals(few)
    many = chunk_table(extents(1500, rng), ChunkLimits(samples=16))
    new = NewChunks(lambda: pieces_of(many, rng, 2000))
    assert not new.is_all
    assert 8192 <= new.first.num_rows < many.num_rows
    assert pa.concat_tables(new.pieces()).equals(many)


def test_what_is_pending_is_what_has_no_file_over_plans_growth_and_holes(
    rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "PIECE_CHUNKS", 7)
    results = open_store(tmp_path)
    for number in range(3):
        chunks = chunk_table(extents(8, rng), ChunkLimits(samples=16))
        if number == 2:  # what is left of an earlier plan's chunk comes first, with its place there in its name
            late = chunks.slice(40, 1)
            chunks = pa.concat_tables([late, chunks.slice(0, 40), chunks.slice(41)])
        write(results, chunks, generation=number)
    plans = load_plans(results)
    names = [name for plan in plans for name in plan.chunks["name"].to_pylist()]
    samples = dict(zip(names, (count for plan in plans for count in plan.chunks["samples"].to_pylist()), strict=True))
    for share in (0.0, 0.5, 0.97, 1.0):
        for entry in results.list("draws"):
            results.delete(entry.name)
        done = {name for name in names if rng.random() < share}
        for name in done:
            results.write(draws_name(name), b"1")
        results.write("draws/0-stray.parquet", b"1")
        results.write("draws/z-stray.parquet", b"1")
        pending = PendingChunks.of(results, plans)
        wanted = [name for name in names if name not in done]
        assert [chunk.name for chunk in iter_chunks(pending)] == wanted
        assert (pending.num_rows, pending.num_samples) == (len(wanted), sum(samples[name] for name in wanted))
        assert pending.has_commits
        listing = DrawsListing(results)
        for plan in plans:
            for piece in plan.stored.pieces(["name"]):
                found = listing.sizes(piece["name"].to_pylist())
                assert [size >= 0 for size in found] == [name in done for name in piece["name"].to_pylist()]
        assert sorted(listing.rest()) == ["draws/0-stray.parquet", "draws/z-stray.parquet"]
    for entry in results.list("draws"):
        results.delete(entry.name)
    assert not PendingChunks.of(results, plans).has_commits


def test_failures_come_back_in_their_order_and_are_written_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.results.failures._HELD", 10)
    monkeypatch.setattr("pipelines.results.files._ROWS_AT_ONCE", 7)
    failures, by_chunk = FailureList(), []
    for chunk in range(20):
        some = [
            Failure(source="x.tar", key=f"{chunk}-{place}", stage="decode", error="CutImage", message="é", place=place)
            for place in range(chunk % 4)
        ]
        failures.add(f"{chunk:08d}", some)
        by_chunk += [(f"{chunk:08d}", some)] if some else []
    assert list(failures.by_chunk()) == by_chunk
    assert list(failures) == [failure for _, some in by_chunk for failure in some]
    assert len(failures) == 30
    store = open_store(tmp_path)
    for name, some in (("000", failures), ("001", FailureList())):
        write_errors(store, name, some)
        table = pa.Table.from_pylist([one.row() for one in some], _with_features(ERRORS_SCHEMA))
        assert store.read(f"errors/{name}.parquet") == parquet_bytes(table, compression="zstd")


def test_starts_are_those_of_the_extents_by_shard(rng: random.Random) -> None:
    index = extents(12, rng)
    found: dict[str, list[int]] = {}
    for shard, starts in _stored(chunk_table(index, ChunkLimits(samples=24))).starts():
        found.setdefault(shard, []).extend(starts.tolist())
    assert list(found) == sorted(set(index["shard"].to_pylist()))
    assert np.concatenate(list(found.values())).tolist() == index["start"].to_pylist()
