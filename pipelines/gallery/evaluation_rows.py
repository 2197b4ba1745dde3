"""The values of an evaluation beside results, read row group by row group from `evaluation.parquet`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import CondgenError, DatasetError, MissingError
from pipelines.gallery.columns import METRICS, MODEL_ANSWERS
from pipelines.storage.parquet import StoredParquet, open_parquet
from pipelines.storage.store import Store

__all__ = ["EvaluationRows", "open_evaluation"]

_JSON, _PARQUET = "evaluation.json", "evaluation.parquet"


@dataclass(frozen=True, slots=True)
class EvaluationRows:
    """An evaluation.

    Attributes:
        facts: content of `evaluation.json`.
        digest: digest of that, which tells it from one made later.
        metrics: names of the metrics that it has, of `METRICS`.
    """

    facts: Mapping[str, Any]
    digest: str
    metrics: Sequence[str]
    _file: StoredParquet

    @property
    def num_parts(self) -> int:
        """The number of row groups."""
        return self._file.num_row_groups

    def part(self, number: int) -> Iterator[tuple[str, str, Sequence[float | None]]]:
        """Yield the model's answer for each image of a row group: source, key, and values in the order of `metrics`.

        Raises:
            DatasetError: it is damaged.
            StorageError: see `pipelines.storage.store`.
        """
        names = ["source", "key", *self.metrics]
        try:
            table = self._file.read_row_group(number, ["answer", "draw", *names])
            wanted = pc.and_(pc.is_in(table["answer"], pa.array(MODEL_ANSWERS)), pc.equal(table["draw"], -1))
            columns = [column.to_pylist() for column in table.filter(wanted).select(names).columns]
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise DatasetError(f"{_PARQUET} is damaged: evaluate again") from error
        factors = [METRICS[name][2] for name in self.metrics]
        for source, key, *values in zip(*columns, strict=True):
            yield source, key, [v if v is None else v * factor for v, factor in zip(values, factors, strict=True)]


def open_evaluation(results: Store) -> EvaluationRows | None:
    """Return the evaluation beside results; None where there is none, or one that can't be read."""
    try:
        data = results.read(_JSON)
        facts, file = json.loads(data), open_parquet(results, _PARQUET)
    except (MissingError, DatasetError, ValueError):
        return None
    except CondgenError:
        return None
    names = set(file.schema_arrow.names)
    if not isinstance(facts, dict) or not {"source", "key", "answer", "draw"} <= names:
        return None
    digest = hashlib.sha256(data).hexdigest()
    return EvaluationRows(facts, digest, [name for name in METRICS if name in names], file)
