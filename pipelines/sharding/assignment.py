"""From a source's records to a plan of shards, and from the shards' receipts to a manifest: pure functions.

What decides the bytes of a dataset is the listing (names, sizes, captions, labels), the files, the options, and what
the dataset holds already; not the order in which shards are made, nor by how many workers.
``pipelines.sharding.writer`` makes one shard of a plan.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from condgen.statistics import DatasetStatistics
from pipelines.datasets.extent import Extent
from pipelines.datasets.manifest import Manifest, ShardInfo
from pipelines.sharding.options import ShardOptions
from pipelines.sharding.sources import Listing, Record, RejectedFile
from pipelines.storage.object_names import unescape_name

__all__ = [
    "ImageStatistics",
    "KeyedRecord",
    "MadeSample",
    "ShardAssignment",
    "ShardReceipt",
    "assign_keys",
    "cut_shards",
    "input_digest",
    "make_manifest",
    "safe_key",
    "split_share",
]

_VERSION = 2
"""Version of what decides the bytes; with another one, the same input is another dataset."""

_UNSAFE = re.compile("[\x00-\x1f\x7f%\\\\\ud800-\udfff]")
_UNSAFE_STEM = re.compile("[\x00-\x1f\x7f%\\\\.\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class KeyedRecord:
    """A record with its key and its split."""

    key: str
    split: str
    record: Record


@dataclass(frozen=True, slots=True)
class ShardAssignment:
    """One row of the plan: a shard's name, its split, its generation, and its samples in order."""

    name: str
    split: str
    samples: tuple[KeyedRecord, ...]
    generation: int = 0


@dataclass(frozen=True)
class ImageStatistics:
    """Counts over images; parts add up with ``+``.

    Attributes:
        sizes: images by (width, height).
        modes: images by Pillow's mode, as stored: ``RGB``, ``L``, ``CMYK``.
        rgb_sum: ``[3]`` float64, sum over images of their mean color, 0 to 255.
        colors: the ab histogram.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    rgb_sum: tuple[float, float, float] = (0.0, 0.0, 0.0)
    colors: DatasetStatistics = field(default_factory=DatasetStatistics)

    def __add__(self, other: ImageStatistics) -> ImageStatistics:
        red, green, blue = (a + b for a, b in zip(self.rgb_sum, other.rgb_sum, strict=True))
        return ImageStatistics(
            self.sizes + other.sizes, self.modes + other.modes, (red, green, blue), self.colors + other.colors
        )

    def to_json(self, counted: DatasetStatistics) -> dict[str, Any]:
        """Return the statistics as a manifest holds them, with the colors that models are fitted to."""
        samples = max(1, sum(self.sizes.values()))
        return {
            "sizes": _size_summary(self.sizes),
            "modes": dict(sorted(self.modes.items())),
            "mean_rgb": [round(value / samples, 3) for value in self.rgb_sum],
            "rgb_sum": list(self.rgb_sum),
            "train": json.loads(counted.to_json()),
        }


@dataclass(frozen=True, slots=True)
class MadeSample:
    """A sample in a shard: its key, the SHA-256 of its source's bytes, and the size of its (target) image."""

    key: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class ShardReceipt:
    """Receipt of a planned shard that was made.

    Attributes:
        name: name of the shard.
        info: facts for the manifest; None where none of its records became a sample.
        runs: runs of its samples.
        samples: its samples, in order.
        members: number of samples that have a member of each name.
        rejected: records that are not in it.
        statistics: statistics of its images, of pairs of the target.
        seconds: time that it took.
    """

    name: str
    info: ShardInfo | None
    runs: tuple[Extent, ...]
    samples: tuple[MadeSample, ...]
    members: Mapping[str, int]
    rejected: tuple[RejectedFile, ...]
    statistics: ImageStatistics
    seconds: float


def safe_key(stem: str) -> str:
    """Return a file's path without its extension as a key.

    Folders and their slashes stay. Dots of the last part (a key ends at its first), percent signs, backslashes,
    control characters and bytes that are no text are written as ``%2E``, so that no two paths have the same key; so are
    folders of dots, and ``%2F`` is one without a name.
    """
    *folders, last = unescape_name(stem).split("/")
    parts = [_DOTS.get(folder) or _UNSAFE.sub(_percent, folder) for folder in folders]
    return "/".join([*parts, _UNSAFE_STEM.sub(_percent, last) or _DOTS[""]])


_DOTS = {"": "%2F", ".": "%2E", "..": "%2E%2E"}
"""Parts of paths that a tar can't have, as keys have them."""


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogateescape"))


def split_share(stem_key: str) -> float:
    """Return where in [0, 1) a key falls: the first 53 bits of its SHA-256."""
    return (int.from_bytes(hashlib.sha256(stem_key.encode()).digest()[:8], "big") >> 11) / 2.0**53


def _split_at(share: float, split: Mapping[str, float]) -> str:
    bound = 0.0
    for name, part in split.items():
        bound += part
        if share < bound:
            return name
    return next(reversed(dict(split)))  # shares that add up to a little less than 1


