"""What the batch job costs besides the images: its driver's memory, and CPU an image, from 1,000 images on.

    python benchmarks/scale.py [--images 200000] [--out DIR]
    python benchmarks/scale.py --listing 10000000       # planning, committed files and accounts, without images

Pictures of 32 px go through a model that does nothing, so that what is left is the engine: reading, decoding, encoding,
commits, receipts, the driver. Each size is a process of its own, the first one three times. Told of each: the driver's
peak memory, and CPU ms an image of the driver and of all processes, from the first chunk's commit to the last one's.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import describe, peak_mib, tree_seconds

from pipelines.batch.archive import Selection
from pipelines.batch.job import BatchJob, run_batch
from pipelines.batch.report import Pace
from pipelines.cluster.starting import ray_cluster
from pipelines.results.settings import BatchSettings

HERE = Path(__file__).resolve().parent
SIZE_PX = 32
SHARD_SAMPLES = 2000
MARKS = (1_000, 10_000, 50_000, 100_000, 200_000)


def nothing() -> Any:
    """A model that gives what it is given: `scale:nothing`."""
    import torch

    model = torch.nn.Identity()
    model.size_px = SIZE_PX  # type: ignore[assignment]
    return model


def make_shards(folder: Path, images: int) -> Path:
    """Shards of tiny JPEGs, 500 different ones, with an index."""
    from PIL import Image

    import jobs.datasets.index
    from pipelines.datasets.tar import TarWriter
    from pipelines.storage.store import open_store

    if (folder / "manifest.json").exists():
        return folder
    random, pictures = np.random.default_rng(0), []
    for _ in range(500):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        sink = io.BytesIO()
        Image.fromarray(coarse).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC).save(sink, "jpeg", quality=90)
        pictures.append(sink.getvalue())
    store = open_store(str(folder))
    for shard, first in enumerate(range(0, images, SHARD_SAMPLES)):
        tar = TarWriter()
        for number in range(first, min(images, first + SHARD_SAMPLES)):
            tar.add(f"{number:09d}.jpg", pictures[number % len(pictures)])
        store.write(f"all-{shard:06d}.tar", tar.finish())
    jobs.datasets.index.run(str(folder), statistics=False)
    return folder


def run_one(shards: Path, images: int, out: Path) -> dict[str, Any]:
    """The job with so many images, in this process."""
    marks: list[tuple[int, float, float, float, float]] = []

    def watch(pace: Pace) -> None:
        due = not marks or pace.images == pace.total or any(marks[-1][0] < mark <= pace.images for mark in MARKS)
        if pace.images and due:
            all_s, own_s = tree_seconds(os.getpid()), time.process_time()
            marks.append((pace.images, time.perf_counter(), all_s, own_s, peak_mib()))

    with tempfile.TemporaryDirectory(dir=out) as results, ray_cluster():
        settings = BatchSettings(kind="translate", draws=1)
        job = BatchJob(
            archive=str(shards),
            results=results,
            model="scale:nothing",
            settings=settings,
            selection=Selection(limit=images),
            import_path=(str(HERE),),
        )
        report = run_batch(job, watch=watch)
    done, seconds, all_s, own_s, _ = (last - first for first, last in zip(marks[0], marks[-1], strict=True))
    windows = [
        {"images": b[0], "cpu_ms": 1000 * (b[2] - a[2]) / (b[0] - a[0]), "peak_mib": b[4]} for a, b in pairwise(marks)
    ]
    return {
        "images": report.images,
        "errors": report.errors,
        "images_per_s": done / seconds,
        "cpu_ms": 1000 * all_s / done,
        "driver_ms": 1000 * own_s / done,
        "peak_mib": peak_mib(),
        "windows": windows,
    }


def run_process(shards: Path, images: int, out: Path) -> dict[str, Any]:
    """The same in a process of its own, which starts as small as any."""
    command = [sys.executable, __file__, "--one", str(images), "--shards", str(shards), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode != 0:
        raise SystemExit(f"{images} images failed:\n{done.stderr[-3000:]}")
    found = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    for window in found["windows"]:
        print(
            f"   up to {window['images']:>8}: {window['cpu_ms']:.3f} CPU ms an image, {window['peak_mib']:.0f} MiB",
            flush=True,
        )
    return found


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print what a step took, and the most memory that the process had so far."""
    began = time.perf_counter()
    yield
    print(f"{name:<52} {time.perf_counter() - began:8.2f} s   peak {peak_mib():7.0f} MiB", flush=True)


