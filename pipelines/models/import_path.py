"""A look at an import path without importing it: what is a mistake is told in a moment, before a cluster is started.

Nothing of the user's code is run. Where the source does not show what a module will have (`import *`, `__getattr__`),
its import tells.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from condgen.errors import ConfigError, nearest

__all__ = ["check_import_path"]


def check_import_path(path: str, import_from: Sequence[str] = ()) -> None:
    """Refuse `package.module:name` where there is no such module, its source can't be parsed, or has no such name.

    Args:
        path: import path, as the user wrote it.
        import_from: folders that are looked in after all that is installed.

    Raises:
        ConfigError: what is wrong.
    """
    module, _, name = path.partition(":")
    origin = _find(path, module, import_from)
    if origin is None or not origin.endswith(".py"):
        return
    try:
        tree = ast.parse(Path(origin).read_bytes(), origin)
    except OSError:
        return
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        told = error.msg if isinstance(error, SyntaxError) else error
        raise ConfigError("model", path, f"a module that can be imported, but {origin}{line}: {told}") from error
    names = set(_names(tree.body))
    first = name.partition(".")[0]
    if first in names or names & {"*", "__getattr__"}:
        return
    near = nearest(first, [known for known in names if not known.startswith("_")])
    hint = f" (did you mean {near!r}?)" if near else ""
    raise ConfigError("model", path, f"a name that {module} has{hint}")


def _find(path: str, module: str, import_from: Sequence[str]) -> str | None:
    """Return where a module's source lies; None where that can't be told without importing anything.

    Raises:
        ConfigError: there is no such module.
    """
    places: Any = None
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        full = ".".join(parts[:count])
        loaded = sys.modules.get(full)
        if loaded is not None and getattr(loaded, "__spec__", None) is not None:
            spec = loaded.__spec__
            places = getattr(loaded, "__path__", None)
            continue
        spec = _spec(full, places, import_from)
        if spec is None:
            where = f" (the working directory {import_from[0]} was looked in too)" if import_from else ""
            hint = f"; name it {'.'.join(parts[:-1])}:{path.partition(':')[2]}" if parts[-1] == "py" else ""
            told = f"ModuleNotFoundError: No module named {full!r}"  # as its import would tell it
            raise ConfigError("model", path, f"a module that can be imported, but {told}{where}{hint}")
        places = spec.submodule_search_locations
        if places is None and count < len(parts):
            places = ()
    return spec.origin if spec is not None else None


def _spec(full: str, places: Any, import_from: Sequence[str]) -> ModuleSpec | None:
    for finder in sys.meta_path:
        found = finder.find_spec(full, places) if hasattr(finder, "find_spec") else None
        if found is not None:
            return found
    return PathFinder.find_spec(full, list(import_from)) if "." not in full else None


def _names(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that a module's statements may bind, `*` for any."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _UNSEEN:
                yield "*"
            elif node is not statement and isinstance(node, ast.stmt):
                yield from _names([node])


_UNSEEN = frozenset({"exec", "globals", "setattr", "vars", "locals"})
