"""Doors of packages: their public names, each imported when it is first asked for (PEP 562).

    if TYPE_CHECKING:
        from pipelines.storage.store import Store, open_store
    else:
        __getattr__, __dir__ = lazy_names(__name__, {"store": ["Store", "open_store"]})

    __all__ = ["Store", "open_store"]

Type checkers see the imports alone, so that a name which is not exported stays an error. ``tests/test_doors.py``
compares the three. A name must not be a module of the package too: which of the two an import gives would depend on
what was imported before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, exports: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``, which import its public names when they are first used.

    Args:
        package: name of the package, its ``__name__``.
        exports: public names by the module or subpackage that has them, relative to the package.
    """
    modules = {name: f"{package}.{module}" for module, names in exports.items() for name in names}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(modules)
