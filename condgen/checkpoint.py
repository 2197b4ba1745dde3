"""A model as two small files: weights in safetensors, the rest in JSON. Loading one runs no code from it.

    model.safetensors   every parameter and buffer, float32 or stored as float16
    model.json          {"format": 1, "family": ..., "condgen": version, "config": {...}, "extra": {...}}

Bytes in, bytes out: where they are kept is not this module's business. Equal models give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from condgen.base import ConditionalModel
from condgen.checkpoint_files import META_NAME, WEIGHTS_NAME
from condgen.errors import CheckpointError, ConfigError
from condgen.families import FAMILIES, build
from condgen.version import __version__

__all__ = ["digest", "dump", "load"]

_FORMAT = 1


def dump(
    model: ConditionalModel,
    extra: Mapping[str, Any] | None = None,
    *,
    weights: Literal["fp32", "fp16"] = "fp32",
    tensors: Mapping[str, Tensor] | None = None,
) -> dict[str, bytes]:
    """Return a checkpoint's files by name.

    Args:
        model: model of a family of the table, on any device.
        extra: other facts that belong to it (the data's size, steps done), as JSON has them.
        weights: number format on disk; ``fp16`` stores float32 in half precision, which ``load`` makes float32 again.
        tensors: weights and buffers in place of the model's own, such as an earlier copy (default: its own).

    Raises:
        CheckpointError: the extra is not JSON, or a weight is too large for half precision.
    """
    own = model.state_dict() if tensors is None else tensors
    tensors = {name: value.detach().cpu().contiguous() for name, value in own.items()}
    if weights == "fp16":
        tensors = {name: _halved(name, value) for name, value in tensors.items()}
    meta = {
        "format": _FORMAT,
        "family": model.family,
        "condgen": __version__,
        "config": asdict(model.config),
        "extra": dict(extra or {}),
    }
    try:
        text = json.dumps(meta, sort_keys=True, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's extra can't be written as JSON: {error}") from error
    return {WEIGHTS_NAME: safetensors.torch.save(tensors), META_NAME: text.encode() + b"\n"}


def _halved(name: str, value: Tensor) -> Tensor:
    if value.dtype != torch.float32:
        return value
    half = value.half()
    if not bool(half.isfinite().all()):
        raise CheckpointError(f"{name} holds numbers beyond half precision: store the weights as fp32")
    return half


def load(files: Mapping[str, bytes], *, expect_family: str | None = None) -> tuple[ConditionalModel, dict[str, Any]]:
    """Return the model of a checkpoint, on the CPU in ``eval()`` mode, and its extra.

    Args:
        files: bytes of ``model.safetensors`` and ``model.json``; other files are left alone.
        expect_family: name of the only family that is accepted; None accepts any.

    Raises:
        CheckpointError: a file is missing or damaged, the family is another or unknown, or the weights are not
            those of the configuration.
    """
    meta = _read_meta(files)
    family = meta["family"]
    if expect_family is not None and family != expect_family:
        raise CheckpointError(f"the checkpoint is of family {family!r}, not {expect_family!r}: give one of that family")
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise CheckpointError(f"the checkpoint is of family {family!r}, which is unknown here (known: {known})")
    try:
        with torch.random.fork_rng(devices=[]):  # building draws initial weights: leave the caller's state alone
            model = build(family, meta["config"])
    except ConfigError as error:
        raise CheckpointError(f"the checkpoint's configuration does not fit this version: {error}") from error
    _fill(model, _read_weights(files))
    model.eval()
    return model, meta["extra"]


def digest(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of a checkpoint's two files, in hexadecimal.

    Raises:
        CheckpointError: a file is missing.
    """
    whole = hashlib.sha256()
    for name in (META_NAME, WEIGHTS_NAME):
        data = _file(files, name)
        whole.update(f"{name} {len(data)}\n".encode())
        whole.update(data)
    return whole.hexdigest()


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise CheckpointError(f"the checkpoint has no {name}: give the folder that holds both files")
    return files[name]


def _read_meta(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        meta = json.loads(_file(files, META_NAME))
    except ValueError as error:  # of JSON and of UTF-8
        raise CheckpointError(f"{META_NAME} is damaged ({error}): save the checkpoint again") from error
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        got = meta.get("format") if isinstance(meta, dict) else None
        raise CheckpointError(f"{META_NAME} has format {got!r}, and this version reads {_FORMAT}")
    for key, kind in (("family", str), ("config", dict), ("extra", dict)):
        if not isinstance(meta.get(key), kind):
            raise CheckpointError(f"{META_NAME} is damaged (no {key}): save the checkpoint again")
    return meta


def _read_weights(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load(_file(files, WEIGHTS_NAME)))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{WEIGHTS_NAME} is damaged ({error}): save the checkpoint again") from error


def _fill(model: ConditionalModel, tensors: dict[str, Tensor]) -> None:
    """Copy the weights in, each by name, of the same shape and type."""
    expected = model.state_dict()
    for what, names in (("lacks", expected.keys() - tensors.keys()), ("has unknown", tensors.keys() - expected.keys())):
        if names:
            raise CheckpointError(f"{WEIGHTS_NAME} {what} {sorted(names)[0]!r} ({len(names)} in all): wrong file?")
    for name, value in expected.items():
        got = tensors[name]
        if got.dtype == torch.float16 and value.dtype == torch.float32:
            got = tensors[name] = got.float()
        if got.shape != value.shape or got.dtype != value.dtype:
            raise CheckpointError(
                f"{WEIGHTS_NAME} has {name!r} as {got.dtype} {list(got.shape)}, and the configuration wants "
                f"{value.dtype} {list(value.shape)}"
            )
    model.load_state_dict(tensors, strict=True)
