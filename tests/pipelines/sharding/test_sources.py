"""Sources: every file and every row is a record or is rejected with its reason."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from condgen.errors import ConfigError, DatasetError, ImageError, MissingError
from pipelines.sharding.assignment import assign_keys
from pipelines.sharding.options import ShardOptions
from pipelines.sharding.sources import Listing, folder_source, halves_source, pairs_source, read_part
from pipelines.sharding.tables import table_source
from pipelines.storage.store import open_store


def files(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"bytes of {name}".encode())
    return str(folder)


def read(listing: Listing) -> dict[str, list[bytes]]:
    return {record.name: [read_part(listing.stores, part) for part in record.parts] for record in listing.records}


def rejected(listing: Listing) -> dict[str, str]:
    return {row.source.rpartition("/")[2]: row.error for row in listing.rejected}


def keys(listing: Listing) -> list[str]:
    return [sample.key for sample in assign_keys(listing, ShardOptions())]


def test_pairs_are_of_one_name_and_others_are_rejected(tmp_path: Path) -> None:
    inputs = files(tmp_path / "in", "a/1.jpg", "a/2.png", "3.jpg", "4.jpg", "4.png", "notes.txt")
    targets = files(tmp_path / "out", "a/1.jpg", "a/2.jpg", "4.jpg", "5.jpg")
    listing = pairs_source(inputs, targets)
    assert listing.kind == "paired"
    assert read(listing) == {
        "a/1.jpg": [b"bytes of a/1.jpg"] * 2,
        "a/2.png a/2.jpg": [b"bytes of a/2.png", b"bytes of a/2.jpg"],
    }
    assert keys(listing) == ["a/1", "a/2"]
    assert [row.source for row in listing.rejected if row.error == "Ambiguous"] == [
        f"{inputs}/4.jpg", f"{inputs}/4.png", f"{targets}/4.jpg",
    ]  # fmt: skip
    assert rejected(listing)["3.jpg"] == rejected(listing)["5.jpg"] == "NoPartner"
    assert rejected(listing)["notes.txt"] == "NotAnImage"


def test_halves_are_two_parts_of_one_file(tmp_path: Path) -> None:
    listing = halves_source(files(tmp_path, "1.jpg"), "right")
    (record,) = listing.records
    assert [(part.member, part.half) for part in record.parts] == [("input", "right"), ("target", "left")]
    assert record.size_bytes == len(b"bytes of 1.jpg")
    with pytest.raises(ConfigError, match="left"):
        halves_source(str(tmp_path), "lft")


ROWS: list[dict[str, Any]] = [
    {"url": "a/1.jpg", "caption": "one", "label": 1},
    {"url": "a/1.jpg", "caption": "the same, otherwise", "label": 1},
    {"url": "../other/2.jpg", "caption": None, "label": 2},
    {"url": "gone.jpg", "caption": "x", "label": 3},
    {"url": "", "caption": "x", "label": 4},
    {"url": "nope::x", "caption": "x", "label": 5},
    {"url": "s3://", "caption": "x", "label": 6},
    {"url": "qq://host/x.jpg", "caption": "x", "label": 7},
]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_lists_images_with_captions_and_labels(tmp_path: Path, suffix: str) -> None:
    files(tmp_path, "tables/a/1.jpg", "other/2.jpg", "elsewhere/3.jpg")
    rows = [*ROWS, {"url": f"{tmp_path}/elsewhere/3.jpg", "caption": "absolute", "label": 8}]
    table = tmp_path / "tables" / f"list.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    elif suffix == "jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        sign = "," if suffix == "csv" else "\t"
        lines = [sign.join(rows[0]), *(sign.join(f'"{row[name] or ""}"' for name in row) for row in rows)]
        table.write_text("\n".join(lines))
    listing = table_source(str(table))
    about = {record.name: dict(record.about) for record in listing.records}
    assert about["a/1.jpg"] == {"caption": "one", "label": 1}
    assert about["a/1.jpg#2"]["caption"] == "the same, otherwise"
    assert about["../other/2.jpg"]["label"] == 2
    contents = read(listing)
    assert contents["a/1.jpg"] == contents["a/1.jpg#2"] == [b"bytes of tables/a/1.jpg"]
    assert contents["../other/2.jpg"] == [b"bytes of other/2.jpg"]
    assert contents[f"{tmp_path}/elsewhere/3.jpg"] == [b"bytes of elsewhere/3.jpg"]
    assert len(listing.records) + len(listing.rejected) == len(rows)
    errors = sorted(row.error for row in listing.rejected)
    assert errors == ["BadUri", "BadUri", "BadUri", "Missing", "Unreachable"]
    assert keys(listing)[:3] == ["other/2", f"{str(tmp_path).lstrip('/')}/elsewhere/3", "a/1"]
    assert keys(listing)[3] == "a/1%2Ejpg"


def test_columns_are_named_where_their_names_tell_nothing(tmp_path: Path) -> None:
    files(tmp_path, "x.jpg", "y.jpg")
    (tmp_path / "t.csv").write_text("source,goal,what,number\nx.jpg,y.jpg,cat,007\n")
    table = str(tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="source, goal, what, number"):
        table_source(table)
    with pytest.raises(ConfigError, match="did you mean 'source'"):
        table_source(table, {"image": "sauce"})
    with pytest.raises(ConfigError, match="caption"):
        table_source(table, {"capton": "what"})
    listing = table_source(table, {"input": "source", "target": "goal", "label": "what", "key": "number"})
    assert listing.kind == "paired"
    assert read(listing) == {"x.jpg y.jpg": [b"bytes of x.jpg", b"bytes of y.jpg"]}
    assert keys(listing) == ["007"]
    assert dict(listing.records[0].about) == {"label": "cat"}
    with pytest.raises(ConfigError, match="target"):
        table_source(table, {"input": "source"})


def test_images_in_a_parquet_are_read_by_row_groups(tmp_path: Path) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"image": {"bytes": b"%d" % n, "path": f"d/{n}.jpg" if n % 2 else None}, "text": f"t{n}"} for n in range(9)]
    rows[4]["image"] = None  # type: ignore[assignment]
    schema = pa.schema([("image", struct), ("text", pa.string())])
    for number in range(2):
        part = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(part, tmp_path / f"p-{number}.parquet", row_group_size=4)
    listing = table_source(f"{tmp_path}/p-*.parquet")
    assert len(listing.records) == 18
    assert listing.in_order
    first = listing.records[1]
    assert (first.name, dict(first.about)) == ("p-0.parquet#1", {"caption": "t1"})
    assert keys(listing)[:2] == ["p-0/00000000", "d/1"]
    contents = [
        read_part(listing.stores, record.parts[0]) for record in listing.records if not record.name.endswith("#4")
    ]
    assert contents == [b"%d" % n for n in range(9) if n != 4] * 2
    with pytest.raises(ImageError, match="EmptyCell"):
        read_part(listing.stores, listing.records[4].parts[0])


def test_words_of_a_table_stay_what_they_are_and_what_json_can_not_hold_is_left_out(tmp_path: Path) -> None:
    files(tmp_path, *(f"{n}.jpg" for n in range(4)))
    cafe = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    words = pa.array([b"cat", cafe.encode(), b"caf\xe9", None])
    table = pa.table(
        {
            "path": pa.array([f"{n}.jpg" for n in range(4)]).dictionary_encode(),
            "caption": words,
            "label": [float("nan"), 1.5, float("inf"), None],
            "key": pa.array([b"k0", b"k1", b"k2", b"k3"], pa.binary_view()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    listing = table_source(str(tmp_path / "t.parquet"))
    assert [dict(record.about) for record in listing.records] == [
        {"caption": "cat"}, {"caption": cafe, "label": 1.5}, {"caption": "caf\\xe9"}, {},
    ]  # fmt: skip
    assert keys(listing) == ["k0", "k1", "k2", "k3"]


@pytest.mark.parametrize(
    ("labels", "read"),
    [(["1", "2", ""], [1, 2, None]), (["1", "2", "NA"], ["1", "2", "NA"]), (["0.5", "1", ""], [0.5, 1.0, None]),
     (["1911-05-03", "2", "3"], ["1911-05-03", "2", "3"]), (["true", "false", "1"], ["true", "false", "1"])],
)  # fmt: skip
def test_labels_of_a_csv_are_numbers_where_all_of_them_are(tmp_path: Path, labels: list[str], read: list[Any]) -> None:
    files(tmp_path, *(f"{n}.jpg" for n in range(3)))
    rows = "".join(f"{n}.jpg, {label}\n" for n, label in enumerate(labels))
    (tmp_path / "t.csv").write_text(f"\N{ZERO WIDTH NO-BREAK SPACE}path, label\n{rows}")
    about = [record.about.get("label") for record in table_source(str(tmp_path / "t.csv")).records]
    assert about == read
    assert [type(label) for label in about] == [type(label) for label in read]


def test_paths_are_relative_to_their_own_table(tmp_path: Path) -> None:
    files(tmp_path, "a/1.jpg", "b/1.jpg")
    for folder in ("a", "b"):
        (tmp_path / folder / "list.csv").write_text("path\n1.jpg\n")
    listing = table_source(f"{tmp_path}/*/list.csv")
    assert sorted(read(listing).values()) == [[b"bytes of a/1.jpg"], [b"bytes of b/1.jpg"]]


def test_images_that_a_struct_names_are_read_from_where_they_are(tmp_path: Path) -> None:
    files(tmp_path, "d/1.jpg", "2.jpg")
    lines = [{"image": {"path": "d/1.jpg"}}, {"image": {"path": f"{tmp_path}/2.jpg", "bytes": None}}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    listing = table_source(str(tmp_path / "t.jsonl"))
    assert listing.columns == ("image",)
    assert sorted(read(listing).values()) == [[b"bytes of 2.jpg"], [b"bytes of d/1.jpg"]]


def test_tables_that_can_not_be(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "a.csv").write_text('uri\n"x\n')
    (tmp_path / "a.jsonl").write_text("{]")
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        with pytest.raises(DatasetError, match=name):
            table_source(str(tmp_path / name))
    with pytest.raises(MissingError, match="no such file"):
        table_source(str(tmp_path / "b.csv"))


def test_a_table_in_object_storage_lists_what_is_beside_it_and_elsewhere(tmp_path: Path, s3: Any) -> None:
    bucket = open_store(f"{s3.uri('tables-tests')}/{tmp_path.name}")
    bucket.write("images/1.jpg", b"one")
    bucket.write(
        "list.csv", f"uri,label\n1.jpg,0\nimages/1.jpg,1\n{bucket.uri}/images/1.jpg,2\n{tmp_path}/l.jpg,3\n".encode()
    )
    files(tmp_path, "l.jpg")
    listing = table_source(f"{bucket.uri}/list.csv")
    assert sorted(read(listing).values()) == [[b"bytes of l.jpg"], [b"one"], [b"one"]]
    assert rejected(listing) == {"1.jpg": "Missing"}
    assert rejected(table_source_of(bucket, "s3://no-such-bucket-here/x.jpg")) == {"x.jpg": "Unreachable"}


def table_source_of(store: Any, uri: str) -> Listing:
    store.write("one.csv", f"uri\n{uri}\n".encode())
    return table_source(f"{store.uri}/one.csv")


def test_a_folder_that_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no files"):
        folder_source(str(tmp_path / "empty"))
