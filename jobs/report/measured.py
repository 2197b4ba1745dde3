"""The numbers by which a report orders images: those of an evaluation, or what its own thumbnails tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from condgen.errors import DatasetError
from pipelines.evaluation.stored import JSON_NAME, PARQUET_NAME
from pipelines.evaluation.values import METRICS, MODEL_ANSWERS, Metric
from pipelines.storage.parquet import open_parquet
from pipelines.storage.store import Store

__all__ = ["Column", "EvaluatedImages", "measure_thumbnails", "read_evaluated"]

SMALL_PX = 64
GREY_CHROMA = 1.0
"""Originals of less chroma than this in the mean have no colors to compare draws with."""

Thumbnails = tuple[Image.Image | str, Sequence[Image.Image | str]]


@dataclass(frozen=True, slots=True)
class Column:
    """A number of each image.

    Attributes:
        name: name, as in `evaluation.json`.
        title: title for people.
        better: `higher` or `lower`; None where neither is.
    """

    name: str
    title: str
    better: str | None

    @classmethod
    def of(cls, metric: Metric) -> Column:
        """Return the column of a metric."""
        return cls(metric.name, metric.title, metric.better if metric.better in ("higher", "lower") else None)


@dataclass(frozen=True, slots=True)
class EvaluatedImages:
    """The model's answer for each image of an evaluation.

    Attributes:
        columns: the metrics that are there.
        table: `source`, `key` and a column of each metric, a row an image, in the order of the archive.
    """

    columns: Sequence[Column]
    table: pa.Table

    def values(self, images: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, float]]:
        """Return the values of some images, by source and key; those that were not measured are left out."""
        keys = pa.array([key for _, key in images], pa.string())
        rows = self.table.filter(pc.is_in(self.table["key"], value_set=keys)).to_pylist()
        wanted = set(images)
        return {
            (row["source"], row["key"]): {one.name: row[one.name] for one in self.columns if row[one.name] is not None}
            for row in rows
            if (row["source"], row["key"]) in wanted
        }

    def extremes(self, name: str, count: int) -> tuple[list[int], list[int]]:
        """Return the rows of the smallest and of the largest values of a metric, the utmost first."""
        values = self.table[name].to_numpy()
        known = np.flatnonzero(np.isfinite(values))
        order = known[np.argsort(values[known], kind="stable")]
        return order[:count].tolist(), order[::-1][:count].tolist()


def read_evaluated(store: Store) -> EvaluatedImages | None:
    """Read the images of the evaluation beside results, without its lists; None where there is none.

    Raises:
        DatasetError: it is damaged.
    """
    if not store.exists(JSON_NAME) or not store.exists(PARQUET_NAME):
        return None
    metrics = [metric for metric in METRICS.values() if metric.how == "mean"]
    try:
        file = open_parquet(store, PARQUET_NAME)
        names = [name for name in dict.fromkeys(one.column for one in metrics) if name in file.schema_arrow.names]
        parts = []
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, ["source", "key", "answer", "draw", *names])
            is_answer = pc.is_in(rows["answer"], value_set=pa.array(MODEL_ANSWERS))
            parts.append(rows.filter(pc.and_(pc.equal(rows["draw"], -1), is_answer)))
    except (pa.ArrowException, KeyError) as error:
        raise DatasetError(f"{store.locate(PARQUET_NAME)} is damaged or of another version: evaluate again") from error
    table = pa.concat_tables(parts) if parts else None
    if table is None or not table.num_rows:
        return None
    has_draws = pc.any(pc.equal(table["answer"], "draws")).as_py()
    table = table.filter(pc.equal(table["answer"], "draws" if has_draws else "point"))
    there = [one for one in metrics if one.column in names and table[one.column].null_count < table.num_rows]
    columns = {one.name: pc.multiply(table[one.column].cast(pa.float64()), one.scale) for one in there}
    return EvaluatedImages(
        [Column.of(one) for one in there], pa.table({"source": table["source"], "key": table["key"], **columns})
    )


def measure_thumbnails(samples: Sequence[Thumbnails], *, is_color: bool) -> tuple[list[Column], list[dict[str, float]]]:
    """Measure small images where there is no evaluation: as `condgen evaluate` does, but on thumbnails.

    Args:
        samples: each one's original (of a translation: its input) and draws; a text in an image's place says why there
            is none.
        is_color: whether distances are of colors (ab), and the original is the true image.

    Returns:
        The columns, and the values of each sample by name.
    """
    import torch

    from condgen.color.colorize import resize
    from condgen.color.lab import rgb_to_lab
    from condgen.metrics.color import chroma, colorfulness
    from condgen.metrics.distribution import energy_score, pair_distance
    from pipelines.evaluation.measures import measured_size

    def small(images: Sequence[Image.Image]) -> torch.Tensor:
        height, width = measured_size(images[0].height, images[0].width, SMALL_PX)
        return torch.stack([resize(np.array(one.convert("RGB")), height, width) for one in images])

    def norm_units(codes: torch.Tensor) -> torch.Tensor:
        return rgb_to_lab(codes.float() / 255)[:, 1:] if is_color else codes.float()

    rows: list[dict[str, float]] = []
    chromas: list[float] = []
    for original, made in samples:
        row: dict[str, float] = {}
        draws = [draw for draw in made if not isinstance(draw, str)]
        if draws:
            codes = small(draws)
            units = norm_units(codes)
            row["colorfulness"] = float(colorfulness(codes).mean())
            if len(draws) > 1:
                row["diversity"] = float(pair_distance(units))
            if is_color and not isinstance(original, str):
                truth = norm_units(small([original.resize(draws[0].size)]))[0]
                chromas.append(float(chroma(truth)))
                row["energy_score"] = float(energy_score(units, truth))
        rows.append(row)
    if not chromas or sum(chromas) / len(chromas) < GREY_CHROMA:
        for row in rows:
            row.pop("energy_score", None)
    there = {name for row in rows for name in row}
    return [Column.of(METRICS[name]) for name in ("energy_score", "colorfulness", "diversity") if name in there], rows


def shown_values(values: Mapping[str, float]) -> dict[str, float]:
    """Return values as a page has them, with five digits."""
    return {name: float(f"{value:.5g}") for name, value in values.items() if np.isfinite(value)}
