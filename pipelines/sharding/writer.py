"""The writer of one planned shard: it reads files, checks that each is an image, and stores a tar of them."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from condgen.errors import ImageError
from condgen.statistics import DatasetStatistics, count_ab
from pipelines.datasets.extent import Extent, cut_extents
from pipelines.datasets.manifest import ShardInfo
from pipelines.datasets.tar import TarWriter
from pipelines.sharding.assignment import ImageStatistics, KeyedRecord, MadeSample, ShardAssignment, ShardReceipt
from pipelines.sharding.dedup import content_digest
from pipelines.sharding.recipe import Recipe, StoredImage
from pipelines.sharding.sources import Record, RejectedFile, read_part, reject, shown
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = ["ImageCounter", "write_shard"]

_READERS = 8
_COUNTED_TOGETHER = 64


@dataclass(frozen=True)
class _Ready:
    """A sample's images, one for each part of its record, and the digest of what they were made of."""

    images: tuple[StoredImage, ...]
    sha256: str


@dataclass
class _Written:
    """A sample in the tar."""

    key: str
    start: int
    stop: int
    pixels: int


def write_shard(
    stores: tuple[Store, ...],
    dest: Store,
    shard: ShardAssignment,
    recipe: Recipe,
    threads: int = 2,
    neighbors: Neighbors | None = None,
) -> ShardReceipt:
    """Make a shard and store it; the same files give the same bytes.

    A record with a file that is no image, or a damaged one, is in the receipt's ``rejected`` and not in the tar. A
    shard of which nothing is left is not stored.

    Args:
        stores: stores of the files, as the listing numbers them.
        dest: store that the shard goes to.
        shard: shard of the plan.
        recipe: recipe by which images are stored.
        threads: number of threads that decode (default: 2).
        neighbors: what tells a file's own trouble from that of its storage (default: nothing is known yet).

    Raises:
        AccessError, StorageError: access to all files is refused, or the shard can't be stored.
        JobError: the files' storage is out.
    """
    began = time.monotonic()
    neighbors = neighbors or Neighbors()
    tar, counter = TarWriter(), ImageCounter()
    written: list[_Written] = []
    made: list[MadeSample] = []
    rejected: list[RejectedFile] = []
    members = Counter[str]()
    # More readers than decoders would be idle on a disk and are needed for object storage, where a read is a wait.
    workers = max(threads, min(_READERS, len(shard.samples)))
    with ThreadPoolExecutor(workers, thread_name_prefix="shard") as pool:
        found = pool.map(lambda sample: _prepare(stores, sample, recipe, neighbors), shard.samples)
        for sample, ready in zip(shard.samples, found, strict=True):
            if isinstance(ready, RejectedFile):
                rejected.append(ready)
                continue
            written.append(_add(tar, sample, ready, members))
            image = ready.images[-1]
            made.append(MadeSample(sample.key, ready.sha256, image.info.width, image.info.height))
            counter.add(image)
    return ShardReceipt(
        name=shard.name,
        info=_store(tar, dest, shard, len(written)) if written else None,
        runs=tuple(_runs(shard.name, tar, written)),
        samples=tuple(made),
        members=members,
        rejected=tuple(rejected),
        statistics=counter.finish(),
        seconds=time.monotonic() - began,
    )


def _prepare(
    stores: tuple[Store, ...], sample: KeyedRecord, recipe: Recipe, neighbors: Neighbors
) -> _Ready | RejectedFile:
    datas: dict[tuple[Any, ...], bytes] = {}
    images = []
    for part in sample.record.parts:
        try:
            place = (part.store, part.name, part.row, part.column)
            if place not in datas:  # both halves of an image are in one file
                datas[place] = read_part(stores, part, neighbors)
            images.append(recipe.apply(datas[place], part.half))
        except ImageError as error:
            which = f"{part.member}: " if part.member else ""
            return reject(sample.record.name, sample.key, error.stage, error.error, which + error.detail)
    return _Ready(tuple(images), content_digest(list(datas.values())))


class ImageCounter:
    """A counter of images. It counts the colors of many at once: torch's calls cost more than its work."""

    def __init__(self) -> None:
        self._sizes = Counter[tuple[int, int]]()
        self._modes = Counter[str]()
        self._rgb_sum = np.zeros(3)
        self._colors = DatasetStatistics()
        self._waiting: list[Any] = []

    def add(self, image: StoredImage) -> None:
        """Count one image."""
        self._sizes[image.info.width, image.info.height] += 1
        self._modes[image.info.mode] += 1
        self._rgb_sum += image.small.mean(axis=(0, 1), dtype=np.float64)
        self._waiting.append(image.small.reshape(-1, 3))
        if len(self._waiting) == _COUNTED_TOGETHER:
            self._count()

    def finish(self) -> ImageStatistics:
        """Return the counts."""
        self._count()
        red, green, blue = (float(value) for value in self._rgb_sum)
        return ImageStatistics(self._sizes, self._modes, (red, green, blue), self._colors)

    def _count(self) -> None:
        if not self._waiting:
            return
        import torch

        from condgen.color.lab import rgb_to_lab

        pixels = torch.from_numpy(np.concatenate(self._waiting))
        ab = rgb_to_lab((pixels.float() / 255).T.reshape(3, 1, -1))[1:]
        part = DatasetStatistics(num_samples=len(self._waiting), ab_histogram=count_ab(ab.numpy()))
        self._colors += part
        self._waiting = []


def _add(tar: TarWriter, sample: KeyedRecord, ready: _Ready, members: Counter[str]) -> _Written:
    spans = []
    pixels = 0
    for part, image in zip(sample.record.parts, ready.images, strict=True):
        member = f"{part.member}.{image.extension}".lstrip(".")
        spans.append(tar.add(f"{sample.key}.{member}", image.data))
        members[member] += 1
        pixels += image.info.width * image.info.height
    text = json.dumps(_facts(sample.record, ready), ensure_ascii=False, sort_keys=True, default=str)
    spans.append(tar.add(f"{sample.key}.json", text.encode()))
    members["json"] += 1
    return _Written(sample.key, spans[0][0], spans[-1][1], pixels)


def _store(tar: TarWriter, dest: Store, shard: ShardAssignment, samples: int) -> ShardInfo:
    data = tar.finish()
    dest.write(shard.name, data)
    return ShardInfo(
        name=shard.name,
        split=shard.split,
        samples=samples,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        generation=shard.generation,
    )


def _facts(record: Record, ready: _Ready) -> dict[str, Any]:
    """Return a sample's JSON; of a pair, the target's facts are its own, and the input's are under ``input``."""
    facts: dict[str, Any] = {**record.about}
    for part, image in zip(record.parts, ready.images, strict=True):
        own = {
            "source": record.name if len(record.parts) == 1 else shown(part.name),
            "width": image.info.width,
            "height": image.info.height,
            "sha256": hashlib.sha256(image.data).hexdigest(),
        }
        facts |= {"input": own} if part.member == "input" else own
    return facts


def _runs(shard: str, tar: TarWriter, written: list[_Written]) -> list[Extent]:
    return [
        Extent(
            shard=shard,
            start=group[0].start,
            stop=group[-1].stop,
            samples=len(group),
            pixels=sum(item.pixels for item in group),
            first_key=group[0].key,
            last_key=group[-1].key,
            sha256=hashlib.sha256(tar.piece(group[0].start, group[-1].stop)).hexdigest(),
        )
        for group in cut_extents(written)
    ]
