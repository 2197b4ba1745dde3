"""`condgen shard` and `condgen inspect`: the same images give the same bytes, and no file is lost without a word."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from samples import digests, saved

from condgen.errors import ConfigError, DatasetError, MissingError
from jobs.datasets import building as shard_building
from jobs.datasets import inspect, shard
from pipelines.datasets.chunk import ChunkLimits, iter_chunks, read_chunk
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.opening import open_dataset
from pipelines.datasets.tar_samples import group_samples
from pipelines.images.encoding import encode
from pipelines.sharding.options import ShardOptions
from pipelines.storage.store import open_store

SPLIT = {"train": 0.7, "test": 0.3}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Thirty small pictures in folders, and among them what people's folders hold."""
    folder = tmp_path / "images"
    random = np.random.default_rng(0)
    for number in range(30):
        path = folder / f"day{number % 3}" / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(random.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8), "jpeg"))
    whole = (folder / "day0" / "00.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("notes")
    (folder / ".DS_Store").write_bytes(b"hidden")
    return folder


def test_every_file_is_in_a_shard_or_rejected_with_its_reason(images: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dataset"
    report = shard.run(str(images), str(dest), options=ShardOptions(split=SPLIT, samples_per_shard=8))
    dataset = open_dataset(str(dest))
    assert dataset.manifest == report.manifest
    assert dataset.manifest.samples == 30
    assert report.num_rejected == sum(dataset.manifest.rejected.values()) == 3
    rows = pq.read_table(dest / "rejected.parquet").to_pylist()
    assert [row["source"] for row in rows] == ["cut.jpg", "empty.png", "notes.txt"]
    assert all(row["message"] for row in rows)
    originals = {str(path.relative_to(images)): path.read_bytes() for path in images.glob("day*/*")}
    found = {}
    for run in dataset.runs():
        data = dataset.store.read_range(run.shard, run.start, run.stop)
        assert hashlib.sha256(data).hexdigest() == run.sha256
        for sample in group_samples(data):
            found[json.loads(sample.members["json"])["source"]] = sample.members["jpg"]
    assert found == originals
    for info in dataset.manifest.shards:
        data = dataset.store.read(info.name)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (info.size_bytes, info.sha256)
        assert info.samples <= 8
    assert report.lines()[1].startswith("source: 32 images; 2 other files left out")
    assert "30 images" in report.lines()[0]
    assert any("cut.jpg" in line for line in report.lines())


def test_the_same_images_give_the_same_bytes_wherever_they_are(images: Path, tmp_path: Path, each_s3: Any) -> None:
    local = tmp_path / "local"
    shard.run(str(images), str(local), options=ShardOptions(split=SPLIT, samples_per_shard=8))
    bucket = f"{each_s3.uri('shard-tests')}/{tmp_path.name}"
    copy = open_store(f"{bucket}/images")
    for path in images.rglob("*.*"):
        if path.is_file() and path.name != ".DS_Store":
            copy.write(str(path.relative_to(images)), path.read_bytes())
    shard.run(f"{bucket}/images", f"{bucket}/dataset", options=ShardOptions(split=SPLIT, samples_per_shard=8))
    assert digests(f"{bucket}/dataset") == digests(local)
    assert inspect.run(f"{bucket}/dataset").lines()[1:] == inspect.run(str(local)).lines()[1:]
    dataset, files = open_dataset(f"{bucket}/dataset"), open_dataset(str(local))
    chunks = list(iter_chunks(chunk_table(dataset.table(), ChunkLimits(samples=8))))
    assert sum(chunk.samples for chunk in chunks) == 30
    for chunk in chunks:
        assert read_chunk(dataset.store, chunk) == read_chunk(files.store, chunk)


def test_a_complete_dataset_is_left_as_it_is_and_another_is_not_overwritten(images: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dataset"
    first = shard.run(str(images), str(dest))
    times = {path.name: path.stat().st_mtime_ns for path in dest.iterdir()}
    again = shard.run(str(images), str(dest))
    assert again.was_there
    assert (again.manifest, again.num_rejected, again.rejected) == (first.manifest, 3, first.rejected)
    assert {path.name: path.stat().st_mtime_ns for path in dest.iterdir()} == times
    with pytest.raises(ConfigError, match="--overwrite"):
        shard.run(str(images), str(dest), options=ShardOptions(samples_per_shard=8))
    replaced = shard.run(str(images), str(dest), options=ShardOptions(samples_per_shard=8), overwrite=True)
    assert open_dataset(str(dest)).manifest == replaced.manifest
    assert len(replaced.manifest.shards) == 4


def test_a_dataset_that_lost_a_shard_is_made_again(images: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dataset"
    shard.run(str(images), str(dest), options=ShardOptions(samples_per_shard=8))
    before = digests(dest)
    (dest / "train-000001.tar").unlink()
    assert not shard.run(str(images), str(dest), options=ShardOptions(samples_per_shard=8)).was_there
    assert digests(dest) == before


def test_shards_made_elsewhere_are_not_written_over(images: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dataset"
    dest.mkdir()
    (dest / "train-000000.tar").write_bytes(b"of someone")
    with pytest.raises(ConfigError, match="made elsewhere"):
        shard.run(str(images), str(dest))
    assert (dest / "train-000000.tar").read_bytes() == b"of someone"


@pytest.mark.slow
def test_killed_and_run_again_it_gives_the_bytes_of_an_undisturbed_run(images: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    shard.run(str(images), str(whole), options=ShardOptions(split=SPLIT, samples_per_shard=4))
    arguments = f"{str(images)!r}, {str(killed)!r}, options=ShardOptions(samples_per_shard=2)"
    script = (
        f"from jobs.datasets.shard import run; from pipelines.sharding.options import ShardOptions; run({arguments})"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not list(killed.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "manifest.json").exists(), "killed too late to test anything"
    with pytest.raises(DatasetError, match="not complete"):
        open_dataset(str(killed))
    shard.run(str(images), str(killed), options=ShardOptions(split=SPLIT, samples_per_shard=4))
    assert digests(killed) == digests(whole)
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_what_an_interrupted_run_left_is_removed(images: Path, tmp_path: Path) -> None:
    whole, dest = tmp_path / "whole", open_store(tmp_path / "dataset")
    shard.run(str(images), str(whole))
    for name in ("manifest.building.json", "train-000099.tar", "rejected.parquet", "mine.txt"):
        dest.write(name, b"left")
    shard.run(str(images), dest.uri)
    assert dest.read("mine.txt") == b"left"
    dest.delete("mine.txt")
    assert digests(dest.uri) == digests(whole)


def test_ray_tasks_and_threads_give_the_same_bytes(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    shard.run(str(images), str(tmp_path / "threads"), options=ShardOptions(split=SPLIT, samples_per_shard=4))
    monkeypatch.setattr(shard_building, "RAY_FROM_SAMPLES", 1)
    shard.run(str(images), str(tmp_path / "ray"), options=ShardOptions(split=SPLIT, samples_per_shard=4))
    assert digests(tmp_path / "ray") == digests(tmp_path / "threads")


def test_statistics_are_of_the_training_split(tmp_path: Path) -> None:
    source = open_store(tmp_path / "images")
    red = np.full((8, 16, 3), (255, 0, 0), np.uint8)
    for number in range(10):
        source.write(f"{number}.png", encode(red, "png"))
    manifest = shard.run(source.uri, str(tmp_path / "dataset"), options=ShardOptions(split=SPLIT)).manifest
    assert manifest.statistics["mean_rgb"] == [255, 0, 0]
    assert manifest.statistics["sizes"]["width"] == {"min": 16, "median": 16, "max": 16}
    train = manifest.train_statistics()
    assert train.num_samples == manifest.splits["train"] < 10
    # sRGB red has a = 80.1, b = 67.2: the grid's nearest point is (80, 70).
    assert train.ab_histogram[11 + 8, 11 + 7] == train.ab_histogram.sum() == train.num_samples * 8 * 16


def test_sources_that_can_not_be(images: Path, tmp_path: Path) -> None:
    dest = str(tmp_path / "dataset")
    with pytest.raises(MissingError, match="nope"):
        shard.run(str(tmp_path / "nope"), dest)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no files"):
        shard.run(str(tmp_path / "empty"), dest)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    (tmp_path / "texts" / "b.jpg").write_text("b")
    with pytest.raises(DatasetError, match="none of the 2 files"):
        shard.run(str(tmp_path / "texts"), dest)
    assert not list(Path(dest).glob("*"))
    for inside in (images, images / "dataset"):
        with pytest.raises(ConfigError, match="outside"):
            shard.run(str(images), str(inside))


def test_inspect_says_what_a_dataset_is(images: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dataset"
    shard.run(str(images), str(dest), options=ShardOptions(split=SPLIT, samples_per_shard=8))
    text = "\n".join(inspect.run(str(dest)).lines())
    manifest = open_dataset(str(dest)).manifest
    for expected in ("single", "30, ", f"{manifest.splits['test']} samples", "jpg 30, json 30", "rejected 3", "width",
                     "min 20", "max 49", "mean RGB", "day"):  # fmt: skip
        assert expected in text


def test_inspect_reads_shards_that_have_no_manifest(images: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dataset"
    shard.run(str(images), str(dest), options=ShardOptions(samples_per_shard=8))
    for name in ("manifest.json", "index.parquet", "rejected.parquet"):
        (dest / name).unlink()
    text = "\n".join(inspect.run(str(dest)).lines())
    assert "no manifest" in text
    assert "30, 4 shards" in text
    with pytest.raises(MissingError, match="nope"):
        inspect.run(str(tmp_path / "nope"))


def test_a_photograph_of_any_sort_finds_its_place(tmp_path: Path) -> None:
    from PIL import Image

    source = open_store(tmp_path / "images")
    for mode, name in (("CMYK", "a.jpg"), ("L", "b.png"), ("RGBA", "c.png"), ("P", "d.gif"), ("I;16", "e.png")):
        source.write(name, saved(Image.new(mode, (5, 4)), {"jpg": "jpeg"}.get(name[2:], name[2:])))
    report = shard.run(source.uri, str(tmp_path / "dataset"))
    assert (report.manifest.samples, report.num_rejected) == (5, 0)
    assert report.manifest.members == {"gif": 1, "jpg": 1, "json": 5, "png": 3}
