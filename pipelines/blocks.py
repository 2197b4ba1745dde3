"""Pictures in Arrow blocks: how Ray Data's tensor columns are made and taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["PICTURE_COLUMNS", "picture_array", "picture_columns", "pictures", "with_column"]

PICTURE_COLUMNS = ("image", "input", "target")
"""What `pipelines.read` calls columns of pictures."""


def picture_array(items: Sequence[npt.NDArray[Any]]) -> Any:
    """Return pictures `[H, W, C]` of one dtype as an Arrow column: a tensor where all have one shape.

    Ray unifies blocks of one shape, of another, and of several.
    """
    from ray.data.extensions import ArrowTensorArray, ArrowVariableShapedTensorArray

    if items and len({item.shape for item in items}) == 1:
        return ArrowTensorArray.from_numpy(np.stack(items))
    column = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        column[place] = np.ascontiguousarray(item)
    return ArrowVariableShapedTensorArray.from_numpy(column)


def pictures(block: pa.Table, column: str) -> list[npt.NDArray[Any]]:
    """Return the pictures of a column of `picture_array`'s; they are read-only."""
    found: list[npt.NDArray[Any]] = []
    for part in block[column].chunks:
        found.extend(part.to_numpy(zero_copy_only=False))
    return found


def picture_columns(block: pa.Table) -> list[str]:
    """Return which of `PICTURE_COLUMNS` a block has as tensors (and not as encoded bytes)."""
    names = [name for name in PICTURE_COLUMNS if name in block.column_names]
    return [name for name in names if not pa.types.is_large_binary(block.schema.field(name).type)]


def with_column(block: pa.Table, name: str, values: Any) -> pa.Table:
    """Return a block with a column put in the place of that name, or added."""
    if name not in block.column_names:
        return block.append_column(name, values)
    return block.set_column(block.column_names.index(name), name, values)
