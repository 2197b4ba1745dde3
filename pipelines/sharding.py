"""From a listing of images to a plan of shards, and from the shards' receipts to a manifest: pure functions.

What decides the bytes of a dataset is the listing (names and sizes), the files and the options; not the order in which
shards are made, nor by how many workers. ``pipelines.shard_writer`` makes one shard of a plan.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from condgen.errors import ConfigError
from condgen.statistics import DatasetStatistics
from pipelines.datasets import Manifest, Run, ShardInfo
from pipelines.images import EXTENSIONS, MAX_PIXELS
from pipelines.storage import Entry

__all__ = [
    "PictureStatistics",
    "PlannedShard",
    "Rejected",
    "ShardOptions",
    "ShardPlan",
    "ShardReceipt",
    "SourceFile",
    "make_manifest",
    "plan_shards",
    "safe_key",
    "split_share",
]

_VERSION = 1
"""Of what decides the bytes; with another one, the same input is another dataset."""

_SPLIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_UNSAFE = re.compile("[\x00-\x1f\x7f%\\\\\ud800-\udfff]")
_UNSAFE_STEM = re.compile("[\x00-\x1f\x7f%\\\\.\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How a dataset is cut.

    Attributes:
        split: the share of each split, in the order of the hash; they add up to 1.
        samples_per_shard: most samples in a shard.
        shard_bytes: most bytes of images in a shard of more than one sample.
        max_pixels: larger images are rejected.
    """

    split: Mapping[str, float] = field(default_factory=lambda: {"train": 1.0})
    samples_per_shard: int = 1000
    shard_bytes: int = 256 << 20
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name, share in self.split.items():
            if not _SPLIT_NAME.fullmatch(name):
                raise ConfigError("split", name, "names of lower-case letters, digits and _, such as train")
            if not 0 < share <= 1:
                raise ConfigError(f"split.{name}", share, "a share above 0, at most 1")
        if abs(sum(self.split.values()) - 1) > 1e-6:
            raise ConfigError("split", dict(self.split), "shares that add up to 1, such as train=0.9,test=0.1")
        if self.samples_per_shard < 1:
            raise ConfigError("samples_per_shard", self.samples_per_shard, "1 or more")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that is to become a sample: its name in the source, its size, and its key."""

    name: str
    size_bytes: int
    key: str


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """One row of the plan: a shard's name, its split, and its samples in order."""

    name: str
    split: str
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A file of the source that is in no shard, and why; a row of ``rejected.parquet``."""

    source: str
    key: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True)
class ShardPlan:
    """All shards of a dataset, what is rejected by its name alone, and the digest of the input."""

    shards: tuple[PlannedShard, ...]
    rejected: tuple[Rejected, ...]
    input_sha256: str

    @property
    def samples(self) -> int:
        """How many files will be read."""
        return sum(len(shard.files) for shard in self.shards)


@dataclass(frozen=True)
class PictureStatistics:
    """Counts over images; parts add up with ``+``.

    Attributes:
        sizes: images by (width, height).
        rgb_sum: ``[3]`` float64, sum over images of their mean colour, 0 to 255.
        colours: the ab histogram.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    rgb_sum: tuple[float, float, float] = (0.0, 0.0, 0.0)
    colours: DatasetStatistics = field(default_factory=DatasetStatistics)

    def __add__(self, other: PictureStatistics) -> PictureStatistics:
        red, green, blue = (a + b for a, b in zip(self.rgb_sum, other.rgb_sum, strict=True))
        return PictureStatistics(self.sizes + other.sizes, (red, green, blue), self.colours + other.colours)


@dataclass(frozen=True, kw_only=True)
class ShardReceipt:
    """What was made of a planned shard; ``info`` is None where none of its files is a sample."""

    name: str
    info: ShardInfo | None
    runs: tuple[Run, ...]
    members: Mapping[str, int]
    rejected: tuple[Rejected, ...]
    statistics: PictureStatistics
    seconds: float


def safe_key(stem: str) -> str:
    """Return a file's path without its extension as a key.

    Folders and their slashes stay. Dots of the last part (a key ends at its first), percent signs, backslashes,
    control characters and bytes that are no text are written as ``%2E``, so that no two paths have the same key.
    """
    folder, slash, last = stem.rpartition("/")
    return _UNSAFE.sub(_percent, folder) + slash + _UNSAFE_STEM.sub(_percent, last)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogateescape"))


