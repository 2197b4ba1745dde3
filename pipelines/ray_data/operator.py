"""Samples as rows: the operator that reads chunks and decodes them, which is the first of every dataset.

A task holds one chunk's encoded bytes and one block of rows, which is given out when it has `BLOCK_BYTES`. Images are
decoded into their place in the block.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condgen.checks import check_choice
from condgen.errors import ConfigError, DatasetError, ImageError
from pipelines.datasets.chunk import CHUNK_SCHEMA, Chunk, Sample, image_member, iter_chunks, read_chunk
from pipelines.images.decoding import decode
from pipelines.images.formats import MAX_PIXELS
from pipelines.ray_data.counters import Tally, work_name
from pipelines.ray_data.pairs import iter_pairs
from pipelines.ray_data.tensors import ImageColumn, encoded_array
from pipelines.storage.store import Store
from pipelines.streaming.augmentation import Crop
from pipelines.streaming.prefetch import prefetched

__all__ = ["BLOCK_BYTES", "ChunkReader", "Decode", "Domain", "Work"]

BLOCK_BYTES = 32 << 20
"""Approximate size of a block of rows."""

_POLICIES = ("raise", "skip", "row")
_EMPTY = np.zeros((0, 0, 3), dtype=np.uint8)

ImageValue = npt.NDArray[np.uint8] | bytes
Work = tuple[Collection[tuple[Sample, ...]], list[str]]


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Options by which samples become rows.

    Attributes:
        size_px: side S of the square that images become, `[S, S, 3]`, cut from their middle and antialiased (default: 0
            keeps their size).
        min_size_px: shorter side that is enough where sizes are kept: JPEGs are decoded at an eighth, a quarter or half
            of their size as long as it stays at least this (default: 0 decodes all; `size_px` implies it).
        encoded: whether images stay the bytes that are stored.
        fields: fields of the `json` member that become columns, with their types: `{"caption": pa.string()}`. Null
            where a sample lacks one.
        on_error: treatment of a sample that can't be read or decoded: `raise` a `DatasetError`, `skip` it (the
            tally of the read function counts it by its error), or have it as a `row` whose `error` says why and whose
            images are empty, `[0, 0, 3]`.
        max_pixels: most pixels of an image; larger ones are refused by their headers.

    Raises:
        ConfigError: there is no such policy, or a size is negative.
    """

    size_px: int = 0
    min_size_px: int = 0
    encoded: bool = False
    fields: Mapping[str, pa.DataType] = field(default_factory=dict)
    on_error: str = "raise"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_choice("decode.on_error", self.on_error, _POLICIES)
        for name in ("size_px", "min_size_px"):
            if getattr(self, name) < 0:
                raise ConfigError(f"decode.{name}", getattr(self, name), "0 or more pixels")

    def image(self, data: bytes, out: npt.NDArray[np.uint8] | None = None) -> ImageValue:
        """Return one encoded image as these options say.

        Args:
            data: encoded image.
            out: array that it may be put into if it has just that shape, as in `pipelines.images.decoding.decode`.

        Raises:
            ImageError: the image can't be decoded.
        """
        if self.encoded:
            return data
        rgb = decode(data, min_size_px=self.size_px or self.min_size_px or None, max_pixels=self.max_pixels, out=out)
        return Crop(1.0, 0.5, 0.5, False).apply(rgb, self.size_px) if self.size_px else rgb


@dataclass(frozen=True)
class Domain:
    """The store that samples are read from, and the columns of images that are made of them: name and member."""

    store: Store
    member_names: Mapping[str, str]
    columns: tuple[tuple[str, str | None], ...]

    def read(self, chunks: Iterable[Chunk], *, views: bool = False) -> list[Sample]:
        return [sample for chunk in chunks for sample in read_chunk(self.store, chunk, self.member_names, views=views)]


