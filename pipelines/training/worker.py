"""A training worker goes on from the newest checkpoint to the end and saves what it has learned.

Ray Train starts it for each of the driver's attempts. It always goes on from the newest complete checkpoint in the
run's folder, so that another attempt and another start of the command are one and the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from condgen import checkpoint
from condgen.errors import CondgenError, JobError, StorageError
from pipelines.streaming.prefetch import prefetched
from pipelines.training.feed import make_feed
from pipelines.training.fetching import fetch_checkpoint
from pipelines.training.first_model import build_model
from pipelines.training.job import TrainJob
from pipelines.training.loop import Alone, Group, Loop, TorchGroup
from pipelines.training.monitor import WorkerPlace
from pipelines.training.requests import Requests
from pipelines.training.run_folder import METRICS, MetricRow, RunFolder, rows_from_bytes, rows_to_bytes
from pipelines.training.saving import CheckpointWriter, Snapshot, load_raw_model, restore
from pipelines.training.signals import received_here

__all__ = ["train_worker"]

logger = logging.getLogger(__name__)

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
        _Worker(job, group, device, monitor, context.get_local_world_size()).run()
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

    if isinstance(error, StorageError) and error.passes:
        return None  # storage gave no answer, perhaps to this machine alone
    if isinstance(error, CondgenError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return JobError("a GPU's memory does not suffice: lower train.batch_size or data.size_px")
    if num_workers > 1 or isinstance(error, ray.exceptions.RayError):
        return None
    return JobError(f"training failed ({type(error).__name__}: {error}): --verbose shows where")


class _Worker:
    def __init__(self, job: TrainJob, group: Group, device: torch.device, monitor: Any, neighbors: int) -> None:
        self._job, self._group, self._monitor = job, group, monitor
        self._folder = RunFolder(job.out, job.fence)
        self._writer = CheckpointWriter(
            self._folder,
            keep_best=job.preset.train.keep_best,
            validate_every=job.preset.train.validate_every_steps,
            on_saved=monitor.add_checkpoint.remote,
        )
        newest = self._folder.newest()
        files = fetch_checkpoint(self._folder, newest, readers=neighbors) if newest else None
        model = build_model(job) if files is None else load_raw_model(files)
        self._feed = make_feed(job.preset, job.plans)
        self._loop = Loop(model.to(device), job.preset.train, group=group, device=device, to_batch=self._feed.batch)
        self._loop.state.position = self._feed.start()
        self._saved_step: int | None = None
        self._rows: list[MetricRow] = []
        if files is not None:
            restore(self._loop, files, self._feed.position)
            self._saved_step = self._loop.state.step
            # Checkpoints of versions 0.1 and 0.2 do not hold them.
            in_it = rows_from_bytes(files[METRICS]) if METRICS in files else None
            self._rows = self._folder.read_metrics(self._loop.state.step) if in_it is None else in_it

    def run(self) -> None:
        config, state = self._job.preset.train, self._loop.state
        stream = self._feed.stream(
            state.position,
            config.steps - state.step,
            rank=self._group.rank,
            num_workers=self._group.size,
            task_cpus=self._job.task_cpus,
        )
        asked = Requests(self._group.rank, self._monitor, received_here())
        batches = prefetched(stream, _BATCHES_AHEAD, asked.wants_stop)
        try:
            with asked:
                reason = self._loop.run(batches, on_row=self._add_row, on_checkpoint=self._save, asked=asked)
            self._save(self._loop)
        except BaseException:
            with suppress(CondgenError):  # the error of training is the one that is told
                self._writer.wait()
            raise
        finally:
            batches.close()
        self._writer.wait()
        if self._group.rank == 0:
            self._end(reason)

    def _end(self, reason: str) -> None:
        import ray

        if reason != "stopped":
            self._finish(reason)
        with suppress(ray.exceptions.RayError):  # without a monitor: another attempt finds nothing left to do
            ray.get(self._monitor.end.remote(reason))

    def _add_row(self, row: MetricRow) -> None:
        row = replace(row, stalled_s=round(self._writer.take_stalled_s(), 3))
        self._rows.append(row)  # in every worker: any may be the one that writes
        if self._group.rank == 0:
            self._monitor.add_row.remote(row)

    def _save(self, loop: Loop) -> None:
        step, self._saved_step = self._saved_step, loop.state.step
        if self._group.rank != loop.writer or step == loop.state.step:  # a complete checkpoint is never written over
            return
        position = self._feed.state_dict(loop.state.position)
        self._writer.save(lambda: Snapshot.of(loop, position, self._rows, self._job.extra))

    def _finish(self, reason: str) -> None:
        loop, state = self._loop, self._loop.state
        last = self._rows[-1] if self._rows else None
        extra = {**self._job.extra, "step": state.step}
        model = checkpoint.dump(loop.averaged, extra, weights=loop.config.stored_weights)
        self._folder.finish(
            {**model, METRICS: rows_to_bytes(self._rows)},
            {
                "reason": reason,
                "step": state.step,
                "images": state.images,
                "undecodable": state.undecodable,
                "waited_s": round(state.waited_s, 3),
                "seconds": round(state.seconds, 3),
                "loss": last.loss if last else None,
                "losses": last.losses if last else {},
            },
        )
