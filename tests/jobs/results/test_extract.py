"""`condgen extract`: every picture is a file of the archive's own name, nothing else is touched, a stop is no loss."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from samples import saved, tar_of
from small_results import job_in, run_job, write_picture

from condgen.errors import ConfigError, DatasetError, StorageError
from jobs.results.extract import run
from pipelines.batch.job import BatchJob
from pipelines.results.extraction.job import MARK
from pipelines.results.settings import BatchSettings
from pipelines.storage import store as storage
from pipelines.storage.store import Store

SETTINGS = BatchSettings(draws=2, seed=5, batch_size=4, chunk_samples=3, precision="fp32")


def job(root: Path, **settings: object) -> BatchJob:
    return job_in(root, replace(SETTINGS, **settings))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, two of one stem, and a text."""
    root = tmp_path_factory.mktemp("extract")
    for number in range(4):
        write_picture(root / f"archive/album/{number}.png", number)
    write_picture(root / "archive/album/0.jpg", 7)
    write_picture(root / "archive/root.webp", 8)
    (root / "archive/notes.dat").write_text("not an image")
    run_job(job(root))
    return root


def files(folder: Path) -> dict[str, bytes]:
    """The files that a listing shows."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MARK]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


def rows(results: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((results / "draws").iterdir()):
        yield from pq.read_table(path).to_pylist()


def test_each_image_is_a_file_of_the_archives_name(made: Path, tmp_path: Path) -> None:
    report = run(str(made / "results"), str(tmp_path / "out"), draw=1)
    assert report.exit_code == 0
    stored = {row["source"]: row["image"]["bytes"] for row in rows(made / "results") if row["draw"] == 1}
    assert files(tmp_path / "out") == {
        "album/0.jpg": stored["album/0.jpg"],
        "album/0.png.jpg": stored["album/0.png"],
        "album/1.jpg": stored["album/1.png"],
        "album/2.jpg": stored["album/2.png"],
        "album/3.jpg": stored["album/3.png"],
        "root.jpg": stored["root.webp"],
    }
    text = "\n".join(report.lines())
    assert "images in     7\nfiles         6 of 6 images: 6 written" in text
    assert "errors        1, see" in text
    assert "names         1 are not the archive's own" in text


def test_all_draws_have_their_numbers(made: Path, tmp_path: Path) -> None:
    report = run(str(made / "results"), str(tmp_path), draw=None)
    assert (report.exit_code, report.files) == (0, 12)
    found = files(tmp_path)
    assert {"album/0.draw0.jpg", "album/0.draw1.jpg", "album/0.png.draw1.jpg", "root.draw0.jpg"} <= found.keys()
    assert len(found) == 12
    assert found["root.draw0.jpg"] != found["root.draw1.jpg"]


def test_the_images_keep_what_the_original_said_of_itself(tmp_path: Path) -> None:
    write_picture(tmp_path / "archive/a.jpg", 1)
    with Image.open(tmp_path / "archive/a.jpg") as image:
        exif = image.getexif()
        exif[0x010F] = "A camera"
        image.save(tmp_path / "archive/a.jpg", exif=exif, dpi=(300, 300))
    run_job(job(tmp_path))
    run(str(tmp_path / "results"), str(tmp_path / "out"))
    with Image.open(tmp_path / "out/a.jpg") as image:
        assert image.getexif()[0x010F] == "A camera"
        assert image.info["dpi"] == (300, 300)


def test_again_writes_only_what_is_missing(made: Path, tmp_path: Path) -> None:
    run(str(made / "results"), str(tmp_path))
    before = files(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    (tmp_path / "album/2.jpg").unlink()
    report = run(str(made / "results"), str(tmp_path))
    assert (report.found.written, report.found.left, report.exit_code) == (1, 5, 0)
    assert files(tmp_path) == before
    assert all(path.stat().st_mtime_ns == when for path, when in times.items() if path.name != "2.jpg")


def test_a_run_that_was_stopped_goes_on(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Store.write

    def failing(self: Store, name: str, data: bytes) -> None:
        if name.endswith("2.jpg"):
            raise StorageError(name, "write", "no space left")
        write(self, name, data)

    monkeypatch.setattr(storage.Store, "write", failing)
    with pytest.raises(StorageError):
        run(str(made / "results"), str(tmp_path))
    assert json.loads((tmp_path / MARK).read_text())["is_complete"] is False
    monkeypatch.undo()
    report = run(str(made / "results"), str(tmp_path))
    assert report.exit_code == 0
    assert report.found.left >= 1
    assert len(files(tmp_path)) == 6
    assert json.loads((tmp_path / MARK).read_text())["is_complete"] is True


def test_files_that_are_something_else_are_left_alone_unless_told_otherwise(made: Path, tmp_path: Path) -> None:
    run(str(made / "results"), str(tmp_path / "whole"))
    whole = files(tmp_path / "whole")
    theirs = {
        "album/1.jpg": b"mine",
        "album/2.jpg": bytes(len(whole["album/2.jpg"])),
        "album/3.jpg": whole["album/3.jpg"],
    }
    for name, data in theirs.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(data)
    for left in (1, 4):  # the second time as well, when what the first one wrote is there
        report = run(str(made / "results"), str(tmp_path / "out"))
        assert (report.exit_code, report.found.blocked, report.found.left) == (1, 2, left)
        assert "album/1.jpg" in "\n".join(report.lines())
        assert files(tmp_path / "out") == {**whole, **theirs}
    assert run(str(made / "results"), str(tmp_path / "out"), overwrite=True).exit_code == 0
    assert files(tmp_path / "out") == whole


def test_another_draw_or_job_does_not_go_into_the_same_place(made: Path, tmp_path: Path) -> None:
    run(str(made / "results"), str(tmp_path / "out"), draw=0)
    with pytest.raises(ConfigError, match="draw 0"):
        run(str(made / "results"), str(tmp_path / "out"), draw=1)
    run_job(replace(job(made, seed=6), results=str(tmp_path / "other")))
    with pytest.raises(ConfigError, match="DEST"):
        run(str(tmp_path / "other"), str(tmp_path / "out"), draw=0)
    report = run(str(made / "results"), str(tmp_path / "out"), draw=1, overwrite=True)
    assert (report.exit_code, report.found.written) == (0, 6)


@pytest.mark.parametrize("place", ["archive", "archive/album", "results/pictures", "results"])
def test_the_archive_and_the_results_are_no_destination(made: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="outside"):
        run(str(made / "results"), str(made / place))


def test_results_that_are_not_complete_are_refused(made: Path, tmp_path: Path) -> None:
    run_job(replace(job(made), results=str(tmp_path / "r")), stop_after=1)
    with pytest.raises(DatasetError, match="2 of 3 chunks are missing"):
        run(str(tmp_path / "r"), str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="0 to 1, or all"):
        run(str(made / "results"), str(tmp_path / "out"), draw=2)
    assert not (tmp_path / "out").exists()


def test_images_that_were_done_at_a_second_try_and_new_ones_are_added(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / f"archive/{name}", len(name))
    whole = (tmp_path / "archive/a.png").read_bytes()
    (tmp_path / "archive/a.png").write_bytes(whole[:50])
    run_job(job(tmp_path))
    assert run(str(tmp_path / "results"), str(tmp_path / "out")).lines()[2].startswith("errors        1")
    (tmp_path / "archive/a.png").write_bytes(whole)
    write_picture(tmp_path / "archive/b.tif", 3)
    run_job(replace(job(tmp_path), retry_errors=True))
    report = run(str(tmp_path / "results"), str(tmp_path / "out"))
    assert (report.exit_code, report.found.left, report.found.written) == (0, 1, 2)
    assert sorted(files(tmp_path / "out")) == ["a.jpg", "b.jpg", "b.tif.jpg"]


def write_shard(path: Path, keys: list[str], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [saved(Image.new("RGB", (16, 16), (seed, 40 * place, 90))) for place in range(len(keys))]
    path.write_bytes(tar_of((f"{key}.png", image) for key, image in zip(keys, images, strict=True)))


def test_keys_of_shards_are_names_and_keys_of_several_are_in_folders(tmp_path: Path) -> None:
    write_shard(tmp_path / "archive/t/0.tar", ["x/a", "b"], 1)
    write_shard(tmp_path / "archive/t/1.tar", ["c"], 2)
    run_job(job(tmp_path))
    report = run(str(tmp_path / "results"), str(tmp_path / "flat"))
    assert sorted(files(tmp_path / "flat")) == ["b.jpg", "c.jpg", "x/a.jpg"]
    assert not report.by_shard
    write_shard(tmp_path / "archive/t/2.tar", ["b", "d"], 3)
    run_job(job(tmp_path))
    with pytest.raises(ConfigError, match="another DEST"):
        run(str(tmp_path / "results"), str(tmp_path / "flat"))
    report = run(str(tmp_path / "results"), str(tmp_path / "deep"))
    assert sorted(files(tmp_path / "deep")) == ["t/0/b.jpg", "t/0/x/a.jpg", "t/1/c.jpg", "t/2/b.jpg", "t/2/d.jpg"]
    assert "one a shard" in "\n".join(report.lines())


def test_keys_of_a_table_lead_nowhere_else(tmp_path: Path) -> None:
    image = saved(Image.new("RGB", (16, 16), (200, 40, 90)))
    keys = ["../../evil", "/etc/x", "same", "same", "ok", "..", "a\nb"]
    (tmp_path / "archive").mkdir()
    pq.write_table(pa.table({"image": [image] * len(keys), "key": keys}), tmp_path / "archive/t.parquet")
    run_job(job(tmp_path))
    report = run(str(tmp_path / "results"), str(tmp_path / "deep/out"))
    assert report.exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "results", "model", "deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out"}
    found = [name.partition("~")[0] for name in sorted(files(tmp_path / "deep/out"))]
    assert sorted(found) == sorted(["a_b", "etc/x", "evil", "ok.jpg", "picture", "same.jpg", "same"])


def test_in_object_storage_by_threads_and_by_ray(
    made: Path, s3: Any, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.uri("extract")
    s3.filesystem().put(str(made / "results"), f"{bucket}/results", recursive=True)
    assert run(f"{bucket}/results", f"{bucket}/pictures").found.written == 6
    assert run(f"{bucket}/results", f"{bucket}/pictures").found.left == 6
    monkeypatch.setattr("pipelines.results.extraction.job.RAY_FROM_BYTES", 0)
    s3.filesystem().rm(f"{bucket}/pictures/album", recursive=True)
    report = run(f"{bucket}/results", f"{bucket}/pictures")
    assert (report.found.written, report.found.left, report.exit_code) == (5, 1, 0)
    listed = [name.removeprefix("extract/pictures/") for name in s3.filesystem().find(f"{bucket}/pictures")]
    assert sorted(listed)[1:] == ["album/0.jpg", "album/0.png.jpg", *(f"album/{n}.jpg" for n in (1, 2, 3)), "root.jpg"]
