"""Counts over a training set that its model needs before the first step: made in parts, added up, kept as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from condgen.errors import DatasetError

__all__ = ["AB_GRID_POINTS", "AB_GRID_STEP", "DatasetStatistics", "count_ab", "empty_ab_histogram"]

AB_GRID_STEP = 10.0
"""Distance between the grid's points (ab units)."""

AB_GRID_POINTS = 23
"""Points of an axis: -110, ..., 110. Cell (i, j) holds the colors nearest to (10 i - 110, 10 j - 110)."""

_FORMAT = 1


def empty_ab_histogram() -> NDArray[np.int64]:
    """Return zeros, ``[23, 23]`` int64."""
    return np.zeros((AB_GRID_POINTS, AB_GRID_POINTS), dtype=np.int64)


def count_ab(ab: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count colors by the grid point that is nearest.

    Args:
        ab: ``[..., 2, H, W]`` in ab units (not divided by 110); what is beyond the grid counts at its edge.

    Returns:
        ``[23, 23]`` int64, a first, b second.
    """
    index = np.floor(np.moveaxis(ab, -3, 0).reshape(2, -1) / AB_GRID_STEP + 0.5).astype(np.int64)
    index = np.clip(index + AB_GRID_POINTS // 2, 0, AB_GRID_POINTS - 1)
    counts = np.bincount(index[0] * AB_GRID_POINTS + index[1], minlength=AB_GRID_POINTS**2)
    return counts.reshape(AB_GRID_POINTS, AB_GRID_POINTS)


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """Counts over a training set, or over a part of it: parts add up with ``+``.

    Attributes:
        num_samples: images counted.
        ab_histogram: ``[23, 23]`` int64, pixels by the nearest point of the ab grid; see ``count_ab``.
    """

    num_samples: int = 0
    ab_histogram: NDArray[np.int64] = field(default_factory=empty_ab_histogram)

    def __post_init__(self) -> None:
        shape, dtype = self.ab_histogram.shape, self.ab_histogram.dtype
        if shape != (AB_GRID_POINTS, AB_GRID_POINTS) or dtype != np.int64:
            raise DatasetError(f"ab_histogram is {dtype} {list(shape)}, not int64 [23, 23]: count it with count_ab")
        if self.num_samples < 0 or int(self.ab_histogram.min()) < 0:
            raise DatasetError("statistics hold negative counts: count the training set again")

    @classmethod
    def of_ab(cls, ab: NDArray[np.floating]) -> DatasetStatistics:
        """Count N images, ``[N, 2, H, W]`` in ab units."""
        return cls(num_samples=ab.shape[0], ab_histogram=count_ab(ab))

    def __add__(self, other: DatasetStatistics) -> DatasetStatistics:
        return DatasetStatistics(
            num_samples=self.num_samples + other.num_samples,
            ab_histogram=self.ab_histogram + other.ab_histogram,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DatasetStatistics):
            return NotImplemented
        return self.num_samples == other.num_samples and np.array_equal(self.ab_histogram, other.ab_histogram)

    __hash__ = None  # type: ignore[assignment]  # an array inside

    def to_json(self) -> str:
        """Return a JSON text, the same for equal statistics."""
        values = {
            "format": _FORMAT,
            "num_samples": self.num_samples,
            "ab_histogram": self.ab_histogram.tolist(),
        }
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DatasetStatistics:
        """Return what ``to_json`` wrote.

        Raises:
            DatasetError: another format, or damaged.
        """
        try:
            values = json.loads(text)
            if values["format"] != _FORMAT:
                raise DatasetError(f"statistics have format {values['format']!r}, not {_FORMAT}: count them again")
            histogram = np.array(values["ab_histogram"], dtype=np.int64)
            return cls(num_samples=int(values["num_samples"]), ab_histogram=histogram)
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"statistics are damaged ({error!r}): count the training set again") from error
