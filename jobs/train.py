"""`condgen train`: a model from a preset, on a dataset of shards.

    preset + dataset ─ TrainJob ─ Ray Train's workers (pipelines/training/worker.py) ─ checkpoints, metrics.jsonl, model

Running the same command again goes on from the newest checkpoint, at the next sample; a finished run says so at once.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from condgen.errors import CondgenError, ConfigError, JobError
from condgen.presets import Preset
from jobs.cli.config import check_trainable
from jobs.cli.progress import Progress
from pipelines.cluster.starting import LEAST_CPUS, configure_data, ray_cluster, usable_cpus
from pipelines.models.source import open_model
from pipelines.storage.store import open_store
from pipelines.streaming.stream import TrainingPlan
from pipelines.streaming.unpaired import unpaired_plans
from pipelines.training.job import Monitor, Start, TrainJob
from pipelines.training.plan import PlannedDataset, Sources, plan_dataset
from pipelines.training.run_folder import MetricRow, RunFolder

__all__ = ["Shares", "TrainOptions", "TrainReport", "prepare", "run", "share_cluster"]

_VERSIONS = ("condgen", "torch", "torchvision", "numpy", "pillow", "pyarrow", "ray")
_RESTARTS = 3
_POLL_S = 0.3
_END_WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `condgen train` was asked for.

    Attributes:
        preset: the complete configuration.
        data, out: the dataset and the run's folder, local paths or URIs.
        data_b: the second domain's dataset, for `data.task: domains`; None otherwise.
        workers: training processes, a GPU each where there are any.
        member_names: what members are to be called, and how they are called in the dataset: ``{"image": "photo"}``. The
            picture that is trained on is ``image`` where there is such a name, else the only one that a sample has.
        cache, cache_bytes: a folder of each machine in which chunks are kept, and its bound; see
            `pipelines.storage.cache`.
        init_from: a model, as `condgen colorize` takes it, whose weights a new run begins with.
        init_partial: take of it what matches.
        encoder_weights: of a pretrained encoder; see `pipelines.training.job.Start`.
        threads: of torch, in each worker; 0 is a worker's share of the CPUs.
        dry_run: say what would be done, and start nothing.
        verbose: show Ray's own log.
    """

    preset: Preset
    data: str
    out: str
    data_b: str | None = None
    workers: int = 1
    member_names: Mapping[str, str] = field(default_factory=dict)
    cache: str | None = None
    cache_bytes: int = 50 << 30
    init_from: str | None = None
    init_partial: bool = False
    encoder_weights: str = "auto"
    threads: int = 0
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
    """The job and its complete configuration, checked; reads the datasets' indexes, starts nothing.

    Raises:
        As `run`.
    """
    preset = options.preset
    check_trainable(preset)
    if (options.data_b is not None) != (preset.data.task == "domains"):
        allowed = "the second domain's dataset" if preset.data.task == "domains" else "none: data.task is not domains"
        raise ConfigError("data-b", options.data_b, allowed)
    sources = Sources(
        workers=options.workers,
        member_names=options.member_names,
        # Resolved here: workers run in folders of their own.
        cache=str(Path(options.cache).expanduser().absolute()) if options.cache else "",
        cache_bytes=options.cache_bytes,
    )
    first = plan_dataset(options.data, preset, sources)
    planned = {"a": first}
    plans = {"a": first.plan}
    if options.data_b is not None:
        planned["b"] = plan_dataset(options.data_b, preset, sources)
        plans = unpaired_plans(first.plan, planned["b"].plan)
    config = _config(options, planned)
    shared = ("preset", "family", "dataset", "versions")
    task = {} if preset.data.task == "color" else {"task": "image"}
    job = TrainJob(
        preset=preset,
        plans=plans,
        statistics=first.statistics,
        out=open_store(options.out),
        extra={
            "size_px": preset.data.sample_px or preset.data.size_px,
            **task,
            **{name: config[name] for name in shared},
        },
        threads=1,
        task_cpus=1.0,
        start=Start(
            init_from=open_model(options.init_from) if options.init_from else None,
            init_partial=options.init_partial,
            encoder_weights=_absolute(options.encoder_weights),
        ),
    )
    return job, config


