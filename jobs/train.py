"""`condgen train`: a model from a preset, on a dataset of shards.

    preset + dataset ─ TrainJob ─ Ray Train's workers (jobs/train_worker.py) ─ checkpoints, metrics.jsonl, model

Running the same command again goes on from the newest checkpoint, at the next sample; a finished run says so at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from condgen.errors import CondgenError, ConfigError, DatasetError, JobError
from condgen.presets import Preset
from jobs.config import check_trainable
from jobs.run_folder import MetricRow, RunFolder
from jobs.runtime import Progress, ray_cluster
from jobs.train_job import Monitor, TrainJob
from pipelines.augment import Augmentation
from pipelines.cache import ChunkCache, cached
from pipelines.chunks import ChunkLimits
from pipelines.datasets import Dataset, load_dataset
from pipelines.order import OrderConfig, check_workers, choose_lanes
from pipelines.planning import chunk_table
from pipelines.storage import open_store
from pipelines.training import TrainingPlan

__all__ = ["Shares", "TrainOptions", "TrainReport", "prepare", "run", "share_cluster"]

_VERSIONS = ("condgen", "torch", "torchvision", "numpy", "pillow", "pyarrow", "ray")
_CHUNK_SAMPLES = 16
_IMAGE = "image"
_RESTARTS = 3
_POLL_S = 0.3
_END_WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `condgen train` was asked for.

    Attributes:
        preset: the complete configuration.
        data, out: the dataset and the run's folder, local paths or URIs.
        workers: training processes, a GPU each where there are any.
        member_names: what members are to be called, and how they are called in the dataset: ``{"image": "photo"}``. The
            picture that is trained on is ``image`` where there is such a name, else the only one that a sample has.
        cache, cache_bytes: a folder of each machine in which chunks are kept, and its bound; see `pipelines.cache`.
        dry_run: say what would be done, and start nothing.
        verbose: show Ray's own log.
    """

    preset: Preset
    data: str
    out: str
    workers: int = 1
    member_names: Mapping[str, str] = field(default_factory=dict)
    cache: str | None = None
    cache_bytes: int = 50 << 30
    dry_run: bool = False
    verbose: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """How a run stands.

    Attributes:
        out: its folder.
        facts: a line's name and text each: what is to be trained on what.
        summary: of a finished run, as its run.json has it; None of a dry run.
        already: whether it was finished before.
        images_per_s: of this run of the command, from the first row of metrics to the last; 0 where there are not two.
    """

    out: str
    facts: dict[str, str]
    summary: dict[str, Any] | None = None
    already: bool = False
    images_per_s: float = 0.0

    def lines(self) -> list[str]:
        """The summary, a line each."""
        lines = [f"{name:<13} {text}" for name, text in self.facts.items()]
        if self.summary is None:
            return [*lines, "dry run       nothing was started"]
        terms = ", ".join(f"{name} {value:.4f}" for name, value in self.summary["losses"].items())
        end = f"step {self.summary['step']}, {self.summary['images']} images, {self.summary['seconds']:.0f} s"
        note = " (it was finished before: nothing to do)" if self.already else ""
        pace = [f"this run      {self.images_per_s:.1f} images/s"] if self.images_per_s else []
        left_out = self.summary["undecodable"]
        return [
            *lines,
            f"finished      {end} ({self.summary['reason']}){note}",
            f"loss          {terms}",
            *pace,
            *([f"left out      {left_out} samples that can't be decoded"] if left_out else []),
            f"model         {self.out}/model.safetensors",
        ]


@dataclass(frozen=True)
class Shares:
    """A worker's CPUs, GPUs and threads of torch; CPUs that a decoding task counts as."""

    worker_cpus: float
    worker_gpus: float
    threads: int
    task_cpus: float


