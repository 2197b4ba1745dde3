"""A dataset grows by new shards: what is in it stays, byte for byte, and what is new is there once."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from samples import digests, smooth

from condgen.errors import ConfigError, DatasetError
from jobs.datasets import shard
from pipelines.datasets.opening import open_dataset
from pipelines.datasets.tar_samples import group_samples
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.sharding.options import ShardOptions
from pipelines.storage.store import open_store

SPLIT = {"train": 0.6, "test": 0.4}
OPTIONS = ShardOptions(split=SPLIT, samples_per_shard=4)


def picture(seed: int, width: int = 40) -> np.ndarray:
    return np.asarray(smooth(seed, (width, 40)))


def add(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number:03d}.jpg").write_bytes(encode(picture(number, 40 + number), "jpeg"))


def sources_of(dataset: Path) -> dict[str, str]:
    """Split of each source file in the dataset."""
    opened = open_dataset(str(dataset))
    split_of = {info.name: info.split for info in opened.manifest.shards}
    found = {}
    for run in opened.runs():
        data = opened.store.read_range(run.shard, run.start, run.stop)
        assert hashlib.sha256(data).hexdigest() == run.sha256
        for sample in group_samples(data):
            name = json.loads(sample.members["json"])["source"]
            assert name not in found
            found[name] = split_of[run.shard]
    return found


def test_a_growth_adds_shards_and_leaves_the_old_ones_as_they_are(tmp_path: Path) -> None:
    images, dest, whole = tmp_path / "images", tmp_path / "dataset", tmp_path / "whole"
    add(images, range(20))
    (images / "bad.jpg").write_bytes(b"")
    first = shard.run(str(images), str(dest), options=OPTIONS)
    before = digests(dest)
    add(images, range(20, 30))
    grown = shard.run(str(images), str(dest), options=OPTIONS)
    after = digests(dest)
    assert (grown.added, grown.manifest.generation, grown.num_rejected) == (10, 1, 1)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"manifest.json"}
    assert {"index-001.parquet", "samples-001.parquet", "rejected-001.parquet"} <= after.keys()
    old = {info.name for info in first.manifest.shards}
    assert {info.name: info.generation for info in grown.manifest.shards} == {
        info.name: int(info.name not in old) for info in grown.manifest.shards
    }
    made = shard.run(str(images), str(whole), options=OPTIONS).manifest
    assert sources_of(dest) == sources_of(whole)
    for name in ("members", "rejected", "samples"):
        assert getattr(grown.manifest, name) == getattr(made, name)
    assert grown.manifest.statistics["sizes"] == made.statistics["sizes"]
    assert grown.manifest.train_statistics() == made.train_statistics()
    assert grown.manifest.statistics["mean_rgb"] == pytest.approx(made.statistics["mean_rgb"], abs=0.01)
    again = shard.run(str(images), str(dest), options=OPTIONS)
    assert again.was_there
    assert digests(dest) == after
    add(images, range(30, 31))
    third = shard.run(str(images), str(dest), options=OPTIONS)
    assert (third.added, third.manifest.generation, len(sources_of(dest))) == (1, 2, 31)


def test_what_is_gone_or_changed_stays_and_is_told_of(tmp_path: Path) -> None:
    images, dest = tmp_path / "images", tmp_path / "dataset"
    add(images, range(8))
    shard.run(str(images), str(dest), options=OPTIONS)
    before = digests(dest)
    (images / "003.jpg").unlink()
    (images / "004.jpg").write_bytes(encode(picture(99, 200), "jpeg"))
    report = shard.run(str(images), str(dest), options=OPTIONS)
    assert (list(report.gone), list(report.changed), report.was_there) == (["003.jpg"], ["004.jpg"], True)
    assert digests(dest) == before
    text = "\n".join(report.lines())
    assert "1 are gone from the source" in text
    assert "004.jpg" in text


@pytest.mark.parametrize("place", ["local", "s3"])
def test_other_bytes_of_the_same_size_are_noticed_and_touched_or_copied_files_are_not(
    tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    dest = tmp_path / "dataset"
    s3 = request.getfixturevalue("s3") if place == "s3" else None
    images = open_store(f"{s3.uri('growth-tests')}/images" if s3 else tmp_path / "images")
    for number in range(6):
        images.write(f"{number:03d}.png", encode(picture(number), "png"))
    shard.run(images.uri, str(dest), options=OPTIONS)
    before, past = digests(dest), (dest / "manifest.json").stat().st_mtime - 100
    other = bytearray(images.read("002.png"))
    other[-30] ^= 1
    images.write("002.png", bytes(other))
    images.write("004.png", images.read("004.png"))
    if not s3:  # a copy that kept its time stamp
        os.utime(tmp_path / "images" / "002.png", (past, past))
    report = shard.run(images.uri, str(dest), options=OPTIONS)
    assert (list(report.gone), list(report.changed), report.was_there) == ([], ["002.png"], True)
    assert digests(dest) == before
    assert "1 have other bytes in the source now, and stay in the dataset as they were: 002.png" in report.lines()
    images.write("002.png", encode(picture(77), "png"))
    assert list(shard.run(images.uri, str(dest), options=OPTIONS).changed) == ["002.png"]
    images.write("004.png", encode(picture(78), "png"))
    made = shard.run(images.uri, str(dest), options=OPTIONS, overwrite=True)
    assert (list(made.changed), made.was_there, made.manifest.generation) == ([], False, 0)
    assert sources_of(dest).keys() == {f"{number:03d}.png" for number in range(6)}
    assert list(shard.run(images.uri, str(dest), options=OPTIONS).changed) == []


def test_a_file_that_was_repaired_is_added(tmp_path: Path) -> None:
    images, dest = tmp_path / "images", tmp_path / "dataset"
    add(images, range(4))
    good = (images / "002.jpg").read_bytes()
    (images / "002.jpg").write_bytes(good[: len(good) // 2])
    assert shard.run(str(images), str(dest), options=OPTIONS).num_rejected == 1
    (images / "002.jpg").write_bytes(good)
    repaired = shard.run(str(images), str(dest), options=OPTIONS)
    assert (repaired.added, repaired.num_rejected, repaired.manifest.rejected) == (1, 0, {})
    assert len(sources_of(dest)) == 4


def test_a_key_that_is_taken_stays_its_owners(tmp_path: Path) -> None:
    images, dest = tmp_path / "images", tmp_path / "dataset"
    images.mkdir()
    (images / "a.png").write_bytes(encode(picture(1), "png"))
    shard.run(str(images), str(dest))
    (images / "a.jpg").write_bytes(encode(picture(2), "jpeg"))
    shard.run(str(images), str(dest))
    keys = {row["source"]: row["key"] for row in pq.read_table(dest / "samples.parquet").to_pylist()}
    keys |= {row["source"]: row["key"] for row in pq.read_table(dest / "samples-001.parquet").to_pylist()}
    assert keys == {"a.png": "a", "a.jpg": "a%2Ejpg"}


def test_other_images_and_other_options_do_not_grow_a_dataset(tmp_path: Path) -> None:
    images, dest = tmp_path / "images", tmp_path / "dataset"
    add(images, range(4))
    shard.run(str(images), str(dest), options=OPTIONS)
    with pytest.raises(ConfigError, match=r"resize_px.*--overwrite"):
        shard.run(str(images), str(dest), options=ShardOptions(split=SPLIT, samples_per_shard=4, resize_px=8))
    add(tmp_path / "others", range(100, 104))
    with pytest.raises(ConfigError, match="of other images"):
        shard.run(str(tmp_path / "others"), str(dest), options=OPTIONS)
    (dest / "samples.parquet").unlink()
    add(images, range(5))
    with pytest.raises(DatasetError, match="lost"):
        shard.run(str(images), str(dest), options=OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("left_after", ["a tar", "an index"])
def test_a_growth_that_is_killed_is_gone_on_with(tmp_path: Path, left_after: str) -> None:
    images, dest, whole = tmp_path / "images", tmp_path / "dataset", tmp_path / "whole"
    add(images, range(8))
    for place in (dest, whole):
        shard.run(str(images), str(place), options=OPTIONS)
    before = open_dataset(str(dest)).manifest
    add(images, range(8, 40))
    shard.run(str(images), str(whole), options=OPTIONS)
    known = {path.name for path in dest.iterdir()}
    new = {"a tar": "*.tar", "an index": "index-001.parquet"}[left_after]
    # The last write that a manifest's place gets is held up, so that the kill falls before it.
    script = f"""
