"""What a batch job reads: shards, loose files, Parquet; what is new in each; what a condition or a limit leaves."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from samples import saved, single_dataset

from condgen.errors import ConfigError, ImageError
from pipelines.batch.archive import Selection, plan_archive
from pipelines.datasets.chunk import ChunkLimits, Sample, image_member, iter_chunks, read_chunk, sample_facts
from pipelines.datasets.opening import archive_store
from pipelines.datasets.row_filter import parse
from pipelines.storage.store import Store, open_store

LIMITS = ChunkLimits(samples=4)


def jpeg(shade: int) -> bytes:
    return saved(Image.new("RGB", (12, 8), (shade,) * 3), "JPEG")


def read_all(archive: str, table: pa.Table) -> list[Sample]:
    store = archive_store(archive)
    return [sample for chunk in iter_chunks(table) for sample in read_chunk(store, chunk)]


def sources(archive: str, table: pa.Table) -> list[str]:
    return [sample.source for sample in read_all(archive, table)]


@pytest.fixture
def files(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "files"))
    for number in range(10):
        store.write(f"{'sea' if number % 2 else 'land'}/{number}.jpg", jpeg(number))
    return store


def write_table(path: Path, rows: list[dict[str, Any]], group: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Two Parquet files as Hugging Face's datasets write them, of ten rows and of three."""
    for name, count in (("a", 10), ("b", 3)):
        rows = [
            {"image": {"bytes": jpeg(n), "path": f"{n}.jpg"}, "key": f"{name}{n}", "year": 1900 + n, "note": None}
            for n in range(count)
        ]
        write_table(tmp_path / "table" / f"{name}.parquet", rows)
    return str(tmp_path / "table")


def test_files_that_are_new_are_planned_and_no_others(files: Store) -> None:
    first = plan_archive(files.uri, LIMITS)
    assert first["samples"].to_pylist() == [4, 4, 2]
    files.write("a-new-one.jpg", jpeg(99))
    second = plan_archive(files.uri, LIMITS, planned=[first])
    assert sources(files.uri, second) == ["a-new-one.jpg"]
    assert plan_archive(files.uri, LIMITS, planned=[first, second]).num_rows == 0


def test_a_limit_cuts_and_a_higher_one_adds_the_rest(files: Store) -> None:
    first = plan_archive(files.uri, LIMITS, Selection(limit=6))
    second = plan_archive(files.uri, LIMITS, Selection(limit=9), [first])
    third = plan_archive(files.uri, LIMITS, planned=[first, second])
    found = [sources(files.uri, one) for one in (first, second, third)]
    assert [len(one) for one in found] == [6, 3, 1]
    assert sorted(name for one in found for name in one) == [entry.name for entry in files.list()]
    assert plan_archive(files.uri, LIMITS, Selection(limit=5), [first]).num_rows == 0


def test_files_are_chosen_by_what_their_listing_says(files: Store) -> None:
    chosen = plan_archive(files.uri, LIMITS, Selection(where=parse("startswith(name, 'sea/') and size_bytes > 10")))
    assert set(sources(files.uri, chosen)) == {f"sea/{n}.jpg" for n in (1, 3, 5, 7, 9)}
    rest = plan_archive(files.uri, LIMITS, planned=[chosen])
    assert set(sources(files.uri, rest)) == {f"land/{n}.jpg" for n in (0, 2, 4, 6, 8)}
    with pytest.raises(ConfigError, match="size_bytes"):
        plan_archive(files.uri, LIMITS, Selection(where=parse("size_byte > 10")))


def test_shards_that_are_new_are_planned_and_a_cut_one_is_finished(tmp_path: Path) -> None:
    uri = single_dataset(tmp_path / "dataset", samples=20)
    whole = plan_archive(uri, LIMITS)
    keys = [sample.key for sample in read_all(uri, whole)]
    assert len(keys) == 20
    first = plan_archive(uri, LIMITS, Selection(limit=13))
    second = plan_archive(uri, LIMITS, planned=[first])
    assert sorted(s.key for one in (first, second) for s in read_all(uri, one)) == sorted(keys)
    assert len(read_all(uri, first)) == 13
    shard = whole["shard"].to_pylist()[0]
    chosen = plan_archive(uri, LIMITS, Selection(where=parse(f"shard == '{shard}'")))
    assert set(chosen["shard"].to_pylist()) == {shard}
    assert len(read_all(uri, plan_archive(uri, LIMITS, planned=[chosen]))) == 10


def test_rows_of_parquet_are_samples_with_their_keys_and_what_the_table_says(table: str) -> None:
    plan = plan_archive(table, LIMITS, Selection(facts=("year", "note")))
    samples = read_all(table, plan)
    assert [sample.key for sample in samples] == [f"a{n}" for n in range(10)] + [f"b{n}" for n in range(3)]
    assert samples[0].source == "a.parquet"
    assert image_member(samples[7]) == jpeg(7)
    assert sample_facts(samples[7]) == {"year": 1907, "note": None}
    assert plan["samples"].to_pylist() == [4, 2, 4, 3]  # a chunk lies within a row group


def test_rows_are_chosen_by_their_columns_and_the_others_come_later(table: str) -> None:
    early = Selection(where=parse("year < 1905 and key != 'a2'"))
    first = plan_archive(table, LIMITS, early)
    assert [s.key for s in read_all(table, first)] == ["a0", "a1", "a3", "a4", "b0", "b1", "b2"]
    assert plan_archive(table, LIMITS, early, [first]).num_rows == 0
    rest = [s.key for s in read_all(table, plan_archive(table, LIMITS, planned=[first]))]
    assert rest == ["a2", "a5", "a6", "a7", "a8", "a9"]


def test_uris_in_a_table_are_fetched_and_what_is_gone_is_a_fault_of_its_own(files: Store, tmp_path: Path) -> None:
    names = ["sea/1.jpg", f"{files.uri}/land/2.jpg", "sea/gone.jpg", None, f"file://{files.uri}/sea/3.jpg"]
    path = tmp_path / "files" / "listing.parquet"
    write_table(path, [{"uri": name} for name in names])
    samples = read_all(str(path), plan_archive(str(path), LIMITS))
    assert [sample.key for sample in samples] == [f"#{row}" for row in range(5)]
    assert [sample.fault is None for sample in samples] == [True, True, False, False, True]
    assert [image_member(samples[row]) for row in (0, 1, 4)] == [jpeg(1), jpeg(2), jpeg(3)]
    with pytest.raises(ImageError, match="Missing"):
        image_member(samples[2])


def test_a_single_table_or_a_pattern_is_an_archive_too(table: str) -> None:
    assert len(read_all(f"{table}/b.parquet", plan_archive(f"{table}/b.parquet", LIMITS))) == 3
    assert len(read_all(f"{table}/*.parquet", plan_archive(f"{table}/*.parquet", LIMITS))) == 13
    with pytest.raises(ConfigError, match="nonsense"):
        plan_archive(table, LIMITS, Selection(facts=("nonsense",)))
