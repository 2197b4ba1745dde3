"""The batch engine's inner part does one chunk in a worker, with no Ray in it.

Read, decode, condition, model, image, encode, write: a chunk's images go through in micro-batches of one fixed shape,
padded at the end, so that the model's bytes never depend on how many images are left. The chunk's draws file is its
commit.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch

from condgen.base import Condition, ConditionalModel
from condgen.errors import ImageError, JobError
from condgen.noise import NoiseSource, SampleId
from condgen.precision import autocast
from pipelines.datasets.chunk import Chunk, Sample, image_member, read_chunk, sample_facts
from pipelines.images.decoding import decode
from pipelines.images.encoding import SUFFIXES, encode
from pipelines.images.metadata import Metadata, read_metadata
from pipelines.models.hooks import About, Functions
from pipelines.models.source import require_encoder
from pipelines.models.task import ImageTask, Rgb
from pipelines.results.files import Draw, Failure, FilteredImage, Receipt, draws_name, encode_draws
from pipelines.results.settings import BatchSettings
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = ["About", "ChunkEngine", "Clock", "Functions", "Outcome", "Rgb"]

C = TypeVar("C")

# A micro-batch's decoded images are bounded in memory: past this many pixels it is run with fewer images (padded).
_BATCH_PIXELS = 48_000_000
_DEEP_FORMATS = ("png", "tiff")


Outcome: TypeAlias = list[Draw] | Failure | FilteredImage
"""The outcome of a sample: all its draws, or the reason why it has none."""


@dataclass(slots=True)
class _Loaded(Generic[C]):
    place: int
    sample: Sample
    about: About
    sha256: str
    metadata: Metadata
    rgb: Rgb
    tiles: Sequence[torch.Tensor]
    context: C


class ChunkEngine(Generic[C]):
    """Turns chunks into draws files.

    Safe to call from several threads: while one runs the model on a GPU, another reads, decodes, encodes and writes; on
    a CPU, while one computes, another reads or writes.

    Args:
        archive: store that samples are read from.
        results: store that draws files are written to.
        model: model in `eval()` mode, on the device that it is to run on.
        task: task that takes images to the model and back.
        settings: settings of the plan.
        footer: entries of each draws file's footer, besides counts and errors (plan, model digest, versions).
        functions: the user's functions before and after the model (default: none).
        neighbors: what tells an object's own trouble from that of the storage (default: nothing is known yet).
    """

    def __init__(
        self,
        *,
        archive: Store,
        results: Store,
        model: ConditionalModel,
        task: ImageTask[C],
        settings: BatchSettings,
        footer: Mapping[str, Any],
        functions: Functions | None = None,
        neighbors: Neighbors | None = None,
    ) -> None:
        self._archive = archive
        self._neighbors = neighbors or Neighbors()
        self._results = results
        self._model = model
        self._task = task
        self._settings = settings
        self._footer = dict(footer)
        self._functions = functions or Functions()
        self._options = settings.sample
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._model_lock = threading.Lock()
        self._encode_device = require_encoder("encode_on") if settings.output.encode_on == "gpu" else None
        # On a CPU, chunks that are computed side by side only take the core and Python's lock from each other.
        self._feeds_gpu = self._device.type != "cpu"
        self._turn: AbstractContextManager[Any] = nullcontext() if self._feeds_gpu else threading.Lock()

    def run(self, chunk: Chunk, outcomes_of: OutcomesOf | None = None, *, clock: Clock | None = None) -> Receipt:
        """Do one chunk and commit it.

        Args:
            chunk: chunk of the plan.
            outcomes_of: function that does its samples in place of `outcomes` (see `pipelines.batch.isolation`).
            clock: clock that the time of each stage is added to (default: a new one).

        Returns:
            The receipt: counts, bytes, and seconds by stage.

        Raises:
            StorageError: reading or writing failed after retries; nothing was committed.
            JobError: the storage is out, or the model does not fit the device's memory; nothing was committed.
        """
        clock = clock or Clock()
        with clock("read"):
            samples = self.read(chunk)
        placed = list(zip(chunk.places, samples, strict=True))
        with nullcontext() if outcomes_of else self._turn:
            outcomes = outcomes_of(placed) if outcomes_of else self.outcomes(placed, clock)
            ordered = [outcomes[place] for place in sorted(outcomes)]
            draws = [draw for one in ordered if isinstance(one, list) for draw in one]
            failures = [one for one in ordered if isinstance(one, Failure)]
            filtered = [one for one in ordered if isinstance(one, FilteredImage)]
            with clock("write"):
                data = encode_draws(
                    draws,
                    failures,
                    {**self._footer, "chunk": chunk.name, "ordinal": chunk.ordinal},
                    samples=chunk.samples,
                    filtered=filtered,
                    columns=self._settings.output.columns,
                )
        with clock("write"):
            self._results.write(draws_name(chunk.name), data)
        return Receipt(
            chunk=chunk.name,
            samples=chunk.samples,
            draws=len(draws),
            errors=len(failures),
            filtered=len(filtered),
            bytes_in=sum(len(member) for sample in samples for member in sample.members.values()),
            bytes_out=len(data),
            seconds=clock.seconds,
            kinds=dict(Counter(f"{failure.stage} {failure.error}" for failure in failures)),
        )

    def read(self, chunk: Chunk) -> list[Sample]:
        """Read a chunk; an object that can't be read is its samples' fault, see `read_chunk`."""
        return read_chunk(self._archive, chunk, neighbors=self._neighbors)

    def outcomes(self, placed: Sequence[tuple[int, Sample]], clock: Clock | None = None) -> dict[int, Outcome]:
        """Do samples and return their outcomes, by place; nothing is written.

        Args:
            placed: samples with their places in the archive.
            clock: clock that the time of each stage is added to (default: a new one).

        Raises:
            JobError: the model does not fit the device's memory.
        """
        clock = clock or Clock()
        outcomes: dict[int, Outcome] = {}
        for batch in self._batches(placed, outcomes, clock):
            outputs = self._sample(batch, clock)
            for loaded, its_outputs in zip(batch, outputs, strict=True):
                try:
                    outcomes[loaded.place] = self._finish(loaded, its_outputs, clock)
                except ImageError as error:
                    outcomes[loaded.place] = _failure(loaded.place, loaded.sample, error)
        return outcomes

    def _batches(
        self, placed: Sequence[tuple[int, Sample]], outcomes: dict[int, Outcome], clock: Clock
    ) -> Iterator[list[_Loaded[C]]]:
        """Yield micro-batches of samples: at most `batch_size` tiles, or one sample; put others into `outcomes`."""
        batch: list[_Loaded[C]] = []
        tiles = pixels = 0
        for place, sample in placed:
            try:
                loaded = self._load(place, sample, clock)
            except ImageError as error:
                outcomes[place] = _failure(place, sample, error)
                continue
            if loaded is None:
                outcomes[place] = FilteredImage(source=sample.source, key=sample.key, place=place)
                continue
            size = loaded.rgb.shape[0] * loaded.rgb.shape[1]
            if batch and (tiles + len(loaded.tiles) > self._settings.batch_size or pixels + size > _BATCH_PIXELS):
                yield batch
                batch, tiles, pixels = [], 0, 0
            batch.append(loaded)
            tiles, pixels = tiles + len(loaded.tiles), pixels + size
        if batch:
            yield batch

    def _load(self, place: int, sample: Sample, clock: Clock) -> _Loaded[C] | None:
        """Decode a sample and make its condition; None where it is left out: by the user's function, or by a plan."""
        if sample.is_listed_later:
            return None
        with clock("decode"):
            data = image_member(sample, self._settings.member)
            deep = self._settings.output.output_format in _DEEP_FORMATS
            rgb: Rgb | None = decode(data, max_pixels=self._settings.max_pixels, keep_16_bit=deep)
            metadata = read_metadata(data)
            digest = hashlib.sha256(data).hexdigest()
        about = About(sample.source, sample.key, sample_facts(sample))
        if self._functions.before is not None:
            with clock("before"), _users_function("before"):
                rgb = self._functions.before(rgb, about)  # type: ignore[arg-type]
        if rgb is None:
            return None
        with clock("condition"):
            tiles, context = self._task.condition(rgb)
        return _Loaded(place, sample, about, digest, metadata, rgb, tiles, context)

    def _sample(self, batch: Sequence[_Loaded[C]], clock: Clock) -> Iterable[Iterable[torch.Tensor]]:
        """Return for each sample of a micro-batch the outputs of its tiles, `[K, C', S', S']` on the CPU each."""
        size = self._settings.batch_size
        if len(batch) == 1 and len(batch[0].tiles) > size:
            return [self._sample_many(batch[0], clock)]
        tiles = [(loaded, tile) for loaded in batch for tile in loaded.tiles]
        outputs = iter(self._forward(tiles, clock))
        return [[next(outputs) for _ in loaded.tiles] for loaded in batch]

    def _sample_many(self, loaded: _Loaded[C], clock: Clock) -> Iterator[torch.Tensor]:
        """Yield the outputs of an image of more tiles than a batch has, batch by batch as they are asked for."""
        for start in range(0, len(loaded.tiles), self._settings.batch_size):
            stop = min(start + self._settings.batch_size, len(loaded.tiles))
            yield from self._forward([(loaded, loaded.tiles[place]) for place in range(start, stop)], clock)

    def _forward(self, tiles: Sequence[tuple[_Loaded[C], torch.Tensor]], clock: Clock) -> Sequence[torch.Tensor]:
        """Run the model at the fixed batch size, padded with zeros. All tiles of an image have its one noise."""
        size = self._settings.batch_size
        x = torch.zeros((size, *tiles[0][1].shape), dtype=tiles[0][1].dtype)
        identities: list[SampleId | None] = [None] * size
        for row, (loaded, tile) in enumerate(tiles):
            x[row] = tile
            identities[row] = SampleId(loaded.sample.source, loaded.sample.key)
        there = self._device if self._settings.noise_on == "gpu" else None
        noise = NoiseSource(self._settings.seed, identities, range(self._settings.draws), there)
        with self._model_lock, clock("model"):
            return self._call(x, noise)[: len(tiles)].unbind()

    def _call(self, x: torch.Tensor, noise: NoiseSource) -> torch.Tensor:
        """Return draws `[B, K, C', S', S']` float32 on the CPU; where memory runs out, free some and try once more."""
        if self._device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last).pin_memory()
        for attempt in range(2):
            try:
                with torch.inference_mode(), autocast(self._settings.precision, self._device):
                    condition = Condition(image=x.to(self._device, non_blocking=True))
                    return self._model.sample(condition, noise, self._options).float().cpu()
            except torch.OutOfMemoryError as error:
                if attempt:
                    size = self._settings.batch_size
                    raise JobError(
                        f"the model ran out of the device's memory at a batch of {size}: run again with --batch-size "
                        f"{max(1, size // 2)} (in another RESULTS folder, once images are committed in this one)"
                    ) from error
            torch.cuda.empty_cache()
        raise AssertionError

    def _finish(self, loaded: _Loaded[C], outputs: Iterable[torch.Tensor], clock: Clock) -> Outcome:
        """Return all K draws of one sample, or raise its error and return none."""
        source = iter(self._task.images(loaded.rgb, _finite(outputs), loaded.context))
        draws: list[Draw] = []
        if self._functions.after is None:
            for k in range(self._settings.draws):
                with clock("picture"):
                    rgb = next(source)
                draws.append(self._row(loaded, k, rgb, clock))
            return draws
        with clock("picture"):
            images = list(source)
        with clock("after"), _users_function("after"):
            changed = self._functions.after(images, loaded.about)
        if changed is None:
            return FilteredImage(source=loaded.sample.source, key=loaded.sample.key, place=loaded.place)
        if len(changed) != self._settings.draws:
            message = f"the function after the model gave {len(changed)} images in place of {self._settings.draws}"
            raise ImageError("after", "Count", message)
        return [self._row(loaded, k, rgb, clock) for k, rgb in enumerate(changed)]

    def _row(self, loaded: _Loaded[C], draw: int, rgb: Rgb, clock: Clock) -> Draw:
        output = self._settings.output
        with clock("encode"):
            data = encode(
                rgb,
                output.output_format,
                quality=output.quality,
                metadata=loaded.metadata,
                beside_threads=self._feeds_gpu,
                device=self._encode_device,
            )
        return Draw(
            source=loaded.sample.source,
            key=loaded.sample.key,
            draw=draw,
            seed=self._settings.seed,
            image=data,
            path=f"{loaded.sample.key}.draw{draw}.{SUFFIXES[output.output_format]}",
            width=rgb.shape[1],
            height=rgb.shape[0],
            source_sha256=loaded.sha256,
            facts=loaded.about.facts if output.columns else {},
        )


OutcomesOf: TypeAlias = Callable[[Sequence[tuple[int, Sample]]], dict[int, Outcome]]


def _finite(outputs: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    for y in outputs:
        if not np.isfinite(y.numpy()).all():  # torch's takes 13 times as long
            raise ImageError("model", "NotFinite", "the model's output has NaN or infinite values")
        yield y


@contextmanager
def _users_function(stage: str) -> Iterator[None]:
    """Turn what a user's function raises into that sample's error."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            stage, type(error).__name__, f"the function {stage} the model raised {type(error).__name__}"
        ) from error


def _failure(place: int, sample: Sample, error: ImageError) -> Failure:
    return Failure(
        source=sample.source,
        key=sample.key,
        stage=error.stage,
        error=error.error,
        message=error.detail,
        place=place,
    )


@dataclass(slots=True)
class Clock:
    """Seconds of wall time, by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the block's time to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
