"""What a process imports, and from where: our own packages everywhere, pandas and SciPy only where they are used."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path

from condgen.errors import ConfigError

__all__ = [
    "PACKAGES",
    "ROOT",
    "check_packages",
    "extend_import_path",
    "python_command",
    "spare_pandas",
    "spare_scipy",
    "working_in_root",
]

PACKAGES = ("condgen", "pipelines", "jobs")
"""The packages that make up condgen."""
ROOT = Path(__file__).resolve().parents[2]
"""The folder that they are in."""


def check_packages() -> None:
    """Make sure that our packages are the ones that are imported: a user's own folder can have the same common name.

    Raises:
        ConfigError: a folder is imported in place of ours; it is named.
    """
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        where = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if where != ROOT / name:
            raise ConfigError(
                "PYTHONPATH",
                f"a package {name!r} from {where or 'nowhere'}, which shadows condgen's own",
                f"the one in {ROOT}: run condgen from another folder, or rename that one",
            )


@contextmanager
def working_in_root() -> Iterator[None]:
    """Make our packages' folder the working directory for the time of the block, in which Ray starts.

    Ray puts the driver's working directory at the head of its workers' import path. A user's folder `pipelines` there
    would be imported in place of ours, and Ray has no setting that leaves it out.
    """
    working_directory = Path.cwd()
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(working_directory)


def extend_import_path(folders: Iterable[str]) -> None:
    """Add folders to the end of this process's import path, behind all that is installed.

    A worker on another machine gets the import path of its own installation; what the driver imports from elsewhere
    (a checkout, a user's folder with a model's class) is found only once it is told.
    """
    sys.path.extend(folder for folder in dict.fromkeys(folders) if folder not in sys.path)


def python_command(code: str) -> list[str]:
    """Return the command of a fresh Python that imports from where this process does, and then runs code.

    By itself it would look into its working directory first, where a user's folder may have the name of ours.

    Args:
        code: statements of Python, in one line.
    """
    path = [folder for folder in sys.path if folder]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {code}"]


class _Hidden(MetaPathFinder):
    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == self.name:
            raise ModuleNotFoundError(fullname)


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Have a package not be found for the time of the block, unless it is imported already."""
    finder = _Hidden(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def spare_pandas() -> None:
    """Keep pyarrow from importing pandas at its first array, which takes a second.

    pyarrow does so to recognize pandas' types, and has no setting against it; an import hook hides pandas for that one
    moment. Afterwards it recognizes none until something is converted to pandas: call this only in processes that run
    no code but ours.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    with _hidden("pandas"):
        pa.array([0])


def spare_scipy() -> None:
    """Keep Numba from importing SciPy's linear algebra at its first function, which takes a third of a second.

    Afterwards Numba compiles no `np.linalg`: call this only in processes that run no code but ours, which has none.
    """
    with _hidden("scipy"):
        import numba.np.arraymath  # noqa: F401
