"""`condgen colorize` with and without Ray: killed and run again, by one or two workers, from S3, a hostile folder."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from samples import digests, write_crops
from small_results import write_model

NUM_IMAGES = 80
OPTIONS = ("--draws", "3", "--chunk-samples", "4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Crops of real photographs and, among them, a truncated one and an empty file."""
    folder = tmp_path_factory.mktemp("archive")
    write_crops(folder, photos, NUM_IMAGES)
    return folder


def tables(results: str | Path) -> dict[str, str]:
    """Digests of the files of the two tables that are promised to be equal."""
    return digests(results, "draws/", "errors/")


@pytest.fixture(scope="module")
def undisturbed(
    archive: Path, model: Path, tmp_path_factory: pytest.TempPathFactory, condgen_process: Callable[..., Any]
) -> Path:
    """The results of the installed script, run where folders of the user's have the names of our packages."""
    home = tmp_path_factory.mktemp("home")
    for name in ("pipelines", "jobs", "condgen"):
        (home / name).mkdir()
        (home / name / "__init__.py").write_text("raise RuntimeError('the user own package')")
    script = str(Path(sys.executable).parent / "condgen")
    results = home / "results"
    job = condgen_process("colorize", archive, results, "--model", model, *OPTIONS, program=(script,), cwd=home)
    _, errors = job.communicate(timeout=240)
    assert job.returncode == 0, errors
    return results


