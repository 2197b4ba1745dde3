"""What the batch job costs besides the images: its driver's memory, and CPU an image, from 1,000 images on.

    python benchmarks/scale.py [--images 200000] [--out DIR]
    python benchmarks/scale.py --listing 10000000       # planning loose files, without images
    python benchmarks/scale.py --index 1000000000 [--chunk-samples 1024]   # plan, resume, growth, account

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
from functools import partial
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
MODEL = {"uri": "m", "family": "f", "digest": "d"}
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


def loose_files(files: int) -> None:
    """Planning loose files, which are all in memory: their list as chunks, and as a plan."""
    from pipelines.results.plan import load_plans, write_plan
    from pipelines.storage.store import open_store

    chunks = list_files(files)
    with tempfile.TemporaryDirectory() as folder:
        with step(f"  plan of {chunks.num_rows:,} chunks written"):
            write_plan(open_store(folder), chunks, archive="a", model=MODEL, settings={})
        with step("  and opened"):
            load_plans(open_store(folder))


def plan_step(name: str, folder: Path, images: int, samples: int) -> None:
    """One step of a job on an archive that is only an index, in this process: what it took, and its peak memory."""
    from synthetic_archive import grown, made_up_results, write_index

    from pipelines.batch.archive import NewChunks, cut_archive
    from pipelines.datasets.chunk import ChunkLimits
    from pipelines.datasets.opening import open_archive
    from pipelines.results.account import make_account
    from pipelines.results.commits import PendingChunks
    from pipelines.results.plan import load_plans, write_plan
    from pipelines.storage.store import open_store

    results, limits = folder / f"results-{samples}", ChunkLimits(samples=samples, size_bytes=1 << 40)

    def new(*, is_grown: bool = False) -> NewChunks:
        archive, plans = open_archive(str(folder / f"index-{images}")), load_plans(open_store(str(results)))
        archive = grown(archive, max(10_000, images // 100)) if is_grown else archive
        return NewChunks(partial(cut_archive, archive, limits, Selection(), [one.stored for one in plans]))

    def write(chunks: NewChunks) -> str:
        store = open_store(str(results))
        begun = len(load_plans(store, checked=False))
        plan = write_plan(store, chunks.pieces(), archive="a", model=MODEL, settings={}, generation=begun).plan
        return f"{plan.num_chunks:,} chunks of {plan.num_samples:,} images"

    began, cpu_began = time.perf_counter(), time.process_time()
    if name == "index":
        write_index(folder / f"index-{images}", images)
        told = f"{images // 16:,} extents"
    elif name == "plan":
        told = write(new())
    elif name == "resume":
        is_new = new().first.num_rows
        pending = PendingChunks.of(made_up_results(results, samples=samples, step=2), load_plans(open_store(results)))
        told = f"{is_new} chunks are new, {pending.num_rows:,} pending"
    elif name == "growth":
        told = write(new(is_grown=True))
    else:
        store = made_up_results(results, samples=samples)
        account = make_account(store, load_plans(store), "j", 1)
        told = f"{account.images:,} images, {len(account.missing)} files are missing"
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    print(f"{name:<8}{seconds:9.1f} s,{cpu_s:8.1f} s of CPU   peak {peak_mib():6.0f} MiB   {told}", flush=True)


def plan_steps(folder: Path, images: int, samples: int) -> None:
    """All steps, each in a process of its own."""
    print(f"{images:,} images in shards, chunks of {samples}", flush=True)
    for name in ("index", "plan", "resume", "growth", "account"):
        command = [sys.executable, __file__, "--step", name, "--index", str(images)]
        subprocess.run([*command, "--chunk-samples", str(samples), "--out", str(folder)], check=True)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--listing", type=int, default=0)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--chunk-samples", type=int, default=64)
    parser.add_argument("--step", default="", help=argparse.SUPPRESS)
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "condgen-benchmark")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.shards, options.one, options.out)))
        return
    if options.step:
        plan_step(options.step, options.out, options.index, options.chunk_samples)
        return
    print(f"{describe()}, load {os.getloadavg()[0]:.1f}", flush=True)
    if options.listing:
        loose_files(options.listing)
        return
    if options.index:
        with tempfile.TemporaryDirectory(dir=options.out) as folder:
            plan_steps(Path(folder), options.index, options.chunk_samples)
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
