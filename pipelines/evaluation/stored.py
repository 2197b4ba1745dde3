"""An evaluation on disk: `evaluation.parquet`, a row an answer or draw of each image, and `evaluation.json`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from condgen.errors import DatasetError, MissingError
from pipelines.evaluation.parts import ROWS_SCHEMA
from pipelines.storage.parquet import read_parquet
from pipelines.storage.store import Store

__all__ = ["FORMAT", "JSON_NAME", "PARQUET_NAME", "RowsFile", "read_evaluation", "write_evaluation"]

FORMAT = "condgen-evaluation-1"
JSON_NAME = "evaluation.json"
PARQUET_NAME = "evaluation.parquet"


class RowsFile:
    """The rows of an evaluation in a temporary file, to which parts are added as they are done.

    >>> with RowsFile() as file:
    ...     file.add(rows)
    ...     table = file.read()
    """

    def __enter__(self) -> RowsFile:
        self._folder = tempfile.TemporaryDirectory(prefix="condgen-evaluation-")
        self.path = Path(self._folder.name) / PARQUET_NAME
        self._writer: pq.ParquetWriter | None = pq.ParquetWriter(self.path, ROWS_SCHEMA, compression="zstd")
        return self

    def add(self, rows: pa.Table) -> None:
        """Add rows in `ROWS_SCHEMA`."""
        if self._writer is None:
            raise ValueError("the file is closed")
        if rows.num_rows:
            self._writer.write_table(rows)

    def read(self) -> pa.Table:
        """Return all rows; nothing can be added from then on."""
        self._close()
        return pq.read_table(self.path)

    def data(self) -> bytes:
        """Return the file's bytes; nothing can be added from then on."""
        self._close()
        return self.path.read_bytes()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._folder.cleanup()


def write_evaluation(store: Store, rows: RowsFile, facts: Mapping[str, Any]) -> None:
    """Write both files, the JSON last."""
    store.write(PARQUET_NAME, rows.data())
    store.write(JSON_NAME, (json.dumps(facts, indent=1) + "\n").encode())


def read_evaluation(store: Store) -> tuple[dict[str, Any], pa.Table]:
    """Return what `evaluation.json` says, and the rows of `evaluation.parquet`.

    Raises:
        DatasetError: there is no evaluation, or it is damaged or of another version.
        AccessError, StorageError: see `pipelines.storage.store`.
    """
    try:
        facts = json.loads(store.read(JSON_NAME))
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise ValueError("format")
        table = _with_all_columns(read_parquet(store.read(PARQUET_NAME))).cast(ROWS_SCHEMA)
    except MissingError as error:
        raise DatasetError(
            f"{store.uri} has no evaluation: run condgen evaluate with it as RESULTS or --out"
        ) from error
    except (ValueError, pa.ArrowException) as error:
        raise DatasetError(
            f"{store.uri} has an evaluation that is damaged or of another version: evaluate again"
        ) from error
    return facts, table


def _with_all_columns(table: pa.Table) -> pa.Table:
    """Return a table with nulls for the metrics that were not there when it was written."""
    for name in ROWS_SCHEMA.names:
        if name not in table.column_names and ROWS_SCHEMA.field(name).nullable:
            table = table.append_column(ROWS_SCHEMA.field(name), pa.nulls(table.num_rows, ROWS_SCHEMA.field(name).type))
    return table.select(ROWS_SCHEMA.names)
