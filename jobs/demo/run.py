"""`condgen demo`: everything once, small, in minutes, on the machine at hand.

    some photographs ─ colorized by the model that ships with condgen ─ a page of them
    photographs ─ shards ─ two models trained ─ a held-out archive colorized by each ─ measured ─ report

What is complete from an earlier run is used again (every job knows by itself), so a demo that was stopped goes on.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from condgen.errors import ConfigError
from condgen.options import SampleOptions
from condgen.pretrained import DEFAULT_COLORIZER
from jobs.demo.claims import DemoClaims
from jobs.demo.photographs import NUM_TRAINING, PhotographSet, copy_missing, prepare, write_showcase
from pipelines.cluster.starting import LEAST_CPUS, ray_cluster, usable_cpus
from pipelines.storage.store import Store, open_store

__all__ = ["DemoOptions", "DemoReport", "run"]

logger = logging.getLogger(__name__)

CLASSIFIER, REGRESSION = "color-classifier-small", "regression-small"
# Steps, and the seconds after which a slow machine stops all the same. On two free cores the steps come first.
TRAINING = {CLASSIFIER: (300, 120.0), REGRESSION: (120, 50.0)}
SPLIT = {"train": 0.95, "test": 0.05}
SAMPLES_PER_SHARD = 256
DRAWS = 3
TEMPERATURE = 0.5  # after a minute of training, the tails of the predicted colors are still wild
FOLDERS = ("showcase", "showcase-results", "archive", "dataset", "runs", "results", "results-l2")


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the demo writes, where, and from what.

    Attributes:
        out: folder or prefix for all that the demo writes.
        fresh: whether to remove what an earlier demo left there (default False).
        photographs: folder for the photographs (default: the user's cache folder).
        num_training: number of photographs to train on.
        train_steps: training steps of each model; 0 takes those of ``TRAINING`` (default 0).
        verbose: whether Ray's own log is shown (default False).
    """

    out: str
    fresh: bool = False
    photographs: str | None = None
    num_training: int = NUM_TRAINING
    train_steps: int = 0
    verbose: bool = False


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demo did, in numbers, and where the results are."""

    photographs: str
    images: int
    draws: int
    errors: int
    images_per_s: float
    results: str
    page: str
    showcase_page: str
    showcase_results: str
    claims: DemoClaims
    archive: str
    seconds: float

    def lines(self) -> list[str]:
        """Return the summary, line by line."""
        pace = f"{self.images_per_s:.1f} images/s" if self.images_per_s else "complete from an earlier run"
        return [
            "",
            *self.claims.lines(),
            "",
            f"images        {self.photographs}",
            f"images in     {self.images}",
            f"draws out     {self.draws}",
            f"errors        {self.errors} (one file is damaged on purpose)",
            f"rate          {pace}",
            f"Parquet       {self.results}/draws/*.parquet",
            f"report        {self.page}",
            f"showcase      {self.showcase_page} (the shipped colorizer)",
            f"took          {self.seconds:.0f} s",
            "",
            "Next: all of these images in a browser, with search, orders and a slider",
            f"  {_condgen()} gallery {self.showcase_results}",
            "Then: draws of your own photographs, by the shipped colorizer",
            f"  {_condgen()} colorize PHOTOS my-results && {_condgen()} report my-results",
        ]


def _condgen() -> str:
    """Return the command as this user can type it: its path, unless it is on the PATH."""
    ours, found = Path(sys.executable).with_name("condgen"), shutil.which("condgen")
    if not ours.exists() or (found and ours.samefile(found)):
        return "condgen"
    return shlex.quote(os.path.relpath(ours))


class _Stages:
    """Reports each stage with its number and its seconds."""

    def __init__(self, say: Callable[[str], None], total: int) -> None:
        self._say, self._total, self._number = say, total, 0

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a stage; yields the function that takes the notes at the end of its line."""
        self._number += 1
        notes: list[str] = []
        start = time.monotonic()
        yield notes.append
        took = time.monotonic() - start
        self._say(f"[{self._number}/{self._total}] {name:<12} {took:5.1f} s  {'; '.join(notes)}")


def run(options: DemoOptions, *, say: Callable[[str], None] = logger.info) -> DemoReport:
    """Run the demo.

    Args:
        options: options of the demo.
        say: function that is called with a line for each stage that is done.

    Raises:
        ConfigError: the folder is another demo's.
        CondgenError: one of its jobs failed.
    """
    start = time.monotonic()
    store = open_store(options.out)
    if options.fresh:
        _remove(store)
    stages = _Stages(say, 8)
    with ThreadPoolExecutor(1, thread_name_prefix="photographs") as pool:
        # Ray takes seconds to start, and so do the photographs: side by side.
        folder = Path(options.photographs).expanduser() if options.photographs else None
        prepared = pool.submit(prepare, folder, num_training=options.num_training)
        _claim(store, options, {"train_steps": options.train_steps})
        with ray_cluster(verbose=options.verbose, num_cpus=max(LEAST_CPUS, usable_cpus())):
            showcase = _show(options, store, stages)
            with stages.stage("photographs") as note:
                photographs = prepared.result()
                note(photographs.describe())
                facts = asdict(photographs) | {"origins": list(photographs.origins)}
                _claim(store, options, {name: value for name, value in facts.items() if name != "folder"})
            return _work(options, store, photographs, stages, showcase, start)