@dataclass(frozen=True)
class ChunkReader:
    """The first operator: rows of a plan to blocks of samples."""

    domains: tuple[Domain, ...]
    decode: Decode
    tally: Tally | None

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Make blocks of samples; the next chunk is read while one is decoded."""
        with closing(prefetched(self.work(block), 1)) as work:
            yield from self.blocks(work, int(block["samples"].to_numpy().sum()))

    def blocks(self, work: Iterable[Work], samples: int) -> Iterator[pa.Table]:
        """Make blocks of samples that were read.

        Args:
            work: samples of chunks, as `work` yields them.
            samples: number of samples that may come.
        """
        rows, size_bytes = self._rows(samples), 0
        for records, names in work:
            counts = {"read": 0}
            for record in records:
                row, error = self._row(record, rows)
                if error is not None and self.decode.on_error != "row":
                    if self.decode.on_error == "raise":
                        where = " and ".join(f"{sample.source} {sample.key}" for sample in record)
                        raise DatasetError(f'{where}: {error} (Decode(on_error="skip") goes on without it)')
                    reason = f"{error.stage}: {error.error}"
                    counts[reason] = counts.get(reason, 0) + 1
                    continue
                counts["read"] += 1
                rows.add(record, row, error)
                size_bytes += rows.last_bytes
                if size_bytes >= BLOCK_BYTES:
                    samples -= len(rows)
                    yield rows.table()
                    rows, size_bytes = self._rows(samples), 0
            if self.tally is not None:
                self.tally.report(work_name("read", names), counts)
        if len(rows):
            yield rows.table()

    def work(self, block: pa.Table) -> Iterator[Work]:
        """Read the samples of each chunk, or of each pair of chunks, with names for the tally."""
        uri = self.domains[0].store.uri
        if len(self.domains) == 1:
            for chunk in iter_chunks(block.select(CHUNK_SCHEMA.names)):
                samples = self.domains[0].read([chunk], views=self.decode.encoded)
                yield [(sample,) for sample in samples], [uri, chunk.name]
            return
        for pairs in iter_pairs(block):
            inputs, targets = (
                [samples[place] for place in order]
                for samples, order in zip(map(Domain.read, self.domains, pairs.chunks), pairs.order, strict=True)
            )
            names = [chunk.name for chunks in pairs.chunks for chunk in chunks]
            yield list(zip(inputs, targets, strict=True)), [uri, *names]

    def _row(self, record: tuple[Sample, ...], rows: _Rows) -> tuple[_Row | None, ImageError | None]:
        pairs = zip(self.domains, record, strict=True)
        wanted = [(sample, *column) for domain, sample in pairs for column in domain.columns]
        try:
            images = [
                self.decode.image(image_member(sample, member), rows.place(name)) for sample, name, member in wanted
            ]
            return _Row(images, *_json_fields(record[0], self.decode.fields)), None
        except ImageError as error:
            return None, error

    def _rows(self, most: int) -> _Rows:
        names = [name for domain in self.domains for name, _ in domain.columns]
        return _Rows(names, self.decode, most, unpaired=len(self.domains) > 1)


class _Row(NamedTuple):
    images: list[ImageValue]
    text: str
    values: list[Any]


def _json_fields(sample: Sample, fields: Mapping[str, pa.DataType]) -> tuple[str, list[Any]]:
    """Return the text of a sample's `json` member, and the values of its fields.

    Raises:
        ImageError: stage ``read``: it is no JSON object, or a field is not of its type.
    """
    text = str(sample.members.get("json", b""), "utf-8", "replace")
    if not fields:
        return text, []
    try:
        found = json.loads(text) if text else {}
        return text, [pa.scalar(found.get(name), kind).as_py() for name, kind in fields.items()]
    except (ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise ImageError("read", "Fields", "the json member does not have the fields in the types asked for") from error


class _Rows:
    """A block that is being made."""

    def __init__(self, names: Sequence[str], decode: Decode, most: int, *, unpaired: bool) -> None:
        self._decode, self._unpaired = decode, unpaired
        self._names = names
        self._sources: list[list[str]] = [[], []]
        self._keys: list[list[str]] = [[], []]
        self._encoded: dict[str, list[bytes]] = {name: [] for name in names}
        self._images = {name: ImageColumn(BLOCK_BYTES // len(names), most) for name in names}
        self._text: list[str] = []
        self._values: list[list[Any]] = []
        self._errors: list[str] = []
        self.last_bytes = 0

    def __len__(self) -> int:
        return len(self._text)

    def place(self, name: str) -> npt.NDArray[np.uint8] | None:
        """Return where the next image of a column may be put."""
        return None if self._decode.encoded else self._images[name].place()

    def add(self, record: tuple[Sample, ...], row: _Row | None, error: ImageError | None) -> None:
        empty: ImageValue = b"" if self._decode.encoded else _EMPTY
        row = row or _Row([empty] * len(self._names), "", [None] * len(self._decode.fields))
        for sample, sources, keys in zip(record, self._sources, self._keys, strict=False):
            sources.append(sample.source)
            keys.append(sample.key)
        for name, image in zip(self._names, row.images, strict=True):
            if isinstance(image, np.ndarray):
                self._images[name].add(image)
            else:
                self._encoded[name].append(image)
        self._text.append(row.text)
        self._values.append(row.values)
        self._errors.append(str(error or ""))
        self.last_bytes = sum(i.nbytes if isinstance(i, np.ndarray) else len(i) for i in row.images) + len(row.text)

    def table(self) -> pa.Table:
        prefixes = ("", "target_") if self._unpaired else ("",)
        columns: dict[str, Any] = {}
        for place, prefix in enumerate(prefixes):
            columns[f"{prefix}source"] = pa.array(self._sources[place], pa.string())
            columns[f"{prefix}key"] = pa.array(self._keys[place], pa.string())
        for name in self._names:
            encoded = self._decode.encoded
            columns[name] = encoded_array(self._encoded[name]) if encoded else self._images[name].array()
        columns["json"] = pa.array(self._text, pa.string())
        for place, (name, kind) in enumerate(self._decode.fields.items()):
            columns[name] = pa.array([values[place] for values in self._values], kind)
        if self._decode.on_error == "row":
            columns["error"] = pa.array(self._errors, pa.string())
        return pa.table(columns)
