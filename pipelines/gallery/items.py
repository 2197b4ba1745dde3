"""An image of results as the gallery's page reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from pipelines.gallery.stored_results import ImageRow, StoredResults
from pipelines.results.plan import Plan

__all__ = ["Commands", "details_of", "finite", "item_of"]

NOT_DRAWN: Mapping[str, str] = {
    "pending": "not done yet",
    "filtered": "left out by the job's own function",
    "error": "no draws: it failed",
}
"""What stands in the place of draws that are not there, by an image's status."""


class Commands(Protocol):
    """The commands that are offered for an image."""

    def redraw_command(self, results: str, source: str, key: str, draw: int) -> str:
        """Return the command that makes a draw again."""

    def extract_command(self, results: str, source: str, key: str) -> str:
        """Return the command that writes an image's draws as files."""

    def retry_command(self, plan: Plan, results: str) -> str | None:
        """Return the command that tries again what failed; None where there is none."""


def item_of(
    row: ImageRow,
    results: StoredResults,
    values: Mapping[str, Any],
    commands: Commands,
    other: tuple[StoredResults, ImageRow | None] | None = None,
) -> dict[str, Any]:
    """Return an image as JSON.

    Args:
        row: the image.
        results: results that it is in, which are called A.
        values: its values, by the names of columns.
        commands: what makes commands.
        other: results B and the same image there, None where it is not in them (default: there is no B).
    """
    is_color = results.is_color
    pictures = [_given(row, "input", "grey input" if is_color else "input", "input")]
    pictures += _draws(row, results, "A", is_alone=other is None)
    if other is not None:
        pictures += _draws(other[1], other[0], "B", is_alone=False)
    if is_color or results.settings.member.partition(".")[0] == "input":
        pictures.append(_given(row, "original", "original" if is_color else "target", "original"))
    uri, draws = results.store.uri, range(results.settings.draws)
    is_drawn = row.status == "draws"
    return {
        "id": str(row.place),
        "source": row.source,
        "key": row.key,
        "width": row.width,
        "height": row.height,
        "pictures": pictures,
        "values": {name: finite(value) for name, value in values.items() if value is not None},
        "error": dict(row.error) if row.error is not None else None,
        "commands": {
            "redraw": [commands.redraw_command(uri, row.source, row.key, k) for k in draws] if is_drawn else [],
            "extract": commands.extract_command(uri, row.source, row.key) if is_drawn else None,
            "retry": commands.retry_command(results.plan, uri) if row.status == "error" else None,
        },
    }


def _given(row: ImageRow, role: str, title: str, label: str) -> dict[str, Any]:
    missing = ""
    if row.status == "pending" or (row.error is not None and row.error["stage"] in ("results", "process")):
        ended = row.error is not None and row.error["stage"] == "process"
        missing = "not decoded here: it ended the process that decoded it" if ended else "not known yet"
    return {
        "role": role,
        "draw": None,
        "result": "A",
        "label": label if title != "target" else title,
        "alt": f"{row.key}, {title}",
        **_addresses("A", row, role, 0, missing),
    }


def _draws(row: ImageRow | None, results: StoredResults, name: str, *, is_alone: bool) -> list[dict[str, Any]]:
    if row is None:
        return [_no_draw(name, "not in these results")]
    if row.status != "draws":
        return [_no_draw(name, NOT_DRAWN[row.status], row.key)]
    of = "" if is_alone else f" of {name}"
    return [
        {
            "role": "draw",
            "draw": number,
            "result": name,
            "label": f"draw {number}{'' if is_alone else f', {name}'}",
            "alt": f"{row.key}, draw {number}{of}",
            **_addresses(name, row, "draw", number, ""),
        }
        for number in range(results.settings.draws)
    ]


def _no_draw(name: str, missing: str, key: str = "") -> dict[str, Any]:
    label = f"draws, {name}"
    nothing = {"thumb": None, "full": None, "missing": missing}
    return {"role": "draw", "draw": 0, "result": name, "label": label, "alt": f"{key}, {label}", **nothing}


def _addresses(name: str, row: ImageRow, role: str, number: int, missing: str) -> dict[str, Any]:
    if missing:
        return {"thumb": None, "full": None, "missing": missing}
    query = f"?{urlencode({'v': row.version})}" if row.version else ""
    path = f"{name}/{row.place}/{role}/{number}{query}"
    return {"thumb": f"/thumb/{path}", "full": f"/full/{path}", "missing": ""}


def details_of(results: StoredResults, place: int) -> dict[str, Any]:
    """Return all that is stored of an image besides pixels: every column of its rows, and its file's footer.

    Raises:
        CondgenError: it can't be read.
    """
    outcome = results.outcome(place)
    plan = results.lists[outcome.chunk.generation].plan
    found: dict[str, Any] = {"place": place, "chunk": outcome.chunk.name, "plan": plan.name}
    file = outcome.file
    if file is not None and outcome.row >= 0:
        rows = results.files.details(file, outcome.row, results.settings.draws)
        for name in rows[0]:
            values = [row[name] for row in rows]
            found["path" if name == "image" else name] = values[0] if _all_same(values) else values
    if file is not None:
        names = ("family", "model_sha256", "precision", "device", "versions", "rows_sha256")
        found |= {f"file {name}": file.facts[name] for name in names if name in file.facts}
    whole = {
        **found,
        "model": plan.model.get("uri"),
        "model digest": plan.model.get("digest"),
        "plan digest": plan.digest,
        "archive": plan.archive,
        "settings": dict(plan.settings),
    }
    return {name: finite(value) for name, value in whole.items()}


def finite(value: Any) -> Any:
    """Return a value as JSON has it, which knows no number that is none, or is infinite."""
    if isinstance(value, Mapping):
        return {str(name): finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    return value


def _all_same(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)