def share_cluster(resources: dict[str, float], workers: int) -> Shares:
    """Divide a cluster's CPUs between training and decoding, so that decoding always has some.

    With GPUs a worker has one and one CPU, and decoding all other CPUs. On CPUs alone, decoding has a quarter and at
    least one, and the workers the rest, in fractions where there are more of them than CPUs.

    Raises:
        ConfigError: there are GPUs, but fewer than workers.
    """
    cpus, gpus = resources.get("CPU", 1.0), int(resources.get("GPU", 0))
    if gpus:
        if workers > gpus:
            raise ConfigError("workers", workers, f"at most {gpus}: each has a GPU of its own")
        worker_cpus, spare = min(1.0, cpus / (2 * workers)), max(cpus - workers, cpus / 2)
    else:
        spare = max(1.0, cpus // 4) if cpus > 1 else 0.5 * cpus
        worker_cpus = (cpus - spare) / workers
    # No more threads than CPUs of its own: one that waits for a core that decodes holds up all others at each barrier.
    threads = max(1, min(8, int(cpus / workers))) if gpus else max(1, int(worker_cpus))
    return Shares(
        worker_cpus=_floor(worker_cpus),
        worker_gpus=1.0 if gpus else 0.0,
        threads=threads,
        task_cpus=_floor(min(1.0, spare / workers)),
    )


def _floor(cpus: float) -> float:
    return max(0.01, int(cpus * 100) / 100)


def run(options: TrainOptions) -> TrainReport:
    """Train, or go on training, or say that it was done.

    Raises:
        ConfigError: a setting that is not allowed, or another than this run was begun with.
        DatasetError, StorageError, CheckpointError: the data or the run's folder can't be used.
        JobError: the loss is not finite, or workers die again and again.
        KeyboardInterrupt: it was stopped; a checkpoint was saved.
    """
    job, config = prepare(options)
    folder = RunFolder(job.out)
    facts = _facts(options, job)
    if options.dry_run:
        return TrainReport(out=job.out.uri, facts=facts)
    folder.claim(config)
    summary = folder.finished()
    if summary is not None:
        return TrainReport(out=job.out.uri, facts=facts, summary=summary, already=True)
    rate = _train(options, job)
    summary = folder.finished()
    if summary is None:
        raise JobError(f"training ended without a model: run the same command again to go on; see {job.out.uri}")
    return TrainReport(out=job.out.uri, facts=facts, summary=summary, images_per_s=rate)


def prepare(options: TrainOptions) -> tuple[TrainJob, dict[str, Any]]:
    """The job and its complete configuration, checked; reads the dataset's index, starts nothing.

    Raises:
        As `run`.
    """
    preset = options.preset
    check_trainable(preset)
    dataset = load_dataset(options.data)
    split = _training_split(dataset)
    table = chunk_table(dataset.table(split), ChunkLimits(samples=_CHUNK_SAMPLES))
    if table.num_rows == 0:
        raise DatasetError(f"{dataset.uri} has no samples to train on")
    lanes = preset.data.lanes or choose_lanes(table.num_rows, preset.data.window_chunks, preset.train.batch_size)
    order = OrderConfig(
        seed=preset.train.seed,
        lanes=lanes,
        window_chunks=preset.data.window_chunks,
        batch_size=preset.train.batch_size,
    )
    check_workers(options.workers, lanes, preset.train.batch_size)
    names = _member_names(options, dataset)
    decisive = [
        dataset.manifest.digest,
        split,
        _CHUNK_SAMPLES,
        *([dict(options.member_names)] * bool(options.member_names)),
    ]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    # Resolved here: workers run in folders of their own.
    folder = str(Path(options.cache).expanduser().absolute()) if options.cache else ""
    cache = ChunkCache(folder, options.cache_bytes) if folder else None
    plan = TrainingPlan(
        store=cached(dataset.store, cache, dataset.manifest.digest),
        chunks=table,
        digest=digest,
        order=order,
        augmentation=Augmentation(
            size_px=preset.data.size_px, crop_scale_min=preset.data.crop_scale_min, flip=preset.data.flip
        ),
        members=(_IMAGE if _IMAGE in names else None,),
        member_names=names,
    )
    config = _config(options, plan, split)
    shared = ("preset", "family", "dataset", "versions")
    job = TrainJob(
        preset=preset,
        plan=plan,
        statistics=dataset.manifest.train_statistics(),
        out=open_store(options.out),
        extra={"size_px": preset.data.size_px, **{name: config[name] for name in shared}},
        threads=1,
        task_cpus=1.0,
    )
    return job, config


def _member_names(options: TrainOptions, dataset: Dataset) -> dict[str, str]:
    """What members are called, and how in the shards: the options' names of the dataset's names of them.

    Raises:
        DatasetError: samples have two pictures, and none is named.
    """
    theirs = dataset.manifest.member_names
    asked = {name: theirs.get(member, member) for name, member in options.member_names.items()}
    names = asked | {name: member for name, member in theirs.items() if member not in asked.values()}
    if dataset.manifest.kind == "paired" and _IMAGE not in names:
        raise DatasetError(f"{dataset.uri} holds pairs: name the picture to train on, such as --member image=target")
    return names


def _training_split(dataset: Dataset) -> str | None:
    """`train` where there are splits; a dataset without splits is trained on as a whole."""
    splits = dataset.manifest.splits
    if "train" in splits or len(splits) > 1:
        return "train"
    return None


def _config(options: TrainOptions, plan: TrainingPlan, split: str | None) -> dict[str, Any]:
    preset = options.preset
    return {
        "format": 1,
        "preset": preset.name,
        "family": preset.family,
        "model": asdict(preset.model),
        "data": {**asdict(preset.data), "lanes": plan.order.lanes},
        "train": asdict(preset.train),
        "dataset": {
            "digest": plan.digest,
            "split": split or "all",
            **({"members": dict(options.member_names)} if options.member_names else {}),
        },
        "data_uri": plan.store.uri,
        "workers": options.workers,
        "versions": {name: _version(name) for name in _VERSIONS},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "not installed"


def _facts(options: TrainOptions, job: TrainJob) -> dict[str, str]:
    order = job.plan.epoch(0)
    lanes, window = job.plan.order.lanes, job.plan.order.window_chunks
    facts = {
        "dataset": f"{job.plan.store.uri}: {order.num_samples} images in {job.plan.chunks.num_rows} chunks",
        "epoch": f"{order.num_batches} steps of {job.plan.order.batch_size}, {lanes} lanes, windows of {window} chunks",
    }
    if options.dry_run:
        from jobs.train_worker import build_model

        parameters = sum(value.numel() for value in build_model(job).parameters())
        train = job.preset.train
        ends = f" or {train.max_seconds:g} s" if train.max_seconds else ""
        facts |= {
            "model": f"{job.preset.family}, {parameters:,} parameters",
            "training": f"{train.steps} steps{ends}, {train.steps / order.num_batches:.1f} epochs, "
            f"{options.workers} worker{'s' if options.workers > 1 else ''}",
            "run": job.out.uri,
        }
    return facts


def _train(options: TrainOptions, job: TrainJob) -> float:
    """Run Ray Train to the end; returns images/s from the first row of metrics to the last."""
    # Ray Train would otherwise move its workers into a folder of its own.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    with ray_cluster(verbose=options.verbose), tempfile.TemporaryDirectory(prefix="condgen-train-") as scratch:
        import ray
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

        from jobs.train_worker import train_worker

        cluster: dict[str, float] = cast("Any", ray.cluster_resources)()
        shares = share_cluster(cluster, options.workers)
        placed = TrainJob(**{**vars(job), "threads": shares.threads, "task_cpus": shares.task_cpus})
        monitor = ray.remote(num_cpus=0)(Monitor).remote()
        resources = {"CPU": shares.worker_cpus} | ({"GPU": shares.worker_gpus} if shares.worker_gpus else {})
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"job": placed, "monitor": monitor},
            scaling_config=ScalingConfig(
                num_workers=options.workers,
                use_gpu=shares.worker_gpus > 0,
                resources_per_worker=resources,
            ),
            run_config=cast("Any", RunConfig)(
                name="condgen",
                storage_path=scratch,
                failure_config=FailureConfig(max_failures=_RESTARTS),
                logging_config=LoggingConfig(log_level="INFO" if options.verbose else "CRITICAL"),
            ),
        )
        return _Attempt(trainer, monitor, job.preset.train.steps).wait()