def assign_keys(
    listing: Listing, options: ShardOptions, known: Collection[str] = (), taken: Collection[str] = ()
) -> list[KeyedRecord]:
    """Return the records that are new, each with its key and its split.

    A record's key is its name without the extension. Where several have the same (``a.jpg``, ``a.png``), the first by
    name keeps it and the others get theirs with the extension (``a%2Epng``); all go to the same split.

    Args:
        listing: listing of the source.
        options: options with the splits.
        known: names of records that the dataset has.
        taken: keys that it has.
    """
    used = set(taken)
    samples = []
    for record in listing.records:
        if record.name in known:
            continue
        key = safe_key(record.stem)
        split = _split_at(split_share(key), options.split)
        while key in used:
            key = f"{key}%2E{record.extension or '2'}"
        used.add(key)
        samples.append(KeyedRecord(key, split, record))
    return samples


def cut_shards(
    samples: Sequence[KeyedRecord], options: ShardOptions, *, in_order: bool = False, grown: Manifest | None = None
) -> list[ShardAssignment]:
    """Cut samples into shards.

    Samples are in the order of their keys' hashes, so that a shard is a random part of its split; or in the source's
    order where that is much faster to read. A growth begins new shards, numbered after those that are there.
    """
    ordered = samples if in_order else sorted(samples, key=lambda item: hashlib.sha256(item.key.encode()).digest())
    shards: list[ShardAssignment] = []
    for split in options.split:
        numbers = [int(info.name[-10:-4]) for info in grown.shards if info.split == split] if grown else []
        first = max(numbers, default=-1) + 1
        generation = grown.generation + 1 if grown else 0
        for index, group in enumerate(_cut([item for item in ordered if item.split == split], options), first):
            shards.append(ShardAssignment(f"{split}-{index:06d}.tar", split, tuple(group), generation))
    return shards


def _cut(samples: Sequence[KeyedRecord], options: ShardOptions) -> Iterator[list[KeyedRecord]]:
    group: list[KeyedRecord] = []
    size = 0
    for sample in samples:
        full = len(group) == options.samples_per_shard or size + sample.record.size_bytes > options.shard_bytes
        if group and full:
            yield group
            group, size = [], 0
        group.append(sample)
        size += sample.record.size_bytes
    if group:
        yield group


def input_digest(listing: Listing, options: ShardOptions) -> str:
    """Return the digest of all that decides a dataset's bytes, but for the bytes of the files."""
    facts = [_VERSION, listing.kind, dict(listing.options), asdict(options)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for record in listing.records:
        row = [record.name, record.stem, [(part.name, part.size_bytes) for part in record.parts], dict(record.about)]
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    for rejected in listing.rejected:
        digest.update(json.dumps([rejected.source, rejected.error]).encode())
    return digest.hexdigest()


def make_manifest(
    listing: Listing,
    options: ShardOptions,
    receipts: Sequence[ShardReceipt],
    rejected: Sequence[RejectedFile],
    grown: Manifest | None = None,
    old_sizes: Mapping[tuple[int, int], int] | None = None,
) -> Manifest:
    """Return the manifest of a dataset, without its index, from the receipts of its new shards, in the plan's order.

    Args:
        listing: listing of the source.
        options: options that the shards were made with.
        receipts: receipts of the new shards.
        rejected: files and records that are in no shard.
        grown: manifest of the generation before (default: there is none).
        old_sizes: number of that generation's images, by (width, height).
    """
    old = grown or Manifest(kind=listing.kind, shards=(), generation=-1)
    members = Counter(old.members)
    counted = old.train_statistics() or DatasetStatistics()
    red, green, blue = old.statistics.get("rgb_sum", (0.0, 0.0, 0.0))
    total = ImageStatistics(Counter(old_sizes or {}), Counter(old.statistics.get("modes", {})), (red, green, blue))
    for receipt in receipts:
        members.update(receipt.members)
        total += receipt.statistics
        if receipt.info is not None and (receipt.info.split == "train" or "train" not in options.split):
            counted += receipt.statistics.colors
    splits = list(options.split)
    infos = [*old.shards, *(receipt.info for receipt in receipts if receipt.info is not None)]
    return Manifest(
        kind=listing.kind,
        shards=tuple(sorted(infos, key=lambda info: (splits.index(info.split), info.name))),
        members=dict(sorted(members.items())),
        rejected=dict(sorted(Counter(row.error for row in rejected).items())),
        runs=old.runs + sum(len(receipt.runs) for receipt in receipts),
        input_sha256=input_digest(listing, options),
        options={**asdict(options), **listing.options},
        statistics=total.to_json(counted),
        generation=old.generation + 1,
    )


def _size_summary(sizes: Mapping[tuple[int, int], int]) -> dict[str, Any]:
    """Return min, median and max of widths, heights and pixels; the median is the lower one."""
    if not sizes:
        return {}
    counts = np.array(list(sizes.values()))
    summary = {}
    for name, values in (
        ("width", [width for width, _ in sizes]),
        ("height", [height for _, height in sizes]),
        ("pixels", [width * height for width, height in sizes]),
    ):
        order = np.argsort(values, kind="stable")
        middle = int(np.searchsorted(np.cumsum(counts[order]), (counts.sum() + 1) // 2))
        summary[name] = {"min": min(values), "median": values[order[middle]], "max": max(values)}
    return summary
