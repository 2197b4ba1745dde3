"""Validation: all faults of a shard, which is read whole, and those that only shards together show."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from condgen.errors import ImageError, MissingError
from pipelines.datasets.chunk import image_members
from pipelines.datasets.extent import Extent
from pipelines.datasets.manifest import Dataset, Manifest, ShardInfo
from pipelines.datasets.scan import ShardScan, scan_shard
from pipelines.datasets.tar import SampleSpan, renamed
from pipelines.images.decoding import decode
from pipelines.images.formats import EXTENSIONS, MAX_PIXELS
from pipelines.storage.store import Store

__all__ = [
    "FAULT_SCHEMA",
    "DatasetFault",
    "ShardFindings",
    "check_manifest",
    "duplicate_keys",
    "extra_shards",
    "faults_to_table",
    "validate_shard",
]

FAULT_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("shard", "key", "error", "message")])


@dataclass(frozen=True, slots=True, order=True)
class DatasetFault:
    """One row of a validation report; shard and key are empty where a fault is of the whole."""

    shard: str
    key: str
    error: str
    message: str


@dataclass(frozen=True)
class ShardFindings:
    """Findings of a shard: its faults, its keys, and the numbers of samples and images that were read."""

    name: str
    faults: tuple[DatasetFault, ...]
    keys: pa.Array
    samples: int
    images: int


def validate_shard(
    store: Store,
    info: ShardInfo,
    runs: Sequence[Extent],
    member_names: Mapping[str, str],
    paired: bool,
    max_pixels: int = MAX_PIXELS,
) -> ShardFindings:
    """Read all of a shard, decode every image, and compare it with its manifest and index.

    Args:
        store: store of the shard.
        info: what the manifest says of it; an empty checksum is not compared.
        runs: its rows of the index; none where there is no index.
        member_names: names of members, as in ``Manifest.member_names``.
        paired: whether each sample must have an input and a target.
        max_pixels: most pixels of an image; larger ones are faults.

    Raises:
        AccessError, StorageError: the storage failed, which says nothing of the shard.
    """
    visitor = _Visitor(info.name, member_names, paired, max_pixels)
    try:
        scan = scan_shard(store, info.name, visit=visitor.visit)
    except MissingError:
        fault = DatasetFault(info.name, "", "MissingShard", "it is in the manifest and not in the storage")
        return ShardFindings(info.name, (fault,), pa.array([], pa.string()), 0, 0)
    faults = [*visitor.faults, *_compared(info, scan), *_compared_runs(info.name, runs, scan)]
    faults += [DatasetFault(info.name, key, fault.error, fault.reason) for key, fault in scan.faults]
    keys = pa.array(visitor.keys, pa.string())
    return ShardFindings(info.name, tuple(faults), keys, len(visitor.keys), visitor.images)


class _Visitor:
    """A visitor of a shard's runs, which decodes their images, checks their members and remembers their keys."""

    def __init__(self, shard: str, member_names: Mapping[str, str], paired: bool, max_pixels: int) -> None:
        self.faults: list[DatasetFault] = []
        self.keys: list[str] = []
        self.images = 0
        self._shard, self._names, self._paired, self._max_pixels = shard, member_names, paired, max_pixels

    def visit(self, spans: list[SampleSpan], data: bytes) -> int:
        start = spans[0].start
        for span in spans:
            key = span.key or ""
            self.keys.append(key)
            spans_of = renamed(span.members, self._names)
            places = {name: member.data_start - start for name, member in spans_of.items()}
            members = {name: data[places[name] : places[name] + one.size_bytes] for name, one in spans_of.items()}
            self._check_members(key, members)
            for name, content in members.items():
                self._check_image(key, name, content)
        return 0

    def _check_members(self, key: str, members: Mapping[str, bytes]) -> None:
        names = list(members)
        if not self._paired:
            images = [name for name in names if name.partition(".")[0] == "image"] or image_members(members)
            have = ", ".join(sorted(names))
            if not images:
                self._fault(key, "NoImage", f"no image among: {have}")
            elif len(images) > 1:
                self._fault(key, "SeveralImages", f"{len(images)} images among: {have}: name one with --member")
            return
        for wanted in ("input", "target"):
            found = [name for name in names if name == wanted or name.startswith(f"{wanted}.")]
            if len(found) != 1:
                what = f"no {wanted}" if not found else f"{len(found)} members named {wanted}"
                self._fault(key, "MissingMember", f"{what} among: {', '.join(sorted(names))}")

    def _check_image(self, key: str, name: str, data: bytes) -> None:
        if name.rpartition(".")[2] not in EXTENSIONS and self._names.get(name.partition(".")[0]) is None:
            kind = name.partition(".")[0]
            if kind not in ("input", "target"):
                return  # a mask's array, a text of another kind: nothing that is read as an image
        self.images += 1
        try:
            # At an eighth of its size, a JPEG's bytes are all read and its pixels are not all made.
            decode(data, min_size_px=1, max_pixels=self._max_pixels)
        except ImageError as error:
            self._fault(key, error.error, f"{name}: {error.detail}")

    def _fault(self, key: str, error: str, message: str) -> None:
        self.faults.append(DatasetFault(self._shard, key, error, message))


