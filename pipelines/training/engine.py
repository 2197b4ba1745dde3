"""The training engine: a model from a preset, on a dataset of shards.

    preset + dataset ─ TrainJob ─ Ray Train's workers (worker.py) ─ checkpoints, metrics.jsonl, model

The same options again go on from the newest checkpoint, at the next sample; a finished run says so at once.

    from condgen import find_preset
    from pipelines import TrainOptions, train

    report = train(TrainOptions(preset=find_preset("color-classifier-small"), data="dataset/", out="runs/first"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from condgen.errors import ConfigError, JobError
from pipelines.models.source import open_model
from pipelines.storage.store import open_store
from pipelines.streaming.unpaired import check_shares, unpaired_plans
from pipelines.training.data import TrainingData, check_trainable, plan_training_data
from pipelines.training.driver import run_workers
from pipelines.training.job import TrainJob
from pipelines.training.options import TrainOptions
from pipelines.training.report import TrainReport, describe_data, describe_training
from pipelines.training.run_folder import MetricRow, RunFolder

__all__ = ["describe_run", "prepare", "train"]

_VERSIONS = ("condgen", "torch", "torchvision", "numpy", "pillow", "pyarrow", "ray")


def train(
    options: TrainOptions,
    *,
    watch: Callable[[MetricRow], None] | None = None,
    verbose: bool = False,
) -> TrainReport:
    """Train a model, go on with a run that was cut, or report that the run is finished.

    Ray is the one that runs already (``ray.init()``), else it is started and ended; see ``pipelines.cluster.starting``.

    Args:
        options: what is to be trained, and where.
        watch: function that is called with each new row of metrics.
        verbose: whether Ray's own log is shown (default False).

    Raises:
        ConfigError: a setting is not allowed, or is not the one that the run was begun with.
        DatasetError, StorageError, CheckpointError: the data or the run's folder can't be used.
        JobError: the loss is not finite, or workers die again and again.
        KeyboardInterrupt: the run was stopped; a checkpoint was saved.
    """
    job, config = prepare(options)
    folder, out, facts = RunFolder(job.out), job.out.uri, describe_data(job)
    folder.claim(config)
    summary = folder.finished()
    if summary is not None:
        return TrainReport(out=out, facts=facts, summary=summary, already=True)
    rate = run_workers(job, watch=watch, verbose=verbose)
    summary = folder.finished()
    if summary is None:
        raise JobError(f"training ended without a model: run the same command again to go on; see {out}")
    return TrainReport(out=out, facts=facts, summary=summary, images_per_s=rate)


def describe_run(options: TrainOptions) -> TrainReport:
    """Report what a run would do; nothing is started or written.

    Raises:
        ConfigError, DatasetError, StorageError, CheckpointError: as ``train``.
    """
    job, _ = prepare(options)
    return TrainReport(out=job.out.uri, facts=describe_data(job) | describe_training(job))


def prepare(options: TrainOptions) -> tuple[TrainJob, dict[str, Any]]:
    """Return the job and its complete configuration, checked; this reads the datasets' indexes and starts nothing.

    Raises:
        ConfigError, DatasetError, StorageError, CheckpointError: as ``train``.
    """
    preset = options.preset
    check_trainable(preset)
    if (options.data_b is not None) != (preset.data.task == "domains"):
        allowed = "the second domain's dataset" if preset.data.task == "domains" else "none: data.task is not domains"
        raise ConfigError("data-b", options.data_b, allowed)
    planned = {"a": plan_training_data(options.data, options)}
    if options.data_b is not None:
        planned["b"] = plan_training_data(options.data_b, options)
    plans = {name: one.plan for name, one in planned.items()}
    if "b" in plans:
        plans = unpaired_plans(plans["a"], plans["b"])
        check_shares(options.workers, plans)
    config = _config(options, planned)
    job = TrainJob(
        options=replace(options, encoder_weights=_absolute(options.encoder_weights)),
        plans=plans,
        statistics=planned["a"].statistics,
        out=open_store(options.out),
        init_from=open_model(options.init_from) if options.init_from else None,
        extra={
            "size_px": preset.data.sample_px or preset.data.size_px,
            **({} if preset.data.task == "color" else {"task": "image"}),
            **{name: config[name] for name in ("preset", "family", "dataset", "versions")},
        },
    )
    return job, config


def _absolute(encoder_weights: str) -> str:
    """Return the absolute path of a local file, and anything else as it is."""
    path = Path(encoder_weights).expanduser()
    return str(path.absolute()) if path.is_file() else encoder_weights


def _config(options: TrainOptions, planned: Mapping[str, TrainingData]) -> dict[str, Any]:
    """Return the content of the run's config.json."""
    preset, first, second = options.preset, planned["a"], planned.get("b")
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
        "versions": {name: version(name) for name in _VERSIONS},
    }
