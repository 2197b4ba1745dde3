"""Which column of a table has which role: the image, its caption, its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.types as pt

from condgen.errors import ConfigError, nearest

__all__ = ["ROLES", "find_roles", "is_text"]

ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "image_uri", "uri", "url", "image_url", "path", "image_path", "file", "file_name", "filename"),
    "input": ("input",),
    "target": ("target",),
    "caption": ("caption", "text"),
    "label": ("label",),
    "key": ("key",),
}
"""Roles of columns, and the names by which a column is found where none is named."""


def find_roles(schema: pa.Schema, columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the columns of a table by their ``ROLES``: those that are named, and the others by their own names.

    Args:
        schema: schema of the table.
        columns: columns by role, where they are named.
        where: place of the table, for messages.

    Raises:
        ConfigError: there is no such column, or none with images.
    """
    for role, column in columns.items():
        if role not in ROLES:
            raise ConfigError.unknown("--columns", role, ROLES)
        if column not in schema.names:
            near = nearest(column, schema.names)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ConfigError("--columns", f"{role}={column}", f"a column of {where}{hint}: {', '.join(schema.names)}")
    by_fold = {name.lower(): name for name in reversed(schema.names)}
    roles = dict(columns)
    is_pair = "input" in roles or "target" in roles or ("image" not in roles and {"input", "target"} <= set(by_fold))
    for role, known in ROLES.items():
        if role in roles or (role == "image" if is_pair else role in ("input", "target")):
            continue
        found = next((by_fold[name] for name in known if name in by_fold), None)
        if found is not None:
            roles[role] = found
    needed = ("input", "target") if is_pair else ("image",)
    missing = [role for role in needed if role not in roles]
    if missing:
        allowed = f"{missing[0]}=COLUMN, one of {where}: {', '.join(schema.names)}"
        raise ConfigError("--columns", "nothing that holds the images", allowed)
    for role in needed:
        kind = schema.field(roles[role]).type
        holds = pt.is_struct(kind) and "bytes" in [field.name for field in kind]
        if not (is_text(kind) or holds or pt.is_binary(kind) or pt.is_large_binary(kind)):
            raise ConfigError("--columns", f"{role}={roles[role]}", f"a column of URIs or of images, not of {kind}")
    return roles


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds texts; one of nulls alone does."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_null(kind))
