"""Planning at scale: a synthetic index of a million chunks (about 10^9 samples), in seconds and MiB.

    python benchmarks/plan.py            # or with a number of chunks

Prints one row a step. The goal: all within 60 s and 2 GiB.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.extent import EXTENT_SCHEMA
from pipelines.ray_data.pairs import pair_table
from pipelines.results.plan import write_plan
from pipelines.storage.store import open_store
from pipelines.streaming.epoch_order import EpochOrder, OrderConfig

CHUNKS = 1_000_000
RUNS_PER_SHARD = 16


def synthetic_index(runs: int) -> pa.Table:
    """An index of runs of 512 to 1,536 samples, of which each is to be a chunk."""
    random = np.random.default_rng(0)
    samples = random.integers(512, 1537, runs).astype(np.int32)
    sizes = samples.astype(np.int64) * 40_000
    number = np.arange(runs)
    starts = np.cumsum(sizes) - sizes
    starts -= np.repeat(starts[::RUNS_PER_SHARD], RUNS_PER_SHARD)[:runs]
    digests = random.bytes(32 * runs).hex()
    columns = {
        "shard": pa.array([f"train-{shard:06d}.tar" for shard in number // RUNS_PER_SHARD]),
        "start": pa.array(starts),
        "stop": pa.array(starts + sizes),
        "samples": pa.array(samples),
        "pixels": pa.array(np.zeros(runs, dtype=np.int64)),
        "first_key": pa.array([""] * runs),
        "last_key": pa.array([""] * runs),
        "sha256": pa.array([digests[64 * run : 64 * run + 64] for run in range(runs)]),
    }
    return pa.table(columns, schema=EXTENT_SCHEMA)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print what a step took, and the most memory that the process had so far."""
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    peak_mib = peak_kib() / 1024
    print(f"{name:<44} {seconds:8.2f} s   peak {peak_mib:7.0f} MiB", flush=True)


def peak_kib() -> int:
    """The most memory that this process had resident; getrusage's ru_maxrss also counts its parent's at the fork."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def main(chunks: int = CHUNKS) -> float:
    """Run all steps; returns the seconds of all but the making of the index."""
    with step("(a synthetic index)"):
        index = synthetic_index(chunks)
    began = time.perf_counter()
    with step("index -> chunks"):
        plan = chunk_table(index, ChunkLimits(samples=1))
    samples = int(plan["samples"].to_numpy().sum())
    config = OrderConfig(seed=0, lanes=64, window_chunks=2, batch_size=256)
    with step("a training epoch's order"):
        order = EpochOrder(plan["samples"].to_numpy(), config, 0)
    with step("its reads, resumed in the middle"):
        order.reads(order.num_batches // 2)
        next(order.batches(order.num_batches // 2))
    with step("an unpaired epoch (with a tenth as second)"):
        pair_table(plan, plan.slice(0, max(1, chunks // 10)), seed=0, epoch=0)
    with step("the batch plan, written"), tempfile.TemporaryDirectory() as folder:
        model = {"uri": "m", "family": "regression", "digest": hashlib.sha256(b"").hexdigest()}
        written = write_plan(open_store(folder), plan, archive="a", model=model, settings={}).plan
    assert (written.num_chunks, written.num_samples) == (plan.num_rows, samples)
    seconds = time.perf_counter() - began
    print(f"{plan.num_rows:,} chunks, {samples:,} samples: {seconds:.1f} s in all")
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chunks", nargs="?", type=int, default=CHUNKS)
    main(parser.parse_args().chunks)
