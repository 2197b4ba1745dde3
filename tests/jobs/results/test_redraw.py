"""`condgen redraw`: a draw made again alone is the stored one, to the byte; what isn't the same is told."""

import io
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from samples import saved, tar_of
from small_results import job_in, run_job, write_picture

from condgen.errors import CheckpointError, ConfigError, DatasetError
from jobs.results.redraw import run
from pipelines.batch.engine import About, Functions
from pipelines.batch.job import BatchJob
from pipelines.batch.redrawing import find_draw, redraw
from pipelines.models.options import TranslateOptions
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import open_store

TINT = "small_results:NoisyTint"
# Chunks of six in batches of four: a full batch and one padded with two.
SETTINGS = BatchSettings(draws=3, seed=5, batch_size=4, chunk_samples=6, precision="fp32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("redraw")
    for number in range(8):
        write_picture(root / f"archive/album/{number}.png", number, size=(40 + 9 * number, 44))
    (root / "archive/album/2x.dat").write_text("an error before others of its chunk")
    run_job(job(root))
    return root


def job(root: Path, archive: str = "archive", results: str = "results", **settings: object) -> BatchJob:
    return job_in(root, replace(SETTINGS, **settings), archive, results)


@pytest.mark.parametrize("key", ["album/0", "album/3", "album/4", "album/7"])
@pytest.mark.parametrize("draw", [0, 2])
def test_a_draw_made_again_alone_is_identical(made: Path, key: str, draw: int) -> None:
    report = run(str(made / "results"), key=key, draw=draw)
    assert report.redrawn.is_identical, report.lines()
    assert report.redrawn.stored.row["key"] == key
    assert report.exit_code == 0
    assert "identical, pixels and bytes" in "\n".join(report.lines())


def test_the_callers_threads_are_left_as_they_were(made: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert run(str(made / "results"), key="album/1", draw=1).redrawn.is_identical
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_draws_of_shards_and_of_tables_are_found_and_made_again(made: Path) -> None:
    pictures = {path.stem: path.read_bytes() for path in sorted((made / "archive/album").glob("*.png"))}
    for shard in ("a", "b"):
        _parent(made / f"shards/{shard}.tar").write_bytes(
            tar_of((f"{key}.png", data) for key, data in pictures.items())
        )
    table = pa.table({"image": list(pictures.values()), "name": [f"n{key}" for key in pictures]})
    pq.write_table(table, _parent(made / "table/t.parquet"), row_group_size=3)
    run_job(job(made, "shards", "of-shards"))
    of_table = job(made, "table", "of-table")
    run_job(replace(of_table, selection=replace(of_table.selection, columns={"key": "name"})))

    with pytest.raises(ConfigError, match=r"2 sources \(a.tar, b.tar\): --source"):
        run(str(made / "of-shards"), key="5", draw=0)
    assert run(str(made / "of-shards"), key="5", draw=1, source="b.tar").redrawn.is_identical
    assert run(str(made / "of-table"), key="n5", draw=1).redrawn.is_identical


def test_draws_of_a_translation_are_made_again_tile_by_tile(made: Path) -> None:
    translation = replace(
        job(made, results="translated", kind="translate", translate=TranslateOptions(overlap_px=8)), model=TINT
    )
    run_job(translation)
    for key in ("album/1", "album/7"):
        report = run(str(made / "translated"), key=key, draw=1)
        assert report.redrawn.is_identical, report.lines()


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_image_is_written_as_its_name_says(made: Path, tmp_path: Path) -> None:
    report = run(str(made / "results"), key="album/2", draw=1, out=str(tmp_path / "draw.png"))
    with Image.open(tmp_path / "draw.png") as image, Image.open(io.BytesIO(report.redrawn.image)) as stored:
        assert (image.format, stored.format) == ("PNG", "JPEG")
        assert np.array_equal(np.asarray(image), np.asarray(stored))
    run(str(made / "results"), key="album/2", draw=1, out=str(tmp_path / "draw.jpg"))
    assert (tmp_path / "draw.jpg").read_bytes() == report.redrawn.image
    with pytest.raises(ConfigError, match=r"\.png"):
        run(str(made / "results"), key="album/2", draw=1, out=str(tmp_path / "draw.bmp"))


def change_row(results: Path, key: str, draw: int, picture: bytes, versions: Mapping[str, str] | None = None) -> None:
    """Put another picture into a draws file."""
    for path in (results / "draws").iterdir():
        table = pq.read_table(path)
        columns = table.to_pydict()
        metadata = dict(table.schema.metadata)
        for row, found in enumerate(zip(columns["key"], columns["draw"], strict=True)):
            if found == (key, draw):
                columns["image"][row]["bytes"] = picture
                if versions:
                    name, now, then = versions["name"], versions["now"], versions["then"]
                    stated = f'"{name}": "{now}"'.encode()
                    assert stated in metadata[b"condgen"]
                    metadata[b"condgen"] = metadata[b"condgen"].replace(stated, f'"{name}": "{then}"'.encode())
        pq.write_table(pa.Table.from_pydict(columns, schema=table.schema.with_metadata(metadata)), path)


def test_another_image_is_told_with_its_distance_and_with_the_versions(made: Path, tmp_path: Path) -> None:
    for name in ("same", "other"):
        shutil.copytree(made / "results", tmp_path / name)
    again = run(str(made / "results"), key="album/6", draw=0).redrawn.image
    with Image.open(io.BytesIO(again)) as image:
        pixels = np.asarray(image).copy()
    pixels[3, 4, 1] ^= 8
    changed = saved(Image.fromarray(pixels))
    change_row(tmp_path / "same", "album/6", 0, changed)
    report = run(str(tmp_path / "same"), key="album/6", draw=0)
    assert report.exit_code == 1
    assert report.redrawn.max_difference == 8
    assert "differ by at most 8 codes" in "\n".join(report.lines())

    import PIL

    versions = {"name": "pillow", "now": PIL.__version__, "then": "1.0"}
    change_row(tmp_path / "other", "album/6", 0, changed, versions)
    report = run(str(tmp_path / "other"), key="album/6", draw=0)
    assert report.exit_code == 0
    assert f"pillow 1.0 then, {PIL.__version__} now" in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("key", "draw", "message"),
    [
        ("album/9", 0, "a key of the column"),
        ("album/0", 3, "0 to 2"),
        ("album/2x", 0, "errors/"),
        ("album", 0, "a key of the column"),
    ],
)
def test_what_is_not_there_is_told(made: Path, key: str, draw: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(str(made / "results"), key=key, draw=draw)


def test_an_unfinished_job_is_told_as_such(made: Path, tmp_path: Path) -> None:
    run_job(replace(job(made), results=str(tmp_path / "r")), stop_after=1)
    assert run(str(tmp_path / "r"), key="album/1", draw=0).redrawn.is_identical
    with pytest.raises(ConfigError, match="1 of 2 chunks are missing"):
        run(str(tmp_path / "r"), key="album/7", draw=0)


def test_an_archive_or_model_that_moved_is_named_and_another_one_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "archive", tmp_path / "archive")
    shutil.copytree(made / "model", tmp_path / "model")
    there = {"archive": str(tmp_path / "archive"), "model": str(tmp_path / "model")}
    assert run(str(made / "results"), key="album/1", draw=0, **there).redrawn.is_identical
    write_picture(tmp_path / "archive/album/1.png", 77)
    with pytest.raises(DatasetError, match="not the image"):
        run(str(made / "results"), key="album/1", draw=0, **there)
    (tmp_path / "archive/album/1.png").unlink()
    with pytest.raises(DatasetError, match="gone"):
        run(str(made / "results"), key="album/1", draw=0, **there)
    files = tmp_path / "model/model.safetensors"
    data = bytearray(files.read_bytes())
    data[-1] ^= 1
    files.write_bytes(data)
    with pytest.raises(CheckpointError):
        run(str(made / "results"), key="album/2", draw=0, **there)


def brighter(rgb: np.ndarray, about: About) -> np.ndarray:
    return np.maximum(rgb, 60)


def test_a_job_with_functions_of_the_users_own_needs_them_again(made: Path, tmp_path: Path) -> None:
    functions = Functions(before=brighter)
    run_job(replace(job(made), results=str(tmp_path / "r"), functions=functions))
    with pytest.raises(ConfigError, match="functions"):
        run(str(tmp_path / "r"), key="album/2", draw=0)
    assert redraw(find_draw(open_store(tmp_path / "r"), key="album/2", draw=0), functions=functions).is_identical


def test_only_row_groups_that_may_hold_the_key_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        write_picture(tmp_path / f"archive/{number:02d}.png", number, size=(8, 8))
    run_job(job(tmp_path, chunk_samples=64))
    read: list[int] = []
    whole = pq.ParquetFile.read_row_groups

    def counting(self: pq.ParquetFile, groups: list[int], *args: object, **kwargs: object) -> pa.Table:
        read.extend(groups)
        return whole(self, groups, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counting)
    stored = find_draw(open_store(tmp_path / "results"), key="30", draw=2)
    assert (stored.row["key"], stored.row["draw"], stored.place) == ("30", 2, 30)
    assert read == [1, 1], "150 rows are three groups; the second has key 30, whose row is read after it is found"