import time
from jobs.datasets import shard
from pipelines.sharding import assignment as sharding
from pipelines.storage import store as storage
write = storage.Store.write
def slow(self, name, data):
    if name == "manifest.json":
        time.sleep(60)
    write(self, name, data)
storage.Store.write = slow
options = sharding.ShardOptions(split={SPLIT!r}, samples_per_shard=4)
shard.run({str(images)!r}, {str(dest)!r}, options=options)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not [path for path in dest.glob(new) if path.name not in known] and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert open_dataset(str(dest)).manifest == before, "the old generation is whole until the new one is"
    shard.run(str(images), str(dest), options=OPTIONS)
    assert digests(dest) == digests(whole)


def test_exact_duplicates_are_left_out_and_listed(tmp_path: Path) -> None:
    images, dest = tmp_path / "images", tmp_path / "dataset"
    add(images, range(10))
    for name, of in (("z1.jpg", "001.jpg"), ("z2.jpg", "001.jpg"), ("000copy.jpg", "005.jpg")):
        (images / name).write_bytes((images / of).read_bytes())
    options = ShardOptions(split=SPLIT, dedup="exact")
    report = shard.run(str(images), str(dest), options=options)
    assert report.manifest.samples == 10
    assert {row.source: row.message for row in report.rejected} == {
        "005.jpg": "the same bytes as 000copy.jpg",
        "z1.jpg": "the same bytes as 001.jpg",
        "z2.jpg": "the same bytes as 001.jpg",
    }
    assert report.manifest.rejected == {"Duplicate": 3}
    (images / "0000.jpg").write_bytes((images / "007.jpg").read_bytes())
    add(images, range(10, 11))
    grown = shard.run(str(images), str(dest), options=options)
    assert (grown.added, grown.num_rejected) == (1, 4)
    assert {row.source: row.message for row in grown.rejected}["0000.jpg"] == "the same bytes as 007.jpg"


def test_near_duplicates_are_in_one_split_at_most_also_when_it_grows(tmp_path: Path) -> None:
    images, dest = tmp_path / "images", tmp_path / "dataset"
    add(images, range(12))
    options = ShardOptions(split=SPLIT, dedup="near", near_distance=6)

    def copies(numbers: range, size: int) -> None:
        for number in numbers:
            rgb = decode((images / f"{number:03d}.jpg").read_bytes())
            small = Image.fromarray(rgb).resize((size + number, size))
            small.save(images / f"{number:03d}-small-{size}.jpg", quality=80)

    copies(range(12), 30)
    report = shard.run(str(images), str(dest), options=options)
    assert report.manifest.rejected == {"NearDuplicate": 12}
    assert all("looks like (distance" in row.message for row in report.rejected)
    kept = sources_of(dest)
    assert len(kept) == 12
    copies(range(12), 50)
    grown = shard.run(str(images), str(dest), options=options)
    assert (grown.added, grown.manifest.rejected) == (0, {"NearDuplicate": 12})
    assert grown.num_rejected == 24
    assert sources_of(dest) == kept
