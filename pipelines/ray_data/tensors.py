"""Pictures in Arrow blocks: how Ray Data's tensor columns are made and taken apart."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["PICTURE_COLUMNS", "PictureColumn", "picture_array", "picture_columns", "pictures", "with_column"]

PICTURE_COLUMNS = ("image", "input", "target")
"""What `pipelines.ray_data.reading` calls columns of pictures."""


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


_KEPT = 4
_KEPT_BYTES = 64 << 20
_kept: list[npt.NDArray[np.uint8]] = []
_keeping = threading.Lock()


def _room(size_bytes: int) -> npt.NDArray[np.uint8]:
    """Return a view of `size_bytes` or more of this process's own memory, which nobody else refers to.

    A task makes one block after another, each of which is copied into the object store and dropped. The memory of
    those before is taken again: new pages cost as much time as decoding where a machine has to fetch them first.
    """
    with _keeping:
        for place in range(len(_kept)):
            found = _kept[place]
            # Its references: the list's, this name's and the call's. A block that is still in use has one too.
            if size_bytes <= found.nbytes <= 2 * size_bytes and sys.getrefcount(found) <= 3:
                _kept.append(_kept.pop(place))
                return found[:size_bytes]
        made = np.empty(size_bytes, np.uint8)
        if size_bytes <= _KEPT_BYTES:
            del _kept[: max(0, len(_kept) + 1 - _KEPT)]
            _kept.append(made)
        return made[:]


class PictureColumn:
    """A column that is being made: pictures of one shape go straight into the array of their block.

    Args:
        size_bytes: of the array that is made for pictures of the first one's shape; where more come, all are stacked.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._block: npt.NDArray[np.uint8] | None = None
        self._place: npt.NDArray[np.uint8] | None = None
        self._items: list[npt.NDArray[np.uint8]] = []
        self._whole = True

    def place(self) -> npt.NDArray[np.uint8] | None:
        """Return where the next picture may be put, if it has the shape of those before, or None."""
        if self._place is None and self._block is not None and len(self._items) < len(self._block):
            self._place = self._block[len(self._items)]
        return self._place

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        """Append a picture: `place()`, filled, or another array."""
        if not self._items and picture.size:
            count = self._size_bytes // picture.nbytes + 1
            self._block = _room(count * picture.nbytes).reshape(count, *picture.shape)
        place = self.place()
        if place is not None and picture.shape == place.shape:
            if picture is not place:
                place[...] = picture
            self._items.append(place)
        else:
            self._items.append(picture)
            self._whole = False
        self._place = None

    def array(self) -> Any:
        """Return the column, as `picture_array` does."""
        if self._block is not None and self._whole:
            from ray.data.extensions import ArrowTensorArray

            return ArrowTensorArray.from_numpy(self._block[: len(self._items)])
        return picture_array(self._items)


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
