"""The columns that a gallery can be searched, filtered and ordered by, and how a filter is written.

Columns are of the draws files (identity, size, and what was copied from the archive), of `evaluation.parquet` (values
of the model's answer for each image), or measured by the gallery itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from condgen.errors import ConfigError
from pipelines.results.settings import BatchSettings

__all__ = ["METRICS", "MODEL_ANSWERS", "OPERATORS", "Column", "Filter", "columns_of", "compared_columns", "read_filter"]

MODEL_ANSWERS = ("draws", "point")
"""The answers of an evaluation whose rows are shown: those of the model."""

METRICS: Mapping[str, tuple[str, str | None, float]] = {
    "auc": ("AuC raw", "higher", 100.0),
    "ab_error": ("ab error", "lower", 1.0),
    "energy_score": ("energy score", "lower", 1.0),
    "total_variation": ("total variation", None, 1.0),
    "psnr": ("PSNR, dB", "higher", 1.0),
    "ssim": ("SSIM", "higher", 1.0),
    "rgb_error": ("error, of 255", "lower", 1.0),
    "colorfulness": ("colorfulness", None, 1.0),
    "chroma": ("chroma", None, 1.0),
    "diversity": ("diversity", None, 1.0),
    "nll": ("nll, nats a grid pixel", "lower", 1.0),
    "marginal_nll": ("nll of the training set", None, 1.0),
    "error": ("error at 64 px", "lower", 1.0),
}
"""Title, better values and factor of each metric of an image, as `pipelines.evaluation.values` has them, which imports
torch: a server has no use for that."""

OPERATORS: Mapping[str, str] = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
"""Names of operators in an address, and what SQL calls them; `contains` is for texts alone."""

_MOST_DIGITS = 18

_TYPES: Mapping[str, Literal["text", "number", "bool"]] = {
    "string": "text",
    "int64": "number",
    "float64": "number",
    "bool": "bool",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: name of the column, each there once.
        title: what a reader is shown.
        type: `text`, `number` or `bool`.
        of: `file`, `evaluation` or `measured`.
        source: its name in the file that it is read from.
        better: `higher` or `lower`; None where neither is better by itself.
        result: whose values they are: `A`, `B`, or `B - A` for what B has more than A.
    """

    name: str
    title: str
    type: Literal["text", "number", "bool"]
    of: Literal["file", "evaluation", "measured"]
    source: str
    better: str | None = None
    result: Literal["A", "B", "B - A"] = "A"

    def to_json(self) -> dict[str, Any]:
        """Return the column as the gallery's page reads it."""
        return {"name": self.name, "title": self.title, "type": self.type, "of": self.of, "better": self.better}


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition that images are to meet: a column, an operator of `OPERATORS` or `contains`, and a value."""

    column: Column
    operator: str
    value: str | float | int


def columns_of(settings: BatchSettings, metrics: Sequence[str], measured: Sequence[str]) -> list[Column]:
    """Return all columns.

    Args:
        settings: settings of the job, which name what was copied from the archive.
        metrics: columns of `evaluation.parquet` that are there.
        measured: what the gallery measures itself.
    """
    found = [
        Column("key", "key", "text", "file", "key"),
        Column("source", "source", "text", "file", "source"),
        Column("status", "status", "text", "file", "status"),
        Column("width", "width, px", "number", "file", "width"),
        Column("height", "height, px", "number", "file", "height"),
    ]
    for name, kind in settings.output.columns:
        found.append(Column(_free(name, "archive", found), name, _TYPES[kind], "file", name))
    for name in metrics:
        title, better, _ = METRICS.get(name, (name.replace("_", " "), None, 1.0))
        found.append(Column(_free(name, "evaluation", found), title, "number", "evaluation", name, better))
    for name in measured:
        title, better, _ = METRICS[name]
        found.append(Column(_free(name, "measured", found), title, "number", "measured", name, better))
    return found


def compared_columns(first: Sequence[Column], second: Sequence[Column]) -> list[Column]:
    """Return the columns of results A and, of values that both have, those of B and of their differences."""
    found = list(first)
    for column in first:
        if column.of != "file" and any((one.of, one.source) == (column.of, column.source) for one in second):
            name, title = _free(f"B.{column.name}", "of", found), f"{column.title}, B"
            found.append(replace(column, name=name, title=title, result="B"))
            name, title = _free(f"B-A.{column.name}", "of", found), f"{column.title}, B \N{MINUS SIGN} A"
            found.append(replace(column, name=name, title=title, result="B - A"))
    return found


def _free(name: str, of: str, taken: Sequence[Column]) -> str:
    names = {column.name for column in taken}
    return name if name not in names else f"{of}.{name}"


def read_filter(text: str, columns: Sequence[Column]) -> Filter:
    """Return the filter in `NAME:OPERATOR:VALUE`; a name may have colons, and so may a value.

    Raises:
        ConfigError: there is no such column or operator, or the value is not of the column's type.
    """
    fitting = [column for column in columns if text.startswith(f"{column.name}:")]
    if not fitting:
        raise ConfigError.unknown("where", text.partition(":")[0], [column.name for column in columns])
    column = max(fitting, key=lambda one: len(one.name))
    operator, colon, value = text[len(column.name) + 1 :].partition(":")
    known = [*OPERATORS, *(["contains"] if column.type == "text" else [])]
    if operator not in known or not colon:
        raise ConfigError("where", text, f"NAME:OPERATOR:VALUE with an operator of {', '.join(known)}")
    return Filter(column, operator, _value(column, value))


def _value(column: Column, text: str) -> str | float | int:
    if column.type == "text":
        return text
    if column.type == "bool":
        if text.lower() not in ("true", "false"):
            raise ConfigError("where", f"{column.name}:{text}", "true or false")
        return int(text.lower() == "true")
    try:
        value = int(text) if text.removeprefix("-").isdecimal() and len(text) < _MOST_DIGITS else float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ConfigError("where", f"{column.name}:{text}", "a number")
    return value
