"""`condgen inspect`: what a dataset is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.datasets import Dataset, load_dataset

__all__ = ["DatasetReport", "run"]

_FIRST_KEYS = 5


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """What a dataset is, as `condgen inspect` prints it.

    Attributes:
        dataset: its manifest and index.
        first_keys: of each split, the first keys of its first runs.
    """

    dataset: Dataset
    first_keys: Mapping[str, list[str]]

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        manifest = self.dataset.manifest
        made = f"generation {manifest.generation}" if manifest.index_sha256 else "no manifest: scanned"
        shards_mb = f"{len(manifest.shards):,} shards, {manifest.size_bytes / 1e6:,.1f} MB"
        lines = [
            f"{self.dataset.uri}: {manifest.kind} images, {made}",
            f"  samples  {manifest.samples:,}, {shards_mb}, {manifest.runs:,} runs",
        ]
        for split, samples in manifest.splits.items():
            shards = [shard for shard in manifest.shards if shard.split == split]
            size = sum(shard.size_bytes for shard in shards)
            keys = ", ".join(self.first_keys[split])
            lines.append(f"  {split:8} {samples:,} samples, {len(shards):,} shards, {size / 1e6:,.1f} MB; keys: {keys}")
        lines.append(f"  members  {', '.join(f'{name} {n:,}' for name, n in manifest.members.items()) or 'none'}")
        if manifest.rejected:
            reasons = ", ".join(f"{error} {count:,}" for error, count in manifest.rejected.items())
            lines.append(f"  rejected {sum(manifest.rejected.values()):,} files of the source ({reasons})")
        return lines + _statistics_lines(manifest.statistics, self.dataset)


def _statistics_lines(statistics: Mapping[str, Any], dataset: Dataset) -> list[str]:
    lines = []
    for name, values in statistics.get("sizes", {}).items():
        lines.append(f"  {name:8} min {values['min']:,}, median {values['median']:,}, max {values['max']:,}")
    if statistics.get("mean_rgb"):
        red, green, blue = statistics["mean_rgb"]
        lines.append(f"  mean RGB {red:.1f}, {green:.1f}, {blue:.1f} of 255")
    train = dataset.manifest.train_statistics()
    if train is not None and train.num_samples:
        colours = int((train.ab_histogram > 0).sum())
        grey = train.ab_histogram[11, 11] / train.ab_histogram.sum()
        lines.append(f"  colours  {colours} cells of the ab grid, {grey:.0%} of the pixels grey")
    return lines


def run(dataset: str) -> DatasetReport:
    """Open a dataset, by its manifest or by a scan of its shards, and say what it is.

    Raises:
        DatasetError: damaged, or none.
        MissingError, AccessError, StorageError: see `pipelines.storage`.
    """
    opened = load_dataset(dataset)
    keys = {
        split: opened.table(split)["first_key"].slice(0, _FIRST_KEYS).to_pylist() for split in opened.manifest.splits
    }
    return DatasetReport(dataset=opened, first_keys=keys)
