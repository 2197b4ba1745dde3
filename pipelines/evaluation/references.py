"""The place of each answer's true image: in the archive that it was made from, or under its key elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.datasets.chunk import Chunk, Sample, image_member, iter_chunks, read_chunk
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = ["KEYS_SCHEMA", "ArchiveReferences", "KeyedReferences", "References", "input_image", "reference_image"]

KEYS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("chunk", pa.int32(), nullable=False),
        pa.field("place", pa.int32(), nullable=False),
    ]
)
"""Where the image of a key is: which of the reference's chunks, and at which place in it."""


class References(Protocol):
    """Finds true images; plain data, which travels to workers."""

    def find(self, chunk: Chunk, places: Sequence[int], keys: Sequence[str]) -> Sequence[Sample | None]:
        """Return the reference of each of a chunk's samples, None where there is none.

        Args:
            chunk: chunk of the results' plan.
            places: places in the chunk of the samples that are wanted.
            keys: theirs, in the same order.
        """


@dataclass(frozen=True, slots=True)
class ArchiveReferences:
    """The references are the images that the results were made from: the same chunks of the same archive.

    Attributes:
        archive: store of the images.
        member: name of the member that was colorized (default: the only one that is an image).
    """

    archive: Store
    member: str = ""

    def find(self, chunk: Chunk, places: Sequence[int], keys: Sequence[str]) -> Sequence[Sample | None]:  # noqa: ARG002
        """See `References.find`."""
        return [with_member(sample, self.member) for sample in _read(self.archive, chunk, places, {})]


@dataclass(frozen=True, slots=True)
class KeyedReferences:
    """The references have the same keys as the results' images, and lie elsewhere.

    Attributes:
        store: store of the images.
        chunks: chunks of the images, in `pipelines.datasets.chunk.CHUNK_SCHEMA`.
        keys: table in `KEYS_SCHEMA`; each key once.
        member_names: members of a dataset, see `pipelines.datasets.chunk.read_chunk`.
    """

    store: Store
    chunks: pa.Table
    keys: pa.Table
    member_names: Mapping[str, str]

    def find(self, chunk: Chunk, places: Sequence[int], keys: Sequence[str]) -> Sequence[Sample | None]:  # noqa: ARG002
        """See `References.find`."""
        rows = pc.index_in(pa.array(keys, pa.string()), value_set=self.keys["key"]).to_pylist()
        found: list[Sample | None] = [None] * len(keys)
        wanted: dict[int, list[tuple[int, int]]] = {}
        for at, row in enumerate(rows):
            if row is not None:
                its_chunk, place = self.keys["chunk"][row].as_py(), self.keys["place"][row].as_py()
                wanted.setdefault(its_chunk, []).append((place, at))
        for number, pairs in sorted(wanted.items()):
            (its,) = iter_chunks(self.chunks.slice(number, 1))
            samples = _read(self.store, its, [place for place, _ in pairs], self.member_names)
            for (_, at), sample in zip(pairs, samples, strict=True):
                found[at] = sample
        return found


def _read(store: Store, chunk: Chunk, places: Sequence[int], member_names: Mapping[str, str]) -> list[Sample]:
    """Read the samples at some places of a chunk, in their order, each place once."""
    select = tuple(sorted(set(places)))
    part = replace(chunk, select=select, samples=len(select))
    by_place = dict(zip(select, read_chunk(store, part, member_names, Neighbors()), strict=True)) if select else {}
    return [by_place[place] for place in places]


def with_member(sample: Sample, member: str) -> Sample:
    """Return a sample of which one member is left, if one is named."""
    if not member or sample.fault is not None:
        return sample
    members = {name: data for name, data in sample.members.items() if name == member or name.startswith(f"{member}.")}
    return replace(sample, members=members)


def reference_image(sample: Sample) -> bytes:
    """Return the encoded true image: the member `target` of a pair, or the only image.

    Raises:
        ImageError: its fault, or that there is no such member.
    """
    return image_member(sample, "target" if _is_pair(sample) else None)


def input_image(sample: Sample) -> bytes | None:
    """Return the encoded input of a pair, None for a sample of one image.

    Raises:
        ImageError: there are several inputs.
    """
    return image_member(sample, "input") if _is_pair(sample) else None


def _is_pair(sample: Sample) -> bool:
    if sample.fault is not None:
        raise sample.fault
    return {"input", "target"} <= {member.partition(".")[0] for member in sample.members}
