"""The index of shards that were made elsewhere, one shard at a time, with the statistics of their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from condgen.errors import ImageError
from pipelines.datasets.scan import ShardScan, scan_shard
from pipelines.datasets.tar import Member, SampleSpan, renamed
from pipelines.images.decoding import decode, probe
from pipelines.images.formats import EXTENSIONS, MAX_PIXELS
from pipelines.sharding.assignment import ImageStatistics
from pipelines.sharding.recipe import STATISTICS_SIZE_PX, StoredImage, shrunk
from pipelines.sharding.writer import ImageCounter
from pipelines.storage.store import Store

__all__ = ["IndexedShard", "index_shard"]


@dataclass(frozen=True)
class IndexedShard:
    """A shard that was scanned, and the counts of its images (of pairs, of the targets) that can be decoded.

    `reason` says why the first that can't be decoded can't.
    """

    scan: ShardScan
    statistics: ImageStatistics
    undecodable: int
    reason: str = ""


def index_shard(store: Store, name: str, member_names: Mapping[str, str], statistics: bool) -> IndexedShard:
    """Read a shard once: its runs with their checksums and, where asked for, statistics of its images.

    Raises:
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    counter = ImageCounter()
    undecodable, reason = 0, ""

    def visit(spans: list[SampleSpan], data: bytes) -> int:
        nonlocal undecodable, reason
        pixels = 0
        for span in spans:
            members = renamed(span.members, member_names)
            target = _target(members)
            for member, place in members.items():
                if member.rpartition(".")[2] not in EXTENSIONS:
                    continue
                begin = place.data_start - spans[0].start
                piece = data[begin : begin + place.size_bytes]
                try:
                    info = probe(piece, max_pixels=MAX_PIXELS)
                    if member == target:
                        small = shrunk(np.asarray(decode(piece, min_size_px=STATISTICS_SIZE_PX)))
                        counter.add(StoredImage(b"", info, small))
                except ImageError as error:
                    undecodable += 1
                    reason = reason or f"{name} {span.key}: {error}"
                    continue
                pixels += info.width * info.height
        return pixels

    scan = scan_shard(store, name, visit=visit if statistics else None)
    return IndexedShard(scan, counter.finish(), undecodable, reason)


def _target(members: Mapping[str, Member]) -> str | None:
    images = [name for name in members if name.rpartition(".")[2] in EXTENSIONS]
    return next((name for name in images if name.startswith("target.")), images[0] if images else None)
