"""The driver of a run: it makes attempts until training has ended, each of a fixed number of workers.

    look at the nodes ─ enough? ─ attempt ─ ended? ─ done
         └─ wait, say so          └─ a machine is about to leave, the number of workers changes, a signal, the time is
                                     over: the workers save a checkpoint and end; then the next attempt, or the end

Every attempt goes on from the newest checkpoint, as another start of the command does. A machine that is taken away
costs nothing but the steps since then; what fails again and again without a newer checkpoint ends the run.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn, cast

from condgen.errors import CondgenError, ConfigError, Interrupted, JobError, StorageError
from pipelines.cluster.capacity import Demand, default_wait, wait_for_room
from pipelines.cluster.nodes import Node, answers, is_own_cluster, look_at_nodes, request_bundles, usable_nodes
from pipelines.cluster.option_texts import say_seconds
from pipelines.cluster.starting import LEAST_CPUS, configure_data, keep_statistics_here, ray_cluster, usable_cpus
from pipelines.training.attempt import Attempt, AttemptEnd
from pipelines.training.attempt_watch import AttemptWatch
from pipelines.training.capacity import Shares, allowed_counts, choose_count, default_gpus, share_nodes
from pipelines.training.checkpoint_names import CheckpointName, completed_s
from pipelines.training.failures import FAILURES, FailureBudget
from pipelines.training.gauges import RunGauges
from pipelines.training.job import TrainJob
from pipelines.training.lease import Fence, Lease
from pipelines.training.patience import patiently
from pipelines.training.run_folder import MetricRow, RunFolder
from pipelines.training.signals import Received, signals_noted
from pipelines.training.validation_rows import ValidationRow
from pipelines.training.validator import Validator

__all__ = ["Outcome", "run_workers"]

logger = logging.getLogger(__name__)

_INTERRUPT_S = 60.0
_VALIDATION_S = 3600.0
"""Longest time for which the validation of the finished model is waited for (seconds)."""
_VALIDATION_POLL_S = 0.2
_VALIDATION_TOLD_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of the driver ended without an error.

    Attributes:
        images_per_s: rate from the first row of metrics to the last (images/s; 0 for fewer than two rows).
        stopped: reason why training is not finished all the same; empty where it is.
    """

    images_per_s: float
    stopped: str = ""


def run_workers(
    job: TrainJob,
    *,
    lease: Lease,
    status: Callable[..., None] = lambda **_: None,
    gauges: RunGauges | None = None,
    watch: Callable[[MetricRow], None] | None = None,
    on_validation: Callable[[ValidationRow], None] | None = None,
    say: Callable[[str], None] = logger.warning,
    verbose: bool,
) -> Outcome:
    """Train until the end, the longest duration, or a signal.

    Args:
        job: job of the workers.
        lease: lease of the run's folder, of which each attempt takes the next epoch.
        status: function that is told how the run stands, see ``StatusFile.update``.
        gauges: gauges of the run (default: new ones).
        watch: function that is called with each new row of metrics.
        on_validation: function that is called with each new row of validation, in another thread (default: none).
        say: function that shows a line to the user: what is waited for, which machine is lost.
        verbose: whether Ray's own log is shown.

    Raises:
        ConfigError: there is not the room that was asked for, and it did not come in time.
        JobError: workers fail again and again without a newer checkpoint, another driver has taken the run over, or the
            cluster was lost.
        Interrupted: SIGTERM came, or machines that were lost did not come back in time.
        CondgenError: the error that a worker met.
        KeyboardInterrupt: the run was stopped; the workers saved a checkpoint.
    """
    gauges = gauges or RunGauges(job.out.uri)
    with (
        ray_cluster(verbose=verbose, num_cpus=max(LEAST_CPUS, usable_cpus())),
        gauges.exported(),
        signals_noted() as received,
        tempfile.TemporaryDirectory(prefix="condgen-train-") as scratch,
    ):
        configure_data(verbose=verbose)
        keep_statistics_here()
        validator = Validator(job, fence=lambda: lease.fence, say=say, on_row=on_validation)
        driver = _Driver(
            job,
            lease,
            received,
            validator,
            gauges,
            scratch=scratch,
            status=status,
            watch=watch,
            say=say,
            verbose=verbose,
        )
        with driver.room_asked_for(), validator:
            return driver.run()


