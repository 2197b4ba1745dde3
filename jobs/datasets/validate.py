"""`condgen validate`: read all of a dataset, and report every fault."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass

from condgen.errors import ConfigError, DatasetError
from jobs.cli.progress import Progress
from pipelines.cluster.starting import ray_cluster, usable_cpus
from pipelines.cluster.tasks import run_tasks
from pipelines.datasets.extent import Extent
from pipelines.datasets.manifest import Dataset, table_bytes
from pipelines.datasets.opening import NoShardsError, domains_of, open_dataset
from pipelines.datasets.shard_names import Place
from pipelines.datasets.validation import (
    DatasetFault,
    ShardFindings,
    check_manifest,
    duplicate_keys,
    extra_shards,
    faults_to_table,
    validate_shard,
)
from pipelines.storage.store import write_file

__all__ = ["RAY_FROM_BYTES", "ValidationReport", "run"]

RAY_FROM_BYTES = 512 << 20
"""From this many bytes of shards on, they are read by Ray; below, by threads."""

_EXAMPLES = 20


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """Report of `condgen validate`.

    Attributes:
        uri: URI of the dataset.
        shards, samples, images: numbers of what was read.
        faults: all faults, by shard and key.
        seconds: time that it took.
        places: what the places were taken for, where shards were scanned.
    """

    uri: str
    shards: int
    samples: int
    images: int
    faults: Sequence[DatasetFault]
    seconds: float
    places: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 1 where there is any fault."""
        return 1 if self.faults else 0

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        read = f"{self.shards:,} shards, {self.samples:,} samples, {self.images:,} images read"
        rate = f"{self.seconds:.1f} s, {self.images / max(self.seconds, 1e-9):,.0f} images/s"
        lines = [*self.places, f"{self.uri}: {read} ({rate})"]
        if not self.faults:
            return [*lines, "no faults"]
        counts = Counter(fault.error for fault in self.faults)
        lines.append(f"{len(self.faults):,} faults: {', '.join(f'{name} {n:,}' for name, n in sorted(counts.items()))}")
        for fault in self.faults[:_EXAMPLES]:
            where = ": ".join(part for part in (fault.shard, fault.key) if part) or "manifest.json"
            lines.append(f"  {where}: {fault.error}: {fault.message}")
        if len(self.faults) > _EXAMPLES:
            lines.append(f"  ... and {len(self.faults) - _EXAMPLES:,} more (--report FILE has all)")
        return lines


def run(dataset: str, *, report: str | None = None, verbose: bool = False) -> ValidationReport:
    """Read all of a dataset, or of both domains of one, and report every fault.

    Args:
        dataset: dataset, or shards made elsewhere.
        report: `.parquet` or `.jsonl` file for the faults (default: none).
        verbose: whether Ray's own lines are shown.

    Raises:
        ConfigError: the report has another format.
        DatasetError: there is no dataset.
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    began = time.monotonic()
    if report is not None and not report.lower().endswith((".parquet", ".jsonl")):
        raise ConfigError("--report", report, "a file name that ends in .parquet or .jsonl")
    found = [_validated(place, verbose) for place in domains_of(dataset)]
    result = ValidationReport(
        uri=dataset,
        shards=sum(len(findings) for findings, _, _ in found),
        samples=sum(item.samples for findings, _, _ in found for item in findings),
        images=sum(item.images for findings, _, _ in found for item in findings),
        faults=sorted(fault for _, faults, _ in found for fault in faults),
        seconds=time.monotonic() - began,
        places=[place for _, _, place in found if place],
    )
    if report is not None:
        _write(report, result.faults)
    return result


def _validated(place: Place, verbose: bool) -> tuple[list[ShardFindings], list[DatasetFault], str]:
    """Return the findings of each shard, all faults, and what the place was taken for."""
    try:
        dataset = open_dataset(place)
    except NoShardsError:
        raise
    except DatasetError as error:
        return [], [DatasetFault("", "", "DamagedDataset", str(error))], ""
    scanned = not dataset.is_complete
    faults = [] if scanned else check_manifest(dataset)
    if not scanned and not dataset.manifest.base:
        faults += extra_shards(dataset.store, dataset.manifest)
    findings = list(_findings(dataset, scanned, verbose))
    places = {info.name: place for place, info in enumerate(dataset.manifest.shards)}
    findings.sort(key=lambda item: places[item.name])
    faults += duplicate_keys(findings)
    faults += [fault for item in findings for fault in item.faults]
    return findings, faults, f"{dataset.uri}: {dataset.description}" if dataset.description else ""


def _findings(dataset: Dataset, scanned: bool, verbose: bool) -> Iterator[ShardFindings]:
    manifest = dataset.manifest
    runs: dict[str, list[Extent]] = {}
    if not scanned:
        for run_ in dataset.runs():
            runs.setdefault(run_.shard, []).append(run_)
    paired = manifest.kind == "paired"
    tasks = (
        (dataset.store, info, runs.get(info.name, []), dict(manifest.member_names), paired) for info in manifest.shards
    )
    by_ray = manifest.size_bytes >= RAY_FROM_BYTES
    with (
        ray_cluster(verbose=verbose) if by_ray else nullcontext(),
        Progress("validating", total=manifest.samples, unit="samples") as progress,
    ):
        done = run_tasks(validate_shard, tasks, usable_cpus(), on_ray=by_ray)
        for item in done:
            progress.advance(item.samples, faults=len(item.faults))
            yield item


def _write(report: str, faults: Sequence[DatasetFault]) -> None:
    if report.lower().endswith(".parquet"):
        write_file(report, table_bytes(faults_to_table(faults)))
    else:
        lines = (json.dumps(asdict(fault), sort_keys=True, ensure_ascii=False) + "\n" for fault in faults)
        write_file(report, "".join(lines).encode())
