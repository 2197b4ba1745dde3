"""What a worker of a batch job does, whether it is an actor of Ray or a process of this machine alone.

Only rows of the plan and receipts travel between the driver and its workers: a worker reads a chunk from the archive
and writes its draws file itself.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pipelines.batch.attempts import begin_attempt, clear_attempts
from pipelines.cluster.imports import extend_import_path, spare_pandas, spare_scipy
from pipelines.datasets.chunk import Chunk
from pipelines.models.hooks import Functions
from pipelines.models.source import ModelSource, PackagedModel, StoredModel
from pipelines.results.commits import PendingChunks
from pipelines.results.files import Receipt, draws_name, read_footer
from pipelines.results.settings import BatchSettings
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from pipelines.batch.engine import ChunkEngine

__all__ = ["ChunkWorker", "LostWorkerError", "WorkerSpec", "Workers"]

T = TypeVar("T")

_ATTEMPTS = 3


class LostWorkerError(Exception):
    """A worker has ended, or the cluster failed: the chunks in its hands are to be done again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """Everything that a worker needs to make its engine.

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
        return isinstance(self.model, StoredModel | PackagedModel) and self.functions == Functions()

    def pickled(self, value: Any) -> bytes:
        """Return this, or what is made of it, for another process; a user's function travels with its code."""
        if self.runs_our_code_alone:
            return pickle.dumps(value)
        from ray import cloudpickle

        code: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
        return code

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


class Workers(Protocol):
    """The workers of a job, which are there before it is known what they are to do.

    Attributes:
        engine: what they run on, `ray` or `local`.
    """

    engine: str

    @property
    def cpus(self) -> float:
        """CPUs that they share."""

    @property
    def gpus(self) -> float:
        """GPUs that they share."""

    def metrics(self, results: str) -> AbstractContextManager[Callable[..., None]]:
        """Tell Prometheus, for the time of the block, what is left: a function of `chunks` and `images`."""

    def begin(self, num_chunks: int) -> None:
        """Start workers for some chunks, as many as there is room for."""

    def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in one of the workers, which have the devices.

        Raises:
            JobError: one worker after the other is lost.
            CondgenError: whatever the function raised.
        """

    def round(self, pending: PendingChunks, spec: WorkerSpec) -> Iterator[Receipt]:
        """Do chunks, and yield a receipt for each as it is committed.

        Raises:
            LostWorkerError: not all could be done; nobody's code is to blame.
            ConfigError: there is no room for workers.
            CondgenError: whatever a worker raised.
        """


class ChunkWorker:
    """A worker: it holds the model and does a few chunks at a time, so that reading one overlaps computing another.

    Its construction imports what every job needs, which takes seconds and can happen before the job is known.

    Args:
        tells_metrics: whether it counts what it does in Ray's metrics (default: it does).
    """

    def __init__(self, *, tells_metrics: bool = True) -> None:
        import pipelines.batch.engine  # noqa: F401

        self._tells_metrics = tells_metrics

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in this process, which has the device."""
        return function(*arguments)

    def begin(self, import_path: tuple[str, ...], pickled_spec: bytes) -> None:
        """Load the model; whatever keeps it from loading is raised."""
        extend_import_path(import_path)  # what the spec names, such as a user's function, may be found there alone
        self._spec: WorkerSpec = pickle.loads(pickled_spec)  # noqa: S301 - from our own driver
        if self._spec.runs_our_code_alone:
            spare_pandas()
            spare_scipy()
        self._metrics = None
        if self._tells_metrics:
            from pipelines.batch.metrics import WorkerMetrics

            self._metrics = WorkerMetrics(self._spec.results.uri)
        self._engine = self._spec.make_engine()
        self._cpu_told = time.process_time()

    def run(self, chunk: Chunk) -> Receipt:
        """Do one chunk, unless it has been committed meanwhile, and return its receipt."""
        import torch

        torch.set_num_threads(1)  # a setting of the calling thread, of which a worker has several
        results = self._spec.results
        if results.exists(draws_name(chunk.name)):  # by a worker that was lost after it, or by another driver
            counts = read_footer(results, draws_name(chunk.name))["counts"]
            clear_attempts(results, chunk.name)
            return Receipt(chunk=chunk.name, bytes_in=0, bytes_out=0, **counts)
        earlier = begin_attempt(results, chunk.name, self._spec.run)
        receipt: Receipt = self._engine.run(chunk, self._isolated() if earlier >= _ATTEMPTS else None)
        clear_attempts(results, chunk.name)
        before, self._cpu_told = self._cpu_told, time.process_time()
        receipt.cpu_seconds = self._cpu_told - before
        if self._metrics is not None:
            self._metrics.count(receipt)
        return receipt

    def _isolated(self) -> Any:
        from pipelines.batch.isolation import IsolatedEngine

        return IsolatedEngine(self._spec.pickled(self._spec.make_engine)).outcomes
