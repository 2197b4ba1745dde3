"""What `condgen shard` says of what it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.datasets.manifest import Manifest, table_name
from pipelines.sharding.sources import RejectedFile

__all__ = ["ShardReport"]

_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """Report of `condgen shard`.

    Attributes:
        uri: URI of the dataset.
        manifest: manifest of the dataset.
        rejected: files of the source that are in no shard.
        seconds: time that it took.
        source: what the source was taken for and what of it is left out.
        added: samples that this run added.
        gone, changed: names in the dataset whose files are gone from the source, or have other bytes there.
        columns: columns of a table that images were taken from.
        was_there: whether the dataset was complete already, and nothing was done.
    """

    uri: str
    manifest: Manifest
    rejected: Sequence[RejectedFile] = ()
    seconds: float = 0.0
    source: str = ""
    added: int = 0
    gone: Sequence[str] = field(default=())
    changed: Sequence[str] = field(default=())
    columns: Sequence[str] = field(default=())
    was_there: bool = False

    @property
    def num_rejected(self) -> int:
        """Number of rejected files."""
        return len(self.rejected)

    @property
    def images_per_s(self) -> float:
        """Added and rejected samples per second."""
        return (self.added + self.num_rejected) / self.seconds if self.seconds > 0 else 0.0

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        manifest = self.manifest
        splits = ", ".join(f"{name} {count:,}" for name, count in manifest.splits.items())
        noun = "pairs" if manifest.kind == "paired" else "images"
        size_mb = manifest.size_bytes / 1e6
        count = f"{manifest.samples:,} {noun} in {len(manifest.shards):,} shards, {size_mb:,.1f} MB"
        lines = [f"{self.uri}: {count} ({splits})", *([f"source: {self.source}"] if self.source else [])]
        if self.columns:
            lines.append(f"images are taken from the column{'s' * (len(self.columns) > 1)} {', '.join(self.columns)}")
        empty = [name for name in manifest.options.get("split", {}) if name not in manifest.splits]
        if empty:
            lines.append(f"no {noun} fell to: {', '.join(empty)}")
        if manifest.generation and not self.was_there:
            shards = sum(shard.generation == manifest.generation for shard in manifest.shards)
            lines.append(f"generation {manifest.generation}: {self.added:,} added in {shards:,} new shards")
        for names, what in (
            (self.gone, "are gone from the source"),
            (self.changed, "have other bytes in the source now"),
        ):
            if names:
                examples = ", ".join(names[:_EXAMPLES])
                lines.append(f"{len(names):,} {what}, and stay in the dataset as they were: {examples}")
        lines += self._rejected_lines()
        if self.was_there:
            lines.append("it was complete already, with nothing new in the source: nothing was done")
        else:
            lines.append(f"{self.seconds:.1f} s, {self.images_per_s:,.0f} images/s")
        return lines

    def _rejected_lines(self) -> list[str]:
        if not self.rejected:
            return []
        reasons = ", ".join(f"{error} {count:,}" for error, count in self.manifest.rejected.items())
        name = table_name("rejected", self.manifest.generation)
        lines = [f"rejected {self.num_rejected:,} ({reasons}), listed in {name}:"]
        lines += [f"  {row.source}: {row.error}: {row.message}" for row in self.rejected[:_EXAMPLES]]
        if self.num_rejected > _EXAMPLES:
            lines.append(f"  ... and {self.num_rejected - _EXAMPLES:,} more")
        return lines
