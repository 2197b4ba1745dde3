"""Texts as tokens: the same everywhere, padded and cut."""

import numpy as np

from condgen.nn.tokens import tokenize


def test_words_have_the_same_tokens_in_any_case_and_place() -> None:
    one, two = (tokenize(text, vocabulary=1000, length=5) for text in ("A red circle!", "the RED, Circle"))
    assert one.dtype == np.int64
    assert one[1:3].tolist() == two[1:3].tolist()
    assert one[0] != two[0]
    assert one[3:].tolist() == [0, 0]


def test_the_tokens_are_fixed() -> None:
    assert tokenize("a red circle", vocabulary=1000, length=3).tolist() == [50, 586, 282]


def test_long_texts_are_cut_and_empty_ones_are_padding() -> None:
    assert tokenize("a b c d", vocabulary=9, length=2).shape == (2,)
    assert tokenize("…", vocabulary=9, length=2).tolist() == [0, 0]
    many = tokenize(" ".join(map(str, range(500))), vocabulary=9, length=500)
    assert many.min() == 1
    assert many.max() == 8
