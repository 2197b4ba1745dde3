"""`condgen chapter`: run the experiments, judge their claims, print the table and make a page of images.

    experiment x seed ─ a process each, one thread ─ OUT/NAME-SEED.json + .png ─ claims ─ table, OUT/chapter.html

A training has the threads that it is told, 1 by default, whatever the machine has: sums over more threads are rounded
otherwise, and adversarial trainings grow such differences. What is in OUT already, made by the same code with the same
effort and threads, is not done again: a run that was cut goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from condgen.errors import ConfigError, JobError
from jobs.chapter.claims import Experiment, Row, judge
from jobs.chapter.page import write_page

__all__ = ["Chapter", "ExperimentResult", "find_experiments", "run", "table"]


@dataclass(frozen=True, kw_only=True)
class ExperimentResult:
    """One experiment at one seed.

    Attributes:
        experiment, seed, effort, threads: of what.
        numbers: by metric.
        images: file names in OUT, by caption.
        seconds: of a core, in its process.
        code: digest of the code that made it.
    """

    experiment: str
    seed: int
    effort: float
    threads: int
    numbers: Mapping[str, float]
    images: Mapping[str, str]
    seconds: float
    code: str


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A run's result.

    Attributes:
        rows: of the table.
        done: all experiments, in the table's order.
        facts: what the table rests on: form, time, machine, versions.
        page: the page's path.
    """

    rows: tuple[Row, ...]
    done: tuple[ExperimentResult, ...]
    facts: tuple[str, ...]
    page: Path

    @property
    def failed(self) -> int:
        """Bounds that do not hold."""
        return sum(row.passed is False for row in self.rows)


def find_experiments(names: Sequence[str] = ()) -> tuple[Experiment, ...]:
    """The experiments named, by their own or their world's name; all of them for none.

    Raises:
        ConfigError: an unknown name.
    """
    from jobs.chapter.experiments import EXPERIMENTS

    known = {e.name for e in EXPERIMENTS} | {e.world for e in EXPERIMENTS}
    for name in names:
        if name not in known:
            raise ConfigError.unknown("only", name, sorted(known))
    return tuple(e for e in EXPERIMENTS if not names or e.name in names or e.world in names)


def run(
    out: Path,
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
    threads: int = 1,
    processes: int = 0,
    on_done: Callable[[ExperimentResult, int, int], None] | None = None,
) -> Chapter:
    """Run what is not in ``out`` yet, judge all of it, and write the page.

    Args:
        out: a folder.
        quick: one seed, less training, and only what fits.
        only: names of experiments or worlds.
        seeds: those of every experiment; none leaves each its own.
        threads: of each training.
        processes: at once; 0 is as many as have a core for each of their threads.
        on_done: called for each that ends, with its number and the count of all.

    Raises:
        ConfigError: an unknown name.
        JobError: an experiment failed; those that have ended are kept.
    """
    began = time.monotonic()
    chosen = find_experiments(only)
    left_out = tuple(e.name for e in chosen if quick and e.quick_effort == 0)
    chosen = tuple(e for e in chosen if e.name not in left_out)
    wanted = [(e, seed) for e in chosen for seed in _seeds(e, seeds, quick=quick)]
    out.mkdir(parents=True, exist_ok=True)
    found = {
        (done.experiment, done.seed): done
        for done in _measure(out, wanted, quick, threads, processes, on_done or _say_nothing)
    }
    rows: list[Row] = []
    for experiment in chosen:
        numbers = [found[e.name, seed].numbers for e, seed in wanted if e is experiment]
        rows += judge(experiment, numbers, quick=quick)
    done = tuple(found[e.name, seed] for e, seed in wanted)
    facts = _facts(done, left_out, quick=quick, threads=threads, seconds=time.monotonic() - began)
    page = out / "chapter.html"
    write_page(page, rows=rows, images=_images(chosen, done), facts=facts)
    (out / "chapter.json").write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    return Chapter(rows=tuple(rows), done=done, facts=facts, page=page)


def _seeds(experiment: Experiment, asked: Sequence[int], *, quick: bool) -> tuple[int, ...]:
    own = experiment.seeds[:1] if quick else experiment.seeds
    return tuple(dict.fromkeys(asked)) or own


def _say_nothing(*_: object) -> None:
    """Nobody listens."""


def table(rows: Sequence[Row]) -> list[str]:
    """The table in Markdown, a line a bound."""
    lines = ["| world | claim | metric | threshold | measured | pass |", "| --- | --- | --- | ---: | ---: | --- |"]
    said = ""
    for row in rows:
        claim, said = ("" if row.claim == said else row.claim), row.claim
        verdict = {True: "yes", False: "**NO**", None: "–"}[row.passed]
        lines.append(f"| {row.world} | {claim} | {row.metric} | {row.threshold} | {row.measured} | {verdict} |")
    return lines


