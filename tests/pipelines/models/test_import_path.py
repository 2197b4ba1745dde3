"""An import path is looked at without running anything: mistakes are told, and what can't be seen is let through."""

import sys
from pathlib import Path

import pytest

from condgen.errors import CheckpointError, ConfigError, MissingError
from pipelines.models.import_path import check_import_path
from pipelines.models.source import open_model

SOURCE = """
raise RuntimeError("this is never run")
try:
    from torch import nn
except ImportError:
    nn = None
if True:
    def make(): pass
class Net(nn.Module): pass
A, (B, C) = 1, (2, 3)
for loop in (): pass
with open("x") as handle: pass
D: int = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "my_net_4711.py").write_text(SOURCE)
    (tmp_path / "torn_4711.py").write_text("x = 1\ndef f(:\n")
    package = tmp_path / "package_4711"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "open.py").write_text("from somewhere import *")
    (package / "lazy.py").write_text("def __getattr__(name): return 1")
    (package / "made.py").write_text("globals()['Net'] = 1")
    return str(tmp_path)


@pytest.mark.parametrize("path", [
    "my_net_4711:Net", "my_net_4711:make", "my_net_4711:B", "my_net_4711:C", "my_net_4711:nn.Linear", "my_net_4711:D",
    "my_net_4711:handle", "package_4711.open:Any", "package_4711.lazy:Any", "package_4711.made:Net", "json:loads",
    "json.decoder:JSONDecoder", "math:sqrt",
])  # fmt: skip
def test_what_is_there_or_may_be_is_let_through_and_not_imported(folder: str, path: str) -> None:
    check_import_path(path, (folder,))
    assert not [name for name in sys.modules if "4711" in name]


@pytest.mark.parametrize(("path", "told"), [
    ("my_net_4711:Nett", "a name that my_net_4711 has .did you mean 'Net'"),
    ("my_nett_4711:Net", "No module named 'my_nett_4711'"),
    ("package_4711.opn:Net", "No module named 'package_4711.opn'"),
    ("my_net_4711.inner:Net", "No module named 'my_net_4711.inner'"),
    ("my_net_4711.py:Net", "name it my_net_4711:Net"),
    ("torn_4711:Net", r"torn_4711\.py, line 2"),
    ("package_4711:Net", "a name that package_4711 has"),
])  # fmt: skip
def test_a_mistake_is_told(folder: str, path: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_import_path(path, (folder,))


def test_what_can_be_seen_of_a_model_is_told_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(MissingError, match="nothing there"):
        open_model(str(tmp_path / "run"))
    (tmp_path / "run" / "notes.txt").write_text("x")
    with pytest.raises(CheckpointError, match="condgen train"):
        open_model(str(tmp_path / "run"))
    with pytest.raises(MissingError, match=r"gone\.pt"):
        open_model(str(tmp_path / "gone.pt"), trust_code=True)
    with pytest.raises(ConfigError, match="no_such_module"):
        open_model("no_such_module:Net")
