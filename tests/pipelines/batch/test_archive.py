"""What a batch job reads: shards, loose files, Parquet; what is new in each; what a condition or a limit leaves."""

import gzip
import io
import json
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
from pipelines.datasets.opening import Archive, archive_store
from pipelines.datasets.parquet import open_table, read_images
from pipelines.datasets.row_filter import parse
from pipelines.storage.neighbors import Neighbors
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


def in_table(store: Store, name: str, data: bytes, selection: Selection | None = None) -> list[Sample]:
    """The samples of a table of the store."""
    store.write(name, data)
    plan = plan_archive(Archive(store, tables=(name,)), LIMITS, selection)
    return [sample for chunk in iter_chunks(plan) for sample in read_chunk(store, chunk)]


def test_tables_as_text_are_archives_as_parquet_is(files: Store) -> None:
    rows = [
        ("sea/1.jpg", "1911-05-03", "first"), ("./land/2.jpg", "007", "NA"), (f"{files.uri}/sea/3.jpg", "", ""),
        (f"file://{files.uri}/land/4.jpg", "k4", "two\nlines"), ("../files/sea/5.jpg", "k5", "up"),
        ("sea/gone.jpg", "k6", "gone"), ("", "k7", "none"), ("a::b://c", "k8", "odd"), ("no://host/x.jpg", "k9", "odd"),
    ]  # fmt: skip
    names = ("uri", "key", "caption")
    lines = [",".join(f'"{cell}"' if cell else "" for cell in row) for row in (names, *rows)]
    texts = {
        "list.csv": "\r\n".join(lines).encode("utf-8-sig"),
        "list.jsonl": "\n".join(
            json.dumps(dict(zip(names, (c or None for c in row), strict=True))) for row in rows
        ).encode(),
    }
    tabbed = ["\t".join(f'"{cell}"' if cell else "" for cell in row) for row in (names, *rows)]
    texts["list.tsv.gz"] = gzip.compress("\n".join(tabbed).encode())
    sink = io.BytesIO()
    columns = list(zip(*(tuple(c or None for c in row) for row in rows), strict=True))
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), sink, row_group_size=100)
    for name, data in {**texts, "list.parquet": sink.getvalue()}.items():
        samples = in_table(files, name, data, Selection(facts=("caption",)))
        assert [sample.key for sample in samples] == ["1911-05-03", "007", "#2", "k4", "k5", "k6", "k7", "k8", "k9"]
        assert [image_member(sample) for sample in samples[:5]] == [jpeg(shade) for shade in (1, 2, 3, 4, 5)]
        faults = [sample.fault.error if sample.fault else "" for sample in samples[5:]]
        assert faults == ["Missing", "EmptyCell", "BadUri", "BadUri"]
        assert [sample_facts(sample)["caption"] for sample in samples[:4]] == ["first", "NA", None, "two\nlines"]
        assert {sample.source for sample in samples} == {name}
        chosen = in_table(files, name, data, Selection(where=parse("caption == 'NA' or startswith(key, 'k6')")))
        assert [sample.key for sample in chosen] == ["007", "k6"]


def test_texts_of_a_csv_are_compared_with_numbers_as_numbers(files: Store) -> None:
    years = ["1899", "1900", " ", "007", "1e3", "c. 1880", "", "-5", "+12.5"]
    data = b"path,year,key\n" + "".join(f"sea/1.jpg,{year},k{n}\n" for n, year in enumerate(years)).encode()
    for condition, rows in (
        ("year < 1900", [0, 3, 4, 7, 8]),
        ("year >= 1900 or year in (7, 12.5)", [1, 3, 8]),
        ("year + 1 == 1900", [0]),
        ("year == '007'", [3]),
        ("year is None", [6]),
        ("year > 1000 and key != 'k0'", [1]),
        ("0 < year < 100 and contains(key, 'k')", [3, 8]),
    ):
        samples = in_table(files, "years.csv", data, Selection(where=parse(condition)))
        assert [sample.key for sample in samples] == [f"k{row}" for row in rows], condition


def test_a_relative_path_begins_at_the_folder_of_its_table(files: Store) -> None:
    for name in ("lists/a/list.csv", "lists/a/list.jsonl"):
        line = b'{"path": "%s"}\n' if name.endswith("jsonl") else b"path\n%s\n"
        for path, found in ((b"../../sea/1.jpg", True), (b"sea/1.jpg", False), (b"../sea/1.jpg", False)):
            (sample,) = in_table(files, name, line % path)
            assert (sample.fault is None) is found


def test_the_bytes_of_an_image_go_before_its_url_and_rows_without_them_are_faults(files: Store) -> None:
    rows = [
        {"url": "file:///no/such/folder/1.jpg", "key": "000000000", "caption": "a", "jpg": jpeg(1)},
        {"url": "file:///no/such/folder/2.jpg", "key": "000000001", "caption": "b", "jpg": None},
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    samples = in_table(files, "00000.parquet", sink.getvalue())
    assert image_member(samples[0]) == jpeg(1)
    assert [sample.key for sample in samples] == ["000000000", "000000001"]
    assert samples[1].fault is not None
    assert samples[1].fault.error == "EmptyCell"
    samples = in_table(files, "00000.parquet", sink.getvalue(), Selection(columns={"image": "url"}))
    assert [sample.fault is None for sample in samples] == [False, False]


def test_text_tables_of_more_rows_than_a_group_are_cut_in_chunks(files: Store) -> None:
    data = b"path,number\n" + b"".join(b"sea/1.jpg,%d\n" % n for n in range(65_540))
    files.write("long.csv", data)
    archive = Archive(files, tables=("long.csv",))
    plan = plan_archive(archive, ChunkLimits(samples=60_000))
    assert plan["samples"].to_pylist() == [60_000, 5_536, 4]
    last = plan_archive(archive, LIMITS, Selection(where=parse("number == '65539'"), facts=("number",)))
    ((sample,),) = [read_chunk(files, chunk) for chunk in iter_chunks(last)]
    assert (sample.key, sample_facts(sample)) == ("#65539", {"number": "65539"})


class AskingNeighbors(Neighbors):
    """Neighbors that ask for every other object, and find the one that is read refused."""

    def read(self, store: Store, name: str, *_: Any, others: Any, **__: Any) -> Any:
        self.asked = [where.locate(other) for where, other in others()]
        raise ImageError("read", "Refused", name)


def test_a_bad_uri_is_the_fault_of_its_own_row_alone(files: Store) -> None:
    uris = [f"{files.uri}/sea/1.jpg", "a::b://c", "sea/3.jpg", "no-such-scheme://host/x.jpg"]
    files.write("list.csv", "\n".join(["uri", *uris]).encode())
    open_table(files, "list.csv")
    neighbors = AskingNeighbors()
    found = list(read_images(files, "list.csv", "uri", range(4), neighbors))
    assert [image.error for image in found if isinstance(image, ImageError)] == [
        "Refused",
        "BadUri",
        "Refused",
        "BadUri",
    ]
    assert sorted(neighbors.asked) == [f"{files.uri}/sea/1.jpg", f"{files.uri}/sea/3.jpg"]
