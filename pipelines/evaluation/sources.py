"""The sources of answers: finished results, or a model that makes them now. Both give the same for the same plan.

Results are read as `condgen colorize` and `translate` wrote them; a model's draws are made by the same engine, encoded
as it would have written them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from condgen.errors import DatasetError, ImageError
from pipelines.batch.engine import ChunkEngine
from pipelines.batch.worker import WorkerSpec
from pipelines.datasets.chunk import Chunk, Sample, image_member, read_chunk
from pipelines.evaluation.references import References, input_image, reference_image, with_member
from pipelines.results.files import Failure, draws_name, read_footer
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.parquet import open_parquet
from pipelines.storage.store import Store

__all__ = ["AnswerReader", "AnswerSource", "Item", "ModelAnswers", "StoredAnswers", "UnmeasuredImage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image to be measured, everything as encoded bytes.

    Attributes:
        source, key: identity of the image that was answered for.
        reference: the true image.
        answers: K images for each name (`draws`, `point`).
        input: image that the model was given, where it is not the reference itself.
    """

    source: str
    key: str
    reference: bytes
    answers: Mapping[str, Sequence[bytes]]
    input: bytes | None = None


@dataclass(frozen=True, slots=True)
class UnmeasuredImage:
    """An image that can't be measured, and why: `no draws`, `no reference`, or the stage of an error."""

    source: str
    key: str
    reason: str


Read: TypeAlias = Item | UnmeasuredImage


class AnswerReader(Protocol):
    """A worker's reader of the answers of one chunk after the other."""

    def read(self, chunk: Chunk) -> Iterator[Read]:
        """Yield all images of a chunk, in data order.

        Raises:
            DatasetError, StorageError: the answers can't be read.
        """


class AnswerSource(Protocol):
    """A source of answers: plain data, which travels to workers."""

    def open(self) -> AnswerReader:
        """Return the reader, with all that it needs in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswers:
    """Answers of finished results; it reads them itself.

    Attributes:
        results: store of the results, see `pipelines.results.files`.
        name: name of the answers, `draws` or `point`.
        draws: K.
        references: places of the true images.
        inputs: the archive that the results were made from, where it is not the reference.
        member: name of the member of it that was the input (default: the only one that is an image).
    """

    results: Store
    name: str
    draws: int
    references: References
    inputs: Store | None = None
    member: str = ""

    def open(self) -> StoredAnswers:
        """See `AnswerSource.open`."""
        return self

    def read(self, chunk: Chunk) -> Iterator[Read]:
        """See `AnswerReader.read`."""
        name = draws_name(chunk.name)
        facts = read_footer(self.results, name)
        without = {one["place"]: one for one in (*facts["errors"], *facts["filtered"])}
        for place in sorted(without):
            yield UnmeasuredImage(without[place]["source"], without[place]["key"], "no draws")
        places = [place for place in chunk.places if place not in without]
        with open_parquet(self.results, name) as file:
            if file.metadata.num_rows != len(places) * self.draws:
                raise DatasetError(f"{self.results.locate(name)} lacks draws: see condgen verify {self.results.uri}")
            names = file.read(columns=["key"])["key"].to_pylist()[:: self.draws]
            samples = self.references.find(chunk, places, names)
            inputs = self._inputs(chunk, places)
            for sample, own, rows in zip(samples, inputs, self._rows(file), strict=True):
                yield _stored_item(rows, sample, own, self.name)

    def _rows(self, file: Any) -> Iterator[list[dict[str, Any]]]:
        """Yield the K rows of each image, read a row group at a time."""
        rows: list[dict[str, Any]] = []
        for group in range(file.num_row_groups):
            rows += file.read_row_group(group, columns=["source", "key", "draw", "image"]).to_pylist()
            while len(rows) >= self.draws:
                yield rows[: self.draws]
                del rows[: self.draws]

    def _inputs(self, chunk: Chunk, places: Sequence[int]) -> Sequence[Sample | None]:
        if self.inputs is None:
            return [None] * len(places)
        samples = dict(zip(chunk.places, read_chunk(self.inputs, chunk, neighbors=Neighbors()), strict=True))
        return [with_member(samples[place], self.member) for place in places]


def _stored_item(rows: Sequence[Mapping[str, Any]], sample: Sample | None, own: Sample | None, name: str) -> Read:
    source, key = rows[0]["source"], rows[0]["key"]
    if sample is None:
        return UnmeasuredImage(source, key, "no reference")
    try:
        return Item(
            source=source,
            key=key,
            reference=reference_image(sample),
            answers={name: [row["image"]["bytes"] for row in rows]},
            input=image_member(own) if own is not None else input_image(sample),
        )
    except ImageError as error:
        return UnmeasuredImage(source, key, error.stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswers:
    """Answers that a model makes of a dataset's images while they are measured.

    Attributes:
        workers: specifications of engines, by the names of their answers (`draws`, `point`).
        member_names: members of the dataset, see `pipelines.datasets.chunk.read_chunk`.
    """

    workers: Mapping[str, WorkerSpec]
    member_names: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> _ModelReader:
        """See `AnswerSource.open`."""
        archive = next(iter(self.workers.values())).archive
        engines = {name: worker.make_engine() for name, worker in self.workers.items()}
        return _ModelReader(archive, engines, self.member_names)


@dataclass(frozen=True, slots=True)
class _ModelReader:
    archive: Store
    engines: Mapping[str, ChunkEngine[Any]]
    member_names: Mapping[str, str]

    def read(self, chunk: Chunk) -> Iterator[Read]:
        """See `AnswerReader.read`."""
        pairs: dict[int, tuple[Sample, bytes, bytes | None]] = {}
        for place, sample in enumerate(read_chunk(self.archive, chunk, self.member_names, Neighbors())):
            try:
                pairs[place] = (sample, reference_image(sample), input_image(sample))
            except ImageError as error:
                yield UnmeasuredImage(sample.source, sample.key, error.stage)
        placed = [(place, _given(sample, data)) for place, (sample, _, data) in pairs.items()]
        outcomes = {name: engine.outcomes(placed) for name, engine in self.engines.items()}
        for place, (sample, reference, data) in pairs.items():
            answers: dict[str, list[bytes]] = {}
            reason = "no draws"
            for name, of_engine in outcomes.items():
                outcome = of_engine[place]
                if isinstance(outcome, list):
                    answers[name] = [draw.image for draw in outcome]
                elif isinstance(outcome, Failure):
                    reason = outcome.stage
            if len(answers) == len(outcomes):
                yield Item(source=sample.source, key=sample.key, reference=reference, answers=answers, input=data)
            else:
                yield UnmeasuredImage(sample.source, sample.key, reason)


def _given(sample: Sample, data: bytes | None) -> Sample:
    """Return the sample as the engine takes it: with one image, which of a pair is the input."""
    if data is None:
        return sample
    others = {
        name: value for name, value in sample.members.items() if name.partition(".")[0] not in ("input", "target")
    }
    return replace(sample, members={**others, "input.bin": data})
