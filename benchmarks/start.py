"""The start of a batch job on a timeline: from the command's first instruction to its first committed chunk.

    python benchmarks/start.py [--images 256] [--draws 3] [--model MODEL] [--out DIR] [--repeat 3]

Each run is `condgen colorize` in a process of its own: without Ray, with a cluster that it starts, or on one that runs
already. Functions of the driver are timed from outside; what the workers do shows in how long the driver waits for
them. Shown is the run with the median of the seconds to the first receipt; all are seconds since the process was made.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


def born_at(pid: str = "self") -> float:
    """The time, as time.time() tells it, at which a process was made."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + int(fields[19]) / TICKS


class Marks:
    """Spans of a process, `(name, begin, end)` in seconds since it was made."""

    def __init__(self) -> None:
        self.born = born_at()
        self.spans: list[tuple[str, float, float]] = [("Python starts", 0.0, time.time() - self.born)]

    def add(self, name: str, begin: float, end: float) -> None:
        """Note a span, given as time.time() tells it."""
        self.spans.append((name, begin - self.born, end - self.born))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def wrapped(*arguments: Any, **named: Any) -> Any:
            begin = time.time()
            try:
                return function(*arguments, **named)
            finally:
                self.add(name, begin, time.time())

        return wrapped

    def patch(self, owner: Any, attribute: str, name: str) -> None:
        """Time a function where it is looked up."""
        setattr(owner, attribute, self.timed(name, getattr(owner, attribute)))


def child(arguments: list[str]) -> None:
    """Run the command in this process; print its spans as the last line."""
    marks, begin = Marks(), time.time()
    from jobs.cli import app

    marks.add("driver: command line", begin, time.time())
    begin = time.time()
    import jobs.batch
    import pipelines.batch.job as job

    marks.add("driver: job's modules", begin, time.time())
    if "local" not in arguments:
        begin = time.time()
        import ray  # noqa: F401

        marks.add("driver: import ray", begin, time.time())
    from pipelines.batch import local_workers, ray_workers
    from pipelines.cluster import starting

    marks.patch(job, "list_job", "driver: archive and results listed")
    marks.patch(starting, "_start", "driver: Ray starts, or is joined")
    for workers in (ray_workers.RayWorkers, local_workers.LocalWorkers):
        marks.patch(workers, "begin", "driver: workers begun")
        marks.patch(workers, "ask", "driver: model inspected by a worker")
    marks.patch(job.BatchRun, "begin", "driver: plan written")
    show, first = jobs.batch._show, []  # noqa: SLF001

    def watch(bar: Any, pace: Any) -> None:
        if pace.images and not first:
            first.append(time.time())
            marks.add("driver: first receipt", first[0], first[0])
        show(bar, pace)

    jobs.batch._show = watch  # noqa: SLF001
    with contextlib.suppress(SystemExit):
        sys.argv[1:] = arguments
        app.main()
    print(json.dumps(sorted(marks.spans, key=lambda span: span[1:])))


def run_once(shards: Path, model: str, options: argparse.Namespace, engine: str, *, running: bool) -> list[Any]:
    """The spans of one run."""
    from batch import cluster_at

    with cluster_at(running) as environment, tempfile.TemporaryDirectory(dir=options.out) as results:
        command = [sys.executable, __file__, "--child", "colorize", str(shards), results, "--model", model]
        command += ["--draws", str(options.draws), "--limit", str(options.images)]
        command += ["--engine", engine]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return list(json.loads(done.stdout.strip().splitlines()[-1]))


def shown(spans: list[Any]) -> Iterator[str]:
    """A line a span, with a bar of 40 characters."""
    whole = max(end for _, _, end in spans)
    for name, begin, end in spans:
        left, right = int(40 * begin / whole), max(int(40 * begin / whole) + 1, round(40 * end / whole))
        yield f"  {begin:>6.2f} {end:>6.2f}  {' ' * left}{'█' * (right - left)}{' ' * (40 - right)}  {name}"


def main() -> None:
    """Measure, and print the timelines."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--model", help="default: color-classifier-small with its first weights")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "condgen-benchmark")
    options = parser.parse_args()
    from batch import make_shards, save_model  # what it imports would be part of the child's start
    from corpus import make_corpus
    from machine import describe

    shards = make_shards(make_corpus(options.out / "jpeg-1024", 1024), options.out / "shards-1024")
    model = options.model or str(save_model(options.out / "model", "color-classifier-small"))
    print(f"{options.images} JPEGs of 256 px, {options.draws} draws, {model}, {describe()}", flush=True)
    ways = (("without Ray", "local", False), ("with Ray", "ray", False), ("on a running cluster", "ray", True))
    for name, engine, running in ways:
        runs = [run_once(shards, model, options, engine, running=running) for _ in range(options.repeat)]
        seconds = [next(end for what, _, end in spans if what == "driver: first receipt") for spans in runs]
        middle = runs[seconds.index(statistics.median_low(seconds))]
        print(f"{name}: first receipt after {', '.join(f'{s:.1f}' for s in sorted(seconds))} s")
        print("\n".join(shown(middle)), flush=True)


if __name__ == "__main__":
    main()
