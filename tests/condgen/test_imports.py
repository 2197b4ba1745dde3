import importlib
import pkgutil
import subprocess
import sys

import pytest

import condgen

MODULES = ["condgen"] + [m.name for m in pkgutil.walk_packages(condgen.__path__, "condgen.")]


@pytest.mark.parametrize(
    "module", ["condgen", "condgen.errors", "condgen.presets", "condgen.families", "condgen.pretrained"]
)
def test_what_help_needs_is_imported_without_torch_or_ray(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'ray', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_no_module_of_condgen_imports_ray() -> None:
    code = f"import sys, importlib\nfor m in {MODULES!r}: importlib.import_module(m)\nsys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", MODULES)
def test_all_names_what_is_there(module: str) -> None:
    loaded = importlib.import_module(module)
    assert isinstance(loaded.__all__, list)
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []
