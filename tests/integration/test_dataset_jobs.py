"""Jobs of datasets where they are meant to run: checks and fingerprints on Ray, and sharding to S3 that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import digests, smooth

from condgen.errors import DatasetError
from jobs.datasets import building as shard_building
from jobs.datasets import index, shard, validate
from pipelines.cluster import tasks
from pipelines.datasets.opening import open_dataset
from pipelines.images.encoding import encode
from pipelines.sharding.options import ShardOptions
from pipelines.storage.store import open_store

OPTIONS = ShardOptions(split={"train": 0.7, "test": 0.3}, samples_per_shard=4)


def add(folder: Path, numbers: range) -> None:
    """Photographs of noise, each of another size."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number:03d}.jpg").write_bytes(encode(np.asarray(smooth(number, (40 + number, 40))), "jpeg"))


@pytest.fixture
def on_ray(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Everything, however small, is done by Ray; threads are an error."""

    def no_threads(*_: Any) -> None:
        raise AssertionError("done by threads")

    for job, name in ((validate, "RAY_FROM_BYTES"), (index, "RAY_FROM_BYTES"), (shard_building, "RAY_FROM_SAMPLES")):
        monkeypatch.setattr(job, name, 1)
    monkeypatch.setattr(tasks, "thread_tasks", no_threads)
    return monkeypatch


def test_duplicates_validation_and_indices_are_the_same_on_ray(tmp_path: Path, on_ray: pytest.MonkeyPatch) -> None:
    images = tmp_path / "images"
    add(images, range(20))
    (images / "copy.jpg").write_bytes((images / "003.jpg").read_bytes())
    with Image.open(images / "005.jpg") as picture:
        picture.resize((30, 30)).save(images / "small.jpg")
    options = ShardOptions(samples_per_shard=4, dedup="near", near_distance=6)

    def outcome(name: str) -> tuple[Any, ...]:
        made, damaged, theirs = (tmp_path / f"{name}-{what}" for what in ("made", "damaged", "theirs"))
        report = shard.run(str(images), str(made), options=options)
        assert report.manifest.rejected == {"Duplicate": 1, "NearDuplicate": 1}
        for place in (damaged, theirs):
            for entry in open_store(made).list():
                if place == damaged or entry.name.endswith(".tar"):
                    open_store(place).write(entry.name, open_store(made).read(entry.name))
        tar = damaged / "train-000001.tar"
        data = bytearray(tar.read_bytes())
        data[700] ^= 1
        tar.write_bytes(data[:-4096])
        indexed = index.run(str(theirs))
        found = validate.run(str(damaged)).faults
        assert {"CutTar", "SizeMismatch"} <= {fault.error for fault in found}
        assert validate.run(str(theirs)).faults == validate.run(str(made)).faults == []
        return report.rejected, digests(made), indexed.manifest, found, digests(theirs)

    by_ray = outcome("ray")
    on_ray.undo()
    assert outcome("threads") == by_ray


def run_until(source: str, dest: str, written: str, tars: int) -> None:
    """Shard in a process of its own, and kill it when so many tars and an object of that name have been written."""
    script = f"""
import sys, time
from jobs.datasets import shard
from pipelines.sharding import assignment as sharding
from pipelines.storage import store as storage
write, tars = storage.Store.write, []
def slow(self, name, data):
    if tars is not None and name.endswith(".tar"):
        tars.append(name)
    if (not {written!r} and len(tars) > {tars}) or name == "manifest.json":
        sys.stdout.write("now\\n")
        sys.stdout.flush()
        time.sleep(60)
    write(self, name, data)
storage.Store.write = slow
options = sharding.ShardOptions(split={dict(OPTIONS.split)!r}, samples_per_shard={OPTIONS.samples_per_shard})
shard.run({source!r}, {dest!r}, options=options)
"""
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "now\n", "it ended before it could be killed"
        deadline = time.monotonic() + 60
        while written and not open_store(dest).exists(written) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("killed_after", ["some tars", "the index"])
def test_sharding_and_growth_on_s3_killed_and_run_again_give_an_undisturbed_runs_bytes(
    tmp_path: Path, s3: Any, killed_after: str
) -> None:
    images = tmp_path / "images"
    bucket = f"{s3.uri('dataset-jobs')}/{tmp_path.name}"
    dest, whole, local = f"{bucket}/killed", f"{bucket}/whole", tmp_path / "local"
    written = "" if killed_after == "some tars" else "index.parquet"
    add(images, range(24))
    run_until(str(images), dest, written, tars=2)
    left = [entry.name for entry in open_store(dest).list()]
    assert "manifest.json" not in left
    assert "manifest.building.json" in left
    assert any(name.endswith(".tar") for name in left)
    with pytest.raises(DatasetError, match="not complete"):
        open_dataset(dest)
    for place in (dest, whole, str(local)):
        shard.run(str(images), place, options=OPTIONS)
    first = digests(whole)
    assert digests(dest) == first == digests(local)
    add(images, range(24, 44))
    run_until(str(images), dest, written and "index-001.parquet", tars=2)
    assert len(digests(dest)) > len(first) + 1
    assert open_dataset(dest).manifest == open_dataset(whole).manifest, "the old generation holds until the new one is"
    for place in (dest, whole, str(local)):
        assert shard.run(str(images), place, options=OPTIONS).added == 20
    assert digests(dest) == digests(whole) == digests(local)
    assert first.items() - digests(dest).items() == {("manifest.json", first["manifest.json"])}
