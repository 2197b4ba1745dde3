"""`condgen inspect`: the description of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from condgen.errors import ConfigError
from pipelines.datasets.contact_sheet import contact_sheet
from pipelines.datasets.manifest import Dataset
from pipelines.datasets.opening import domains_of, open_dataset
from pipelines.storage.store import write_file

__all__ = ["DatasetReport", "InspectReport", "run"]

_FIRST_KEYS = 5


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """Description of a dataset, as `condgen inspect` prints it.

    Attributes:
        dataset: dataset with its manifest and index.
        first_keys: first keys of the first runs of each split.
    """

    dataset: Dataset
    first_keys: Mapping[str, list[str]]

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        manifest = self.dataset.manifest
        made = f"generation {manifest.generation}" if manifest.index_sha256 else "no manifest: scanned"
        if manifest.base:
            made += f", shards in {manifest.base}"
        shards_mb = f"{len(manifest.shards):,} shards, {manifest.size_bytes / 1e6:,.1f} MB"
        lines = [
            f"{self.dataset.uri}: {manifest.kind} images, {made}",
            *([f"  place    {self.dataset.description}"] if self.dataset.description else []),
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


@dataclass(frozen=True, kw_only=True)
class InspectReport:
    """Report of `condgen inspect`: a description of each dataset, and the contact sheets that were written."""

    reports: Sequence[DatasetReport]
    sheets: Sequence[str]

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        return [line for report in self.reports for line in report.lines()] + [
            f"contact sheet: {sheet}" for sheet in self.sheets
        ]


def _statistics_lines(statistics: Mapping[str, Any], dataset: Dataset) -> list[str]:
    lines = []
    for name, values in statistics.get("sizes", {}).items():
        lines.append(f"  {name:8} min {values['min']:,}, median {values['median']:,}, max {values['max']:,}")
    if statistics.get("mean_rgb"):
        red, green, blue = statistics["mean_rgb"]
        lines.append(f"  mean RGB {red:.1f}, {green:.1f}, {blue:.1f} of 255")
    modes = statistics.get("modes")
    if modes:
        lines.append(f"  modes    {', '.join(f'{name} {count:,}' for name, count in modes.items())}")
    train = dataset.manifest.train_statistics()
    if train is not None and train.num_samples:
        colours = int((train.ab_histogram > 0).sum())
        grey = train.ab_histogram[11, 11] / train.ab_histogram.sum()
        lines.append(f"  colors   {colours} cells of the ab grid, {grey:.0%} of the pixels grey")
    return lines


def run(dataset: str, *, sheet: str | None = None, sheet_samples: int = 24) -> InspectReport:
    """Open a dataset, or both of its domains, by a manifest or by a scan of the shards, and describe it.

    Args:
        dataset: dataset, or shards made elsewhere.
        sheet: file for a contact sheet, a PNG (default: none); that of a second domain is `<name>-b.png`.
        sheet_samples: most samples on a sheet.

    Raises:
        ConfigError: the contact sheet has another format.
        DatasetError: the dataset is damaged, or none is there.
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    if sheet is not None and not sheet.lower().endswith(".png"):
        raise ConfigError("--contact-sheet", sheet, "a file name that ends in .png")
    reports, sheets = [], []
    for place, suffix in zip(domains_of(dataset), (".png", "-b.png"), strict=False):
        opened = open_dataset(place, checksums=True)
        reports.append(_described(opened))
        if sheet is not None:
            sheets.append(f"{sheet[:-4]}{suffix}")
            write_file(sheets[-1], contact_sheet(opened, sheet_samples))
    return InspectReport(reports=reports, sheets=sheets)


def _described(opened: Dataset) -> DatasetReport:
    keys = {
        split: opened.table(split)["first_key"].slice(0, _FIRST_KEYS).to_pylist() for split in opened.manifest.splits
    }
    return DatasetReport(dataset=opened, first_keys=keys)