def _compared(info: ShardInfo, scan: ShardScan) -> list[DatasetFault]:
    faults = []
    if scan.size_bytes != info.size_bytes:
        reason = f"{scan.size_bytes:,} bytes, {info.size_bytes:,} in the manifest"
        faults.append(DatasetFault(info.name, "", "SizeMismatch", reason))
    elif info.sha256 and scan.sha256 and scan.sha256 != info.sha256:
        reason = "the shard's SHA-256 is not the manifest's: its bytes were changed"
        faults.append(DatasetFault(info.name, "", "ChecksumMismatch", reason))
    if scan.samples != info.samples:
        reason = f"{scan.samples:,} samples, {info.samples:,} in the manifest"
        faults.append(DatasetFault(info.name, "", "CountMismatch", reason))
    return faults


def _compared_runs(shard: str, runs: Sequence[Extent], scan: ShardScan) -> list[DatasetFault]:
    """Compare the index: runs of the same place and checksum, whatever their order."""
    found = {(run.start, run.stop): run for run in scan.runs}
    faults = []
    for run in runs:
        other = found.pop((run.start, run.stop), None)
        where = f"bytes {run.start:,} to {run.stop:,}"
        if other is None:
            reason = f"the index has a run at {where}, where the shard has none"
            faults.append(DatasetFault(shard, run.first_key, "IndexMismatch", reason))
        elif run.sha256 and other.sha256 != run.sha256:
            reason = f"{where} are not those of the index"
            faults.append(DatasetFault(shard, run.first_key, "ChecksumMismatch", reason))
        elif (run.samples, run.first_key, run.last_key) != (other.samples, other.first_key, other.last_key):
            reason = f"{where} hold other samples than the index says"
            faults.append(DatasetFault(shard, run.first_key, "IndexMismatch", reason))
    for (start, stop), run in sorted(found.items()) if runs else ():
        reason = f"{run.samples} samples at bytes {start:,} to {stop:,} are not in the index"
        faults.append(DatasetFault(shard, run.first_key, "IndexMismatch", reason))
    return faults


def check_manifest(dataset: Dataset) -> list[DatasetFault]:
    """Return where a manifest and its index disagree with each other."""
    manifest = dataset.manifest
    faults = []
    counted: dict[str, int] = {}
    for name, samples in zip(*(dataset.index[column].to_pylist() for column in ("shard", "samples")), strict=True):
        counted[name] = counted.get(name, 0) + samples
    for info in manifest.shards:
        found = counted.pop(info.name, 0)
        if found != info.samples:
            reason = f"{found:,} samples in the index, {info.samples:,} in the manifest"
            faults.append(DatasetFault(info.name, "", "IndexMismatch", reason))
    faults += [DatasetFault(name, "", "IndexMismatch", "in the index and not in the manifest") for name in counted]
    if manifest.runs != dataset.index.num_rows:
        reason = f"{dataset.index.num_rows:,} runs in the index, {manifest.runs:,} in the manifest"
        faults.append(DatasetFault("", "", "IndexMismatch", reason))
    return faults


def extra_shards(store: Store, manifest: Manifest) -> list[DatasetFault]:
    """Return the tars that are in a dataset's place and in no manifest."""
    known = {info.name for info in manifest.shards}
    folders = {name.rpartition("/")[0] for name in known}
    found = [entry.name for folder in sorted(folders) for entry in store.list(folder, recursive=False)]
    names = [name for name in found if name.lower().endswith(".tar") and name not in known]
    return [DatasetFault(name, "", "ExtraShard", "it is beside the dataset and not in its manifest") for name in names]


def duplicate_keys(findings: Sequence[ShardFindings]) -> list[DatasetFault]:
    """Return a fault for each sample whose key another one before it has, in the order of shards.

    All keys are held in memory, about 100 bytes each.
    """
    first: dict[bytes, int] = {}
    faults = []
    for place, item in enumerate(findings):
        for key in item.keys.to_pylist():
            digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            seen = first.setdefault(digest, place)
            if seen != place:
                reason = f"the key is also in {findings[seen].name}"
                faults.append(DatasetFault(item.name, key, "DuplicateKey", reason))
                continue
        faults += _repeated(item)
    return faults


def _repeated(item: ShardFindings) -> list[DatasetFault]:
    counts = item.keys.value_counts().to_pylist()
    return [
        DatasetFault(item.name, row["values"], "DuplicateKey", f"{row['counts']} samples of the shard have the key")
        for row in counts
        if row["counts"] > 1
    ]


def faults_to_table(faults: Iterable[DatasetFault]) -> pa.Table:
    """Return faults as rows of ``FAULT_SCHEMA``."""
    return pa.Table.from_pylist([asdict(fault) for fault in faults], schema=FAULT_SCHEMA)
