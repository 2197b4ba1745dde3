"""The pace of a batch job while it runs, its report, and `run.json`, which is written last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.results.files import Receipt
from pipelines.results.plan import Generation
from pipelines.storage.store import Store

__all__ = ["VERSIONS", "BatchReport", "Pace", "image_columns", "write_run"]

VERSIONS = ("condgen", "torch", "torchvision", "numpy", "pillow", "pyarrow")
"""The packages whose versions decide the bytes of results."""


@dataclass(slots=True)
class Pace:
    """What this run of the job has done, and how fast; it is updated after each chunk.

    Attributes:
        total: images that were to be done when the run began.
        images, draws, errors, filtered: counts of this run.
        seconds: time since the chunks were handed out.
        steady_images, steady_seconds: images and seconds after the first chunk's commit, without the actors' start.
        kinds: errors by stage and name.
        busy: seconds by stage, summed over the actors.
        cpu_seconds: CPU time of the actors, after their start.
        cpus, gpus: sizes of the cluster.
        engine: what the workers ran on, `ray` or `local`.
        archive: a line that says what the archive was taken for, and what of it is left out.
    """

    total: int = 0
    images: int = 0
    draws: int = 0
    errors: int = 0
    filtered: int = 0
    seconds: float = 0.0
    steady_images: int = 0
    steady_seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0
    cpus: float = 0.0
    gpus: float = 0.0
    engine: str = ""
    archive: str = ""

    def add(self, receipt: Receipt, now: float) -> None:
        """Count a chunk, committed `now` seconds after the first was handed out."""
        if self.images:
            self.steady_images += receipt.samples
            self.steady_seconds += now - self.seconds
            self.cpu_seconds += receipt.cpu_seconds
        self.images += receipt.samples
        self.draws += receipt.draws
        self.errors += receipt.errors
        self.filtered += receipt.filtered
        self.seconds = now
        self.kinds.update(receipt.kinds)
        self.busy.update(receipt.seconds)

    @property
    def cpu_use(self) -> float:
        """The share of the cluster's CPUs that the actors used, after the first chunk; 0 where it is not known yet."""
        capacity = self.steady_seconds * self.cpus
        return self.cpu_seconds / capacity if capacity > 0 else 0.0

    @property
    def gpu_use(self) -> float:
        """The share of the time in which a GPU had a batch of the model in hand; 0 without GPUs."""
        capacity = self.seconds * self.gpus
        return self.busy["model"] / capacity if capacity > 0 else 0.0

    @property
    def images_per_s(self) -> float:
        """The rate from the first chunk handed out to the last committed."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def steady_images_per_s(self) -> float:
        """The rate from the first chunk committed on."""
        return self.steady_images / self.steady_seconds if self.steady_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """How a job ended; the counts are of all of the results, the pace of this run.

    `image_columns` are the columns of tables that the images were taken from.
    """

    results: str
    images: int
    with_draws: int
    draws: int
    errors: int
    filtered: int
    errors_by_kind: dict[str, int]
    generations: int
    pace: Pace
    archive: str = ""
    image_columns: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the summary, a line each."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.errors_by_kind.items()))
        pace = "nothing was left to do"
        if self.pace.images:
            pace = f"{self.pace.images} in {self.pace.seconds:.1f} s: {self.pace.images_per_s:.1f} images/s"
            pace += ", without Ray" if self.pace.engine == "local" else ""
        return [
            *([f"archive       {self.archive}"] if self.archive else []),
            f"images in     {self.images}" + (f" ({self.generations} plans)" if self.generations > 1 else ""),
            *([f"from column   {', '.join(self.image_columns)}"] if self.image_columns else []),
            f"draws out     {self.draws} (of {self.with_draws} images)",
            f"errors        {self.errors}" + (f" ({kinds})" if kinds else ""),
            *([f"filtered      {self.filtered}"] if self.filtered else []),
            f"this run      {pace}",
            f"Parquet       {self.results}/draws/*.parquet",
        ]


def image_columns(pieces: Iterable[pa.Table]) -> tuple[str, ...]:
    """Return the columns of tables that the images of some chunks are taken from; none of other archives."""
    columns = [pc.unique(pc.struct_field(chunks["rows"], "image")).to_pylist() for chunks in pieces]
    return tuple(dict.fromkeys(name for names in columns for name in names if name is not None))


def write_run(results: Store, generations: Sequence[Generation], report: BatchReport) -> None:
    """Write `run.json`, the last file: its presence means that the job is complete."""
    plan = generations[0].plan
    counts = {name: getattr(report, name) for name in ("images", "with_draws", "draws", "errors", "filtered")}
    facts = {
        "format": "condgen-run-2",
        "archive": plan.archive,
        "model": dict(plan.model),
        "settings": dict(plan.settings),
        "plans": [
            {"name": one.plan.name, "kind": one.plan.kind, "digest": one.plan.digest, "images": one.plan.num_samples}
            for one in generations
        ],
        "counts": {**counts, "errors_by_kind": report.errors_by_kind},
        "this_run": {
            "engine": report.pace.engine,
            "images": report.pace.images,
            "seconds": round(report.pace.seconds, 3),
            "images_per_s": round(report.pace.images_per_s, 3),
            "cpu_use": round(report.pace.cpu_use, 3),
            "gpu_use": round(report.pace.gpu_use, 3),
            "stage_seconds": {stage: round(seconds, 3) for stage, seconds in sorted(report.pace.busy.items())},
        },
        "versions": {name: version(name) for name in (*VERSIONS, "ray")},
    }
    results.write_json("run.json", facts)
