"""Tables as text: every text stays what it is, and a row that can't be read is named."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from condgen.errors import DatasetError
from pipelines.datasets.text_table import is_text_table, read_text_table
from pipelines.storage.store import open_store


def read(folder: Path, name: str, data: bytes) -> pa.Table:
    (folder / name).write_bytes(data)
    return read_text_table(open_store(str(folder)), name)


def rows(folder: Path, name: str, data: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(folder, name, data).to_pylist()
    return found


LOOK_LIKE_SOMETHING_ELSE = [
    "1911-05-03", "1911-05-03T10:00:00", "007", "1e5", "NA", "null", "NaN", "true", "b'cat'", "  two spaces ", "=1+1",
    "\N{LATIN SMALL LETTER E WITH ACUTE}", "a\u2028b", "[1]", '{"a": 1}', "12:30",
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "ndjson.gz", "csv.gz"])
def test_no_text_is_taken_for_anything_else(tmp_path: Path, suffix: str) -> None:
    texts = LOOK_LIKE_SOMETHING_ELSE
    if "json" in suffix:
        data = "".join(json.dumps({"url": "a.jpg", "caption": text}) + "\n" for text in texts).encode()
    else:
        quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
        sign = "\t" if suffix == "tsv" else ","
        data = "".join(f"{a}{sign}{b}\n" for a, b in [("url", "caption"), *(("a.jpg", one) for one in quoted)]).encode()
    table = read(tmp_path, f"t.{suffix}", gzip.compress(data) if suffix.endswith("gz") else data)
    assert table["caption"].to_pylist() == texts
    assert table.schema.types == [pa.string(), pa.string()]


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("a.csv", b"\xef\xbb\xbfurl , caption\r\na, x\r\n\r\nb, \"y, z\"\r\n", [("a", "x"), ("b", "y, z")]),
        ("a.csv", b'url,caption\n"a\nb","say ""hi"""\n', [("a\nb", 'say "hi"')]),
        ("a.csv", b"url;caption\na;1,5\n", [("a", "1,5")]),
        ("a.csv", b"url\tcaption\na\tx, y\n", [("a", "x, y")]),
        ("a.csv", b"url,caption\ra,x\rb,\r", [("a", "x"), ("b", None)]),
        ("a.csv", b"\nurl,caption\n   \n,x\n,\n", [(None, "x"), (None, None)]),
        ("a.csv", b"url,caption\na,\0\n", [("a", "\0")]),
        ("a.csv", b"url,caption\n a ,  x\n", [(" a ", "  x")]),
        ("a.tsv", b'url\tcaption\na\t"Hi", she said\nb\t5" x 7"\n', [("a", '"Hi", she said'), ("b", '5" x 7"')]),
        ("a.tsv", "url\tcaption\r\na\tç\r\n".encode("utf-16"), [("a", "ç")]),
        ("a.CSV.GZ", gzip.compress(b"url,caption\na,x\n", mtime=0) + gzip.compress(b"b,y\n", mtime=0), [("a", "x"), ("b", "y")]),
        ("a.csv", gzip.compress(b"url,caption\na,x\n", mtime=0), [("a", "x")]),
    ],
)  # fmt: skip
def test_tables_as_programs_write_them(tmp_path: Path, name: str, data: bytes, found: list[tuple[Any, Any]]) -> None:
    table = rows(tmp_path, name, data)
    assert [(row["url"], row["caption"]) for row in table] == found


