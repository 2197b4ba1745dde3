"""Parquet in a store: what is asked for is fetched, in few requests, and nothing of Python's reaches Arrow."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from condgen.errors import DatasetError, MissingError
from pipelines.storage.parquet import StoredParquet, open_parquet, parquet_bytes, read_parquet
from pipelines.storage.store import Store, open_store

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Counting:
    """A backend that notes what is asked of it."""

    backend: Any
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.asked.append((name, *arguments))
            return getattr(self.backend, name)(*arguments)

        return call


@pytest.fixture
def rows() -> pa.Table:
    noise = np.random.default_rng(0)
    image = [{"bytes": noise.bytes(2000), "path": f"{n}.jpg"} for n in range(300)]
    return pa.table({"key": [f"k{n}" for n in range(300)], "year": range(300), "image": image, "words": [["a"]] * 300})


def counting(folder: Path, data: bytes) -> tuple[Store, list[tuple[str, ...]]]:
    store = open_store(str(folder))
    store.write("t.parquet", data)
    backend = Counting(store.backend)
    return Store(backend, store.uri), backend.asked


@pytest.mark.parametrize("compression", ["zstd", "none", "snappy"])
def test_what_is_read_is_what_pyarrow_reads(tmp_path: Path, rows: pa.Table, compression: str) -> None:
    data = parquet_bytes(rows, row_group_size=64, compression=compression)
    expected = pq.ParquetFile(io.BytesIO(data))
    store, _ = counting(tmp_path, data)
    file = open_parquet(store, "t.parquet")
    assert file.schema_arrow == expected.schema_arrow
    assert file.num_row_groups == 5
    for columns in (None, ["key"], ["image"], ["image.path", "year"], ["words"]):
        assert file.read(columns).equals(expected.read(columns=columns))
        assert file.read_row_group(3, columns).equals(expected.read_row_group(3, columns=columns))
    assert read_parquet(data).equals(rows)
    assert StoredParquet.of_table(rows).read().equals(rows)
    assert open_parquet(store, "t.parquet", whole_up_to_bytes=len(data)).read().equals(rows)
    store.write("t.parquet", parquet_bytes(rows.slice(0, 0)))
    assert open_parquet(store, "t.parquet").read(["image.path"]).num_rows == 0


def test_a_row_group_is_one_request_and_no_byte_of_the_others(tmp_path: Path, rows: pa.Table) -> None:
    data = parquet_bytes(rows, row_group_size=100)
    store, asked = counting(tmp_path, data)
    file = open_parquet(store, "t.parquet", size_bytes=len(data))
    assert asked == [("read_range", "t.parquet", len(data) - (1 << 16), len(data))]
    asked.clear()
    file.read_row_group(1, ["key", "year", "image"])
    ((_, _, start, stop),) = asked
    assert 200_000 < int(stop) - int(start) < 220_000
    asked.clear()
    file.read(["key"])
    assert len(asked) == 3
    assert sum(int(stop) - int(start) for _, _, start, stop in asked) < 5_000


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9, 0.999])
def test_damage_is_told_or_changes_nothing(tmp_path: Path, rows: pa.Table, at: float) -> None:
    data = bytearray(parquet_bytes(rows, row_group_size=64, compression="zstd"))
    place = int(len(data) * at)
    data[place : place + 40] = b"\xff" * 40
    store, _ = counting(tmp_path, bytes(data))
    try:
        file = open_parquet(store, "t.parquet")
        file.read()
    except (DatasetError, pa.ArrowException):
        pass


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 no", b"PAR1\xff\xff\xff\x7fPAR1", b"x" * 100_000 + b"PAR1"])
def test_what_is_no_parquet_is_told(tmp_path: Path, data: bytes) -> None:
    store, _ = counting(tmp_path, data)
    with pytest.raises(DatasetError, match="no Parquet file, or damaged"):
        open_parquet(store, "t.parquet")
    with pytest.raises(MissingError):
        open_parquet(store, "u.parquet")


def test_dictionaries_and_views_come_as_plain_texts_and_bytes() -> None:
    table = pa.table(
        {
            "d": pa.array(["a", None, "a"]).dictionary_encode(),
            "v": pa.array(["a", None, "b"], pa.string_view()),
            "b": pa.array([b"a", None, b"b"], pa.binary_view()),
            "db": pa.array([b"a", None, b"a"]).dictionary_encode(),
            "s": pa.array([{"bytes": b"x", "path": "p"}, None, {"bytes": None, "path": "q"}],
                          pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])),
            "l": pa.array([["a"], None, []], pa.list_(pa.string_view())),
        }
    )  # fmt: skip
    file = StoredParquet.of_table(table)
    assert file.read().to_pylist() == table.to_pylist()
    assert file.read().schema == file.schema_arrow
    assert not re.search("dictionary|view", str(file.schema_arrow.remove_metadata()))
    assert file.read_row_group(0, ["s"]).to_pylist() == table.select(["s"]).to_pylist()


def test_no_module_hands_arrow_an_object_of_pythons() -> None:
    """Arrow's threads let go of it when they like, and while the interpreter ends that is SIGABRT."""
    handed = re.compile(
        r"PythonFile|py_buffer|foreign_buffer|pq\.\w+\((?:io\.)?BytesIO|BufferReader\((?!held\b|buffer\b)"
    )
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("pipelines", "jobs", "condgen")
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if handed.search(line)
    ]
    assert wrong == []
