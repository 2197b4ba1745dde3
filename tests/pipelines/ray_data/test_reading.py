"""Reading: a dataset's samples as rows, all of them, each with its own picture, what can't be decoded as it is told."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import ray.data
from one_by_one import chunks_from_extents
from PIL import Image
from samples import flat, paired_dataset, saved, single_dataset, tar_of

from condgen.errors import ConfigError, DatasetError
from pipelines.datasets.chunk import ChunkLimits, chunks_to_table, iter_chunks
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.extent import Extent, extents_to_table
from pipelines.datasets.opening import open_dataset
from pipelines.ray_data import operator as rows_module
from pipelines.ray_data.counters import Tally
from pipelines.ray_data.local import LocalPlan, _ahead
from pipelines.ray_data.operator import ChunkReader, Decode, Domain, Work
from pipelines.ray_data.pairs import iter_pairs, pair_table
from pipelines.ray_data.reading import read_paired, read_single, read_unpaired
from pipelines.ray_data.tensors import ImageColumn, _free
from pipelines.storage.cache import ChunkCache
from pipelines.storage.store import open_store

BAD = frozenset({3, 17, 18})
SAMPLES = 45


@pytest.fixture(scope="module")
def photos_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return single_dataset(tmp_path_factory.mktemp("read") / "photos", SAMPLES)


@pytest.fixture(scope="module")
def bad_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return single_dataset(tmp_path_factory.mktemp("read") / "bad", SAMPLES, bad=BAD)


@pytest.fixture(scope="module")
def pairs_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return paired_dataset(tmp_path_factory.mktemp("read") / "pairs", 12)


def reader(uri: str, decode: Decode, column: str | None = None) -> ChunkReader:
    dataset = open_dataset(uri)
    return ChunkReader((Domain(dataset.store, {}, (("image", column),)),), decode, None)


def plan(uri: str, samples: int = 16) -> pa.Table:
    return chunk_table(open_dataset(uri).table(), ChunkLimits(samples=samples))


def test_a_dataset_is_rows_of_samples_each_with_its_own_image(ray_cluster: None, photos_uri: str) -> None:
    dataset = read_single(photos_uri, decode=Decode(fields={"caption": pa.string(), "number": pa.int64()}))
    rows = dataset.take_all()
    assert sorted(row["key"] for row in rows) == [f"{number:05d}" for number in range(SAMPLES)]
    for row in rows:
        number = int(row["key"])
        assert row["image"].shape == (16, 20, 3)
        assert row["image"].dtype == np.uint8
        assert row["image"][0, 0].tolist() == [number, 255 - number, 0]
        assert row["source"] == f"train-{number // 10:06d}.tar"
        assert (row["caption"], row["number"]) == (f"number {number}", number)


def test_the_first_rows_are_chunks_and_a_task_has_a_bounded_number(ray_cluster: None, photos_uri: str) -> None:
    table = plan(photos_uri, samples=10)
    assert table["samples"].to_pylist() == [10, 10, 10, 10, 5]
    dataset = read_single(photos_uri, limits=ChunkLimits(samples=10))
    assert [block["image"].shape[0] for block in dataset.iter_batches(batch_size=None)] == [10, 10, 10, 10, 5]
    made_by_a_task = dataset.materialize().iter_batches(batch_size=None)
    assert [block["image"].shape[0] for block in made_by_a_task] == [SAMPLES]


def test_pairs_are_rows_with_both_images(ray_cluster: None, pairs_uri: str) -> None:
    rows = read_paired(pairs_uri).take_all()
    assert len(rows) == 12
    for row in rows:
        np.testing.assert_array_equal(row["input"][..., :2], 255 - row["target"][..., :2])
        np.testing.assert_array_equal(row["input"][..., 2], row["target"][..., 2])
        assert int(row["input"][0, 0, 2]) == int(row["key"])


def test_a_sample_that_can_not_be_decoded_is_an_error_that_names_it(ray_cluster: None, bad_uri: str) -> None:
    with pytest.raises(DatasetError, match=r"train-00000\d\.tar 000\d\d: decode: NotAnImage.*skip"):
        read_single(bad_uri).materialize()


def test_skipped_samples_are_counted_by_their_error_once(ray_cluster: None, bad_uri: str) -> None:
    tally = Tally()
    dataset = read_single(bad_uri, decode=Decode(on_error="skip"), tally=tally)
    for _ in range(2):
        assert {int(row["key"]) for row in dataset.iter_rows()} == set(range(SAMPLES)) - BAD
        assert tally.counts() == {"decode: NotAnImage": 3, "read": SAMPLES - 3}


def test_bad_samples_can_be_rows_with_their_error(ray_cluster: None, bad_uri: str) -> None:
    rows = read_single(bad_uri, decode=Decode(on_error="row")).take_all()
    assert len(rows) == SAMPLES
    assert {int(row["key"]) for row in rows if row["error"]} == BAD
    for row in rows:
        assert row["image"].shape == ((0, 0, 3) if row["error"] else (16, 20, 3))


@pytest.mark.parametrize("decode", [{"on_error": "ignore"}, {"size_px": -1}])
def test_a_way_of_decoding_that_is_not_there_is_refused(decode: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"decode\."):
        Decode(**decode)


def test_a_split_or_place_without_samples_is_an_error(photos_uri: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'test'"):
        read_single(photos_uri, split="test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no shards"):
        read_single(str(tmp_path / "empty"))


def test_squares_are_the_middle_of_a_image_at_the_size_asked_for() -> None:
    image = Image.new("RGB", (90, 60), (0, 0, 0))
    image.paste((255, 255, 255), (15, 0, 75, 60))
    square = Decode(size_px=30).image(saved(image))
    assert square.shape == (30, 30, 3)
    assert square[:, 1:-1].min() == 255


def test_large_jpegs_are_decoded_at_the_size_that_is_needed() -> None:
    data = flat(70, (1600, 800), "JPEG")
    decoded = Decode(min_size_px=90).image(data)
    assert decoded.shape == (100, 200, 3)
    full = Decode().image(data)
    assert full.shape == (800, 1600, 3)


def test_encoded_images_are_the_stored_bytes(photos_uri: str) -> None:
    block = next(reader(photos_uri, Decode(encoded=True))(plan(photos_uri)))
    assert block["image"][2].as_py() == flat(2)


def test_blocks_are_bounded_in_bytes(photos_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BLOCK_BYTES", 3000)
    blocks = list(reader(photos_uri, Decode())(plan(photos_uri)))
    assert sum(block.num_rows for block in blocks) == SAMPLES
    assert max(block.num_rows for block in blocks) == 4  # of 960 bytes and their JSON each


def test_images_of_several_sizes_share_a_block(ray_cluster: None, tmp_path: Path) -> None:
    members = ((f"{number}.png", flat(number, (10 + number, 8))) for number in range(6))
    (tmp_path / "x.tar").write_bytes(tar_of(members))
    rows = read_single(str(tmp_path)).take_all()
    assert sorted(row["image"].shape for row in rows) == [(8, 10 + number, 3) for number in range(6)]


def test_fields_of_another_type_are_a_bad_sample(photos_uri: str) -> None:
    block = next(reader(photos_uri, Decode(fields={"caption": pa.int64()}, on_error="row"))(plan(photos_uri)))
    assert all(error.startswith("read: Fields") for error in block["error"].to_pylist())
    missing = next(reader(photos_uri, Decode(fields={"nothing": pa.int64()}))(plan(photos_uri)))
    assert missing["nothing"].null_count == missing.num_rows


def test_a_plan_in_columns_is_that_of_its_runs_one_by_one() -> None:
    random = np.random.default_rng(0)
    runs = []
    for shard in range(30):
        at = 0
        for number in range(int(random.integers(1, 12))):
            size = int(random.integers(1, 9000))
            sha256 = f"{shard}-{number}" if number % 3 else ""
            name = f"t-{shard // 2}.tar" if shard % 2 else f"u{shard}"
            runs.append(
                Extent(shard=name, start=at, stop=at + size, samples=int(random.integers(1, 17)), sha256=sha256)
            )
            at += size
    for limits in (ChunkLimits(samples=16), ChunkLimits(samples=64, size_bytes=12_000), ChunkLimits(samples=1)):
        assert chunk_table(extents_to_table(runs), limits).equals(chunks_to_table(chunks_from_extents(runs, limits)))
    assert chunk_table(extents_to_table([]), ChunkLimits()).num_rows == 0


def test_chunks_come_through_the_cache_where_there_is_one(ray_cluster: None, photos_uri: str, tmp_path: Path) -> None:
    cache = ChunkCache(str(tmp_path / "cache"), 1 << 20)
    first = read_single(photos_uri, cache=cache).take_all()
    entries = list((tmp_path / "cache").glob("*.chunk"))
    assert len(entries) == plan(photos_uri, 64).num_rows
    assert sorted(row["key"] for row in read_single(photos_uri, cache=cache).take_all()) == sorted(
        row["key"] for row in first
    )


def unpaired_keys(a: str, b: str, epoch: int) -> list[tuple[str, str]]:
    """The keys of an epoch's rows, by the operator alone."""
    found = []
    domains = [open_dataset(uri) for uri in (a, b)]
    for pairs in iter_pairs(pair_table(plan(a, 7), plan(b, 4), seed=5, epoch=epoch)):
        keys = []
        for dataset, chunks, order in zip(domains, pairs.chunks, pairs.order, strict=True):
            samples = Domain(dataset.store, {}, ()).read(chunks)
            keys.append([samples[place].key for place in order])
        found += list(zip(*keys, strict=True))
    return found


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("domains")
    return single_dataset(root / "a", 50), single_dataset(root / "b", 13, per_shard=4)


