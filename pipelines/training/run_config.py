"""What of a run's configuration may change when the run goes on; pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from condgen.errors import ConfigError
from condgen.presets import Preset
from pipelines.storage.store import json_bytes

__all__ = ["as_begun", "check_config", "flat", "goes_on"]

# What may differ between the runs of one folder: where and by what it is run, not what.
_FREE = (
    "versions", "format", "data_uri", "workers", "start", "train.keep_best", "train.validate_every_steps",
    "train.validation_split", "train.validation_images", "train.sheet_every_steps", "train.sheet_images",
    "train.fused_on_cpu",
)  # fmt: skip
_LIMITS = ("train.steps", "train.max_seconds")
"""What may be raised later: a finished run then goes on."""


def check_config(
    before: Mapping[str, Any], config: Mapping[str, Any], defaults: Mapping[str, Any], *, uri: str
) -> None:
    """Check that a run may go on with a configuration: it is the run's own, or its limits are raised.

    Args:
        before: configuration that the run was begun with.
        config: complete configuration.
        defaults: values of the fields that the configurations of earlier versions lack.
        uri: place of the run.

    Raises:
        ConfigError: it is another run's; the error names the first field that differs.
    """
    old = dict(flat(json.loads(json_bytes(defaults)))) | dict(flat(before))
    new = dict(flat(json.loads(json_bytes(config))))
    for name in sorted(old.keys() | new.keys()):
        if name in _FREE or name.split(".")[0] in _FREE or old.get(name) == new.get(name):
            continue
        if name in _LIMITS and _is_raised(old.get(name), new.get(name)):
            continue
        more = " or more" if name in _LIMITS else ""
        allowed = f"{old.get(name)!r}{more}, with which {uri} was begun, or another --out"
        raise ConfigError(name, new.get(name), allowed)


def as_begun(preset: Preset, begun: Mapping[str, Any]) -> Preset:
    """Return the preset with the kernels that a run was begun with, so that it rounds as it did.

    Args:
        preset: preset that is asked for.
        begun: content of the run's config.json; of versions that did not know ``train.fused_on_cpu`` it has none.
    """
    fused = bool(begun.get("train", {}).get("fused_on_cpu", False))
    return replace(preset, train=replace(preset.train, fused_on_cpu=fused))


def _is_raised(old: Any, new: Any) -> bool:
    """Return whether a limit is higher than before; 0 sets none."""
    return bool(old) and new is not None and (new == 0 or new >= old)


def goes_on(summary: Mapping[str, Any], train: Mapping[str, Any]) -> bool:
    """Return whether a finished run would train on within these limits."""
    limit_s = train.get("max_seconds", 0)
    return summary["step"] < train.get("steps", 0) and not 0 < limit_s <= summary["seconds"]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the fields of a configuration by their dotted names, such as ``train.steps``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
