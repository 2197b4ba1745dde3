"""Training on streamed data against the same loop on batches that are in memory: what reading and decoding cost it.

    python benchmarks/train_stream.py [--workers 1 2] [--rounds 3] [--steps 24] [--out DIR]

Workers of Ray Train, with the shares of the machine that `condgen train` gives them, train by turns on a dataset of
shards, read and decoded by Ray Data, and on one batch of noise; each turn begins anew, with a model and an optimizer.
The first third of a turn's steps is left out: the stream fills its queues then.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from corpus import make_corpus
from machine import describe
from read import SAMPLES_PER_SHARD, make_shards

from condgen.presets import find_preset
from pipelines.cluster.capacity import Demand
from pipelines.cluster.nodes import look_at_nodes
from pipelines.cluster.starting import LEAST_CPUS, configure_data, ray_cluster, usable_cpus
from pipelines.training.backend import WorkerSetup
from pipelines.training.capacity import share_nodes
from pipelines.training.engine import prepare
from pipelines.training.job import TrainJob
from pipelines.training.options import TrainOptions

KINDS = ("synthetic", "streamed")


def train_by_turns(config: Mapping[str, Any]) -> None:
    """Train in a worker, by turns; worker 0 writes the rates (images/s of all workers) by kind."""
    import numpy as np
    import ray.train
    import torch

    from pipelines.streaming.epoch_order import StreamPosition
    from pipelines.streaming.prefetch import prefetched
    from pipelines.streaming.stream import StreamBatch
    from pipelines.training.feed import make_feed
    from pipelines.training.first_model import build_model
    from pipelines.training.loop import Alone, Group, Loop, TorchGroup

    job: TrainJob = config["job"]
    train, size = job.preset.train, job.preset.data.size_px
    context = ray.train.get_context()
    workers, rank = context.get_world_size(), context.get_world_rank()
    torch.set_num_threads(job.threads)
    group: Group = TorchGroup() if workers > 1 else Alone()
    feed, first = make_feed(job.preset, job.plans), build_model(job)
    share = train.batch_size // workers
    rgb = np.random.default_rng(0).integers(0, 256, (share, size, size, 3), dtype=np.uint8)
    noise = StreamBatch(
        rgb=rgb,
        labels=np.zeros((share, 0), np.int64),
        weight=np.ones(share, np.float32),
        faults=0,
        after=StreamPosition(),
    )

    def synthetic() -> Iterator[StreamBatch]:
        while True:
            yield noise

    found: dict[str, list[float]] = {kind: [] for kind in config["kinds"]}
    waited: dict[str, list[float]] = {kind: [] for kind in config["kinds"]}
    for _ in range(config["rounds"]):
        for kind in config["kinds"]:
            rows: list[Any] = []
            loop = Loop(copy.deepcopy(first), train, group=group, to_batch=feed.batch)
            loop.state.position = feed.start()
            options = {"rank": rank, "num_workers": workers, "task_cpus": job.task_cpus}
            stream = feed.stream(loop.state.position, train.steps, **options) if kind == "streamed" else synthetic()
            batches = prefetched(stream, 2)
            loop.run(batches, on_row=rows.append, on_checkpoint=lambda _: None)
            batches.close()
            images, seconds = rows[-1].images - rows[0].images, rows[-1].seconds - rows[0].seconds
            found[kind].append(images / seconds)
            waited[kind].append(statistics.mean(rows[-1].waited))
    if rank == 0:
        Path(config["out"]).write_text(json.dumps({"rates": found, "waited": waited}))


def measure(job: TrainJob, workers: int, given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Return the rates of some workers."""
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import RunConfig, ScalingConfig

    shares = share_nodes(look_at_nodes(), Demand(least=workers, most=workers, gpus=0.0), workers)
    placed = replace(job, threads=shares.threads, task_cpus=shares.task_cpus)
    out = scratch / f"{workers}.json"
    TorchTrainer(
        train_by_turns,
        train_loop_config={"job": placed, "kinds": KINDS, "rounds": given.rounds, "out": str(out)},
        torch_config=WorkerSetup(),
        scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": shares.worker_cpus}),
        run_config=RunConfig(name="benchmark", storage_path=str(scratch)),
    ).fit()
    return {"threads": shares.threads, **json.loads(out.read_text())}


def main() -> None:
    """Make the dataset, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="pix2pix-small")
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=24, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "condgen-read")
    given = parser.parse_args()
    folder = make_corpus(given.out / f"jpeg-{given.images}", given.images)
    shards = make_shards(folder, given.out / f"{folder.name}-shards", SAMPLES_PER_SHARD["decoded"])
    preset = find_preset(given.preset)
    settings = {"steps": given.steps, "batch_size": given.batch_size, "log_every_steps": max(1, given.steps // 3)}
    train = replace(preset.train, **settings, checkpoint_every_steps=10**9)
    preset = replace(preset, train=train, data=replace(preset.data, size_px=given.size_px))
    os.environ |= {"RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_TRAIN_METRICS_ENABLED": "0"}
    print("| workers | threads each | synthetic, images/s | streamed, images/s | streamed / synthetic | waited |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        ray_cluster(verbose=False, num_cpus=max(LEAST_CPUS, usable_cpus())),
    ):
        configure_data(verbose=False)
        for workers in given.workers:
            options = TrainOptions(preset=preset, data=str(shards), out=f"{scratch}/run", workers=workers)
            found = measure(prepare(options)[0], workers, given, Path(scratch))
            rates = [statistics.median(found["rates"][kind]) for kind in KINDS]
            spread = [f"{min(v):,.1f} to {max(v):,.1f}" for v in (found["rates"][kind] for kind in KINDS)]
            pairs = zip(found["rates"]["streamed"], found["rates"]["synthetic"], strict=True)
            ratio = statistics.median(streamed / synthetic for streamed, synthetic in pairs)
            waited = statistics.median(found["waited"]["streamed"])
            cells = [f"{rate:,.1f} ({between})" for rate, between in zip(rates, spread, strict=True)]
            print(f"| {workers} | {found['threads']} | {' | '.join(cells)} | {ratio:.3f} | {waited:.1%} |", flush=True)
    facts = f"{given.preset} at {given.size_px} px, batches of {given.batch_size}; load {os.getloadavg()[0]:.0f}"
    print(f"\n{facts}\n{describe()}, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
