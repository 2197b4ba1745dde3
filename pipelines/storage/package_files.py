"""Files of installed packages, found without importing the packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["locate"]


def locate(package: str, name: str) -> Path | None:
    """Return the path of a file of an installed package, or None where the package or the file is not there.

    Args:
        package: the import name (`sklearn`); of a submodule (`a.b`), `a` is imported.
        name: the file's path inside the package, with `/`.
    """
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)