def list_files(files: int) -> pa.Table:
    """A listing of loose files, as a store gives it, to chunks."""
    from pipelines.datasets.chunk import ChunkLimits
    from pipelines.datasets.chunking import file_table
    from pipelines.datasets.opening import listing_table
    from pipelines.storage.backend import Entry

    with step(f"{files:,} loose files (synthetic)"):
        entries = [Entry(f"album-{n // 1000:06d}/IMG_{n:09d}.jpg", 40_000 + n % 1000) for n in range(files)]
    with step("  to columns, without the objects"):
        listing = listing_table(entries)
    with step("  to chunks of 64"):
        return file_table(listing["name"], listing["size_bytes"].to_numpy(), ChunkLimits())


def account(chunks: pa.Table, committed_files: int) -> None:
    """What the account of a job costs: its plan, what is committed, and the footers."""
    from pipelines.results.account import make_account, pending_chunks
    from pipelines.results.files import draws_name, encode_draws
    from pipelines.results.plan import load_plans, write_plan
    from pipelines.storage.store import open_store

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        model = {"uri": "m", "family": "f", "digest": "d"}
        with step(f"  plan of {chunks.num_rows:,} chunks written"):
            write_plan(store, chunks, archive="a", model=model, settings={})
        with step("  and read"):
            generations = load_plans(store)
        names = [draws_name(name) for name in chunks["name"].to_pylist()]
        with step("  pending of it, half committed"):
            pending_chunks(generations, dict.fromkeys(names[::2], 1))
        some = chunks.slice(0, committed_files)
        with step(f"  ({some.num_rows:,} draws files made)"):
            for name, samples in zip(some["name"].to_pylist(), some["samples"].to_pylist(), strict=True):
                data = encode_draws([], [], {"job": "j", "chunk": name}, samples=samples)
                Path(folder, draws_name(name)).parent.mkdir(exist_ok=True)
                Path(folder, draws_name(name)).write_bytes(data)
        with step(f"  account of {some.num_rows:,} footers, page cache warm"):
            make_account(store, generations, "j", 1)


def shards_table(images: int) -> None:
    """An index of shards, in runs of 16 images, to chunks."""
    from plan import synthetic_index

    from pipelines.datasets.chunk import ChunkLimits
    from pipelines.datasets.chunking import chunk_table

    with step(f"{images:,} images in shards (synthetic index)"):
        index = synthetic_index(images // 16)
        index = index.set_column(index.schema.get_field_index("samples"), "samples", pa.array([16] * index.num_rows))
    with step("  to chunks of 64"):
        chunk_table(index, ChunkLimits(samples=64, size_bytes=1 << 40))


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--listing", type=int, default=0)
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "condgen-benchmark")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.shards, options.one, options.out)))
        return
    print(describe(), flush=True)
    if options.listing:
        account(list_files(options.listing), min(options.listing // 64, 20_000))
        shards_table(options.listing)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    shards = make_shards(options.out / f"tiny-{options.images}", options.images)
    print(f"{'images':>9}{'images/s':>10}{'CPU ms':>9}{'driver ms':>11}{'driver peak MiB':>17}", flush=True)
    large = run_process(shards, options.images, options.out)
    small = [run_process(shards, 1000, options.out) for _ in range(3)]
    runs = [{name: statistics.median(run[name] for run in small) for name in small[0] if name != "windows"}, large]
    for run in runs:
        print(
            f"{run['images']:>9}{run['images_per_s']:>10.0f}{run['cpu_ms']:>9.3f}{run['driver_ms']:>11.3f}"
            f"{run['peak_mib']:>17.0f}"
        )
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
