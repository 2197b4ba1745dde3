"""Texts as tokens of a fixed number, without a vocabulary to keep: words are hashed. Free of torch.

Weinberger et al. 2009, "Feature hashing for large scale multitask learning": two words may share a token, seldom in a
table that is a few times as large as the set of words.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

__all__ = ["tokenize"]

_WORD = re.compile(r"\w+")


def tokenize(text: str, *, vocabulary: int, length: int) -> NDArray[np.int64]:
    """Return the first ``length`` words of a text as tokens, ``[length]`` int64; 0 fills what is left.

    Words are runs of letters and digits, in lower case (NFKC). A word's token is 1 + its SHA-256's first 8 bytes,
    little-endian, modulo ``vocabulary`` - 1: the same on every machine.

    Args:
        text: any.
        vocabulary: tokens in all, padding included, >= 2.
        length: length of the result, >= 1.
    """
    tokens = np.zeros(length, dtype=np.int64)
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())[:length]
    for place, word in enumerate(words):
        number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        tokens[place] = 1 + number % (vocabulary - 1)
    return tokens
