"""The batch engine's outer part: a pool of Ray actors that do the plan's chunks, and their receipts.

Only rows of the plan and receipts travel through Ray: an actor reads a chunk from the archive and writes its draws
file itself.
"""

from __future__ import annotations

import logging
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pyarrow as pa

from condgen.errors import ConfigError, JobError, deliberate
from pipelines.batch.attempts import begin_attempt, clear_attempts
from pipelines.cluster.actor_pool import run_on_actors
from pipelines.cluster.arrow_start import spare_pandas
from pipelines.datasets.chunk import Chunk, iter_chunks
from pipelines.models.hooks import Functions
from pipelines.models.source import ModelSource, StoredModel
from pipelines.results.files import Receipt, draws_name, read_footer
from pipelines.results.plan import BatchSettings
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from pipelines.batch.engine import ChunkEngine

__all__ = ["Actors", "PoolShape", "WorkerSpec", "pool_shape", "run_chunks"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

_ATTEMPTS = 3
# Rounds that fail and commit nothing are begun again for so long: a node's place is filled, a full disk emptied.
_ROUNDS = 4
_PATIENCE_S = 300.0
_LONGEST_WAIT_S = 30.0
# Actors that die, one after the other, without a chunk committed; what keeps one from starting is no death.
_DEATHS = 20
# Chunks in an actor's hands: one is read and written while the other computes. A GPU is fed by more: its actor decodes
# and encodes a chunk on each of its cores, up to what memory is sure to hold.
_AT_ONCE = 2
_AT_ONCE_GPU = 16
_PATIENT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What an actor needs to make its engine.

    Attributes:
        archive, results: see `pipelines.batch.engine.ChunkEngine`; so are settings, functions.
        model, model_digest: the model, and what it must be.
        footer: what the footers of draws files state.
        run: an identity of this run of the command.
        import_path: where the driver imports from.
    """

    archive: Store
    results: Store
    model: ModelSource
    model_digest: str
    settings: BatchSettings
    footer: Mapping[str, Any]
    functions: Functions
    run: str
    import_path: tuple[str, ...] = ()

    @property
    def runs_our_code_alone(self) -> bool:
        """Whether neither the model nor a function is the user's own."""
        return isinstance(self.model, StoredModel) and self.functions == Functions()

    def make_engine(self) -> ChunkEngine[Any]:
        """The engine, with the model on this process's device."""
        sys.path.extend(path for path in self.import_path if path not in sys.path)
        import torch

        from pipelines.batch.engine import ChunkEngine
        from pipelines.models.source import picture_task

        # One thread a model: outputs of a convolution differ in their last bits between thread counts.
        torch.set_num_threads(1)
        loaded = self.model.load(expect_digest=self.model_digest)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = loaded.model.eval().to(device)
        if device == "cuda":
            model = model.to(memory_format=torch.channels_last)
        return ChunkEngine(
            archive=self.archive,
            results=self.results,
            model=model,
            task=picture_task(loaded, self.settings.kind, **self.settings.picture_options()),
            settings=self.settings,
            footer=self.footer,
            functions=self.functions,
        )


@dataclass(frozen=True, slots=True)
class PoolShape:
    """How many actors there may be, and what each takes of the cluster.

    Attributes:
        most: actors.
        side_by_side: for how many of them there is room now.
        num_cpus, num_gpus: of each.
        at_once: chunks in each one's hands.
    """

    most: int
    side_by_side: int
    num_cpus: float
    num_gpus: float
    at_once: int = _AT_ONCE

    @property
    def of_each(self) -> tuple[float, float, int]:
        """What each is begun with."""
        return self.num_cpus, self.num_gpus, self.at_once


def pool_shape(
    resources: Mapping[str, float],
    *,
    num_chunks: int,
    actors: tuple[int, int] | None = None,
    num_gpus: float | None = None,
) -> PoolShape:
    """Size the pool from the cluster's resources: an actor a GPU, or an actor a core where there is no GPU.

    An actor does all stages of a chunk, so that nothing else needs a CPU: the pool may take them all. With a GPU it
    asks for a CPU alone, which every node with a GPU has, and uses its share of them all.

    Args:
        resources: as `ray.cluster_resources()` gives them.
        num_chunks: left to do; more actors than chunks would only start.
        actors: at least, which must fit the cluster as it is (cores are shared, GPUs are not), and at most: those for
            which there is no room yet wait for it. None leaves it to the cluster.
        num_gpus: for each actor; None is one, or none where the cluster has none.

    Raises:
        ConfigError: the cluster can't give that.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    if cpus < 1:
        raise ConfigError("cluster", f"{cpus:g} CPUs", "a cluster of at least one CPU: it has no worker yet?")
    each = num_gpus if num_gpus is not None else (1.0 if gpus >= 1 else 0.0)
    if each > gpus:
        raise ConfigError("num_gpus", f"{each:g}", f"at most the cluster's {gpus:g} GPUs")
    fit = int(gpus / each) if each else int(cpus)
    least, most = actors if actors is not None else (fit, fit)
    if each and least > fit:
        raise ConfigError("actors", least, f"at most {fit}: {each:g} of the cluster's {gpus:g} GPUs for each")
    most = max(1, min(max(least, most), num_chunks))
    side_by_side = min(most, fit if each else max(least, fit))
    share = cpus / side_by_side
    at_once = max(_AT_ONCE, min(_AT_ONCE_GPU, int(share))) if each else _AT_ONCE
    return PoolShape(most, side_by_side, min(1.0, share), each, at_once)


class ChunkWorker:
    """The actor: it holds the model and does some chunks at a time, so that one's reading overlaps the other's model.

    Making it imports what it needs, which takes seconds, and is done before it is known what for.
    """

    def __init__(self) -> None:
        import pipelines.batch.engine  # noqa: F401

    def call(self, function: Callable[..., T], *given: Any) -> T:
        """Do something on this process's device."""
        return function(*given)

    def begin(self, import_path: tuple[str, ...], pickled_spec: bytes) -> None:
        """Load the model; raises what keeps it from starting."""
        # What the spec names, such as a user's function, may be found on that path alone.
        sys.path.extend(path for path in import_path if path not in sys.path)
        from pipelines.batch.metrics import WorkerMetrics

        self._spec: WorkerSpec = pickle.loads(pickled_spec)  # noqa: S301 - from our own driver
        if self._spec.runs_our_code_alone:
            spare_pandas()
        self._metrics = WorkerMetrics(self._spec.results.uri)
        self._engine = self._spec.make_engine()
        self._cpu_told = time.process_time()

    def run(self, chunk: Chunk) -> Receipt:
        """Do one chunk, unless it is committed by now."""
        import torch

        torch.set_num_threads(1)  # a setting of the calling thread, of which Ray has several for an actor
        results = self._spec.results
        if results.exists(draws_name(chunk.name)):  # by an actor that was lost after it, or by another driver
            counts = read_footer(results, draws_name(chunk.name))["counts"]
            clear_attempts(results, chunk.name)
            return Receipt(chunk=chunk.name, bytes_in=0, bytes_out=0, **counts)
        earlier = begin_attempt(results, chunk.name, self._spec.run)
        receipt: Receipt = self._engine.run(chunk, self._isolated() if earlier >= _ATTEMPTS else None)
        clear_attempts(results, chunk.name)
        told, self._cpu_told = self._cpu_told, time.process_time()
        receipt.cpu_seconds = self._cpu_told - told
        self._metrics.count(receipt)
        return receipt

    def _isolated(self) -> Any:
        from ray import cloudpickle

        from pipelines.batch.isolation import IsolatedEngine

        payload: bytes = cloudpickle.dumps(self._spec.make_engine)  # type: ignore[no-untyped-call]
        return IsolatedEngine(payload).outcomes


class Actors:
    """The actors of a job. They can be begun before it is known what they are to do, and end with their handles."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._shape = PoolShape(0, 0, 0.0, 0.0)

    def begin(self, shape: PoolShape) -> None:
        """Begin as many as there is room for."""
        self._shape = shape
        self._idle = [_new_actor(shape) for _ in range(shape.side_by_side)]

    def ask(self, function: Callable[..., T], *given: Any) -> T:
        """Call a function in one of those begun; another takes the place of one that is lost.

        Raises:
            JobError: one after the other is lost.
            CondgenError: what the function raised.
        """
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        deaths, patient = 0, True
        answer = self._idle[-1].call.remote(function, *given)
        while True:
            try:
                return cast("T", ray.get(answer, timeout=_PATIENT_S))
            except GetTimeoutError:
                if patient:
                    logger.warning("no worker answers for %.0f s: is the cluster busy with other work?", _PATIENT_S)
                patient = False
            except RayError as error:
                _raise_ours(error, begun=False)
                deaths += 1
                if deaths > _DEATHS:
                    raise JobError(f"workers can't start: {_first_line(error)}") from error
                logger.warning("a worker is lost before it has begun; another takes its place")
                self._idle[-1] = _new_actor(self._shape)
                answer = self._idle[-1].call.remote(function, *given)

    def take(self, shape: PoolShape) -> Any:
        """One for a pool of that shape: of those begun, or a new one. Those that the pool can't use are ended."""
        import ray

        fits = self._shape.of_each == shape.of_each
        while len(self._idle) > (shape.most if fits else 0):
            ray.kill(self._idle.pop())
        return self._idle.pop() if self._idle else _new_actor(shape)


def _new_actor(shape: PoolShape) -> Any:
    import ray

    num_cpus, num_gpus, at_once = shape.of_each
    worker = ray.remote(ChunkWorker).options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_concurrency=at_once,
        max_restarts=0,
        scheduling_strategy="SPREAD",
    )
    return worker.remote()