def test_a_cell_of_any_length_is_read(tmp_path: Path) -> None:
    long = "x" * 5_000_000
    assert rows(tmp_path, "a.csv", f'url,caption\na,"{long}"\n'.encode())[0]["caption"] == long
    assert rows(tmp_path, "a.jsonl", json.dumps({"caption": long}).encode())[0]["caption"] == long


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"url,caption\na,x\nb,y,z\n", r"row 2 \(line 3\) has 3 cells, and the first line 2"),
        ("a.csv", b'url,caption\n"a\nb",x\nb\n', r"row 2 \(line 4\) has 1 cells"),
        ("a.csv", b'url,caption\na,x\nb,"y\nc,z\n', r"row 2 \(line 3\): its quotes are not closed"),
        ("a.csv", b'url,caption\na,"x" y\n', "row 1 "),
        ("a.csv", b"url,caption, URL,url\na,x,b,c\n", "two columns are called 'url'"),
        ("a.csv", b"url,caption\na,x\nb,caf\xe9\n", "line 3 is not text in UTF-8"),
        ("a.csv", b"", "it is empty"),
        ("a.csv", b"PK\x03\x04\xff\xfe", "not text in UTF-8"),
        ("a.csv.gz", gzip.compress(b"url\n" + bytes(range(32, 120)) * 50)[:-9], "cut"),
        ("a.csv.gz", b"\x1f\x8bnonsense", "damaged"),
        ("a.jsonl", b'{"url": "a"}\n\n{"url": }\n', "row 2 is no JSON"),
        ("a.jsonl", b'[{"url": "a"}]', "row 1 is no JSON object"),
        ("a.jsonl", b"\n", "no rows"),
        ("a.jsonl", b'{"image": {"bytes": "no base64!", "path": "x.jpg"}}', "'x.jpg' are not base64"),
    ],
)
def test_a_row_that_can_not_be_read_is_named(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(DatasetError, match=f"{name} can't be read: .*{said}"):
        read(tmp_path, name, data)


def test_json_lines_have_the_types_that_json_tells_and_nothing_is_something_missing(tmp_path: Path) -> None:
    lines = [
        b'{"url": "a", "year": 1911, "share": 1, "odd": 1, "sure": true, "tags": ["x", {"y": null}], "gone": null}',
        b'{"url": "b", "share": 0.5, "odd": "x", "late": NaN, "half": "\\ud83d!", "big": 12345678901234567890}\r',
    ]
    table = read(tmp_path, "a.jsonl", b"\n".join(lines))
    assert table.to_pylist() == [
        {
            "url": "a", "year": 1911, "share": 1.0, "odd": "1", "sure": True, "tags": '["x", {"y": null}]',
            "gone": None, "late": None, "half": None, "big": None,
        },
        {
            "url": "b", "year": None, "share": 0.5, "odd": "x", "sure": None, "tags": None,
            "gone": None, "late": None, "half": "\\ud83d!", "big": "12345678901234567890",
        },
    ]  # fmt: skip
    assert table.schema.field("year").type == pa.int64()


def test_types_are_of_the_whole_table_not_of_its_first_rows(tmp_path: Path) -> None:
    lines = [b'{"n": 1, "late": null}\n'] * 70_000 + [b'{"n": "x", "late": "y", "new": 2}\n']
    table = read(tmp_path, "a.jsonl", b"".join(lines))
    assert (table.num_rows, table["n"][0].as_py(), table["n"][70_000].as_py()) == (70_001, "1", "x")
    assert (table["late"][70_000].as_py(), table["new"][70_000].as_py(), table["new"].null_count) == ("y", 2, 70_000)


def test_objects_with_bytes_or_a_path_are_images_as_in_parquet(tmp_path: Path) -> None:
    held = {"bytes": base64.b64encode(b"\xff\xd8").decode(), "path": None}
    lines = [{"image": {"path": "a.jpg"}, "other": {"path": "x", "more": 1}}, {"image": held}, {"image": None}, {}]
    table = read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert table["image"].to_pylist() == [
        {"bytes": None, "path": "a.jpg"}, {"bytes": b"\xff\xd8", "path": None}, None, None,
    ]  # fmt: skip
    assert table["other"][0].as_py() == '{"path": "x", "more": 1}'


def test_tables_as_text_are_known_by_their_names() -> None:
    assert [is_text_table(name) for name in ("a.csv", "s3://b/A.TSV.gz", "a.jsonl", "a.ndjson", "a.json", "csv")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip
