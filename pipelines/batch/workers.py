"""The batch engine's outer part: a pool of Ray actors that do the plan's chunks, and their receipts.

Only rows of the plan and receipts travel through Ray: an actor reads a chunk from the archive and writes its draws
file itself.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pyarrow as pa

from condgen.errors import ConfigError, JobError, StorageError
from pipelines.batch.attempts import begin_attempt, clear_attempts
from pipelines.batch.pool_shape import PoolShape
from pipelines.cluster.actor_pool import run_on_actors
from pipelines.cluster.errors import unwrap
from pipelines.cluster.imports import extend_import_path, spare_pandas
from pipelines.datasets.chunk import Chunk, iter_chunks
from pipelines.models.hooks import Functions
from pipelines.models.source import ModelSource, StoredModel
from pipelines.results.files import Receipt, draws_name, read_footer
from pipelines.results.settings import BatchSettings
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from pipelines.batch.engine import ChunkEngine

__all__ = ["Actors", "WorkerSpec", "run_chunks"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

_ATTEMPTS = 3
# Rounds that fail and commit nothing are begun again for so long: a node's place is filled, a full disk emptied.
_ROUNDS = 4
_PATIENCE_S = 300.0
_LONGEST_WAIT_S = 30.0
# Actors that die, one after the other, without a chunk committed; what keeps one from starting is no death.
_DEATHS = 20
_PATIENT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """Everything that an actor needs to make its engine.

    Attributes:
        archive: store that samples are read from.
        results: store that draws files are written to.
        model: where the model comes from.
        model_digest: digest that the model must have.
        settings: settings of the plan.
        footer: entries of each draws file's footer, besides counts and errors.
        functions: the user's functions before and after the model.
        run: identity of this run of the command.
        import_path: folders that the driver imports a user's functions from, besides what is installed.
        known: names of some objects of the archive, far from each other, see `pipelines.storage.neighbors`.
    """

    archive: Store
    results: Store
    model: ModelSource
    model_digest: str
    settings: BatchSettings
    footer: Mapping[str, Any] = field(default_factory=dict)
    functions: Functions = field(default_factory=Functions)
    run: str = ""
    import_path: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    @property
    def runs_our_code_alone(self) -> bool:
        """True where neither the model nor a function is the user's own."""
        return isinstance(self.model, StoredModel) and self.functions == Functions()

    def make_engine(self) -> ChunkEngine[Any]:
        """Load the model onto this process's device and return the engine."""
        import torch

        from pipelines.batch.engine import ChunkEngine
        from pipelines.models.source import image_task

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
            task=image_task(loaded, self.settings.task_options),
            settings=self.settings,
            footer=self.footer,
            functions=self.functions,
            neighbors=Neighbors([(self.archive, name) for name in self.known]),
        )


