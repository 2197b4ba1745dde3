"""A job's account over several plans, and the engine with the user's functions, tables' columns and large pictures."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import fake_engine, write_archive, write_image

from condgen.errors import ConfigError, ImageError
from pipelines.batch.archive import Selection, plan_archive
from pipelines.batch.attempts import begin_attempt, clear_attempts, forget_run
from pipelines.batch.engine import About, Functions
from pipelines.datasets.chunk import ChunkLimits, iter_chunks
from pipelines.results.account import committed, make_account
from pipelines.results.commits import PendingChunks
from pipelines.results.files import draws_schema, read_footer
from pipelines.results.plan import Generation, load_plans, write_plan
from pipelines.results.retrying import retry_chunks
from pipelines.results.settings import BatchSettings, OutputOptions
from pipelines.storage.store import Store, open_store

JOB = "job"


@pytest.fixture
def archive(tmp_path: Path) -> Store:
    """Seven pictures and, among them, a text file and a black picture, on which the fake model fails."""
    return write_archive(tmp_path / "archive", range(60, 200, 20))


def add_plan(results: Store, chunks: pa.Table | Iterator[pa.Table], kind: str = "archive") -> list[Generation]:
    begun = list(load_plans(results))
    write_plan(results, chunks, archive="a", model={"digest": "d"}, settings={}, generation=len(begun), kind=kind)
    return list(load_plans(results))


def work(archive: Store, results: Store, plans: list[Generation], most: int = 1000) -> int:
    """Do chunks that are pending, at most so many; returns how many."""
    chunks = list(iter_chunks(PendingChunks.of(results, plans)))[:most]
    for chunk in chunks:
        fake_engine(archive, results).run(chunk)
    return len(chunks)


@pytest.mark.parametrize("piece_chunks", [4096, 1])
def test_an_account_closes_over_growth_and_retries(
    archive: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_chunks: int
) -> None:
    monkeypatch.setattr("pipelines.results.plan.PIECE_CHUNKS", piece_chunks)
    results = open_store(str(tmp_path / "results"))
    limits = ChunkLimits(samples=3)
    plans = add_plan(results, plan_archive(archive, limits))
    assert work(archive, results, plans, most=1) == 1
    halfway = make_account(results, plans, JOB, 2)
    assert len(halfway.missing) == 2
    assert not halfway.is_closed
    work(archive, results, plans)
    account = make_account(results, plans, JOB, 2)
    assert (account.images, account.with_draws, account.errors) == (9, 7, 2)
    assert account.is_closed
    assert account.kinds == {"model NotFinite": 1, "decode NotAnImage": 1}

    write_image(tmp_path / "archive" / "a-new-one.png", 200)
    plans = add_plan(results, plan_archive(archive, limits, planned=[one.chunks for one in plans]))
    assert plans[1].chunks["name"].to_pylist()[0].startswith("g001-")
    assert work(archive, results, plans) == 1
    account = make_account(results, plans, JOB, 2)
    assert (account.images, account.with_draws, account.errors) == (10, 8, 2)

    write_image(tmp_path / "archive" / "black.png", 90)  # mended
    for errors in (1, 1):  # a second retry does again what the first could not
        again = pa.concat_tables(retry_chunks(plans, make_account(results, plans, JOB, 2)))
        assert sum(again["samples"].to_pylist()) == errors + (len(plans) == 2)
        plans = add_plan(results, again, "retry")
        assert work(archive, results, plans) == again.num_rows
        account = make_account(results, plans, JOB, 2)
        assert (account.images, account.with_draws, account.errors, account.is_closed) == (10, 9, errors, True)
    assert [failure.source for plan in plans for failure in account.failures_of(plan.plan.name)] == ["5.dat"]
    rows = [
        (row["source"], row["draw"])
        for name in committed(results)
        for row in pq.read_table(io.BytesIO(results.read(name)), columns=["source", "draw"]).to_pylist()
    ]
    assert len(rows) == len(set(rows)) == 18


def test_a_draw_made_by_a_retry_is_the_one_that_would_have_been(archive: Store, tmp_path: Path) -> None:
    images = []
    for name, mended in (("before", True), ("after", False)):
        results = open_store(str(tmp_path / name))
        write_image(tmp_path / "archive" / "black.png", 90 if mended else 0)
        plans = add_plan(results, plan_archive(archive, ChunkLimits(samples=4)))
        work(archive, results, plans)
        if not mended:
            write_image(tmp_path / "archive" / "black.png", 90)
            plans = add_plan(results, retry_chunks(plans, make_account(results, plans, JOB, 2)), "retry")
            work(archive, results, plans)
        tables = [pq.read_table(io.BytesIO(results.read(name))).to_pylist() for name in committed(results)]
        images.append([row["image"]["bytes"] for rows in tables for row in rows if row["key"] == "black"])
    assert len(images[0]) == 2
    assert images[0] == images[1]


def test_files_of_another_job_and_missing_ones_keep_an_account_open(archive: Store, tmp_path: Path) -> None:
    results = open_store(str(tmp_path / "results"))
    plans = add_plan(results, plan_archive(archive, ChunkLimits(samples=3)))
    work(archive, results, plans)
    assert make_account(results, plans, "another job", 2).foreign
    results.delete(next(iter(committed(results))))
    account = make_account(results, plans, JOB, 2)
    assert len(account.missing) == 1
    assert not account.is_closed


def test_what_the_users_functions_leave_out_is_counted(archive: Store, tmp_path: Path) -> None:
    results = open_store(str(tmp_path / "results"))
    seen: list[About] = []

    def before(rgb: np.ndarray, about: About) -> np.ndarray | None:
        seen.append(about)
        if about.key == "3":
            raise KeyError("of the user's own")
        return None if about.key == "1" else rgb[:8]

    def after(pictures: list[np.ndarray], about: About) -> list[np.ndarray] | None:
        assert len(pictures) == 2
        return None if about.key == "2" else [255 - picture for picture in pictures]

    plans = add_plan(results, plan_archive(archive, ChunkLimits(samples=100)))
    (chunk,) = iter_chunks(plans[0].chunks)
    receipt = fake_engine(archive, results, functions=Functions(before, after)).run(chunk)
    assert (receipt.samples, receipt.draws, receipt.errors, receipt.filtered) == (9, 8, 3, 2)
    assert receipt.kinds == {"before KeyError": 1, "model NotFinite": 1, "decode NotAnImage": 1}
    facts = read_footer(results, f"draws/{chunk.name}.parquet")
    assert [one["key"] for one in facts["filtered"]] == ["1", "2"]
    account = make_account(results, plans, JOB, 2)
    assert (account.with_draws, account.errors, account.filtered, account.is_closed) == (4, 3, 2, True)
    table = pq.read_table(io.BytesIO(results.read(f"draws/{chunk.name}.parquet")))
    assert set(table["height"].to_pylist()) == {8}


def test_columns_of_a_table_are_copied_with_their_types(archive: Store, tmp_path: Path) -> None:
    rows = [
        {"image": archive.read(f"{n}.png"), "key": str(n), "year": 1900 + n, "tags": ["a", "b"] if n else None}
        for n in range(3)
    ]
    (tmp_path / "table").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table" / "a.parquet")
    table = open_store(str(tmp_path / "table"))
    columns = (("year", "int64"), ("tags", "string"))
    settings = BatchSettings(draws=2, batch_size=4, output=OutputOptions(columns=columns))
    results = open_store(str(tmp_path / "results"))
    plans = add_plan(results, plan_archive(table, ChunkLimits(), Selection(facts=("year", "tags"))))
    (chunk,) = iter_chunks(plans[0].chunks)
    fake_engine(table, results, settings=settings).run(chunk)
    found = pq.read_table(io.BytesIO(results.read(f"draws/{chunk.name}.parquet")))
    assert found["year"].to_pylist() == [1900, 1900, 1901, 1901, 1902, 1902]
    assert found["tags"].to_pylist()[:3] == [None, None, '["a", "b"]']
    assert b'"year": {"_type": "Value", "dtype": "int64"}' in found.schema.metadata[b"huggingface"]
    for columns, says in (((("seed", "int64"),), "seed"), ((("year", "int46"),), "int64")):
        with pytest.raises(ConfigError, match=says):
            draws_schema(columns)


def test_attempts_are_marked_until_a_chunk_is_committed(tmp_path: Path) -> None:
    results = open_store(str(tmp_path))
    assert [begin_attempt(results, "one", run) for run in ("r1", "r1", "r2")] == [0, 1, 2]
    assert begin_attempt(results, "two", "r1") == 0
    forget_run(results, "r1")
    assert begin_attempt(results, "one", "r3") == 1
    clear_attempts(results, "one")
    assert begin_attempt(results, "one", "r3") == 0
    forget_run(results)
    assert results.list("attempts") == []


def test_a_users_function_may_refuse_an_image_itself(archive: Store, tmp_path: Path) -> None:
    def before(rgb: np.ndarray, about: About) -> np.ndarray:
        raise ImageError("before", "TooOld", "not of this century")

    results = open_store(str(tmp_path / "results"))
    plans = add_plan(results, plan_archive(archive, ChunkLimits(samples=100)))
    (chunk,) = iter_chunks(plans[0].chunks)
    assert fake_engine(archive, results, functions=Functions(before)).run(chunk).kinds["before TooOld"] == 8