def _show(options: DemoOptions, store: Store, stages: _Stages) -> str:
    """Colorize some photographs with the model that ships with condgen; returns the path of their page."""
    from jobs import batch
    from jobs.report import page as report
    from pipelines.batch.job import BatchJob
    from pipelines.results.settings import BatchSettings

    out = options.out.rstrip("/")
    with stages.stage("showcase") as note:
        count = write_showcase(store.child("showcase"))
        job = BatchJob(
            archive=f"{out}/showcase",
            results=f"{out}/showcase-results",
            model=DEFAULT_COLORIZER,
            settings=BatchSettings(draws=DRAWS),
        )
        done = batch.run(job, verbose=options.verbose)
        page = report.run(f"{out}/showcase-results")
        again = "" if done.pace.images else "; was complete"
        note(f"{count} photographs, {done.draws} draws by the shipped colorizer: {page.path}{again}")
    return page.path


def _work(
    options: DemoOptions, store: Store, photographs: PhotographSet, stages: _Stages, showcase_page: str, start: float
) -> DemoReport:
    # Imported late: these import torch, which takes seconds.
    from jobs import batch
    from jobs.datasets import shard
    from jobs.demo.claims import measure_claims
    from jobs.report import page as report
    from jobs.report.page import CLAIMS_NAME
    from pipelines.batch.job import BatchJob
    from pipelines.results.settings import BatchSettings
    from pipelines.sharding.options import ShardOptions

    out = options.out.rstrip("/")
    with stages.stage("shards") as note:
        cut = ShardOptions(split=SPLIT, samples_per_shard=SAMPLES_PER_SHARD)
        shards = shard.run(str(photographs.training), f"{out}/dataset", options=cut)
        # Beside the results, which then need nothing else.
        copy_missing(photographs.archive.iterdir(), store.child("archive"))
        note(shards.lines()[0])
    runs = {preset: _train(options, preset, stages) for preset in (CLASSIFIER, REGRESSION)}
    finished = []
    for name, preset, settings in (
        ("results", CLASSIFIER, BatchSettings(draws=DRAWS, sample=SampleOptions(temperature=TEMPERATURE))),
        ("results-l2", REGRESSION, BatchSettings().as_point()),
    ):
        with stages.stage("colorize" if name == "results" else "colorize L2") as note:
            job = BatchJob(archive=f"{out}/archive", results=f"{out}/{name}", model=runs[preset], settings=settings)
            done = batch.run(job, verbose=options.verbose)
            note(f"{done.draws} draws, {done.errors} errors" + ("" if done.pace.images else "; was complete"))
            finished.append(done)
    with stages.stage("measure") as note:
        claims = measure_claims(draws=f"{out}/results", points=f"{out}/results-l2", verbose=options.verbose)
        store.write(f"results/{CLAIMS_NAME}", json.dumps(claims.findings(), indent=1).encode())
        page = report.run(f"{out}/results")
        note(f"{claims.num_images} held-out images; {page.lines()[0].split(maxsplit=1)[1]}")
    return DemoReport(
        photographs=photographs.describe(),
        images=finished[0].images,
        draws=finished[0].draws,
        errors=finished[0].errors,
        images_per_s=finished[0].pace.images_per_s,
        results=f"{out}/results",
        page=page.path,
        showcase_page=showcase_page,
        showcase_results=f"{out}/showcase-results",
        claims=claims,
        archive=f"{out}/archive",
        seconds=time.monotonic() - start,
    )


def _train(options: DemoOptions, name: str, stages: _Stages) -> str:
    """Train one of the models, or find it trained; returns the folder of its run."""
    from condgen.presets import find_preset
    from jobs import train
    from pipelines.training import TrainOptions

    out = options.out.rstrip("/")
    steps, seconds = TRAINING[name]
    place = f"{out}/runs/{name}"
    preset = find_preset(name)
    preset = replace(preset, train=replace(preset.train, steps=options.train_steps or steps, max_seconds=seconds))
    with stages.stage("train" if name == CLASSIFIER else "train L2") as note:
        # On a cluster it does not wait for GPUs: it is small enough for CPUs.
        gpus = 0.0 if os.environ.get("RAY_ADDRESS") else None
        asked = TrainOptions(preset=preset, data=f"{out}/dataset", out=place, gpus_per_worker=gpus)
        done = train.run(asked, verbose=options.verbose)
        summary = done.summary or {}
        terms = ", ".join(f"{term} {value:.4f}" for term, value in summary.get("losses", {}).items())
        note(f"{name}: {summary.get('step', 0)} steps, {terms}" + ("; was complete" if done.already else ""))
    return place


def _claim(store: Store, options: DemoOptions, facts: Mapping[str, Any]) -> None:
    """Note in the folder what the demo is made of, or check that the folder's own note says the same.

    Raises:
        ConfigError: that demo had other images or other steps, or the folder holds something else.
    """
    before = {}
    if store.exists("demo.json"):
        before = json.loads(store.read("demo.json"))
    elif any(store.exists(name) for name in FOLDERS):
        raise ConfigError("--out", options.out, "an empty folder, or one of an earlier demo: this has other content")
    for name in sorted(facts):
        if name in before and before[name] != facts[name]:
            allowed = f"{before[name]!r}, with which {options.out} was begun; --fresh starts it over"
            raise ConfigError(name, facts[name], allowed)
    if facts.keys() - before.keys():
        store.write("demo.json", json.dumps({**before, **facts}, indent=1).encode())


def _remove(store: Store) -> None:
    """Remove what a demo wrote there, and nothing else."""
    if not store.exists("demo.json"):
        return
    for folder in FOLDERS:
        for entry in store.list(folder):
            store.delete(entry.name)
    store.delete("demo.json")
