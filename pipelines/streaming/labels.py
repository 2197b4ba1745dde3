"""Labels and texts of samples, as the numbers that a model is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condgen.errors import ImageError
from condgen.nn.tokens import tokenize
from pipelines.datasets.chunk import Sample, sample_facts

__all__ = ["LabelReader"]


@dataclass(frozen=True, kw_only=True)
class LabelReader:
    """Words of a sample that a stream gives besides its images, as numbers: from its JSON or table row.

    Attributes:
        label: field of the label, a whole number >= 0 (default: none).
        caption: field of the text (default: none).
        vocabulary, length: size of the vocabulary and number of tokens, as of `condgen.nn.tokens.tokenize`.
    """

    label: str = ""
    caption: str = ""
    vocabulary: int = 0
    length: int = 0

    @property
    def width(self) -> int:
        """Count of numbers for a sample: the label, then the tokens."""
        return bool(self.label) + (self.length if self.caption else 0)

    def of(self, sample: Sample) -> npt.NDArray[np.int64]:
        """Return a sample's numbers, ``[width]`` int64.

        Raises:
            ImageError: the sample has no such field, or its label is no whole number >= 0.
        """
        facts = sample_facts(sample) if self.width else {}
        found = np.zeros(self.width, dtype=np.int64)
        if self.label:
            label = facts.get(self.label)
            if not isinstance(label, int) or label < 0:
                raise ImageError("condition", "Label", f"its {self.label} is {label!r}, not a whole number >= 0")
            found[0] = label
        if self.caption:
            text = facts.get(self.caption)
            if not isinstance(text, str):
                raise ImageError("condition", "Caption", f"its {self.caption} is {text!r}, not a text")
            found[bool(self.label) :] = tokenize(text, vocabulary=self.vocabulary, length=self.length)
        return found