def _absolute(encoder_weights: str) -> str:
    """A local file by its absolute path: workers run in folders of their own."""
    path = Path(encoder_weights).expanduser()
    return str(path.absolute()) if path.is_file() else encoder_weights


def _config(options: TrainOptions, planned: Mapping[str, PlannedDataset]) -> dict[str, Any]:
    preset = options.preset
    first = planned["a"]
    second = planned.get("b")
    return {
        "format": 1,
        "preset": preset.name,
        "family": preset.family,
        "model": asdict(preset.model),
        "data": {**asdict(preset.data), "lanes": first.plan.order.lanes},
        "train": asdict(preset.train),
        "dataset": {
            "digest": first.plan.digest,
            "split": first.split or "all",
            **({"members": dict(options.member_names)} if options.member_names else {}),
            **({"digest_b": second.plan.digest, "split_b": second.split or "all"} if second else {}),
        },
        "data_uri": first.plan.store.uri,
        **({"data_b_uri": second.plan.store.uri} if second else {}),
        "workers": options.workers,
        "start": {"init_from": options.init_from, "encoder_weights": options.encoder_weights},
        "versions": {name: _version(name) for name in _VERSIONS},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "not installed"


def _contents(plan: TrainingPlan) -> str:
    return f"{plan.store.uri}: {plan.epoch(0).num_samples} samples in {plan.chunks.num_rows} chunks"


def _facts(options: TrainOptions, job: TrainJob) -> dict[str, str]:
    order = job.plan.epoch(0)
    lanes, window = job.plan.order.lanes, job.plan.order.window_chunks
    names = {"a": "dataset", "b": "second"}
    facts = {
        **{names[name]: _contents(plan) for name, plan in job.plans.items()},
        "epoch": f"{order.num_batches} steps of {job.plan.order.batch_size}, {lanes} lanes, windows of {window} chunks",
    }
    if options.dry_run:
        from pipelines.training.first_model import build_model

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
    with (
        ray_cluster(verbose=options.verbose, num_cpus=max(LEAST_CPUS, usable_cpus())),
        tempfile.TemporaryDirectory(prefix="condgen-train-") as scratch,
    ):
        import ray
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

        from pipelines.training.worker import train_worker

        configure_data(verbose=options.verbose)
        cluster: dict[str, float] = cast("Any", ray.cluster_resources)()
        shares = share_cluster(cluster, options.workers)
        threads = options.threads or shares.threads
        placed = replace(job, threads=threads, task_cpus=shares.task_cpus)
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
        # Not Thread.join: one that Ctrl-C interrupts takes the thread for ended (CPython 3.11, 3.12), and so would we.
        self._ended = threading.Event()
        self._step = 0
        self._ends: list[MetricRow] = []

    def wait(self) -> float:
        """Until it ends, however it ends; returns images/s from the first row of metrics to the last."""
        import ray

        self._thread.start()
        try:
            with Progress("training", total=self._steps, unit="steps") as progress:
                while not self._ended.wait(_POLL_S):
                    self._show(progress)
                    failure: CondgenError | None = ray.get(self._monitor.failure.remote())
                    if failure is not None:
                        self._ended.wait(_END_WAIT_S)
                        raise failure
                self._show(progress)
        except KeyboardInterrupt:
            # The workers save a checkpoint first; a second Ctrl-C does not wait for it.
            ray.get(self._monitor.stop.remote())
            self._ended.wait(_END_WAIT_S)
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
        finally:
            self._ended.set()

    def _show(self, progress: Progress) -> None:
        import ray

        for row in ray.get(self._monitor.take_rows.remote()):
            self._ends = [*self._ends[:1], row]
            done, self._step = max(0, row.step - self._step), max(row.step, self._step)
            terms = {name: f"{value:.4f}" for name, value in row.losses.items()}
            progress.advance(done, **terms, **{"images/s": f"{row.images_per_s:.1f}"})
