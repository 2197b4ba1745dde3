"""The doors of packages: what each exports, and that opening one imports nothing heavy."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lazy_loader import attach_stub

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOORS = [
    ".".join(stub.parent.relative_to(ROOT).parts)
    for root in ("condgen", "pipelines")
    for stub in sorted((ROOT / root).rglob("__init__.pyi"))
]


def page_imports(page: Path) -> list[tuple[str, str]]:
    """Return the names that a page imports from our packages, each with the module that it names."""
    lines = re.findall(
        r"^\s*from ((?:condgen|pipelines|jobs)[\w.]*) import (\([^)]*\)|[^(\n]+)", page.read_text(), re.M
    )
    return [(module, name) for module, names in lines for name in re.findall(r"\w+", names)]


def test_the_rooms_have_doors() -> None:
    assert {"pipelines.cluster", "pipelines.images", "pipelines.storage"} <= set(DOORS)


@pytest.mark.parametrize("package", DOORS)
def test_a_door_has_every_name_of_its_stub(package: str) -> None:
    door = importlib.import_module(package)
    assert door.__all__ == dir(door) == attach_stub(package, door.__file__)[2] != []
    for name in door.__all__:
        assert getattr(door, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = door.no_such_name


@pytest.mark.parametrize("package", DOORS)
def test_no_public_name_is_a_module_too(package: str) -> None:
    door = importlib.import_module(package)
    assert not set(door.__all__) & {module.name for module in pkgutil.iter_modules(door.__path__)}


def test_opening_doors_imports_nothing_heavy() -> None:
    heavy = {"torch", "ray", "pyarrow", "fsspec", "numpy", "PIL"}
    code = f"import sys, importlib\nfor m in {DOORS!r}: importlib.import_module(m)\nprint({heavy!r} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_the_pages_have_imports_to_look_at() -> None:
    assert {module for page in PAGES for module, _ in page_imports(page)} >= {"condgen", "pipelines"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_import_from_doors_alone(page: Path) -> None:
    for module, name in page_imports(page):
        assert module in DOORS, f"from {module} import {name}: {module} is no door"
        assert name in importlib.import_module(module).__all__


@pytest.mark.parametrize("package", DOORS)
def test_a_door_names_every_module_behind_it(package: str) -> None:
    door = importlib.import_module(package)
    modules = [f"{module.name}{'/' if module.ispkg else '.py'}" for module in pkgutil.iter_modules(door.__path__)]
    public = [module for module in modules if not module.startswith("_")]
    assert [module for module in public if module not in (door.__doc__ or "")] == []