def test_the_account_closes_and_readers_read_it(undisturbed: Path) -> None:
    run = json.loads((undisturbed / "run.json").read_text())
    assert run["counts"] | {"errors_by_kind": 0} == {
        "images": NUM_IMAGES,
        "with_draws": NUM_IMAGES - 2,
        "draws": 3 * (NUM_IMAGES - 2),
        "errors": 2,
        "filtered": 0,
        "errors_by_kind": 0,
    }
    draws = duckdb.read_parquet(f"{undisturbed}/draws/*.parquet")
    rows = draws.aggregate("key, count(*)", "key").fetchall()
    assert {n for _, n in rows} == {3}
    assert len(rows) == NUM_IMAGES - 2
    errors = pd.read_parquet(undisturbed / "errors")
    assert sorted(errors["source"]) == ["cut.jpg", "empty.jpg"]


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_halfway_and_run_again_gives_the_same_bytes(
    engine: str,
    undisturbed: Path,
    archive: Path,
    model: Path,
    tmp_path: Path,
    condgen: Callable,
    condgen_process: Callable,
) -> None:
    results = tmp_path / "results"
    arguments = ["colorize", archive, results, "--model", model, "--engine", engine, *OPTIONS]
    with condgen_process(*arguments) as job:
        deadline = time.monotonic() + 120
        while len(list(results.glob("draws/*.parquet"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(job.pid, signal.SIGKILL)  # the driver, Ray and its workers; those without Ray end by themselves
    before = {path.name: path.stat().st_mtime_ns for path in results.glob("draws/*.parquet")}
    assert 0 < len(before) < NUM_IMAGES / 4
    assert not (results / "run.json").exists()

    again = condgen(*arguments)
    assert again.code == 0, again.err
    assert tables(results) == tables(undisturbed)
    after = {path.name: path.stat().st_mtime_ns for path in results.glob("draws/*.parquet")}
    assert all(after[name] == when for name, when in before.items()), "a committed chunk was done again"


@pytest.mark.parametrize("workers", [1, 2])
def test_neither_the_number_of_workers_nor_a_relative_path_shows(
    workers: int, undisturbed: Path, archive: Path, model: Path, tmp_path: Path, condgen: Callable
) -> None:
    relative = [os.path.relpath(path, tmp_path) for path in (archive, model)]
    options = ["--model", relative[1], *OPTIONS, "--workers", str(workers)]
    done = condgen("colorize", relative[0], "results", *options, cwd=tmp_path)
    assert done.code == 0, done.err
    assert tables(tmp_path / "results") == tables(undisturbed)


def test_from_s3_to_s3_is_the_same_and_a_second_run_does_nothing(
    undisturbed: Path, archive: Path, model: Path, s3, condgen: Callable
) -> None:
    bucket = s3.uri("colorize")
    s3.filesystem().put(str(archive), "colorize/archive", recursive=True)
    s3.filesystem().put(str(model), "colorize/model", recursive=True)
    arguments = ["colorize", f"{bucket}/archive", f"{bucket}/results", "--model", f"{bucket}/model", *OPTIONS]
    done = condgen(*arguments)
    assert done.code == 0, done.err
    assert tables(f"{bucket}/results") == tables(undisturbed)

    again = condgen(*arguments)
    assert again.code == 0
    assert "nothing was left to do" in again.out


def test_other_settings_are_refused(undisturbed: Path, archive: Path, model: Path, condgen: Callable) -> None:
    done = condgen("colorize", archive, undisturbed, "--model", model, "--draws", "2", "--chunk-samples", "4")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "draws" in done.err
    assert "3" in done.err


def write_hostile(folder: Path) -> set[str]:
    """An archive of what people have in theirs; returns the names of those that can't be done."""
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    grey16 = Image.fromarray((np.arange(64 * 48, dtype=np.uint16) * 20).reshape(48, 64))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    rgb.save(folder / "plain.jpg")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    grey16.save(folder / "sixteen.png")
    rgb.quantize(16).save(folder / "palette.png")
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("RGBA").save(folder / "transparent.png")
    rgb.save(folder / "rotated.jpg", exif=rotated)
    Image.new("RGB", (1, 1), (200, 30, 30)).save(folder / "one.png")
    Image.new("RGB", (12_000, 9_000), (90, 120, 60)).save(folder / "huge.jpg", quality=80)
    (folder / "cut.jpg").write_bytes((folder / "plain.jpg").read_bytes()[:600])
    (folder / "fake.jpg").write_text("<html>not found</html>")
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "notes.dat").write_text("among the photographs")
    return {"cut.jpg", "fake.jpg", "zero.jpg", "notes.dat"}


def test_a_hostile_folder_is_done_right_or_accounted_for(model: Path, tmp_path: Path, condgen: Callable) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    bad = write_hostile(folder)
    done = condgen("colorize", folder, tmp_path / "results", "--model", model, "--draws", "1")
    assert done.code == 0, done.err
    errors = pd.read_parquet(tmp_path / "results" / "errors")
    draws = pd.read_parquet(tmp_path / "results" / "draws", columns=["source", "width", "height"])
    assert set(errors["source"]) == bad
    assert set(draws["source"]) == {path.name for path in folder.iterdir()} - bad
    size = {row.source: (row.width, row.height) for row in draws.itertuples()}
    assert size["rotated.jpg"] == (48, 64)
    assert size["one.png"] == (1, 1)
    assert size["huge.jpg"] == (12_000, 9_000)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["colorize", "nowhere", "out", "--model", "MODEL"], "nowhere"),
        (["colorize", "ARCHIVE", "out", "--model", "nomodel"], "nomodel"),
        (["colorize", "ARCHIVE", "out", "--model", "DAMAGED"], "damaged"),
        (["colorize", "EMPTY", "out", "--model", "MODEL"], "empty"),
        (["colorize", "s3://no-such-bucket-here/x", "out", "--model", "MODEL"], "no-such-bucket-here"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, archive: Path, model: Path, tmp_path: Path, s3, condgen: Callable
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    for file in model.iterdir():
        (tmp_path / "damaged" / file.name).write_bytes(file.read_bytes()[:-100])
    places = {"ARCHIVE": archive, "MODEL": model, "EMPTY": tmp_path / "empty", "DAMAGED": tmp_path / "damaged"}
    done = condgen(*[places.get(word, word) for word in arguments], cwd=tmp_path)
    assert done.code == 2, done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert says in done.err


def test_wrong_credentials_are_one_line(model: Path, tmp_path: Path, s3, condgen: Callable) -> None:
    bucket = s3.uri("colorize-secret")
    done = condgen("colorize", bucket, tmp_path, "--model", model, AWS_SECRET_ACCESS_KEY="wrong")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert "credentials" in done.err.lower() or "access" in done.err.lower()