class _Attempt:
    """Ray Train in a thread of its own, so that the main one shows progress and hears of Ctrl-C."""

    def __init__(self, trainer: Any, monitor: Any, steps: int) -> None:
        self._trainer, self._monitor, self._steps = trainer, monitor, steps
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, name="train", daemon=True)
        self._step = 0
        self._ends: list[MetricRow] = []

    def wait(self) -> float:
        """Until it ends, however it ends; returns images/s from the first row of metrics to the last."""
        import ray

        self._thread.start()
        try:
            with Progress("training", total=self._steps, unit="steps") as progress:
                while self._thread.is_alive():
                    self._thread.join(_POLL_S)
                    self._show(progress)
                    failure: CondgenError | None = ray.get(self._monitor.failure.remote())
                    if failure is not None:
                        self._thread.join(_END_WAIT_S)
                        raise failure
                self._show(progress)
        except KeyboardInterrupt:
            # The workers save a checkpoint first; a second Ctrl-C does not wait for it.
            ray.get(self._monitor.stop.remote())
            self._thread.join(_END_WAIT_S)
            raise
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise JobError(f"Ray's cluster was lost ({reason[0]}): run the same command again to go on") from error
        if self._error is not None:
            reason = str(self._error).strip().splitlines()[-1:] or [type(self._error).__name__]
            raise JobError(f"training failed after {_RESTARTS} restarts ({reason[0]}): --verbose shows Ray's log")
        if len(self._ends) < 2 or self._ends[1].seconds <= self._ends[0].seconds:
            return 0.0
        first, last = self._ends
        return (last.images - first.images) / (last.seconds - first.seconds)

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
            self._error = error

    def _show(self, progress: Progress) -> None:
        import ray

        for row in ray.get(self._monitor.take_rows.remote()):
            self._ends = [*self._ends[:1], row]
            done, self._step = max(0, row.step - self._step), max(row.step, self._step)
            terms = {name: f"{value:.4f}" for name, value in row.losses.items()}
            progress.advance(done, **terms, **{"images/s": f"{row.images_per_s:.1f}"})
