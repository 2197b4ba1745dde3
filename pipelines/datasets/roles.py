"""Which column of a table has which role: its image, its caption, its key."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.types as pt

from condgen.checks import check_choice
from condgen.errors import ConfigError, nearest
from pipelines.images.formats import format_of
from pipelines.storage.parquet import StoredParquet

__all__ = ["ROLES", "find_roles", "holds_images", "is_text"]

ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "image_uri", "uri", "url", "image_url", "path", "image_path", "file", "file_name", "filename"),
    "input": ("input",),
    "target": ("target",),
    "caption": ("caption", "text"),
    "label": ("label",),
    "key": ("key",),
}
"""Roles of columns, and the names by which a column is found where none is named."""

_HELD = (*ROLES["image"], "jpg", "jpeg", "png", "webp", "tif", "tiff", "img", "photo", "picture", "image_bytes")
"""Names of columns that are known to hold images themselves, where they hold bytes."""

_OPTION = "--roles"


def find_roles(file: StoredParquet, columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the columns of a table by their ``ROLES``: those that are named, and the others by their own names.

    A column that holds the images themselves goes before one that says where they are. Where no name tells of such a
    column, columns of bytes are looked into.

    Args:
        file: table, as ``pipelines.datasets.parquet.open_table`` opens it.
        columns: columns by role, where they are named.
        where: place of the table, for messages.

    Raises:
        ConfigError: there is no such column, none with images, or it is not clear which.
        pyarrow.ArrowInvalid: the table is damaged.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    schema = file.schema_arrow
    _check_named(schema, columns, where)
    by_fold = {name.lower(): name for name in reversed(schema.names)}
    roles = dict(columns)
    is_pair = "input" in roles or "target" in roles or ("image" not in roles and {"input", "target"} <= set(by_fold))
    for role, known in ROLES.items():
        if role in roles or (role == "image" if is_pair else role in ("input", "target")):
            continue
        found = next((by_fold[name] for name in known if name in by_fold), None)
        if role == "image":
            found = _held_column(file, by_fold, where) or found
        if found is not None:
            roles[role] = found
    needed = ("input", "target") if is_pair else ("image",)
    for role in needed:
        if role not in roles:
            raise ConfigError(_OPTION, "nothing", f"{role}=COLUMN, one of {where}: {', '.join(schema.names)}")
        kind = schema.field(roles[role]).type
        if not (is_text(kind) or holds_images(kind)):
            raise ConfigError(_OPTION, f"{role}={roles[role]}", f"a column of URIs or of images, not of {kind}")
    return roles


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds texts; one of nulls alone does."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_null(kind))


def holds_images(kind: pa.DataType) -> bool:
    """Return whether a column of this type may hold images: bytes, or a struct that has them or their path."""
    if pt.is_struct(kind):
        return not {"bytes", "path"}.isdisjoint(field.name for field in kind)
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind))


def _check_named(schema: pa.Schema, columns: Mapping[str, str], where: str) -> None:
    for role, column in columns.items():
        check_choice(_OPTION, role, ROLES)
        if column not in schema.names:
            near = nearest(column, schema.names)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ConfigError(_OPTION, f"{role}={column}", f"a column of {where}{hint}: {', '.join(schema.names)}")


def _held_column(file: StoredParquet, by_fold: Mapping[str, str], where: str) -> str | None:
    """Return the column that holds images, by its name or by what is in it; None where there is none."""
    held = [name for name in file.schema_arrow.names if holds_images(file.schema_arrow.field(name).type)]
    for name in _HELD:
        if by_fold.get(name) in held:
            return by_fold[name]
    found = [name for name in held if format_of(_first_bytes(file, name)[:32])]
    if len(found) > 1:
        raise ConfigError(_OPTION, "nothing", f"image=COLUMN, one of those of {where} with images: {', '.join(found)}")
    return found[0] if found else None


def _first_bytes(file: StoredParquet, column: str) -> bytes:
    """Return the first value of a column of bytes in the first row group; nothing where there is none."""
    if not file.num_row_groups:
        return b""
    for value in file.read_row_group(0, [column]).column(0):
        held = value.as_py()
        held = held.get("bytes") if isinstance(held, dict) else held
        if held:
            return bytes(held)
    return b""
