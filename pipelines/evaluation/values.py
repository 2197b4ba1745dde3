"""The numbers of a set from rows of images: what each metric is over a set of images, and over a resample of it.

rows = Rows.of(table)                                     # evaluation.parquet
METRICS["auc_balanced"].over(rows, "draws", weights)      # r values, of r resamples' weights [r, N]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from condgen.errors import DatasetError
from condgen.metrics.color import AB_CELLS, NUM_THRESHOLDS

__all__ = ["ANSWERS", "METRICS", "MODEL_ANSWERS", "Metric", "Rows"]

Weights: TypeAlias = NDArray[np.float64]

ANSWERS: Mapping[str, str] = {
    "reference": "reference",
    "point": "point",
    "draws": "draws",
    "best": "best of K",
    "input": "input",
    "grey": "grey",
    "mean_color": "mean color",
    "mean_image": "mean image",
}
"""All answers in the order of a table, and what a table calls them."""

MODEL_ANSWERS = ("point", "draws")
"""Those that a model gives; `best` is chosen among its draws by the truth, and the others cost nothing."""

_LEAST_BASE = 0.01


@dataclass(frozen=True)
class Rows:
    """The rows of all images, by answer: those of answers as a whole.

    Attributes:
        names: source and key of each of N images, in their order.
        tables: tables by answer, N rows each in the same order of images.
    """

    names: list[tuple[str, str]]
    tables: Mapping[str, pa.Table]
    _columns: dict[tuple[str, str], NDArray[np.float64]] = field(default_factory=dict, repr=False)
    _balanced: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, table: pa.Table) -> Rows:
        """Sort the rows of `evaluation.parquet`.

        Raises:
            DatasetError: it has no image, or an image lacks an answer that another one has.
        """
        whole = table.filter(pc.or_(pc.equal(table["draw"], -1), pc.equal(table["answer"], "best")))
        answers = [name for name in ANSWERS if pc.any(pc.equal(whole["answer"], name)).as_py()]
        tables = {name: whole.filter(pc.equal(whole["answer"], name)) for name in answers}
        if not tables:
            raise DatasetError("the evaluation has no image: nothing was measured")
        names = {
            name: list(zip(one["source"].to_pylist(), one["key"].to_pylist(), strict=True))
            for name, one in tables.items()
        }
        first = names[answers[0]]
        partial = next((name for name in answers if names[name] != first), None)
        if partial is not None:
            raise DatasetError(f"the answer {partial!r} is not there for every image: evaluate the images of one kind")
        return cls(first, tables)

    def __len__(self) -> int:
        return len(self.names)

    def take(self, order: NDArray[np.int64]) -> Rows:
        """Return the images at some places, in that order."""
        places = pa.array(order)
        tables = {name: table.take(places).combine_chunks() for name, table in self.tables.items()}
        return Rows([self.names[place] for place in order], tables)

    def column(self, answer: str, name: str) -> NDArray[np.float64]:
        """Return the values of a column for one answer, `[N]`; NaN where there are none."""
        if (answer, name) not in self._columns:
            values = self.tables[answer][name].cast(pa.float64())
            self._columns[answer, name] = pc.fill_null(values, float("nan")).to_numpy()
        return self._columns[answer, name]

    def has(self, answer: str, name: str) -> bool:
        """Return whether an answer has a column's values for every image."""
        return answer in self.tables and self.tables[answer][name].null_count == 0

    def has_cells(self, answer: str) -> bool:
        """Return whether an answer has hits by cell of the ab plane."""
        return self.has("reference", "cells") and self.has(answer, "cell_hits")

    def balanced(self, answer: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the two sums over an image's pixels that the class-balanced AuC is the ratio of, `[N]` each.

        Each pixel has the weight of its cell, one over the cell's pixels in the whole set: the weighted hits, as means
        over the answer's draws, and the weights themselves.
        """
        if answer not in self._balanced:
            reference = self.tables["reference"]
            cells = reference["cells"].combine_chunks()
            images, flat = pc.list_parent_indices(cells).to_numpy(), cells.flatten().to_numpy()
            pixels = _flat(reference["cell_pixels"])
            of_set = np.bincount(flat, pixels, minlength=AB_CELLS)[flat]
            hits = np.bincount(images, _flat(self.tables[answer]["cell_hits"]) / of_set, minlength=len(self))
            weights = np.bincount(images, pixels / of_set, minlength=len(self)).astype(np.float64)
            self._balanced[answer] = hits / self.column(answer, "draws"), weights
        return self._balanced[answer]


def _flat(lists: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = lists.combine_chunks().flatten().to_numpy().astype(np.float64)
    return values


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of a set of images.

    Attributes:
        name: name in `evaluation.json`.
        title: name in tables.
        better: better values: `higher`, `lower`, those nearer to `one`; or `neither` by itself.
        column: column of `evaluation.parquet` that it is made of.
        how: `mean` over images; mean `distance` from the reference's column; `ratio` of sums to the reference's; or
            `balanced`, see `condgen.metrics.color.auc_balanced`. A resample keeps the cells' weights of the whole set:
            counted anew, they would leave out rare colors, which are the hardest.
        scale: factor that it is multiplied by.
        digits: after the point, in tables.
        kind: kind of results that have it; None for both.
    """

    name: str
    title: str
    better: Literal["higher", "lower", "one", "neither"]
    column: str
    how: Literal["mean", "distance", "ratio", "balanced"] = "mean"
    scale: float = 1.0
    digits: int = 1
    kind: str | None = None

    def is_of(self, rows: Rows, answer: str) -> bool:
        """Return whether the metric can be had for an answer."""
        if self.how == "mean":
            return rows.has(answer, self.column)
        if answer == "reference" or self.how == "balanced":
            return answer != "reference" and rows.has_cells(answer)
        if not rows.has(answer, self.column) or not rows.has("reference", self.column):
            return False
        # Ratios to what a grey reference has are no numbers.
        return self.how != "ratio" or float(rows.column("reference", self.column).mean()) > _LEAST_BASE

    def over(self, rows: Rows, answer: str, weights: Weights) -> NDArray[np.float64]:
        """Return the metric of each of r weighted sets of images, `[r]`; NaN of a ratio to nothing.

        Args:
            rows: rows of N images.
            answer: whose values.
            weights: `[r, N]`, how often each image is in each set.
        """
        above, below = self.terms(rows, answer)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: NDArray[np.float64] = self.scale * (weights @ above) / (weights @ below)
        return np.where(np.isfinite(found), found, np.nan)

    def terms(self, rows: Rows, answer: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what each image adds above and below the fraction that the metric is, `[N]` each."""
        if self.how == "balanced":
            hits, pixels = rows.balanced(answer)
            return hits, NUM_THRESHOLDS * pixels
        values = rows.column(answer, self.column)
        if self.how == "ratio":
            return values, rows.column("reference", self.column)
        if self.how == "distance":
            values = np.abs(values - rows.column("reference", self.column))
        return values, np.ones(len(rows))

    def badness(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return numbers that are larger for worse values, 0 for all where neither is better."""
        ways = {"higher": -values, "lower": values, "one": np.abs(values - 1), "neither": np.zeros_like(values)}
        return ways[self.better]


_ALL = (
    Metric("auc_raw", "AuC raw", "higher", "auc", scale=100, kind="colorize"),
    Metric("auc_balanced", "AuC class-balanced", "higher", "cell_hits", how="balanced", scale=100, kind="colorize"),
    Metric("ab_error", "ab error", "lower", "ab_error", kind="colorize"),
    Metric("energy_score", "energy score", "lower", "energy_score", digits=2),
    Metric("total_variation_ratio", "total variation ratio", "one", "total_variation", how="ratio", digits=2),
    Metric("psnr", "PSNR, dB", "higher", "psnr", digits=2),
    Metric("ssim", "SSIM", "higher", "ssim", digits=3),
    Metric("rgb_error", "error, of 255", "lower", "rgb_error"),
    Metric("colorfulness", "colorfulness", "neither", "colorfulness", kind="colorize"),
    Metric("colorfulness_ratio", "colorfulness ratio", "one", "colorfulness", how="ratio", digits=2, kind="colorize"),
    Metric("colorfulness_difference", "colorfulness error", "lower", "colorfulness", how="distance", kind="colorize"),
    Metric("chroma", "chroma", "neither", "chroma", kind="colorize"),
    Metric("diversity", "diversity", "neither", "diversity", digits=2),
    Metric("nll", "nll, nats a grid pixel", "lower", "nll", digits=3),
    Metric("marginal_nll", "nll of the training set", "neither", "marginal_nll", digits=3),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""All metrics that are means over images or sums over a set, in the order of a table."""
