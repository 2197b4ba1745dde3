"""The batch engine without Ray: chunks, the plan, the draws file and its account, on a small fake model."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import SETTINGS, fake_engine, write_image
from PIL import Image

from condgen.errors import ConfigError, DatasetError
from pipelines.batch.archive import plan_archive
from pipelines.datasets.chunk import ChunkLimits, chunks_to_table, iter_chunks, read_chunk
from pipelines.results.files import DRAWS_SCHEMA, draws_name, encode_draws, iter_footers, read_footer, write_errors
from pipelines.results.plan import load_plans, write_plan
from pipelines.results.settings import BatchSettings, OutputOptions
from pipelines.storage.store import Store, open_store


@pytest.fixture
def archive(tmp_path: Path) -> Store:
    """Six files: four pictures, a text file and a black picture, on which the fake model fails."""
    root = tmp_path / "archive"
    for number in range(4):
        write_image(root / f"album/{number}.png", 100 + 40 * number)
    write_image(root / "black.png", 0)
    (root / "notes.dat").write_text("not an image")
    return open_store(str(root))


def run_all(archive: Store, results: Store, settings: BatchSettings = SETTINGS) -> list[str]:
    chunks = list(iter_chunks(plan_archive(archive, ChunkLimits(samples=settings.chunk_samples))))
    for chunk in chunks:
        fake_engine(archive, results, settings=settings).run(chunk)
    return [draws_name(chunk.name) for chunk in chunks]


def test_every_sample_has_k_draws_or_one_error(archive: Store, tmp_path: Path) -> None:
    results = open_store(str(tmp_path / "results"))
    names = run_all(archive, results)
    rows = [row for name in names for row in pq.read_table(io.BytesIO(results.read(name))).to_pylist()]
    footers = list(iter_footers(results, {name: results.size(name) for name in names}))
    errors = {error["source"]: error for facts in footers for error in facts["errors"]}

    assert [(row["source"], row["draw"]) for row in rows] == [(f"album/{n}.png", k) for n in range(4) for k in range(2)]
    assert errors["black.png"]["stage"] == "model"
    assert errors["notes.dat"]["stage"] == "decode"
    assert sum(facts["counts"]["samples"] for facts in footers) == 6
    assert {row["source_sha256"] for row in rows if row["key"] == "album/0"} == {
        hashlib.sha256(archive.read("album/0.png")).hexdigest()
    }


def test_images_have_the_originals_size_and_draws_differ(archive: Store, tmp_path: Path) -> None:
    results = open_store(str(tmp_path / "results"))
    rows = pq.read_table(io.BytesIO(results.read(run_all(archive, results)[0]))).to_pylist()
    pictures = [np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows]
    assert {picture.shape for picture in pictures} == {(24, 40, 3)}
    assert (rows[0]["width"], rows[0]["height"]) == (40, 24)
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 8


def test_the_same_chunk_twice_is_the_same_bytes_and_the_batch_does_not_show(archive: Store, tmp_path: Path) -> None:
    first, second = open_store(str(tmp_path / "a")), open_store(str(tmp_path / "b"))
    for name in run_all(archive, first):
        assert name in run_all(archive, second)
        assert first.read(name) == second.read(name)
    whole = open_store(str(tmp_path / "whole"))
    (name,) = run_all(archive, whole, BatchSettings(draws=2, seed=3, batch_size=4, chunk_samples=64))
    images = {(r["key"], r["draw"]): r["image"] for r in pq.read_table(io.BytesIO(whole.read(name))).to_pylist()}
    for name in run_all(archive, first):
        for row in pq.read_table(io.BytesIO(first.read(name))).to_pylist():
            assert images[row["key"], row["draw"]] == row["image"]


def test_another_seed_gives_other_draws(archive: Store, tmp_path: Path) -> None:
    def first_image(seed: int) -> bytes:
        results = open_store(str(tmp_path / str(seed)))
        names = run_all(archive, results, BatchSettings(draws=1, seed=seed, batch_size=2))
        return pq.read_table(io.BytesIO(results.read(names[0]))).to_pylist()[0]["image"]["bytes"]

    assert first_image(1) != first_image(2)


def test_chunks_survive_the_plan_file_and_cover_the_listing(archive: Store) -> None:
    chunks = list(iter_chunks(plan_archive(archive, ChunkLimits(samples=4))))
    assert list(iter_chunks(chunks_to_table(chunks))) == chunks
    assert [file.name for chunk in chunks for file in chunk.files] == [entry.name for entry in archive.list()]
    assert [chunk.first_sample for chunk in chunks] == [0, 4]


def test_a_chunk_is_bounded_in_bytes_and_one_large_file_is_a_chunk_of_its_own(archive: Store) -> None:
    sizes = [entry.size_bytes for entry in archive.list()]
    chunks = list(iter_chunks(plan_archive(archive, ChunkLimits(samples=100, size_bytes=min(sizes)))))
    assert [chunk.samples for chunk in chunks] == [1] * len(sizes)


def test_a_file_that_is_gone_is_an_error_of_its_own_and_not_of_its_chunk(archive: Store) -> None:
    (chunk,) = iter_chunks(plan_archive(archive, ChunkLimits()))
    archive.delete("album/1.png")
    samples = read_chunk(archive, chunk)
    assert [sample.source for sample in samples if sample.fault] == ["album/1.png"]
    assert len(samples) == chunk.samples


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty"):
        plan_archive(open_store(str(tmp_path / "empty")), ChunkLimits())


def test_a_plan_is_read_back_and_refuses_what_would_change_the_bytes(archive: Store, tmp_path: Path) -> None:
    results = open_store(str(tmp_path / "results"))
    settings = BatchSettings(draws=2, seed=3, output=OutputOptions(columns=(("year", "int64"),))).to_json()
    model = {"uri": "m", "family": "f", "digest": "d"}
    table = plan_archive(archive, ChunkLimits())
    written = write_plan(results, table, archive="a", model=model, settings=settings)
    (loaded,) = load_plans(results)
    assert loaded.plan == written.plan
    assert loaded.chunks.equals(table)
    assert BatchSettings.from_json(loaded.plan.settings).output.columns == (("year", "int64"),)
    loaded.plan.check(archive="a", model_digest="d", settings=settings)
    with pytest.raises(ConfigError, match=r"^seed: got 4, allowed: 3"):
        loaded.plan.check(archive="a", model_digest="d", settings=settings | {"seed": 4})
    with pytest.raises(ConfigError, match="model"):
        loaded.plan.check(archive="a", model_digest="e", settings=settings)


def test_a_damaged_plan_is_refused(archive: Store, tmp_path: Path) -> None:
    results = open_store(str(tmp_path / "results"))
    write_plan(results, plan_archive(archive, ChunkLimits()), archive="a", model={"digest": "d"}, settings={})
    results.write("plan/000.parquet", results.read("plan/000.parquet")[:-1])
    with pytest.raises(DatasetError, match="damaged"):
        load_plans(results)


def test_footers_are_read_whatever_their_size_and_other_files_are_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for size in (1, 200_000):
        store.write("a.parquet", encode_draws([], [], {"filler": "x" * size}, samples=0))
        assert read_footer(store, "a.parquet")["filler"] == "x" * size
    for junk in (b"", b"PAR1", b"PAR1" * 10):
        store.write("a.parquet", junk)
        with pytest.raises(DatasetError, match=r"a\.parquet"):
            read_footer(store, "a.parquet")


def test_the_draws_file_is_shown_as_images_and_finds_a_key_by_its_statistics(archive: Store, tmp_path: Path) -> None:
    results = open_store(str(tmp_path / "results"))
    metadata = pq.read_metadata(io.BytesIO(results.read(run_all(archive, results)[0])))
    assert b"Image" in metadata.metadata[b"huggingface"]
    columns = {metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i) for i in range(9)}
    assert columns["key"].statistics.min == "album/0"
    assert columns["image.bytes"].compression == "UNCOMPRESSED"
    assert metadata.schema.to_arrow_schema().names == DRAWS_SCHEMA.names


def test_no_errors_is_an_empty_table(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    write_errors(store, "000", [])
    assert pq.read_table(io.BytesIO(store.read("errors/000.parquet"))).num_rows == 0