def _facts(
    done: Sequence[ExperimentResult], left_out: Sequence[str], *, quick: bool, threads: int, seconds: float
) -> tuple[str, ...]:
    cpu = sum(one.seconds for one in done)
    form = "quick" if quick else "full"
    each = "one thread each" if threads == 1 else f"{threads} threads each"
    lines = [
        f"{form} form: {len(done)} trainings, {each}, {cpu / 60:.1f} minutes of a core in all",
        f"this run: {seconds / 60:.1f} minutes",
        f"{os.cpu_count()} cores, {platform.machine()}; Python {platform.python_version()}, torch {version('torch')}",
    ]
    if left_out:
        lines.append(f"not in the quick form: {', '.join(left_out)}")
    return tuple(lines)


def _images(chosen: Sequence[Experiment], done: Sequence[ExperimentResult]) -> Iterator[tuple[str, str, str]]:
    for experiment in chosen:
        for one in done:
            if one.experiment == experiment.name:
                for caption, name in one.images.items():
                    yield experiment.world, f"{experiment.name}, seed {one.seed}: {caption}", name


@cache
def _code(world: str) -> str:
    """Digest of the sources that decide the numbers of a world's experiments: not those of the other worlds."""
    import condgen

    roots = (Path(next(iter(condgen.__path__))), Path(__file__).parent)
    others = tuple(_stem(e.world) for e in find_experiments() if e.world != world)
    digest = hashlib.sha256(version("torch").encode())
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            if path.name not in ("run.py", "page.py", "experiments.py") and not path.stem.startswith(others):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _stem(world: str) -> str:
    """What the names of a world's modules begin with, here and in ``condgen.worlds``."""
    return world.replace(" ", "_")


def _kept(out: Path, experiment: Experiment, seed: int, effort: float, threads: int) -> ExperimentResult | None:
    try:
        done = ExperimentResult(**json.loads((out / f"{experiment.name}-{seed}.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return done if (done.effort, done.threads, done.code) == (effort, threads, _code(experiment.world)) else None


def _measure(
    out: Path,
    wanted: Sequence[tuple[Experiment, int]],
    quick: bool,
    threads: int,
    processes: int,
    on_done: Callable[[ExperimentResult, int, int], None],
) -> Iterator[ExperimentResult]:
    """The longest first, so that the last one to end doesn't run alone for long."""
    left: list[tuple[Experiment, int, float]] = []
    number = 0
    for experiment, seed in wanted:
        effort = experiment.quick_effort if quick else 1.0
        if kept := _kept(out, experiment, seed, effort, threads):
            number += 1
            on_done(kept, number, len(wanted))
            yield kept
        else:
            left.append((experiment, seed, effort))
    left.sort(key=lambda one: -one[0].minutes * one[2])
    count = processes or max(1, len(os.sched_getaffinity(0)) // threads)
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        futures: dict[Future[dict[str, Any]], str] = {
            pool.submit(measure_one, e.name, seed, effort, threads, str(out)): f"{e.name}, seed {seed}"
            for e, seed, effort in left
        }
        try:
            for future in as_completed(futures):
                try:
                    done = ExperimentResult(**future.result())
                except Exception as error:
                    raise JobError(f"chapter: {futures[future]} failed: {type(error).__name__}: {error}") from error
                number += 1
                on_done(done, number, len(wanted))
                yield done
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def measure_one(name: str, seed: int, effort: float, threads: int, out: str) -> dict[str, Any]:
    """Run one experiment in this process, and write what it gives; the JSON comes last."""
    import torch
    from torchvision.io import write_png

    torch.set_num_threads(threads)
    began = time.process_time()
    [experiment] = find_experiments([name])
    measured = experiment.run(seed, effort)
    images = {}
    for index, (caption, image) in enumerate(measured.images.items()):
        images[caption] = f"{name}-{seed}-{index}.png"
        write_png((image.clamp(0, 1) * 255).round().to(torch.uint8), str(Path(out) / images[caption]))
    done = ExperimentResult(
        experiment=name,
        seed=seed,
        effort=effort,
        threads=threads,
        numbers={key: float(value) for key, value in measured.numbers.items()},
        images=images,
        seconds=round(time.process_time() - began, 1),
        code=_code(experiment.world),
    )
    path = Path(out) / f"{name}-{seed}.json"
    path.with_suffix(".tmp").write_text(json.dumps(asdict(done), indent=1))
    path.with_suffix(".tmp").replace(path)
    return asdict(done)
