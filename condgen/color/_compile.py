"""How inner loops are compiled: by Numba, when they are first called, with IEEE semantics and without threads.

Without fast-math nothing is contracted to FMA or reordered, so that their bytes are the same on any machine. Importing
this module imports Numba (0.5 s), so the modules with loops are imported by the functions that call them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["jit"]

_F = TypeVar("_F", bound=Callable[..., Any])


def jit(function: _F) -> _F:
    """Compile when first called, without Python's lock while it runs.

    Machine code is kept beside the function's file or in the user's cache folder (or NUMBA_CACHE_DIR), where one can
    be written. Numba doesn't see changes of a function in another file: loops that call one another stay in one.
    """
    try:
        return cast("_F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # there is no folder for a cache
        return cast("_F", numba.njit(nogil=True, error_model="numpy")(function))
