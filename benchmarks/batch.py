"""The batch job against its limit and against what one would write instead: one run, the same model and images.

    python benchmarks/batch.py [--images 20000] [--peer-images 4000] [--draws 3] [--only limit,job,peers,start]

The limit is cores ÷ the CPU seconds that one image costs in all stages, each timed alone in a plain loop of one thread:
16 images go through a stage, then through the next, so that memory is reused as in any such loop. Where cores share
caches or are halves of one, such a loop on each of them at once is slower: that is told beside it. The job is
`condgen colorize` as a user runs it, on shards in a local folder. Rates are told from the first chunk's commit on, and
with the actors' start; what the machine did for others meanwhile is told too. The peers are in batch_peers.py.
Seconds to the first committed chunk are counted from the start of a `python -m jobs colorize` process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from corpus import make_corpus, save_model
from machine import busy_seconds, describe, tree_seconds

import jobs.datasets.shard
from condgen.base import Condition
from condgen.noise import NoiseSource, SampleId
from pipelines.batch.archive import plan_archive
from pipelines.batch.job import BatchJob, Resources, run_batch
from pipelines.batch.report import BatchReport, Pace
from pipelines.cluster.starting import ray_cluster, usable_cpus
from pipelines.datasets.chunk import ChunkLimits, image_member, iter_chunks, read_chunk
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.images.metadata import read_metadata
from pipelines.models.source import image_task, open_model
from pipelines.results.files import Draw, encode_draws
from pipelines.results.settings import BatchSettings
from pipelines.sharding.options import ShardOptions
from pipelines.storage.store import open_store

T = TypeVar("T")
HERE = Path(__file__).resolve().parent
STAGES = ("read", "decode", "condition", "model", "picture", "encode", "write")
GROUP = 16
LOOP_IMAGES = 1024
PARTS = ("limit", "job", "peers", "start")


def make_shards(folder: Path, out: Path) -> Path:
    """The corpus as shards with an index."""
    if not (out / "manifest.json").exists():
        jobs.datasets.shard.run(str(folder), str(out), options=ShardOptions(split={"all": 1.0}))
    return out


def plain_loop(shards: Path, model_folder: Path, settings: BatchSettings, images: int) -> dict[str, float]:
    """CPU seconds an image in each stage, alone, in one thread."""
    torch.set_num_threads(1)
    loaded = open_model(str(model_folder)).load()
    task = image_task(loaded, settings.colorize)
    options = settings.sample
    spent = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, work: Callable[[], T]) -> T:
        start = time.process_time()
        result = work()
        spent[stage] += time.process_time() - start
        return result

    def sample(tiles: list[torch.Tensor], first: int) -> list[torch.Tensor]:
        with torch.inference_mode():
            identities = [SampleId("s", str(first + row)) for row in range(len(tiles))]
            noise = NoiseSource(settings.seed, identities, range(settings.draws))
            return list(loaded.model.sample(Condition(image=torch.stack(tiles)), noise, options))

    def rows(first: int, pictures: list[bytes]) -> list[Draw]:
        names = {"source": "s", "source_sha256": "0" * 64, "path": "p", "width": 256, "height": 256, "seed": 0}
        return [Draw(key=f"{first + n}", draw=n % settings.draws, image=one, **names) for n, one in enumerate(pictures)]

    def group(data: list[bytes], first: int) -> list[Draw]:
        metadata = read_metadata(data[0])
        rgbs = timed("decode", lambda: [decode(one) for one in data])
        inputs = timed("condition", lambda: [task.condition(rgb) for rgb in rgbs])
        outputs = timed("model", lambda: sample([tiles[0] for tiles, _ in inputs], first))
        draws = timed(
            "picture",
            lambda: [
                list(task.images(rgb, [y], context)) for rgb, y, (_, context) in zip(rgbs, outputs, inputs, strict=True)
            ],
        )
        found = [rgb for its_draws in draws for rgb in its_draws]
        encoder = partial(encode, format="jpeg", quality=settings.output.quality, metadata=metadata)
        return rows(first, timed("encode", lambda: list(map(encoder, found))))

    store, done = open_store(str(shards)), 0
    with tempfile.TemporaryDirectory(dir=shards.parent) as folder:
        results = open_store(folder)
        for chunk in iter_chunks(plan_archive(str(shards), ChunkLimits(samples=settings.chunk_samples))):
            if done >= images:
                break
            samples = timed("read", lambda chunk=chunk: read_chunk(store, chunk))
            data = [image_member(sample) for sample in samples]
            draws = [draw for at in range(0, len(data), GROUP) for draw in group(data[at : at + GROUP], done + at)]
            timed(
                "write",
                lambda chunk=chunk, draws=draws: results.write(
                    f"{chunk.name}.parquet", encode_draws(draws, [], {}, samples=chunk.samples)
                ),
            )
            done = done + chunk.samples
            if done == chunk.samples:  # the first sets things up: it is part of starting
                spent, images = dict.fromkeys(STAGES, 0.0), images + chunk.samples
                counted_from = done
    return {stage: spent[stage] / (done - counted_from) for stage in STAGES}


def run_loops(shards: Path, model: Path, options: argparse.Namespace, copies: int) -> dict[str, float]:
    """The plain loop in so many processes at once: the mean of what an image costs them."""
    command = [sys.executable, __file__, "--loop", str(shards), str(model), "--draws", str(options.draws)]
    loops = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(copies)]
    found = [json.loads(loop.communicate()[0].strip().splitlines()[-1]) for loop in loops]
    return {stage: sum(costs[stage] for costs in found) / copies for stage in STAGES}


def run_job(shards: Path, model: Path, settings: BatchSettings, out: Path, engine: str) -> dict[str, Any]:
    """The job's rates, and CPU seconds by whom from its first chunk to its last."""
    marks: list[tuple[float, float, float]] = []

    def watch(pace: Pace) -> None:
        first_or_last = pace.images and (not marks or pace.images == pace.total)
        if first_or_last:
            marks.append((time.perf_counter(), busy_seconds(), tree_seconds(os.getpid())))

    with tempfile.TemporaryDirectory(dir=out) as results:
        job = BatchJob(archive=str(shards), results=results, model=str(model), settings=settings)
        job = replace(job, resources=Resources(engine=engine))
        report: BatchReport = run_batch(job, cluster=ray_cluster, watch=watch)
    pace = report.pace
    seconds, busy, own = (last - first for first, last in zip(marks[0], marks[-1], strict=True))
    return {
        "images": report.images,
        "errors": report.errors,
        "rate": pace.images_per_s,
        "steady": pace.steady_images_per_s,
        "cpu_ms": 1000 * own / max(1, pace.steady_images),
        "others": max(0.0, busy - own) / seconds,
        "stages": {name: spent / pace.images for name, spent in pace.busy.items()},
    }


