"""Text from data as people can trust it: characters that are not seen, or that turn others around, are shown."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_MOST = 2000


def visible(text: object) -> str:
    r"""Return a value as one line of text, with escapes such as ``\u202e`` for characters that can't be seen.

    Control characters, those that change the direction of writing, and others without a form of their own could make a
    name look like another one. A text of more than 2,000 characters is cut, and ends in an ellipsis.
    """
    whole = str(text)
    shown = "".join(_escape(letter) if _is_hidden(letter) else letter for letter in whole[:_MOST])
    return shown + "\N{HORIZONTAL ELLIPSIS}" * (len(whole) > _MOST)


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _HIDDEN


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
