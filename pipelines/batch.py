"""The batch engine's inner part: what a worker does with one chunk, with no Ray in it.

Read, decode, condition, model, picture, encode, write: a chunk's images go through in micro-batches of one fixed
shape, padded at the end, so that the model's bytes never depend on how many images are left. The chunk's draws file is
its commit.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from condgen.base import Condition, ConditionalModel, SampleOptions
from condgen.errors import ImageError
from condgen.noise import NoiseSource, SampleId
from pipelines.chunks import Chunk, Sample, image_member, read_chunk
from pipelines.images import decode, encode
from pipelines.plans import BatchSettings
from pipelines.results import Draw, Failure, Receipt, draws_name, encode_draws
from pipelines.storage import Store

__all__ = ["ChunkEngine", "PictureTask"]

Rgb = npt.NDArray[np.uint8]
C = TypeVar("C")


class PictureTask(Protocol[C]):
    """How pictures become what a model takes, and what it gives becomes pictures again.

    Both functions are pure: the same picture gives the same bytes, in any process.
    """

    def condition(self, rgb: Rgb) -> tuple[torch.Tensor, C]:
        """A picture `[H, W, 3]` as the model's input `[C, S, S]`, and what `pictures` needs to know of it."""

    def pictures(self, rgb: Rgb, y: torch.Tensor, context: C) -> Iterable[Rgb]:
        """The K outputs `[K, C, S, S]` of the model for a picture as pictures `[H, W, 3]`."""


@dataclass(slots=True)
class _Loaded(Generic[C]):
    sample: Sample
    sha256: str
    rgb: Rgb
    x: torch.Tensor
    context: C


# A micro-batch's decoded pictures are bounded in memory: past this many pixels it is run with fewer images (padded).
_BATCH_PIXELS = 48_000_000
_SUFFIX = {"jpeg": "jpg", "png": "png", "webp": "webp"}


class ChunkEngine(Generic[C]):
    """Turns chunks into draws files.

    Safe to call from several threads: while one runs the model, another reads, decodes, encodes and writes.

    Args:
        archive, results: where samples are read from and draws files go to.
        model: in `eval()` mode, on the device that it is to run on.
        task: see `PictureTask`.
        settings: of the plan.
        footer: what each file's footer states besides counts and errors (plan, model digest, versions).
    """

    def __init__(
        self,
        *,
        archive: Store,
        results: Store,
        model: ConditionalModel,
        task: PictureTask[C],
        settings: BatchSettings,
        footer: Mapping[str, Any],
    ) -> None:
        self._archive = archive
        self._results = results
        self._model = model
        self._task = task
        self._settings = settings
        self._footer = dict(footer)
        self._options = SampleOptions(mode=settings.mode, temperature=settings.temperature)  # type: ignore[arg-type]
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._model_lock = threading.Lock()

    def run(self, chunk: Chunk) -> Receipt:
        """Do one chunk and commit it.

        Raises:
            StorageError: reading or writing failed after retries; nothing was committed.
        """
        clock = _Clock()
        with clock("read"):
            samples = read_chunk(self._archive, chunk)
        failures: dict[int, Failure] = {}
        draws: list[Draw] = []
        for batch in self._batches(samples, failures, clock):
            draws += self._draw(batch, failures, clock)
        with clock("write"):
            footer = {**self._footer, "chunk": chunk.name, "ordinal": chunk.ordinal}
            data = encode_draws(draws, [failures[place] for place in sorted(failures)], footer)
            self._results.write(draws_name(chunk.name), data)
        return Receipt(chunk.name, chunk.samples, len(draws), len(failures), len(data), clock.seconds)

    def _batches(
        self, samples: Sequence[Sample], failures: dict[int, Failure], clock: _Clock
    ) -> Iterator[list[tuple[int, _Loaded[C]]]]:
        """Micro-batches of decoded samples, each with its place in the chunk; what can't be decoded is a failure."""
        batch: list[tuple[int, _Loaded[C]]] = []
        pixels = 0
        for place, sample in enumerate(samples):
            try:
                loaded = self._load(sample, clock)
            except ImageError as error:
                failures[place] = _failure(sample, error)
                continue
            size = loaded.rgb.shape[0] * loaded.rgb.shape[1]
            if batch and (len(batch) == self._settings.batch_size or pixels + size > _BATCH_PIXELS):
                yield batch
                batch, pixels = [], 0
            batch.append((place, loaded))
            pixels += size
        if batch:
            yield batch

    def _load(self, sample: Sample, clock: _Clock) -> _Loaded[C]:
        with clock("decode"):
            data = image_member(sample)
            rgb = decode(data, max_pixels=self._settings.max_pixels)
        with clock("condition"):
            x, context = self._task.condition(rgb)
        return _Loaded(sample, hashlib.sha256(data).hexdigest(), rgb, x, context)

    def _draw(
        self, batch: Sequence[tuple[int, _Loaded[C]]], failures: dict[int, Failure], clock: _Clock
    ) -> Iterable[Draw]:
        outputs = self._sample([loaded for _, loaded in batch], clock)
        for (place, loaded), y in zip(batch, outputs, strict=True):
            try:
                if not bool(torch.isfinite(y).all()):
                    raise ImageError("model", "NotFinite", "the model's output has NaN or infinite values")
                yield from self._finish(loaded, y, clock)
            except ImageError as error:
                failures[place] = _failure(loaded.sample, error)

    def _sample(self, batch: Sequence[_Loaded[C]], clock: _Clock) -> torch.Tensor:
        """The draws of a micro-batch, `[B, K, C, S, S]` on the CPU; run at the fixed batch size, padded with zeros."""
        x = torch.zeros((self._settings.batch_size, *batch[0].x.shape), dtype=batch[0].x.dtype)
        for row, loaded in enumerate(batch):
            x[row] = loaded.x
        identities: list[SampleId | None] = [None] * self._settings.batch_size
        identities[: len(batch)] = [SampleId(loaded.sample.source, loaded.sample.key) for loaded in batch]
        noise = NoiseSource(self._settings.seed, identities, range(self._settings.draws))
        with self._model_lock, clock("model"), torch.inference_mode():
            y = self._model.sample(Condition(image=x.to(self._device)), noise, self._options)
            return y[: len(batch)].float().cpu()

    def _finish(self, loaded: _Loaded[C], y: torch.Tensor, clock: _Clock) -> list[Draw]:
        """All K draws of one sample, or an error and none."""
        draws: list[Draw] = []
        with clock("picture"):
            pictures = iter(self._task.pictures(loaded.rgb, y, loaded.context))
        for k in range(self._settings.draws):
            with clock("picture"):
                rgb = next(pictures)
            with clock("encode"):
                data = encode(rgb, self._settings.output_format, quality=self._settings.quality)
            draws.append(self._row(loaded, k, data, rgb.shape[1], rgb.shape[0]))
        return draws

    def _row(self, loaded: _Loaded[C], draw: int, data: bytes, width: int, height: int) -> Draw:
        return Draw(
            source=loaded.sample.source,
            key=loaded.sample.key,
            draw=draw,
            seed=self._settings.seed,
            image=data,
            path=f"{loaded.sample.key}.draw{draw}.{_SUFFIX[self._settings.output_format]}",
            width=width,
            height=height,
            source_sha256=loaded.sha256,
        )


def _failure(sample: Sample, error: ImageError) -> Failure:
    return Failure(source=sample.source, key=sample.key, stage=error.stage, error=error.error, message=error.detail)


class _Clock:
    """Seconds of wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
