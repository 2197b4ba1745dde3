import pkgutil
import subprocess
import sys
from dataclasses import is_dataclass

import pytest

import condgen
import condgen.families
from condgen.base import ConditionalModel
from condgen.diffusion.config import SAMPLER_NAMES
from condgen.diffusion.samplers import SAMPLERS
from condgen.families import FAMILIES
from condgen.presets import PRESETS

FOLDERS = [module.name for module in pkgutil.iter_modules(condgen.families.__path__) if module.ispkg]


def imported_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_the_table_has_a_row_for_each_folder() -> None:
    assert sorted(FAMILIES) == FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_has_a_configuration_a_model_and_presets_of_its_family(name: str) -> None:
    family = FAMILIES[name]
    assert is_dataclass(family.config_class)
    assert issubclass(family.model_class, ConditionalModel)
    assert {family.config_class.family, family.model_class.family, *(p.family for p in family.presets)} == {name}
    home = f"condgen.families.{name}"
    assert (family.config_class.__module__, family.model_class.__module__) == (f"{home}.config", f"{home}.model")
    assert all(PRESETS[preset.name] is preset for preset in family.presets)


def test_every_preset_is_of_one_family() -> None:
    assert len(PRESETS) == sum(len(family.presets) for family in FAMILIES.values())


@pytest.mark.slow
def test_the_interface_imports_no_family_and_no_networks() -> None:
    packages = {f"condgen.{module.name}" for module in pkgutil.iter_modules(condgen.__path__) if module.ispkg}
    assert "condgen.families" in packages
    assert not imported_by("condgen.base") & packages


def test_presets_are_told_without_torch() -> None:
    assert not imported_by("condgen.presets") & {"torch", "numpy"}


def test_the_samplers_that_a_configuration_names_are_those_there_are() -> None:
    assert sorted(SAMPLERS) == list(SAMPLER_NAMES)