class _Driver:
    def __init__(
        self,
        job: TrainJob,
        lease: Lease,
        received: Received,
        validator: Validator,
        gauges: RunGauges,
        *,
        scratch: str,
        status: Callable[..., None],
        watch: Callable[[MetricRow], None] | None,
        say: Callable[[str], None],
        verbose: bool,
    ) -> None:
        self._job, self._lease, self._received = job, lease, received
        self._scratch, self._verbose = scratch, verbose
        self._validator, self._gauges = validator, gauges
        self._status, self._watch, self._say = status, watch, say
        self._folder = RunFolder(job.out)
        self._silent: set[str] = set()
        self._own_cluster = is_own_cluster()
        gpus, wait_s = job.options.gpus_per_worker, job.options.wait_for_s
        self._counts = allowed_counts(*job.options.worker_range, job.check_workers)
        self._demand = Demand(
            least=self._counts[0],
            most=self._counts[-1],
            gpus=default_gpus(self._look(), own_cluster=self._own_cluster) if gpus is None else gpus,
        )
        self._wait_s = default_wait(own_cluster=self._own_cluster) if wait_s is None else wait_s
        self._began = time.monotonic()
        self._failures, self._has_trained = FailureBudget(self._folder.newest_step()), False
        self._first_and_last: list[MetricRow] = []
        self._waiting_for = ""
        self._begin_gauges()

    def _begin_gauges(self) -> None:
        newest = self._folder.newest()
        self._gauges.begin(
            step=newest.step if newest else 0,
            steps=self._job.preset.train.steps,
            workers_wanted=self._demand.most,
            checkpoint_s=self._completed_s(newest) if newest else 0.0,
        )

    def _completed_s(self, newest: CheckpointName) -> float:
        try:
            return completed_s(self._job.out, newest)
        except CondgenError as error:  # no run ends for want of a gauge
            logger.debug("the age of the newest checkpoint is not known: %s", error)
            return 0.0

    @contextmanager
    def room_asked_for(self) -> Iterator[None]:
        """Ask the autoscaler for room for the largest number of workers, for the time of the block."""
        if self._own_cluster:
            yield
            return
        request_bundles(self._demand.bundles())
        try:
            yield
        finally:
            with suppress(Exception):  # the cluster may be gone
                request_bundles([])

    def run(self) -> Outcome:
        """Make attempts until one is the last."""
        while True:
            try:
                nodes = self._wait_for_room()
            except _TimeOverError:
                return Outcome(images_per_s=self._rate(), stopped=self._duration_over())
            workers = self._count_for(nodes)
            shares = share_nodes(nodes, self._demand, workers)
            self._tell("running", workers=workers)
            attempt = Attempt(
                # Workers of the attempt before may live on behind a network that was cut: they write nothing more.
                replace(self._job, fence=self._advanced() if self._has_trained else self._lease.fence),
                workers,
                shares,
                scratch=self._scratch,
                verbose=self._verbose,
                on_row=self._pass_on,
                on_checkpoint=self._pass_on_checkpoint,
            )
            self._gauges.begin_attempt(self._lease.fence.epoch)
            unfit = partial(self._unfit, workers, shares)
            watched = AttemptWatch(
                attempt, self._received, look=self._look, unfit=unfit, left_s=self._left_s, lease=self._lease
            )
            self._has_trained = True
            try:
                watched.wait()
            except KeyboardInterrupt:
                # The workers save a checkpoint first; a second Ctrl-C does not wait for it.
                attempt.stop()
                attempt.wait(_INTERRUPT_S)
                raise
            if (outcome := self._judge(watched, attempt.end())) is not None:
                return outcome

    def _judge(self, watched: AttemptWatch, end: AttemptEnd) -> Outcome | None:
        """Return the outcome where the attempt was the last one; None where there is another."""
        if end.error:
            watched.find_lost()
        if self._lease.fenced is not None:
            raise self._lease.fenced
        if watched.attempt.failure is not None and not watched.lost:  # else it may be of a machine that was going
            raise watched.attempt.failure
        if end.reason in ("steps", "max_seconds"):
            self._validate_last()
            return Outcome(images_per_s=self._rate())
        if self._received.stop.is_set():
            self._interrupt("SIGTERM")
        if self._left_s() <= 0:
            return Outcome(images_per_s=self._rate(), stopped=self._duration_over())
        self._silent |= {node.id for node in watched.lost if node.alive}
        if watched.lost:
            for node in watched.lost:
                self._say(f"node {node.name} is gone{f' ({node.reason})' if node.reason else ''}: {self._goes_on()}")
        elif watched.cause or not end.error:
            self._say(f"{watched.text or 'a worker was told to stop'}: {self._goes_on()}")
        elif end.is_preempted:
            self._say(f"a machine was taken away: {self._goes_on()}")
        elif end.has_no_room:
            self._tell_waiting("the cluster has no room for the workers yet: is it busy with other work?")
        else:
            self._count_failure(end.error)
        return None

    def _validate_last(self) -> None:
        """Have the finished model validated, and wait for it; the model is there, so that nothing here is an error."""
        newest = patiently(self._folder.newest, tell=self._say, pause=self._pause) if self._job.held_out else None
        if newest is None:
            return
        self._validator.offer(newest, is_last=True)
        deadline = time.monotonic() + _VALIDATION_S
        self._tell("validating", workers=0)
        try:
            if not self._validator.wait(_VALIDATION_TOLD_S):
                self._say("training has ended, and the finished model is validated")
            while not self._validator.wait(_VALIDATION_POLL_S):
                if self._received.stop.is_set() or self._left_s() <= 0 or time.monotonic() > deadline:
                    self._say("the finished model was not validated: it took too long, or was stopped")
                    return
        except KeyboardInterrupt:
            self._say("the finished model was not validated: it was stopped by Ctrl-C")

    def _count_failure(self, error: str) -> None:
        if not self._failures.count(self._newest_step()):
            raise JobError(
                f"training failed {FAILURES} times without a newer checkpoint ({error}): --verbose shows Ray's log"
            )
        self._say(f"a worker failed ({error}): {self._goes_on()}")

    def _goes_on(self) -> str:
        step = self._newest_step()
        return f"training goes on from step {step}" if step else "training begins again"

    def _newest_step(self) -> int:
        return patiently(self._folder.newest_step, tell=self._tell_waiting, pause=self._pause)

    def _advanced(self) -> Fence:
        return patiently(self._lease.advance, tell=self._tell_waiting, pause=self._pause)

    def _wait_for_room(self) -> Sequence[Node]:
        try:
            return wait_for_room(
                self._look, self._demand, wait_s=self._wait_s, tell=self._tell_waiting, pause=self._pause
            )
        except ConfigError as error:
            if not self._has_trained:
                raise
            raise Interrupted(f"machines that were lost did not come back: {error}") from error

    def _tell_waiting(self, text: str) -> None:
        if text != self._waiting_for:
            self._say(text)
        self._waiting_for = text
        self._tell("waiting", workers=0, reason=text)

    def _pause(self, seconds: float) -> None:
        """Wait for some seconds, unless a signal or the longest duration ends the wait."""
        if self._received.stop.wait(seconds):
            self._interrupt("SIGTERM")
        if self._left_s() <= 0:
            raise _TimeOverError

    def _look(self) -> list[Node]:
        import ray

        try:
            nodes = look_at_nodes()
        except (ray.exceptions.RayError, RuntimeError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise JobError(f"Ray's cluster was lost ({reason}): run the same command again to go on") from error

        return [replace(node, draining=True) if self._is_silent(node) else node for node in nodes]

    def _is_silent(self, node: Node) -> bool:
        """Return whether a node was found to be gone that Ray counts on until its own checks have failed."""
        if node.id in self._silent and (not node.alive or answers(node)):
            self._silent.discard(node.id)
        return node.id in self._silent

    def _count_for(self, nodes: Sequence[Node]) -> int:
        return choose_count(self._counts, self._demand.fit(nodes))

    def _unfit(self, workers: int, shares: Shares, nodes: Sequence[Node]) -> str:
        """Return why another attempt would suit the nodes better than these workers; empty where none would."""
        wanted = self._count_for(nodes)
        if self._demand.is_elastic and wanted and wanted != workers:
            return f"there is room for {wanted} worker{'s' if wanted > 1 else ''} in place of {workers}"
        cpus = sum(node.cpus for node in usable_nodes(nodes))
        if wanted and cpus + 1e-6 < workers * shares.worker_cpus + shares.task_cpus:
            return f"the {cpus:g} CPUs that are left have to be shared anew"  # else nothing decodes any more
        return ""

    def _left_s(self) -> float:
        limit = self._job.options.max_duration_s
        return limit - (time.monotonic() - self._began) if limit else float("inf")

    def _duration_over(self) -> str:
        return f"--max-duration {say_seconds(self._job.options.max_duration_s)} is over"

    def _interrupt(self, cause: str) -> NoReturn:
        try:
            step = self._folder.newest_step()
            where = f"a checkpoint of step {step} is saved" if step else "no checkpoint was saved yet"
        except StorageError as error:
            where = f"its newest checkpoint is not known ({error})"
        raise Interrupted(f"stopped by {cause}, {where}: run the same command again to go on")

    def _tell(self, state: str, *, workers: int, **fields: Any) -> None:
        self._gauges.set_workers(workers)
        self._status(state=cast("Any", state), workers=workers, workers_wanted=self._demand.most, **fields)

    def _pass_on(self, row: MetricRow) -> None:
        self._first_and_last = [*self._first_and_last[:1], row]
        self._waiting_for = ""
        self._gauges.add_row(row)
        self._status(step=row.step, epoch=row.epoch, images_per_s=row.images_per_s)
        if self._watch:
            self._watch(row)

    def _pass_on_checkpoint(self, name: CheckpointName) -> None:
        self._gauges.note_checkpoint()
        self._validator.offer(name)

    def _rate(self) -> float:
        if len(self._first_and_last) < 2:
            return 0.0
        first, last = self._first_and_last
        return (last.images - first.images) / (last.seconds - first.seconds) if last.seconds > first.seconds else 0.0


class _TimeOverError(Exception):
    """The longest duration ended a wait."""