def split_share(stem_key: str) -> float:
    """Return where in [0, 1) a key falls: the first 53 bits of its SHA-256."""
    return (int.from_bytes(hashlib.sha256(stem_key.encode()).digest()[:8], "big") >> 11) / 2.0**53


def plan_shards(entries: Iterable[Entry], options: ShardOptions) -> ShardPlan:
    """Plan a dataset from a listing.

    A file's key is its path without the extension. Where several have the same (``a.jpg``, ``a.png``), the first by
    name keeps it and the others get theirs with the extension (``a%2Epng``); all go to the same split. Samples are in
    the order of their keys' hashes: a shard is a random part of its split.
    """
    listed = sorted(entries)
    rejected, split_of, taken = [], {}, set()
    files: list[SourceFile] = []
    for entry in listed:
        stem, extension = _split_name(entry.name)
        key = safe_key(stem)
        if extension and extension.lower() not in EXTENSIONS:
            reason = f".{_UNSAFE.sub(_percent, extension)} is no extension of a picture that is read"
            rejected.append(_reject(entry.name, safe_key(entry.name), "list", "NotAnImage", reason))
            continue
        share = split_share(key)
        while key in taken:
            key = f"{key}%2E{extension}"
        taken.add(key)
        split_of[key] = _split_at(share, options.split)
        files.append(SourceFile(entry.name, entry.size_bytes, key))
    files.sort(key=lambda file: hashlib.sha256(file.key.encode()).digest())
    shards: list[PlannedShard] = []
    for split in options.split:
        members = [file for file in files if split_of[file.key] == split]
        for index, group in enumerate(_cut(members, options)):
            shards.append(PlannedShard(f"{split}-{index:06d}.tar", split, tuple(group)))
    return ShardPlan(tuple(shards), tuple(rejected), _input_digest(listed, options))


def _split_name(name: str) -> tuple[str, str]:
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.rpartition(".")
    return (f"{folder}{slash}{stem}", extension) if stem else (name, "")


def _split_at(share: float, split: Mapping[str, float]) -> str:
    bound = 0.0
    for name, part in split.items():
        bound += part
        if share < bound:
            return name
    return next(reversed(dict(split)))  # shares that add up to a little less than 1


def _cut(files: Sequence[SourceFile], options: ShardOptions) -> Iterable[list[SourceFile]]:
    group: list[SourceFile] = []
    size = 0
    for file in files:
        full = len(group) == options.samples_per_shard or size + file.size_bytes > options.shard_bytes
        if group and full:
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size_bytes
    if group:
        yield group


def _input_digest(listed: Sequence[Entry], options: ShardOptions) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, asdict(options)]).encode())
    for entry in listed:
        digest.update(f"\n{entry.size_bytes} {entry.name}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _reject(source: str, key: str, stage: str, error: str, message: str) -> Rejected:
    shown = source.encode("utf-8", "backslashreplace").decode()
    return Rejected(source=shown, key=key, stage=stage, error=error, message=message)


def make_manifest(
    plan: ShardPlan, receipts: Sequence[ShardReceipt], options: ShardOptions, index: bytes, rejected: Sequence[Rejected]
) -> Manifest:
    """Return the manifest of a dataset from the receipts of its shards, in the plan's order."""
    members: Counter[str] = Counter()
    total, train = PictureStatistics(), PictureStatistics()
    for receipt in receipts:
        members.update(receipt.members)
        total += receipt.statistics
        if receipt.info is not None and receipt.info.split == "train":
            train += receipt.statistics
    counted = train.colours if "train" in options.split else total.colours
    samples = max(1, sum(total.sizes.values()))
    return Manifest(
        kind="single",
        shards=tuple(receipt.info for receipt in receipts if receipt.info is not None),
        members=dict(sorted(members.items())),
        rejected=dict(sorted(Counter(row.error for row in rejected).items())),
        runs=sum(len(receipt.runs) for receipt in receipts),
        index_sha256=hashlib.sha256(index).hexdigest(),
        input_sha256=plan.input_sha256,
        options=asdict(options),
        statistics={
            "sizes": _size_summary(total.sizes),
            "mean_rgb": [round(value / samples, 3) for value in total.rgb_sum],
            "train": json.loads(counted.to_json()),
        },
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
