r"""Names of stored objects as text that Parquet, JSON and a terminal can hold, and the objects of URIs.

Names travel unchanged: `//`, `..`, `%`, `?`, `#`, `+`, spaces and any Unicode mean nothing. Only bytes that are not
UTF-8, which a local file's name may have, are no text. Each is written as ``\udcNN``, NN its value in hexadecimal (as
Python shows it), and a backslash before what would be read as such is written as ``\udc5c``. So no two files have the
same name, and the text finds its file again, in a table, a plan or on the command line.
"""

from __future__ import annotations

import re

__all__ = ["escape_name", "split_uri", "unescape_name"]

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://")
_WEB = ("http", "https")
_ESCAPED = re.compile(r"\\udc(5c|[89a-f][0-9a-f])")
_TO_ESCAPE = re.compile("[\udc80-\udcff]|\\\\(?=udc(?:5c|[89a-f][0-9a-f]))")


def escape_name(name: str) -> str:
    """Return a name, as `os.fsdecode` gives it, as text; a name that is text already stays as it is."""
    return _TO_ESCAPE.sub(lambda match: f"\\u{max(ord(match[0]), 0xDC5C):x}", name)


def unescape_name(name: str) -> str:
    """Return the name that `escape_name` was given."""
    return _ESCAPED.sub(lambda match: "\\" if match[1] == "5c" else chr(0xDC00 + int(match[1], 16)), name)


def split_uri(uri: str) -> tuple[str, str]:
    """Return the store of an object's URI, as widely as it goes, and the object's name there, both as they are.

    The store is the root of local files, the bucket, or the host; the name is empty where the URI has none. A fragment
    of a web address is no part of what a server is asked for.
    """
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else "file"
    rest = uri[match.end() :] if match else uri
    if scheme in ("file", "local"):
        return "/", rest.lstrip("/")
    place, _, name = rest.partition("/")
    if scheme in _WEB:
        place, query, after = place.partition("?")  # https://host?id=7
        name = f"{query}{after}" if query else name
        name = name.partition("#")[0]
    return f"{uri[: match.end()] if match else ''}{place}", name
