"""Results open as images in Hugging Face's datasets, which reads the files as anyone would who knows only Parquet."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hub import load_dataset
from PIL import Image
from samples import saved, smooth

from pipelines.results.files import (
    COLUMN_TYPES,
    Draw,
    Failure,
    draws_name,
    encode_draws,
    read_footer,
    write_errors,
)
from pipelines.storage.parquet import open_parquet, read_parquet
from pipelines.storage.store import open_store

__all__ = ["load_dataset"]

OLD = Path(__file__).resolve().parents[2] / "old_data" / "0.1" / "results"
COLUMNS = [(f"the {kind}", kind) for kind in COLUMN_TYPES]
FACTS = {"the string": "naïve \u202e<b>", "the int64": 2**62, "the float64": 0.25, "the bool": True}
VALUES = ["string", "string", "int32", "int64", "int32", "int32", "string", "string"]


def draw(number: int, facts: dict[str, Any]) -> Draw:
    data = saved(smooth(number, (12, 9)), "PNG" if number % 2 else "JPEG")
    return Draw(
        source="a.tar", key=f"{number}", draw=0, seed=0, image=data, path=f"{number}.png", width=12, height=9,
        source_sha256="0" * 64, facts=facts,
    )  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of three chunks: one that failed whole, and two with draws, one of which knows nothing of its samples."""
    store = open_store(tmp_path / "results")
    chunks = {"0": [], "1": [draw(1, FACTS), draw(2, FACTS)], "2": [draw(3, {})]}
    for name, draws in chunks.items():
        store.write(draws_name(name), encode_draws(draws, [], {}, samples=len(draws), columns=COLUMNS))
    failures = [Failure(source="a", key="b", stage="decode", error="E", message="m", place=n) for n in range(2)]
    write_errors(store, "000", failures)
    write_errors(store, "001", [])
    return tmp_path / "results"


@pytest.mark.parametrize("streaming", [False, True])
def test_draws_are_images_with_all_their_columns(results: Path, load_dataset: Any, streaming: bool) -> None:
    files = str(results / "draws" / "*.parquet")
    draws = load_dataset("parquet", data_files=files, split="train", streaming=streaming)
    features = dict(draws.features)
    assert type(features.pop("image")).__name__ == "Image"
    assert [feature.dtype for feature in features.values()] == [*VALUES, *COLUMN_TYPES]
    rows = list(draws)
    assert [row["key"] for row in rows] == ["1", "2", "3"]
    assert all(isinstance(row["image"], Image.Image) and row["image"].size == (12, 9) for row in rows)
    assert {name: rows[0][name] for name in FACTS} == FACTS
    assert {rows[2][name] for name in FACTS} == {None}


@pytest.mark.parametrize("streaming", [False, True])
def test_errors_are_a_table_also_where_a_plan_has_none(results: Path, load_dataset: Any, streaming: bool) -> None:
    files = str(results / "errors" / "*.parquet")
    errors = load_dataset("parquet", data_files=files, split="train", streaming=streaming)
    assert {feature.dtype for feature in errors.features.values()} == {"string"}
    assert [row["stage"] for row in errors] == ["decode", "decode"]


def test_files_without_rows_are_read_and_have_the_same_bytes_each_time(results: Path) -> None:
    store = open_store(results)
    with open_parquet(store, draws_name("0")) as file:
        assert file.num_row_groups == 0
        assert file.read(["key"]).num_rows == 0
    assert read_footer(store, draws_name("0"))["counts"]["draws"] == 0
    empty = store.read("errors/001.parquet")
    assert read_parquet(empty).schema.names == ["source", "key", "stage", "error", "message"]
    write_errors(store, "001", [])
    assert store.read("errors/001.parquet") == empty


def test_results_that_version_0_1_began_and_this_one_ended_are_one_dataset(tmp_path: Path, load_dataset: Any) -> None:
    shutil.copytree(OLD / "draws", tmp_path / "draws")
    old = sorted((tmp_path / "draws").iterdir())
    digest = hashlib.sha256(old[0].read_bytes()).hexdigest()
    (tmp_path / "draws" / "new.parquet").write_bytes(encode_draws([draw(1, {})], [], {}, samples=1))
    files = str(tmp_path / "draws" / "*.parquet")
    draws = load_dataset("parquet", data_files=files, split="train")
    assert draws.num_rows == pq.ParquetDataset(tmp_path / "draws").read().num_rows == 13
    assert hashlib.sha256(old[0].read_bytes()).hexdigest() == digest
