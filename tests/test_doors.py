"""The doors of packages: what each exports, and that opening one imports nothing heavy."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import condgen
import jobs
import pipelines

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = [
    name
    for root in (condgen, pipelines, jobs)
    for name in [
        root.__name__,
        *(m.name for m in pkgutil.walk_packages(root.__path__, f"{root.__name__}.") if m.ispkg),
    ]
]


def source_of(package: str) -> ast.Module:
    """The syntax tree of a package's door."""
    path = importlib.import_module(package).__file__
    assert path is not None
    return ast.parse(Path(path).read_text())


def lazy_exports(package: str) -> dict[str, set[str]]:
    """The table of a lazy door: names by module; empty where a package has none."""
    for node in ast.walk(source_of(package)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy_names":
            return {module: set(names) for module, names in ast.literal_eval(node.args[1]).items()}
    return {}


def checked_imports(package: str) -> dict[str, set[str]]:
    """What type checkers see of a door: names by module."""
    found: dict[str, set[str]] = {}
    for branch in (node for node in source_of(package).body if isinstance(node, ast.If)):
        for line in branch.body:
            assert isinstance(line, ast.ImportFrom)
            assert line.module is not None
            module = line.module.removeprefix(f"{package}.")
            found.setdefault(module, set()).update(alias.name for alias in line.names)
    return found


def page_imports(page: Path) -> list[tuple[str, str]]:
    """Return the names that a page imports from our packages, each with the module that it names."""
    lines = re.findall(
        r"^\s*from ((?:condgen|pipelines|jobs)[\w.]*) import (\([^)]*\)|[^(\n]+)", page.read_text(), re.M
    )
    return [(module, name) for module, names in lines for name in re.findall(r"\w+", names)]


LAZY = [package for package in PACKAGES if lazy_exports(package)]


def test_the_rooms_have_lazy_doors() -> None:
    assert {"pipelines.cluster", "pipelines.images", "pipelines.storage"} <= set(LAZY)


@pytest.mark.parametrize("package", LAZY)
def test_a_door_exports_the_same_to_users_to_type_checkers_and_by_all(package: str) -> None:
    exports = lazy_exports(package)
    assert checked_imports(package) == exports
    door = importlib.import_module(package)
    assert sorted(name for names in exports.values() for name in names) == sorted(door.__all__) == dir(door)
    for name in door.__all__:
        assert getattr(door, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = door.no_such_name


@pytest.mark.parametrize("package", LAZY)
def test_no_public_name_is_a_module_too(package: str) -> None:
    door = importlib.import_module(package)
    assert not set(door.__all__) & {module.name for module in pkgutil.iter_modules(door.__path__)}


def test_opening_doors_imports_nothing_heavy() -> None:
    heavy = {"torch", "ray", "pyarrow", "fsspec", "numpy", "PIL"}
    code = f"import sys, importlib\nfor m in {LAZY!r}: importlib.import_module(m)\nprint({heavy!r} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_the_pages_have_imports_to_look_at() -> None:
    assert {module for page in PAGES for module, _ in page_imports(page)} >= {"condgen", "pipelines"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_import_from_doors_alone(page: Path) -> None:
    for module, name in page_imports(page):
        assert module in LAZY, f"from {module} import {name}: {module} is no door"
        assert name in importlib.import_module(module).__all__


@pytest.mark.parametrize("package", LAZY)
def test_a_door_names_every_module_behind_it(package: str) -> None:
    door = importlib.import_module(package)
    modules = [f"{module.name}{'/' if module.ispkg else '.py'}" for module in pkgutil.iter_modules(door.__path__)]
    public = [module for module in modules if not module.startswith("_")]
    assert [module for module in public if module not in (door.__doc__ or "")] == []
