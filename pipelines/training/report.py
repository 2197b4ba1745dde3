"""What the user is told of a training run: its data, its plan, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from condgen.preset_parts import Preset
from pipelines.training.job import TrainJob
from pipelines.training.lease import Holder
from pipelines.training.validation_rows import ValidationRow

if TYPE_CHECKING:
    from condgen.base import Batch, ConditionalModel

__all__ = ["TrainReport", "describe_data", "describe_training"]

_WAITED_MUCH = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """How a run stands.

    Attributes:
        out: folder of the run.
        facts: what is trained on what, a text by the name of its line.
        summary: content of the run.json of a finished run; None of a dry run.
        already: whether the run was finished before.
        holder: driver that trains this run at the moment, so that this call has nothing to do; else None.
        stopped: reason why this call ended before the run was finished; empty where it did not.
        images_per_s: rate from this call's first row of metrics to its last (images/s; 0 for fewer than two rows).
        validation: the finished model's row of validation; None where it has none.
    """

    out: str
    facts: Mapping[str, str]
    summary: Mapping[str, Any] | None = None
    already: bool = False
    holder: Holder | None = None
    stopped: str = ""
    images_per_s: float = 0.0
    validation: ValidationRow | None = None

    def lines(self) -> list[str]:
        """Return the report, line by line."""
        lines = [f"{name:<13} {text}" for name, text in self.facts.items()]
        if self.holder is not None:
            return [*lines, f"live          {self.holder}: nothing to do"]
        if self.stopped:
            return [*lines, f"stopped       {self.stopped}: a checkpoint is saved, and the same command goes on"]
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
            *self._validated(),
            *pace,
            *([f"left out      {left_out} samples that can't be decoded"] if left_out else []),
            *self._waits(self.summary),
            f"model         {self.out}/model.safetensors",
        ]

    def _validated(self) -> list[str]:
        row = self.validation
        if row is None:
            return []
        values = ", ".join(f"{name} {value:.4f}" for name, value in [*row.losses.items(), *row.metrics.items()])
        return [f"in validation {values} ({row.images} images of {row.split})"]

    @staticmethod
    def _waits(summary: Mapping[str, Any]) -> list[str]:
        """Return the advice for a run whose workers waited much for data."""
        share = summary.get("waited_s", 0.0) / max(summary["seconds"], 1e-9)  # earlier versions did not measure it
        if share <= _WAITED_MUCH:
            return []
        return [
            f"waited        {share:.0%} of the time for data: more CPUs, or --cache DIR for slow storage, would help"
        ]


def describe_data(job: TrainJob) -> dict[str, str]:
    """Return the lines that tell of a run's datasets and of an epoch."""
    names = {"a": "dataset", "b": "second"}
    epoch, order = job.plan.epoch(0), job.plan.order
    return {
        **{
            names[name]: f"{plan.store.uri}: {plan.epoch(0).num_samples} samples in {plan.chunks.num_rows} chunks"
            for name, plan in job.plans.items()
        },
        **_describe_validation(job),
        "epoch": f"{epoch.num_batches} steps of {order.batch_size}, {order.lanes} lanes, "
        f"windows of {order.window_chunks} chunks",
    }


def _describe_validation(job: TrainJob) -> dict[str, str]:
    train = job.preset.train
    if not job.held_out:
        return {}
    samples = [min(train.validation_images, plan.epoch(0).num_samples) for plan in job.held_out.values()]
    parts = [f"{min(samples)} images of {train.validation_split} every {train.validate_every_steps} steps"]
    sheets = f"sheets of {train.sheet_images} every {train.sheet_every_steps}"
    shown = parts * bool(train.validate_every_steps) + [sheets] * bool(train.sheet_every_steps)
    return {"validation": ", ".join(shown)}


def describe_training(job: TrainJob) -> dict[str, str]:
    """Return the lines that a dry run adds: the model, which it builds, the training and the run's folder."""
    from pipelines.training.first_model import build_model

    model = build_model(job)
    parameters = sum(value.numel() for value in model.parameters())
    train, (least, most) = job.preset.train, job.options.worker_range
    workers = f"{most} worker{'s' if most > 1 else ''}" if least == most else f"{least} to {most} workers"
    ends = f" or {train.max_seconds:g} s" if train.max_seconds else ""
    epochs = train.steps / job.plan.epoch(0).num_batches
    return {
        "model": f"{job.preset.family}, {parameters:,} parameters",
        "training": f"{train.steps} steps{ends}, {epochs:.1f} epochs, {workers}",
        "memory": _memory(job, model),
        "run": job.out.uri,
    }


def _memory(job: TrainJob, model: ConditionalModel) -> str:
    """Return the line that tells what memory a worker's training will take."""
    from condgen.memory import estimate_training_memory

    train = job.preset.train
    share = -(-train.batch_size // job.options.worker_range[0])
    at_once = -(-share // train.accumulate)
    found = estimate_training_memory(model, _any_batch(job.preset), train, num_samples=at_once)
    gib = [size / 2**30 for size in (found.total, found.model, found.activations)]
    return (
        f"about {gib[0]:.2f} GiB a worker: {gib[1]:.2f} for weights, gradients and optimizer, {gib[2]:.2f} for the "
        f"activations of {at_once} image{'s' if at_once > 1 else ''}"
    )


def _any_batch(preset: Preset) -> Batch:
    """Return one sample of noise, of the shapes that the preset trains on."""
    import torch

    from condgen.base import Batch, Condition

    data, model = preset.data, preset.model
    side = data.size_px
    channels = getattr(model, "condition_channels", 1), getattr(model, "target_channels", 2)
    words = getattr(model, "text_length", 0) if data.caption else 0
    condition = Condition(
        image=torch.rand(1, channels[0], side, side) * 2 - 1 if channels[0] else None,
        label=torch.zeros(1, dtype=torch.int64) if data.label else None,
        text=torch.zeros(1, words, dtype=torch.int64) if words else None,
    )
    return Batch(condition=condition, target=torch.rand(1, channels[1], side, side) - 0.5, weight=torch.ones(1))
