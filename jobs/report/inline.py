"""The style and the script of a page that is one file, and the policy that lets the browser take these two alone.

A page carries its style and its script in itself and names their SHA-256 in its Content-Security-Policy. Whatever else
comes into the page (from a key, a message, a name), the browser then runs no other script, takes no other style, and
loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup

__all__ = ["Inlined", "content_policy", "inline_files"]

_FOLDER = "jobs.viewer"
_ENDS = re.compile(r"</(style|script)|<!--", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Inlined:
    """What a template puts into a page.

    Attributes:
        style: the content of its one ``<style>``.
        script: the content of its one ``<script>``; empty where the page has none.
        policy: the content of its ``<meta http-equiv="Content-Security-Policy">``.
    """

    style: Markup
    script: Markup
    policy: str


def inline_files(styles: Sequence[str], scripts: Sequence[str] = ()) -> Inlined:
    """Return files of ``jobs/viewer`` as a page takes them, joined in their order.

    A template writes them without a space around: ``<style>{{ inlined.style }}</style>``, because the digest in the
    policy is of all that stands between the tags.

    Args:
        styles: names of CSS files.
        scripts: names of JavaScript files, which import nothing (default: the page has no script).

    Raises:
        ValueError: a file has a text that would end its element, or begin a comment.
    """
    style, script = _joined(styles), _joined(scripts)
    return Inlined(
        style=Markup(style),
        script=Markup(script),
        policy=content_policy(styles=[style], scripts=[script] if scripts else []),
    )


def content_policy(*, styles: Sequence[str], scripts: Sequence[str] = ()) -> str:
    """Return a Content-Security-Policy: images that are in the page, these styles, these scripts, and nothing else.

    Args:
        styles, scripts: contents of the elements, to the letter.
    """
    rules = ["default-src 'none'", "img-src data:", f"style-src {_digests(styles)}"]
    return "; ".join([*rules, f"script-src {_digests(scripts)}"] if scripts else rules)


def _joined(names: Sequence[str]) -> str:
    texts = [(files(_FOLDER) / name).read_text(encoding="utf-8") for name in names]
    for name, text in zip(names, texts, strict=True):
        if found := _ENDS.search(text):
            raise ValueError(f"{name} can't stand in a page: it has {found[0]!r}")
    return "\n".join(texts).replace("\r\n", "\n")  # as the browser reads it


def _digests(texts: Sequence[str]) -> str:
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts)