class ChunkWorker:
    """The actor: it holds the model and does a few chunks at a time, so that reading one overlaps computing another.

    Its construction imports what every job needs, which takes seconds and can happen before the job is known.
    """

    def __init__(self) -> None:
        import pipelines.batch.engine  # noqa: F401

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in this process, which has the device."""
        return function(*arguments)

    def begin(self, import_path: tuple[str, ...], pickled_spec: bytes) -> None:
        """Load the model; whatever keeps it from loading is raised."""
        extend_import_path(import_path)  # what the spec names, such as a user's function, may be found there alone
        from pipelines.batch.metrics import WorkerMetrics

        self._spec: WorkerSpec = pickle.loads(pickled_spec)  # noqa: S301 - from our own driver
        if self._spec.runs_our_code_alone:
            spare_pandas()
        self._metrics = WorkerMetrics(self._spec.results.uri)
        self._engine = self._spec.make_engine()
        self._cpu_told = time.process_time()

    def run(self, chunk: Chunk) -> Receipt:
        """Do one chunk, unless it has been committed meanwhile, and return its receipt."""
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
        before, self._cpu_told = self._cpu_told, time.process_time()
        receipt.cpu_seconds = self._cpu_told - before
        self._metrics.count(receipt)
        return receipt

    def _isolated(self) -> Any:
        from ray import cloudpickle

        from pipelines.batch.isolation import IsolatedEngine

        payload: bytes = cloudpickle.dumps(self._spec.make_engine)  # type: ignore[no-untyped-call]
        return IsolatedEngine(payload).outcomes


class Actors:
    """The actors of a job, which can be started before it is known what they are to do; they end with their handles."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._shape = PoolShape(0, 0, 0.0, 0.0)

    def begin(self, shape: PoolShape) -> None:
        """Start as many actors as there is room for."""
        self._shape = shape
        self._idle = [_new_actor(shape) for _ in range(shape.side_by_side)]

    def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in one of the actors; if that one is lost, another takes its place.

        Raises:
            JobError: one actor after the other is lost.
            CondgenError: whatever the function raised.
        """
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        deaths, patient = 0, True
        answer = self._idle[-1].call.remote(function, *arguments)
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
                answer = self._idle[-1].call.remote(function, *arguments)

    def take(self, shape: PoolShape) -> Any:
        """Return an actor for a pool of that shape, started before or new; those that the pool can't use are ended."""
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

    A failure that Ray can't recover from (a node lost with its blocks) ends a round, and so does storage that gives no
    answer, perhaps to one machine alone. The chunks that are pending then are the next round. Rounds that commit
    nothing are begun again for some minutes.

    Args:
        pending: function that lists the chunks not committed, in `pipelines.datasets.chunk.CHUNK_SCHEMA`; it is called
            before each round.
        spec: everything that the actors need.
        shape: function from a number of chunks to the pool's shape.
        actors: actors that were started already and are taken first (default: none).

    Raises:
        StorageError: the archive or the results can't be read or written, or give no answer for minutes.
        JobError: rounds fail and commit nothing.
    """
    from ray.exceptions import RayError

    patience, actors = _Patience(), actors or Actors()
    while True:
        committed = 0
        try:
            table = pending()
            if not table.num_rows:
                return
            for receipt in _run_round(table, spec, shape(table.num_rows), actors):
                committed += 1
                yield receipt
        except (RayError, ConfigError, StorageError) as error:
            _raise_ours(error, begun=patience.rounds > 0)
            patience.wait(error, committed)
            continue
        if not committed:
            return
        patience.rounds += 1


class _Patience:
    """Waits between rounds that fail, and ends the job where they fail for too long without committing a chunk."""

    def __init__(self) -> None:
        self.rounds = 0
        self._failed = 0
        self._since = time.monotonic()

    def wait(self, error: Exception, committed: int) -> None:
        """Wait after a round that failed, longer each time.

        Raises:
            JobError, StorageError: rounds have failed for too long.
        """
        self.rounds += 1
        if committed:
            self._failed, self._since = 0, time.monotonic()
        self._failed += 1
        if self._failed > _ROUNDS and time.monotonic() - self._since > _PATIENCE_S:
            if (ours := unwrap(error)) is not None:
                raise ours from error
            raise JobError(f"the cluster fails again and again: {_first_line(error)}") from error
        seconds = min(_LONGEST_WAIT_S, 2.0 ** (self._failed - 1)) if not committed else 0.0
        logger.warning("a round of chunks ended early, the next begins in %.0f s: %s", seconds, _first_line(error))
        time.sleep(seconds)


def _raise_ours(error: Exception, *, begun: bool) -> None:
    """Raise an error that no other round would mend (a mistake, a bug); return where cluster or storage are to blame.

    Args:
        error: error that ended a round.
        begun: whether an earlier round had a cluster to run on; one that is too small now has lost nodes, and may get
            others.
    """
    from ray.exceptions import RayActorError, RayError, RayTaskError

    if isinstance(error, ConfigError) and not isinstance(error, RayError):
        if begun:
            return
        raise error
    ours = unwrap(error)
    if isinstance(ours, StorageError) and ours.passes:
        return
    if ours is not None:
        raise ours from error
    if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
        raise error
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raise JobError(f"workers can't start: {_last_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: Exception) -> str:
    """Return what a traceback ends with: the error that was raised."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).strip()


def _run_round(pending: pa.Table, spec: WorkerSpec, shape: PoolShape, actors: Actors) -> Iterator[Receipt]:
    import ray

    place = ray.put(ray.cloudpickle.dumps(spec))  # type: ignore[no-untyped-call]

    def start() -> tuple[Any, Any]:
        actor = actors.take(shape)
        return actor, actor.begin.remote(spec.import_path, place)

    chunks = iter_chunks(pending)
    yield from run_on_actors(start, chunks, size=shape.most, in_flight=shape.at_once, most_deaths=_DEATHS)
