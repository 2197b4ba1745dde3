"""Self-contained pages: one HTML file with its style, its script and its data, under a strict policy.

The scripts are ES modules, which a server hands out as they are. A page that is one file has no server to import from,
so `bundle` puts the modules that a page needs into one script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from jobs.viewer.visible import visible

__all__ = ["Page", "bundle", "embed", "read_asset", "render_page"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const)\b)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Page:
    """The parts of a page that `page.html.j2` puts around what a template shows.

    Attributes:
        style, script: the text of the one style and the one script.
        data: JSON for the script to read, by the id of its element.
    """

    style: str
    script: str
    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def policy(self) -> str:
        """The content security policy: images from data URIs, and this style and this script alone."""
        parts = ["default-src 'none'", "img-src data:", f"style-src {_digest(self.style)}"]
        parts.append(f"script-src {_digest(self.script)}" if self.script else "script-src 'none'")
        return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def render_page(
    template: str,
    *,
    styles: Sequence[str] = ("page.css",),
    script: str | None = "theme.js",
    data: Mapping[str, Any] | None = None,
    **context: Any,
) -> str:
    """Return a page as HTML: one file, everything in it.

    Args:
        template: name of a template in jobs/templates that extends `page.html.j2`.
        styles: names of style sheets in jobs/viewer, in their order.
        script: name of the module in jobs/viewer that the page starts; None for a page without any.
        data: values for the script, by the id of the element that will hold them as JSON.
        context: what the template shows.
    """
    page = Page(
        style="\n" + "".join(map(read_asset, styles)),
        script="\n" + bundle(script) if script else "",
        data={name: embed(value) for name, value in (data or {}).items()},
    )
    environment = Environment(
        loader=PackageLoader("jobs"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = lambda number: f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    environment.filters["visible"] = visible
    return environment.get_template(template).render(page=page, **context)


def embed(value: Any) -> str:
    """Return a value as JSON that can stand in a script element: nothing in it ends the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def bundle(entry: str) -> str:
    """Return a module of jobs/viewer and all that it imports as one classic script.

    Modules import each other by lines of one kind, `import { a, b } from "./name.js";`, export functions, classes and
    constants where they define them, and no two have a name in common.
    """
    modules: dict[str, str] = {}

    def add(name: str) -> None:
        source = read_asset(name)
        modules[name] = ""  # its place is taken: modules may not import each other in a circle
        for needed in _IMPORT.findall(source):
            if needed not in modules:
                add(needed)
        del modules[name]
        modules[name] = _EXPORT.sub("", _IMPORT.sub("", source))

    add(entry)
    body = "".join(f"// {name}\n{source}" for name, source in modules.items())
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def read_asset(name: str) -> str:
    """Return the text of a file in jobs/viewer."""
    return (files("jobs.viewer") / name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
