"""The page of `condgen chapter`: the table, and the images beside it, in one file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from jobs.chapter.claims import Row

__all__ = ["write_page"]


def write_page(
    path: Path, *, rows: Sequence[Row], images: Iterable[tuple[str, str, str]], facts: Sequence[str]
) -> None:
    """Write the page.

    Args:
        path: of the page; the images lie beside it.
        rows: of the table.
        images: (world, caption, file name).
        facts: lines under the title.
    """
    environment = Environment(loader=PackageLoader("jobs"), autoescape=True, undefined=StrictUndefined)
    shown = [
        (world, caption, base64.b64encode((path.parent / name).read_bytes()).decode())
        for world, caption, name in images
    ]
    worlds = list(dict.fromkeys(row.world for row in rows))
    template = environment.get_template("chapter.html.j2")
    path.write_text(template.render(worlds=worlds, rows=rows, images=shown, facts=facts), encoding="utf-8")