@pytest.mark.parametrize("swapped", [False, True])
def test_unpaired_each_of_the_larger_comes_once_and_the_smaller_cycles(domains: tuple[str, str], swapped: bool) -> None:
    a, b = domains[::-1] if swapped else domains
    epochs = [unpaired_keys(a, b, epoch) for epoch in range(3)]
    large, small = (1, 0) if swapped else (0, 1)
    for epoch in epochs:
        assert sorted(keys[large] for keys in epoch) == [f"{number:05d}" for number in range(50)]
    stream = [keys[small] for epoch in epochs for keys in epoch]
    for cycle in range(len(stream) // 13):
        assert len(set(stream[13 * cycle : 13 * cycle + 13])) == 13
    assert stream[:13] != stream[13:26]
    assert epochs[0] != epochs[1]
    assert [keys[large] for keys in epochs[0]] != sorted(keys[large] for keys in epochs[0])


def test_unpaired_rows_have_an_input_of_one_and_a_target_of_the_other(
    ray_cluster: None, domains: tuple[str, str]
) -> None:
    dataset = read_unpaired(*domains, seed=5, epoch=1, limits=ChunkLimits(samples=7))
    rows = dataset.take_all()
    assert len(rows) == 50
    for row in rows:
        assert row["input"][0, 0, 0] == int(row["key"])
        assert row["target"][0, 0, 0] == int(row["target_key"])
    again = read_unpaired(*domains, seed=5, epoch=1, limits=ChunkLimits(samples=7)).take_all()
    pairs = sorted((row["key"], row["target_key"]) for row in rows)
    assert pairs == sorted((row["key"], row["target_key"]) for row in again)
    assert pairs != sorted((row["key"], row["target_key"]) for row in read_unpaired(*domains, seed=6).take_all())


def test_a_dataset_on_s3_reads_as_a_local_one(ray_cluster: None, s3: Any, photos_uri: str) -> None:
    store = open_store(f"{s3.uri('read-tests')}/photos")
    for entry in open_store(photos_uri).list():
        store.write(entry.name, open_store(photos_uri).read(entry.name))
    local, remote = read_single(photos_uri).take_all(), read_single(store.uri).take_all()
    key = lambda row: row["key"]  # noqa: E731
    for mine, theirs in zip(sorted(local, key=key), sorted(remote, key=key), strict=True):
        assert mine["source"] == theirs["source"]
        np.testing.assert_array_equal(mine["image"], theirs["image"])


def test_every_chunk_of_a_plan_is_one_range_request(photos_uri: str) -> None:
    for chunk in iter_chunks(plan(photos_uri)):
        assert len({run.start for run in chunk.runs} - {run.stop for run in chunk.runs}) == 1


def test_images_are_decoded_into_their_block_and_those_of_another_shape_still_fit() -> None:
    same = [np.full((8, 6, 3), value, np.uint8) for value in range(5)]
    column = ImageColumn(4 * same[0].nbytes)
    for picture in same:
        place = column.place()
        if place is not None:
            place[...] = picture
        column.add(picture if place is None else place)
    np.testing.assert_array_equal(column.array().to_numpy(), np.stack(same))
    column.add(np.full((8, 6, 3), 5, np.uint8))  # one more than there is room for
    np.testing.assert_array_equal(column.array().to_numpy()[:, 0, 0, 0], range(6))
    column.add(np.full((3, 3, 3), 9, np.uint8))
    assert [item.shape for item in column.array().to_numpy(zero_copy_only=False)] == [(8, 6, 3)] * 6 + [(3, 3, 3)]


def test_a_block_that_is_in_use_keeps_its_memory_and_one_that_was_dropped_gives_it_to_the_next() -> None:
    def block(value: int) -> object:
        column = ImageColumn(7 * 1000 * 300)
        for _ in range(3):
            column.add(np.full((100, 10, 3), value, np.uint8))
        return column.array()

    first, second = block(1), block(2)
    assert (first.to_numpy() == 1).all()  # type: ignore[attr-defined]
    assert (second.to_numpy() == 2).all()  # type: ignore[attr-defined]
    where = second.to_numpy().ctypes.data  # type: ignore[attr-defined]
    assert where not in [memory.ctypes.data for memory in _free]
    del second
    assert where in [memory.ctypes.data for memory in _free]
    third = block(3)
    assert third.to_numpy().ctypes.data == where  # type: ignore[attr-defined]
    assert (first.to_numpy() == 1).all()  # type: ignore[attr-defined]
    assert (third.to_numpy() == 3).all()  # type: ignore[attr-defined]


def local_plan(uri: str, reader: ChunkReader, samples: int) -> LocalPlan:
    return LocalPlan(plan(uri, samples), reader, readers=3, decoders=2)


@pytest.mark.parametrize("encoded", [False, True])
def test_blocks_that_are_read_here_come_in_order_and_end_where_batches_do(photos_uri: str, encoded: bool) -> None:
    source = reader(photos_uri, Decode(encoded=encoded))
    tasks = pa.concat_tables(source(plan(photos_uri)))
    for batch_size, sizes in ((8, [8, 8, 8, 8, 8, 5]), (None, [10, 10, 10, 10, 5])):
        blocks = list(local_plan(photos_uri, source, 10).blocks(batch_size))
        assert [block.num_rows for block in blocks] == sizes
        here = pa.concat_tables(blocks)
        assert here.schema == tasks.schema
        assert here["key"].to_pylist() == [f"{number:05d}" for number in range(SAMPLES)]
        np.testing.assert_equal(here.to_pylist(), tasks.to_pylist())


class HeldReader(ChunkReader):
    """A reader whose chunks wait, but for the first one, until they are let go."""

    read: ClassVar[list[int]] = []
    go = threading.Event()

    def work(self, block: pa.Table) -> Iterator[Work]:
        self.read.append(block["ordinal"][0].as_py())
        if len(self.read) > 1:
            self.go.wait(60)
        return super().work(block)


def test_what_is_read_here_and_given_up_is_not_read_on(photos_uri: str) -> None:
    before = set(threading.enumerate())
    held = HeldReader(reader(photos_uri, Decode()).domains, Decode(), None)
    blocks = LocalPlan(plan(photos_uri, 1), held, readers=1, decoders=1).blocks(1)
    assert next(blocks).num_rows == 1
    blocks.close()
    held.go.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert held.read in ([0], [0, 1])


def test_few_are_asked_for_before_the_first_is_there_and_then_more() -> None:
    with ThreadPoolExecutor(1) as pool:
        asked: list[int] = []
        items = (asked.append(number) or number for number in range(40))
        seen = [(number, len(asked)) for number in _ahead(pool, lambda number: number, items, 10)]
    assert [number for number, _ in seen] == list(range(40))
    counts = [count for _, count in seen]
    assert counts[0] == 3
    assert all(count <= number + 11 for number, count in seen)
    assert counts[20] == 31


def test_an_error_of_what_is_read_here_comes_in_its_place(bad_uri: str) -> None:
    blocks = local_plan(bad_uri, reader(bad_uri, Decode()), 1).blocks(1)
    assert [next(blocks)["key"][0].as_py() for _ in range(3)] == ["00000", "00001", "00002"]
    with pytest.raises(DatasetError, match="00003: decode: NotAnImage"):
        next(blocks)


def test_encoded_images_need_no_task_and_what_is_made_of_them_does(
    ray_cluster: None, photos_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read_single(photos_uri, decode=Decode(encoded=True))
    mapped = dataset.map(lambda _: {"process": os.getpid()})
    assert {row["process"] for row in mapped.iter_rows()} != {os.getpid()}
    monkeypatch.setattr(ray.data.Dataset, "_execute_to_iterator", None)
    batches = list(dataset.iter_batches(batch_size=20, batch_format="pyarrow", prefetch_batches=3))
    assert [key for batch in batches for key in batch["key"].to_pylist()] == [f"{n:05d}" for n in range(SAMPLES)]
    assert [batch.num_rows for batch in batches] == [20, 20, 5]
    assert [row["image"] for row in dataset.iter_rows()] == [flat(number) for number in range(SAMPLES)]
    shuffled = dataset.iter_batches(batch_size=5, local_shuffle_buffer_size=20, local_shuffle_seed=0)
    keys = [key for batch in shuffled for key in batch["key"].tolist()]
    assert sorted(keys) == [f"{n:05d}" for n in range(SAMPLES)]
    assert keys != sorted(keys)
