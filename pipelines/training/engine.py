"""The training engine: a model from a preset, on a dataset of shards.

    preset + dataset ─ TrainJob ─ Ray Train's workers (worker.py) ─ checkpoints, metrics.jsonl, model

The same options again go on from the newest checkpoint, at the next sample; a finished run says so at once.

    from condgen import find_preset
    from pipelines import TrainOptions, train

    report = train(TrainOptions(preset=find_preset("color-classifier-small"), data="dataset/", out="runs/first"))
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from condgen.errors import ConfigError, Interrupted, JobError, StorageError
from condgen.presets import DataConfig, Preset, TrainConfig
from pipelines.models.source import open_model
from pipelines.storage.store import open_store
from pipelines.streaming.unpaired import unpaired_plans
from pipelines.training.capacity import allowed_counts
from pipelines.training.data import TrainingData, check_trainable, plan_training_data
from pipelines.training.driver import Outcome, run_workers
from pipelines.training.gauges import RunGauges
from pipelines.training.job import TrainJob
from pipelines.training.lease import Holder, Lease, take_lease
from pipelines.training.options import TrainOptions
from pipelines.training.report import TrainReport, describe_data, describe_training
from pipelines.training.revision import source_revision
from pipelines.training.run_config import as_begun
from pipelines.training.run_folder import MetricRow, RunFolder
from pipelines.training.signals import interrupted_by_sigterm
from pipelines.training.status import StatusFile, read_state
from pipelines.training.trackers import Trackers, check_trackers

__all__ = ["describe_run", "prepare", "train"]

logger = logging.getLogger(__name__)

_VERSIONS = ("condgen", "torch", "torchvision", "numpy", "pillow", "pyarrow", "ray")


def train(
    options: TrainOptions,
    *,
    watch: Callable[[MetricRow], None] | None = None,
    say: Callable[[str], None] = logger.warning,
    verbose: bool = False,
) -> TrainReport:
    """Train a model, go on with a run that was cut, or report that the run is finished or is live elsewhere.

    Ray is the one that runs already (``ray.init()``), else it is started and ended; see ``pipelines.cluster.starting``.

    Args:
        options: what is to be trained, and where.
        watch: function that is called with each new row of metrics.
        say: function that shows a line to the user, such as what is waited for (default: it is logged).
        verbose: whether Ray's own log is shown (default False).

    Raises:
        ConfigError: a setting is not allowed, or is not the one that the run was begun with.
        DatasetError, StorageError, CheckpointError: the data or the run's folder can't be used.
        JobError: the loss is not finite, workers die again and again, or another driver has taken the run over.
        Interrupted: SIGTERM came, lost machines did not come back in time, or storage that had answered gave no answer
            for minutes; the same call goes on.
        KeyboardInterrupt: the run was stopped; a checkpoint was saved.
    """
    with interrupted_by_sigterm():
        job, config = prepare(options)
        report, defaults = TrainReport(out=job.out.uri, facts=describe_data(job)), _defaults(options.preset)
        summary = RunFolder(job.out).ended(config, defaults)
        if summary is not None and read_state(job.out) in ("done", None):
            return _finished(report, RunFolder(job.out), summary, already=True)
        lease = take_lease(job.out, ttl_s=options.lease_ttl_s, on_wait=_say_that_it_waits)
        if isinstance(lease, Holder):
            if summary is None:
                return replace(report, holder=lease)
            return _finished(report, RunFolder(job.out), summary, already=True)
        with lease:
            folder = RunFolder(job.out, lease.fence)
            gauges = RunGauges(job.out.uri)
            status = StatusFile(folder, lease=lease, on_write=gauges.note_status)
            summary = folder.claim(config, defaults)
            if summary is not None:  # and its driver was killed before it could say so
                _tell_end(status, summary)
                return _finished(report, folder, summary, already=True)
            preset = as_begun(options.preset, folder.config())
            job = replace(job, options=replace(job.options, preset=preset))
            with Trackers(options.trackers, folder, fence=lambda: lease.fence, config=config, say=say) as trackers:
                outcome = _run(job, lease, status, gauges, trackers, watch=watch, say=say, verbose=verbose)
                trackers.is_finished = not outcome.stopped
            report = replace(report, stopped=outcome.stopped, images_per_s=outcome.images_per_s)
            return report if outcome.stopped else _finished(report, folder, _summary(folder))


def _run(
    job: TrainJob,
    lease: Lease,
    status: StatusFile,
    gauges: RunGauges,
    trackers: Trackers,
    *,
    watch: Callable[[MetricRow], None] | None,
    say: Callable[[str], None],
    verbose: bool,
) -> Outcome:
    """Run the workers, with a status that is kept from here to however it ends."""

    def seen(row: MetricRow) -> None:
        lease.note_step(row.step)
        trackers.add(row)
        if watch is not None:
            watch(row)

    folder = RunFolder(job.out, lease.fence)
    status.update(state="waiting", step=folder.newest_step(), steps=job.preset.train.steps)
    try:
        with interrupted_by_sigterm():
            outcome = run_workers(
                job,
                lease=lease,
                status=status.update,
                gauges=gauges,
                watch=seen,
                on_validation=trackers.add_validation,
                say=say,
                verbose=verbose,
            )
        summary = {} if outcome.stopped else _summary(folder)
    except (KeyboardInterrupt, Interrupted) as error:
        status.update(state="interrupted", reason=str(error) or "stopped by Ctrl-C", workers=0)
        raise
    except StorageError as error:
        if not error.passes:
            status.update(state="failed", reason=str(error), workers=0)
            raise
        status.update(state="interrupted", reason=str(error), workers=0)
        raise Interrupted(f"{error}: run the same command again to go on from the newest checkpoint") from error
    except BaseException as error:
        status.update(state="failed", reason=str(error) or type(error).__name__, workers=0)
        raise
    if outcome.stopped:
        status.update(state="interrupted", reason=outcome.stopped, workers=0)
    else:
        _tell_end(status, summary)
    return outcome


def _finished(report: TrainReport, folder: RunFolder, summary: dict[str, Any], *, already: bool = False) -> TrainReport:
    validation = folder.read_validation().get(summary["step"])
    return replace(report, summary=summary, validation=validation, already=already)


def _tell_end(status: StatusFile, summary: Mapping[str, Any]) -> None:
    status.update(state="done", step=summary["step"], workers=0)


def _summary(folder: RunFolder) -> dict[str, Any]:
    summary = folder.finished()
    if summary is None:
        raise JobError(f"training ended without a model: run the same command again; see {folder.store.uri}")
    return summary


def _say_that_it_waits(holder: Holder) -> None:
    logger.warning(
        "the run belongs to %s: waiting up to %g s for a sign of life, before it is taken over", holder, holder.ttl_s
    )


def _defaults(preset: Preset) -> dict[str, Any]:
    """Return the defaults of the fields that a configuration of an earlier version may lack."""
    return {"model": asdict(type(preset.model)()), "data": asdict(DataConfig()), "train": asdict(TrainConfig())}


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
    check_trackers(options.trackers)
    if (options.data_b is not None) != (preset.data.task == "domains"):
        allowed = "the second domain's dataset" if preset.data.task == "domains" else "none: data.task is not domains"
        raise ConfigError("data-b", options.data_b, allowed)
    planned = {"a": plan_training_data(options.data, options)}
    if options.data_b is not None:
        planned["b"] = plan_training_data(options.data_b, options)
    plans = {name: one.plan for name, one in planned.items()}
    config = _config(options, planned)
    job = TrainJob(
        options=replace(options, encoder_weights=_absolute(options.encoder_weights)),
        plans=unpaired_plans(plans["a"], plans["b"]) if "b" in plans else plans,
        held_out={name: one.held_out for name, one in planned.items() if one.held_out is not None},
        statistics=planned["a"].statistics,
        out=open_store(options.out),
        init_from=open_model(options.init_from) if options.init_from else None,
        extra={
            "size_px": preset.data.sample_px or preset.data.size_px,
            **({} if preset.data.task == "color" else {"task": "image"}),
            **{name: config[name] for name in ("preset", "family", "dataset", "versions")},
        },
    )
    allowed_counts(*options.worker_range, job.check_workers)
    return job, config


def _absolute(encoder_weights: str) -> str:
    """Return the absolute path of a local file, and anything else as it is."""
    path = Path(encoder_weights).expanduser()
    return str(path.absolute()) if path.is_file() else encoder_weights


def _config(options: TrainOptions, planned: Mapping[str, TrainingData]) -> dict[str, Any]:
    """Return the content of the run's config.json."""
    revision = source_revision()
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
        "versions": {name: version(name) for name in _VERSIONS} | ({"revision": revision} if revision else {}),
    }
