"""A training worker goes on from the newest checkpoint to the end and saves what it has learned.

Ray Train starts it for each of the driver's attempts. It always goes on from the newest complete checkpoint in the
run's folder, so that another attempt and another start of the command are one and the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from condgen import checkpoint
from condgen.base import ConditionalModel
from condgen.errors import CheckpointError, CondgenError, JobError
from pipelines.storage.store import json_bytes
from pipelines.streaming.stream import prefetched
from pipelines.training.feed import make_feed
from pipelines.training.first_model import build_model
from pipelines.training.job import TrainJob
from pipelines.training.loop import Alone, Group, Loop, TorchGroup, state_from_json
from pipelines.training.monitor import WorkerPlace
from pipelines.training.requests import Requests
from pipelines.training.run_folder import MetricRow, RunFolder
from pipelines.training.signals import received_here

__all__ = ["train_worker"]

logger = logging.getLogger(__name__)

_STATE, _OPTIMIZER, _RAW = "state.json", "optimizer.safetensors", "raw.safetensors"
_BATCHES_AHEAD = 2


def train_worker(config: Mapping[str, Any]) -> None:
    """Train, as one of the workers that Ray Train starts.

    Args:
        config: ``job``, a ``TrainJob``, and ``monitor``, the handle of the driver's ``Monitor``.

    Raises:
        CondgenError: the monitor knows it first; the driver makes no other attempt.
    """
    import ray
    import ray.train

    job, monitor = config["job"], config["monitor"]
    context, here = ray.train.get_context(), ray.get_runtime_context()
    place = WorkerPlace(rank=context.get_world_rank(), node=here.get_node_id(), actor=here.current_actor)
    ray.get(monitor.begin.remote(place))
    torch.set_num_threads(job.threads)
    device = torch.device("cpu")
    if job.on_gpu and torch.cuda.is_available():
        from ray.train.torch import get_device

        device = get_device()
    elif job.on_gpu:
        logger.warning("this worker has a GPU of the cluster's, but torch sees none: it trains on the CPU")
    group: Group = TorchGroup() if context.get_world_size() > 1 else Alone()
    try:
        _Worker(job, group, device, monitor).run()
    except Exception as error:  # what the driver is told must not depend on where it came from
        lasting = _lasting(error, group.size)
        if lasting is not None:
            ray.get(monitor.fail.remote(lasting))
        raise


def _lasting(error: Exception, num_workers: int) -> CondgenError | None:
    """Return the error that another attempt would meet again; None where a restart may help.

    Among several workers, one that dies makes the others fail too, in ways that can't be told from faults of their own.
    """
    import ray

    if isinstance(error, CondgenError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return JobError("a GPU's memory does not suffice: lower train.batch_size or data.size_px")
    if num_workers > 1 or isinstance(error, ray.exceptions.RayError):
        return None
    return JobError(f"training failed ({type(error).__name__}: {error}): --verbose shows where")


class _Worker:
    def __init__(self, job: TrainJob, group: Group, device: torch.device, monitor: Any) -> None:
        self._job, self._group, self._monitor = job, group, monitor
        self._folder = RunFolder(job.out)
        saved = self._folder.newest_checkpoint()
        files = saved[1] if saved else None
        model = build_model(job) if files is None else _load(files[_RAW], files)
        self._feed = make_feed(job.preset, job.plans)
        self._loop = Loop(model.to(device), job.preset.train, group=group, device=device, to_batch=self._feed.batch)
        self._loop.state.position = self._feed.start()
        if files is not None:
            self._restore(files)
        self._saved_step = self._loop.state.step if files is not None else None
        self._rows = self._folder.read_metrics(self._loop.state.step)

    def run(self) -> None:
        config, state = self._job.preset.train, self._loop.state
        stream = self._feed.stream(
            state.position,
            config.steps - state.step,
            rank=self._group.rank,
            num_workers=self._group.size,
            task_cpus=self._job.task_cpus,
        )
        batches = prefetched(stream, _BATCHES_AHEAD)
        try:
            with Requests(self._group.rank, self._monitor, received_here()) as asked:
                reason = self._loop.run(batches, on_row=self._add_row, on_checkpoint=self._save, asked=asked)
        finally:
            batches.close()
        self._save(self._loop)
        if self._group.rank == 0:
            self._end(reason)

    def _end(self, reason: str) -> None:
        import ray

        if reason != "stopped":
            self._finish(reason)
        with suppress(ray.exceptions.RayError):  # without a monitor: another attempt finds nothing left to do
            ray.get(self._monitor.end.remote(reason))

    def _add_row(self, row: MetricRow) -> None:
        self._rows.append(row)  # in every worker: any may be the one that writes
        if self._group.rank == 0:
            self._monitor.add_row.remote(row)

    def _save(self, loop: Loop) -> None:
        step, self._saved_step = self._saved_step, loop.state.step
        if self._group.rank != loop.writer or step == loop.state.step:  # a complete checkpoint is never written over
            return
        position = self._feed.state_dict(loop.state.position)
        files = self._model_files()
        files[_RAW] = checkpoint.dump(loop.model, {})[checkpoint.WEIGHTS_NAME]
        files[_OPTIMIZER] = _dump_optimizers(loop)
        files[_STATE] = json_bytes({"loop": loop.state.to_json(), "stream": position})
        # Rows first: a cut between the two leaves rows that the resumed run drops, never a gap.
        self._folder.write_metrics(self._rows)
        self._folder.save_checkpoint(loop.state.step, files)

    def _finish(self, reason: str) -> None:
        state = self._loop.state
        last = self._rows[-1] if self._rows else None
        self._folder.finish(
            self._model_files(),
            {
                "reason": reason,
                "step": state.step,
                "images": state.images,
                "undecodable": state.undecodable,
                "seconds": round(state.seconds, 3),
                "loss": last.loss if last else None,
                "losses": last.losses if last else {},
            },
        )

    def _model_files(self) -> dict[str, bytes]:
        extra = {**self._job.extra, "step": self._loop.state.step}
        return dict(checkpoint.dump(self._loop.averaged, extra, weights=self._job.preset.train.stored_weights))

    def _restore(self, files: Mapping[str, bytes]) -> None:
        try:
            saved = json.loads(files[_STATE])
            self._loop.state = state_from_json(saved["loop"], self._feed.position(saved["stream"]))
            if self._loop.averaged is not self._loop.model:
                averaged = _load(files[checkpoint.WEIGHTS_NAME], files)
                self._loop.averaged.load_state_dict(averaged.state_dict())
            _load_optimizers(self._loop, files[_OPTIMIZER])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the newest checkpoint in {self._job.out.uri} is of another version of condgen ({error}): "
                "start anew in another folder"
            ) from error


def _load(weights: bytes, files: Mapping[str, bytes]) -> ConditionalModel:
    names = (checkpoint.WEIGHTS_NAME, checkpoint.META_NAME)
    model, _ = checkpoint.load(dict(zip(names, (weights, files[checkpoint.META_NAME]), strict=True)))
    return model


def _parameter_names(loop: Loop, phase: str) -> list[str]:
    names = {id(parameter): name for name, parameter in loop.model.named_parameters()}
    return [names[id(parameter)] for group in loop.optimizers[phase].param_groups for parameter in group["params"]]


def _dump_optimizers(loop: Loop) -> bytes:
    """Return the optimizers' tensors by phase, parameter and name, as safetensors: loading them runs no code."""
    from safetensors.torch import save

    tensors = {}
    for phase, optimizer in loop.optimizers.items():
        names = _parameter_names(loop, phase)
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                tensors[f"{phase}/{names[index]}/{key}"] = value.detach().cpu().contiguous()
    data: bytes = save(tensors)
    return data


def _load_optimizers(loop: Loop, data: bytes) -> None:
    from safetensors.torch import load

    tensors = load(data)
    for phase, optimizer in loop.optimizers.items():
        state: dict[int, dict[str, torch.Tensor]] = {}
        for index, name in enumerate(_parameter_names(loop, phase)):
            prefix = f"{phase}/{name}/"
            values = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if values:
                state[index] = values
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
