"""What every reader's script shares: its arguments, its passes, and the JSON line that it prints.

A pass is one reading of the whole dataset, from the call that opens it to its last batch in the consumer's process,
with workers that are there already. The first pass is not timed: it starts workers, warms the page cache and adds up
what arrives (bytes, or the values of all pixels), so that readers can be shown to deliver the same.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

__all__ = ["BATCH", "MODES", "Arguments", "Batch", "arguments", "measure"]

BATCH = 64
MODES = ("raw", "decoded", "large")

Batch = Any
"""A list of encoded files (raw), or an array or tensor of `BATCH` pictures, uint8."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a reader is to do.

    Attributes:
        data: where its data are: a folder or URI, or shards' URLs, one a line, in a file.
        mode: raw (encoded bytes), decoded (pictures as they are), large (the largest square in the middle, resized).
        size_px: of the squares of large pictures.
        workers: processes.
        repeats: timed passes.
    """

    data: str
    mode: str
    size_px: int
    workers: int
    repeats: int


def arguments() -> Arguments:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    return Arguments(**vars(parser.parse_args()))


def measure(given: Arguments, open_pass: Callable[[], Iterable[Batch]], packages: Iterable[str]) -> None:
    """Make the passes and print one JSON line."""
    samples, total = 0, 0
    for batch in open_pass():
        samples += len(batch)
        total += sum(map(len, batch)) if given.mode == "raw" else _sum(batch)
    seconds = []
    for _ in range(given.repeats):
        start = time.perf_counter()
        count = sum(map(len, _each(open_pass())))
        seconds.append(time.perf_counter() - start)
        if count != samples:
            raise SystemExit(f"{count} samples in this pass, {samples} in the first")
    versions = {name: version(name) for name in packages}
    print(json.dumps({"samples": samples, "sum": total, "seconds": seconds, "versions": versions}))


def _each(batches: Iterable[Batch]) -> Iterator[Batch]:
    yield from batches


def _sum(batch: Batch) -> int:
    import numpy as np

    return int(np.asarray(batch).sum(dtype=np.int64))
