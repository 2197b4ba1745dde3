"""What is written for an option, and what it means: splits, roles, members' names, sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from condgen.errors import ConfigError

__all__ = ["read_members", "read_roles", "read_size", "read_split"]


def read_split(text: str) -> dict[str, float]:
    """Return the names and shares in ``train=0.9,test=0.1``.

    Raises:
        ConfigError: the text has another form.
    """
    form = "NAME=SHARE,NAME=SHARE, such as train=0.9,test=0.1"
    pairs = _pairs("--split", text, form)
    try:
        return {name: float(share) for name, share in pairs}
    except ValueError:
        raise ConfigError("--split", text, form) from None


def read_members(texts: Iterable[str]) -> dict[str, str]:
    """Return the names in ``input=a`` and ``target=b``, or in ``input=a,target=b``, as a mapping.

    Raises:
        ConfigError: a text has another form.
    """
    text = ",".join(texts)
    return dict(_pairs("--member", text, "NAME=OTHER, such as input=cond")) if text else {}


def read_size(option: str, text: str) -> int:
    """Return ``50G`` as bytes; K, M, G and T are powers of 1024.

    Raises:
        ConfigError: the text has another form.
    """
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise ConfigError(option, text, "a size such as 500M, 50G or 2T")
    return int(match[1]) << (10 * " KMGT".index(match[2].upper() or " "))


def read_roles(text: str) -> dict[str, str]:
    """Return the columns by role in ``image=photo,key=id``; a column alone is the image's.

    Raises:
        ConfigError: a role is there twice, or has no column.
    """
    roles: dict[str, str] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        role, equals, column = (part.strip() for part in word.partition("="))
        role, column = (role, column) if equals else ("image", role)
        if not role or not column or role in roles:
            raise ConfigError("--roles", text, "ROLE=COLUMN,... with each role once, such as image=photo,key=id")
        roles[role] = column
    return roles


def _pairs(option: str, text: str, form: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not name or not value or name in dict(pairs):
            raise ConfigError(option, text, form)
        pairs.append((name, value))
    return pairs
