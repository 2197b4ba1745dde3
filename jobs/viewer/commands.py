"""The commands that a page offers for copying, quoted for a POSIX shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from condgen.pretrained import DEFAULT_COLORIZER
from pipelines.results.plan import Plan
from pipelines.results.settings import BatchSettings

__all__ = ["extract_command", "redraw_command", "retry_command"]

_SETTLED = ("draws", "precision", "upsampling")
"""Options that results which are gone on with decide by themselves."""

_OTHER_KIND = {"colorize": "translate", "translate": "colorize"}


def redraw_command(results: str, source: str, key: str, draw: int) -> str:
    """Return the command that makes a draw again and compares it with the stored one."""
    return shlex.join(["condgen", "redraw", results, "--key", key, "--source", source, "--draw", str(draw)])


def extract_command(results: str, source: str, key: str) -> str:
    """Return the command that writes the draws of one image as files.

    An image whose name is not its key has its source beside it, since its key may be in several shards.
    """
    if source == key or source.startswith(f"{key}."):
        return shlex.join(["condgen", "extract", results, "images/", "--key", key])
    line = shlex.join(["printf", "%s\\t%s\\n", source, key])
    return f"{line} | {shlex.join(['condgen', 'extract', results, 'images/', '--keys', '-'])}"


def retry_command(plan: Plan, results: str) -> str | None:
    """Return the command that tries again all that failed; None for a job with functions, which Python started."""
    settings = plan.settings
    if settings.get("functions"):
        return None
    kind = settings.get("kind", "colorize")
    words = ["condgen", kind, plan.archive, results]
    if kind != "colorize" or plan.model["uri"] != DEFAULT_COLORIZER:
        words += ["--model", plan.model["uri"]]
    if settings.get("mode") == "point":
        words.append("--point")
    if plan.taken_as:
        words += ["--as", plan.taken_as]
    for flag, value in _options(BatchSettings(), settings, leave_out=_OTHER_KIND[kind]):
        words += [flag, value]
    return shlex.join([*words, "--retry-errors"])


def _options(defaults: Any, settings: Mapping[str, Any], *, leave_out: str) -> Iterator[tuple[str, str]]:
    """Yield the flags and values of the options that are not what the command line takes by itself."""
    for one in fields(defaults):
        default = getattr(defaults, one.name)
        if is_dataclass(default):
            if one.name != leave_out:
                yield from _options(default, settings, leave_out=leave_out)
        elif "help" in one.metadata and one.name in settings and one.name not in _SETTLED:
            value = settings[one.name]
            if one.name == "columns":
                value, default = ",".join(":".join(column) for column in value), ""
            if value != default:
                yield one.metadata.get("flags", (f"--{one.name.replace('_', '-')}",))[0], str(value)
