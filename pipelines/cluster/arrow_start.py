"""pyarrow without pandas, for processes that have to start soon."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pyarrow as pa

__all__ = ["spare_pandas"]


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def spare_pandas() -> None:
    """Keep pyarrow from importing pandas at its first array, which takes a second.

    It does so to know pandas' types where it sees them, and after this it would not, until something is converted to
    pandas: only for processes that run no code but ours.
    """
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