def run_chunks(
    pending: Callable[[], pa.Table],
    spec: WorkerSpec,
    shape: Callable[[int], PoolShape],
    actors: Actors | None = None,
) -> Iterator[Receipt]:
    """Do all chunks that are pending, and yield a receipt for each as it is committed.

    What Ray itself can't recover from (a node lost with its blocks) ends a round; what is pending then is another,
    as long as rounds commit anything.

    Args:
        pending: lists what is not committed, in `pipelines.datasets.chunk.CHUNK_SCHEMA`; called before each round.
        spec: of the actors.
        shape: of the pool, for so many chunks.
        actors: those begun already, which are taken first.

    Raises:
        StorageError: an archive or results that can't be reached, after retries.
        JobError: rounds fail, and commit nothing.
    """
    from ray.exceptions import RayError

    patience, actors = _Patience(), actors or Actors()
    while (table := pending()).num_rows:
        committed = 0
        try:
            for receipt in _run_round(table, spec, shape(table.num_rows), actors):
                committed += 1
                yield receipt
        except (RayError, ConfigError) as error:
            _raise_ours(error, begun=patience.rounds > 0)
            patience.wait(error, committed)
            continue
        if not committed:
            return
        patience.rounds += 1


class _Patience:
    """How long rounds may fail, one after the other, without a chunk committed."""

    def __init__(self) -> None:
        self.rounds = 0
        self._failed = 0
        self._since = time.monotonic()

    def wait(self, error: Exception, committed: int) -> None:
        """Wait after a round that failed, longer each time.

        Raises:
            JobError: it is over.
        """
        self.rounds += 1
        if committed:
            self._failed, self._since = 0, time.monotonic()
        self._failed += 1
        if self._failed > _ROUNDS and time.monotonic() - self._since > _PATIENCE_S:
            raise JobError(f"the cluster fails again and again: {_first_line(error)}") from error
        seconds = min(_LONGEST_WAIT_S, 2.0 ** (self._failed - 1)) if not committed else 0.0
        logger.warning("a round of chunks ended early, the next begins in %.0f s: %s", seconds, _first_line(error))
        time.sleep(seconds)


def _raise_ours(error: Exception, *, begun: bool) -> None:
    """Raise what no other round would mend: a mistake, a bug; what the cluster did is left.

    Args:
        error: that ended a round.
        begun: an earlier round had a cluster to run on: one that is too small now has lost nodes, and may get others.
    """
    from ray.exceptions import RayActorError, RayError, RayTaskError

    if isinstance(error, ConfigError) and not isinstance(error, RayError):
        if begun:
            return
        raise error
    known = deliberate(error)
    if known is not None:
        raise known from error
    if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
        raise error
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raise JobError(f"workers can't start: {_last_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: Exception) -> str:
    """Of a traceback: what was raised."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).strip()


def _run_round(pending: pa.Table, spec: WorkerSpec, shape: PoolShape, actors: Actors) -> Iterator[Receipt]:
    import ray

    place = ray.put(ray.cloudpickle.dumps(spec))  # type: ignore[no-untyped-call]

    def start() -> tuple[Any, Any]:
        actor = actors.take(shape)
        return actor, actor.begin.remote(spec.import_path, place)

    chunks = iter_chunks(pending)
    yield from run_on_actors(start, chunks, size=shape.most, in_flight=shape.at_once, most_deaths=_DEATHS)