def run_peer(name: str, shards: Path, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A peer, as a process of its own."""
    with tempfile.TemporaryDirectory(dir=options.out) as results:
        command = [sys.executable, str(HERE / "batch_peers.py"), name, "--shards", str(shards), "--model", str(model)]
        command += ["--results", results, "--draws", str(options.draws), "--images", str(options.peer_images)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode != 0:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@contextmanager
def cluster_at(address: bool) -> Iterator[dict[str, str]]:
    """The environment of a command, with a Ray cluster that runs already or without one."""
    environment = {"PYTHONPATH": str(HERE.parent)}
    if not address:
        yield {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | environment
        return
    import ray

    with ray_cluster():
        time.sleep(10)  # its own processes have started too
        # Ray has put into the environment how to authenticate.
        yield os.environ | environment | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


def first_chunk_seconds(shards: Path, model: Path, options: argparse.Namespace, *, running: bool) -> float:
    """Seconds from the start of the command to the first committed chunk."""
    with cluster_at(running) as environment, tempfile.TemporaryDirectory(dir=options.out) as results:
        command = [sys.executable, "-m", "jobs", "colorize", str(shards), results, "--model", str(model)]
        command += ["--draws", str(options.draws), "--limit", "1024", "--engine", "ray"]
        start = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            while not list(Path(results).glob("draws/*.parquet")):
                if process.poll() is not None:
                    raise SystemExit("the command ended without a chunk")
                time.sleep(0.02)
            seconds = time.perf_counter() - start
            process.wait()
        return seconds


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--peer-images", type=int, default=4000)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--preset", default="color-classifier-small")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "condgen-benchmark")
    parser.add_argument("--loop", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = BatchSettings(draws=options.draws)
    if options.loop:
        print(json.dumps(plain_loop(*options.loop, settings, LOOP_IMAGES)))
        return
    only = options.only.split(",")

    photographs = make_corpus(options.out / f"jpeg-{options.images}", options.images)
    shards = make_shards(photographs, options.out / f"shards-{options.images}")
    model = save_model(options.out / "model", options.preset)
    print(f"{options.images} JPEGs of 256 px, {options.draws} draws, {options.preset}, {describe()}")
    print(f"load average at the start {os.getloadavg()[0]:.1f}", flush=True)
    found: dict[str, Any] = {}
    if "limit" in only:
        cores = usable_cpus()
        costs, shared = (run_loops(shards, model, options, copies) for copies in (1, cores))
        found["costs"], found["limit"] = costs, cores / sum(costs.values())
        found["shared_costs"], found["shared_limit"] = shared, cores / sum(shared.values())
        print(f"{'CPU ms an image':<24}{'one loop alone':>16}{f'{cores} at once':>16}")
        for stage in STAGES:
            print(f"{stage:<24}{1000 * costs[stage]:>16.2f}{1000 * shared[stage]:>16.2f}")
        print(f"{'limit':<48}{found['limit']:>9.1f} images/s")
        print(f"{'as many loops as cores, at once':<48}{found['shared_limit']:>9.1f} images/s", flush=True)
    limit, shared_limit = (found.get(name, float("nan")) for name in ("limit", "shared_limit"))
    if "job" in only:
        for engine, title in (("ray", "job"), ("local", "job without Ray")):
            job = found[title] = run_job(shards, model, settings, options.out, engine)
            for name, rate in {
                "its workers' start included": job["rate"],
                "from its first chunk": job["steady"],
            }.items():
                ratios = f"{rate / limit:.2f} of the limit, {rate / shared_limit:.2f} of loops at once"
                print(f"{title + ', ' + name:<48}{rate:>9.1f} images/s  {ratios}")
            told = f"{job['cpu_ms']:.2f} CPU ms an image in all its processes; others had {job['others']:.2f} cores"
            print(f"  {job['images']} images, {job['errors']} errors, {told}", flush=True)
    if "peers" in only:
        for name in ("ray_data", "dataloader"):
            peer = found[name] = run_peer(name, shards, model, options)
            ratio = found["job"]["steady"] / peer["steady"] if "job" in found else float("nan")
            print(f"{peer['name']:<48}{peer['steady']:>9.1f} images/s  the job is {ratio:.2f} x it", flush=True)
    if "start" in only:
        for name, running in (("cold, with Ray", False), ("on a running cluster", True)):
            found[name] = seconds = first_chunk_seconds(shards, model, options, running=running)
            print(f"{'first committed chunk, ' + name:<48}{seconds:>9.1f} s", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
