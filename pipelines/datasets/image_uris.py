"""Where the images are that a table names."""

from __future__ import annotations

import re
from posixpath import normpath

from condgen.errors import ImageError
from pipelines.storage.object_names import split_uri
from pipelines.storage.store import Store

__all__ = ["locate_image"]

_CHAINED = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*::|::[A-Za-z][A-Za-z0-9+.\-]*://")


def locate_image(store: Store, table: str, uri: str) -> tuple[str, str]:
    """Return the root of the storage and the name in it that a URI in a table means.

    Args:
        store: store of the table.
        table: name of the table; a relative path begins at its folder.
        uri: relative or absolute path, `file://` or any other scheme's URI. Of these only paths are normalized: in a
            bucket, `a//b` and `a/b` are two objects.

    Raises:
        ImageError: stage `read`, `BadUri`: the text is no URI of a file.
    """
    if "\0" in uri or _CHAINED.search(uri):
        raise ImageError("read", "BadUri", "not the URI of one file")
    is_relative = "://" not in uri and not uri.startswith("/")
    if is_relative:
        uri = "/".join(part for part in (store.uri, table.rpartition("/")[0], uri) if part)
    root, name = split_uri(uri)
    if root == "/":
        name = normpath(f"/{name.removeprefix('localhost/') if '://' in uri else name}").strip("/")
    elif is_relative and not {"", ".", ".."}.isdisjoint(name.split("/")):
        name = normpath(name)
    if root.endswith("://") or not name.strip("/") or (is_relative and name.split("/")[0] == ".."):
        raise ImageError("read", "BadUri", "it names no file")
    return root, name
