"""Make one shard of a plan: read its files, check that each is a picture, and store a tar of them."""

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
from pipelines.datasets.manifest import ShardInfo
from pipelines.datasets.run import Run, cut_runs
from pipelines.datasets.tar import TarWriter
from pipelines.sharding.dedup import content_digest
from pipelines.sharding.plan import MadeSample, PictureStatistics, PlannedSample, PlannedShard, ShardReceipt
from pipelines.sharding.recipe import Picture, Recipe
from pipelines.sharding.sources import Record, Rejected, read_part, reject, shown
from pipelines.storage.store import Store

__all__ = ["PictureCounter", "write_shard"]

_READERS = 8
_COUNTED_TOGETHER = 64


@dataclass(frozen=True)
class _Ready:
    """A sample's pictures, one for each part of its record, and the digest of what they were made of."""

    pictures: tuple[Picture, ...]
    sha256: str


@dataclass
class _Written:
    """A sample in the tar."""

    key: str
    start: int
    stop: int
    pixels: int


def write_shard(
    stores: tuple[Store, ...], dest: Store, shard: PlannedShard, recipe: Recipe, threads: int = 2
) -> ShardReceipt:
    """Make a shard and store it; the same files give the same bytes.

    A record with a file that is no picture, or a damaged one, is in the receipt's ``rejected`` and not in the tar. A
    shard of which nothing is left is not stored.

    Args:
        stores: where the files are, as the listing numbers them.
        dest: where the shard goes.
        shard: of the plan.
        recipe: what becomes of a picture.
        threads: that decode.

    Raises:
        AccessError, StorageError: files that can't be read, or a shard that can't be stored.
    """
    began = time.monotonic()
    tar, counter = TarWriter(), PictureCounter()
    written: list[_Written] = []
    made: list[MadeSample] = []
    rejected: list[Rejected] = []
    members = Counter[str]()
    # More readers than decoders would be idle on a disk and are needed for object storage, where a read is a wait.
    workers = max(threads, min(_READERS, len(shard.samples)))
    with ThreadPoolExecutor(workers, thread_name_prefix="shard") as pool:
        found = pool.map(lambda sample: _prepare(stores, sample, recipe), shard.samples)
        for sample, ready in zip(shard.samples, found, strict=True):
            if isinstance(ready, Rejected):
                rejected.append(ready)
                continue
            written.append(_add(tar, sample, ready, members))
            picture = ready.pictures[-1]
            made.append(MadeSample(sample.key, ready.sha256, picture.info.width, picture.info.height))
            counter.add(picture)
    info = None
    if written:
        data = tar.finish()
        dest.write(shard.name, data)
        info = ShardInfo(
            name=shard.name,
            split=shard.split,
            samples=len(written),
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            generation=shard.generation,
        )
    return ShardReceipt(
        name=shard.name,
        info=info,
        runs=tuple(_runs(shard.name, tar, written)),
        samples=tuple(made),
        members=members,
        rejected=tuple(rejected),
        statistics=counter.finish(),
        seconds=time.monotonic() - began,
    )


def _prepare(stores: tuple[Store, ...], sample: PlannedSample, recipe: Recipe) -> _Ready | Rejected:
    datas: dict[tuple[Any, ...], bytes] = {}
    pictures = []
    for part in sample.record.parts:
        try:
            place = (part.store, part.name, part.row, part.column)
            if place not in datas:  # both halves of a picture are in one file
                datas[place] = read_part(stores, part)
            pictures.append(recipe.cook(datas[place], part.half))
        except ImageError as error:
            which = f"{part.member}: " if part.member else ""
            return reject(sample.record.name, sample.key, error.stage, error.error, which + error.detail)
    return _Ready(tuple(pictures), content_digest(list(datas.values())))


class PictureCounter:
    """Counts pictures; their colours a lot at a time: one by one, torch's calls cost more than its work."""

    def __init__(self) -> None:
        self._sizes = Counter[tuple[int, int]]()
        self._modes = Counter[str]()
        self._rgb_sum = np.zeros(3)
        self._colours = DatasetStatistics()
        self._waiting: list[Any] = []

    def add(self, picture: Picture) -> None:
        """Count one."""
        self._sizes[picture.info.width, picture.info.height] += 1
        self._modes[picture.info.mode] += 1
        self._rgb_sum += picture.small.mean(axis=(0, 1), dtype=np.float64)
        self._waiting.append(picture.small.reshape(-1, 3))
        if len(self._waiting) == _COUNTED_TOGETHER:
            self._count()

    def finish(self) -> PictureStatistics:
        """Return the counts."""
        self._count()
        red, green, blue = (float(value) for value in self._rgb_sum)
        return PictureStatistics(self._sizes, self._modes, (red, green, blue), self._colours)

    def _count(self) -> None:
        if not self._waiting:
            return
        import torch

        from condgen.color.lab import rgb_to_lab

        pixels = torch.from_numpy(np.concatenate(self._waiting))
        ab = rgb_to_lab((pixels.float() / 255).T.reshape(3, 1, -1))[1:]
        part = DatasetStatistics(num_samples=len(self._waiting), ab_histogram=count_ab(ab.numpy()))
        self._colours += part
        self._waiting = []


def _add(tar: TarWriter, sample: PlannedSample, ready: _Ready, members: Counter[str]) -> _Written:
    spans = []
    pixels = 0
    for part, picture in zip(sample.record.parts, ready.pictures, strict=True):
        member = f"{part.member}.{picture.extension}".lstrip(".")
        spans.append(tar.add(f"{sample.key}.{member}", picture.data))
        members[member] += 1
        pixels += picture.info.width * picture.info.height
    text = json.dumps(_facts(sample.record, ready), ensure_ascii=False, sort_keys=True, default=str)
    spans.append(tar.add(f"{sample.key}.json", text.encode()))
    members["json"] += 1
    return _Written(sample.key, spans[0][0], spans[-1][1], pixels)


def _facts(record: Record, ready: _Ready) -> dict[str, Any]:
    """Return a sample's JSON; of a pair, the target's facts are its own, and the input's are under ``input``."""
    facts: dict[str, Any] = {**record.about}
    for part, picture in zip(record.parts, ready.pictures, strict=True):
        own = {
            "source": record.name if len(record.parts) == 1 else shown(part.name),
            "width": picture.info.width,
            "height": picture.info.height,
            "sha256": hashlib.sha256(picture.data).hexdigest(),
        }
        facts |= {"input": own} if part.member == "input" else own
    return facts


def _runs(shard: str, tar: TarWriter, written: list[_Written]) -> list[Run]:
    return [
        Run(
            shard=shard,
            start=group[0].start,
            stop=group[-1].stop,
            samples=len(group),
            pixels=sum(item.pixels for item in group),
            first_key=group[0].key,
            last_key=group[-1].key,
            sha256=hashlib.sha256(tar.piece(group[0].start, group[-1].stop)).hexdigest(),
        )
        for group in cut_runs(written)
    ]
