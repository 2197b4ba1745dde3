"""Labels and texts as vectors and tokens that a network takes in, by one interface.

A pretrained encoder takes the place of one that is trained along by being a ``Conditioner``: ``FrozenText`` wraps
any module that turns tokens into features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condgen.base import Condition
from condgen.errors import UnsupportedError
from condgen.nn.transformer import TransformerBlock

__all__ = [
    "Conditioner",
    "ConditionerSet",
    "Encoding",
    "FrozenText",
    "LabelEmbedding",
    "TextEncoder",
    "make_conditioners",
]


@dataclass(frozen=True)
class Encoding:
    """A condition's label or text as a network is given it.

    Attributes:
        vector: the whole in one vector, ``[B, D]``.
        tokens: its parts, to attend to, ``[B, T, D]``; T may be 0.
        mask: which tokens are present, ``[B, T]`` bool.
    """

    vector: Tensor
    tokens: Tensor
    mask: Tensor


class Conditioner(nn.Module, ABC):
    """Encodes one part of a condition.

    Every conditioner knows a null condition, its own learned encoding of "nothing was said", which classifier-free
    guidance needs and which stands in for a part that is missing.
    """

    part: ClassVar[str]
    """``label`` or ``text``."""

    @abstractmethod
    def forward(self, condition: Condition, dropped: Tensor) -> Encoding:
        """Return the encoding of B samples.

        Args:
            condition: condition of B samples; if its part is missing, all are null.
            dropped: ``[B]`` bool; where True, the null condition is encoded.

        Raises:
            UnsupportedError: a label or token that the conditioner doesn't know, or a text that is too long.
        """


def _no_tokens(vector: Tensor) -> Encoding:
    batch, width = vector.shape
    empty = torch.zeros(batch, 0, dtype=torch.bool, device=vector.device)
    return Encoding(vector, vector.new_zeros(batch, 0, width), empty)


def _require_range(what: str, values: Tensor, size: int, low: int) -> None:
    if values.numel() and not (low <= int(values.min()) and int(values.max()) < size):
        raise UnsupportedError(
            f"a {what} from {int(values.min())} to {int(values.max())} was given, and this model knows 0 to {size - 1}"
        )


class LabelEmbedding(Conditioner):
    """A learned vector a class; label -1 is the null condition.

    Args:
        num_labels: number of classes.
        width: length of the vector.
    """

    part: ClassVar[str] = "label"

    def __init__(self, num_labels: int, width: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.table = nn.Embedding(num_labels + 1, width)  # the last is null

    def forward(self, condition: Condition, dropped: Tensor) -> Encoding:
        """Return the labels' vectors; there are no tokens."""
        label = torch.full_like(dropped, -1, dtype=torch.int64) if condition.label is None else condition.label
        _require_range("label", label, self.num_labels, low=-1)
        null = dropped | (label < 0)
        return _no_tokens(self.table(torch.where(null, self.num_labels, label)))


class TextEncoder(Conditioner):
    """A small vocabulary's texts; token 0 is padding, and a text of nothing else is the null condition.

    Args:
        vocabulary: tokens, 0 to vocabulary - 1.
        width: length of the vector and of the tokens' features.
        length: largest number of tokens in a text.
        kind: ``bag``, the mean of the words' vectors and a small network over it, which knows no order;
            ``transformer``, blocks over the words and a token of its own that gathers the whole.
        layers, heads: layers and attention heads of the transformer.
    """

    part: ClassVar[str] = "text"

    def __init__(
        self,
        vocabulary: int,
        width: int,
        length: int,
        kind: Literal["bag", "transformer"] = "transformer",
        *,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.length = length
        self.words = nn.Embedding(vocabulary - 1, width)
        self.null = nn.Parameter(torch.randn(width))
        is_bag = kind == "bag"
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) if is_bag else None
        self.blocks = nn.ModuleList(() if is_bag else (TransformerBlock(width, heads) for _ in range(layers)))
        if not is_bag:
            self.whole = nn.Parameter(torch.randn(width))
            self.positions = nn.Parameter(0.02 * torch.randn(length, width))
            self.norm = nn.LayerNorm(width)

    def forward(self, condition: Condition, dropped: Tensor) -> Encoding:
        """Return the texts' vectors; a transformer's tokens are its words', a bag has none."""
        text = dropped.new_zeros(len(dropped), 1, dtype=torch.int64) if condition.text is None else condition.text
        _require_range("text's token", text, self.vocabulary, low=0)
        if text.shape[1] > self.length:
            raise UnsupportedError(f"a text has {text.shape[1]} tokens, and this model takes {self.length} at most")
        present = (text > 0) & ~dropped[:, None]
        null = ~present.any(dim=1, keepdim=True)
        words = self.words((text - 1).clamp_min(0))
        if self.mlp is not None:
            share = present.float() / present.sum(dim=1, keepdim=True).clamp_min(1)
            mean = (words * share[..., None]).sum(dim=1)
            return _no_tokens(self.mlp(torch.where(null, self.null, mean)))
        first = torch.where(null, self.null, self.whole)[:, None]
        x = torch.cat([first, words + self.positions[: text.shape[1]]], dim=1)
        mask = F.pad(present, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, mask[:, None, None])
        x = self.norm(x)
        return Encoding(x[:, 0], x, mask)


class FrozenText(Conditioner):
    """A pretrained encoder of texts, which is not trained, and a learned map from its features.

    Args:
        encoder: module that turns tokens ``[B, T]`` int64 into features ``[B, T, F]``; token 0 is padding.
        num_features: F.
        width: length of the vector and of the tokens that come out.
    """

    part: ClassVar[str] = "text"

    def __init__(self, encoder: nn.Module, num_features: int, width: int) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.project = nn.Linear(num_features, width)
        self.null = nn.Parameter(torch.randn(width))

    def forward(self, condition: Condition, dropped: Tensor) -> Encoding:
        """Return the mean of the tokens' features as the vector, and the tokens."""
        text = dropped.new_zeros(len(dropped), 1, dtype=torch.int64) if condition.text is None else condition.text
        present = (text > 0) & ~dropped[:, None]
        with torch.no_grad():
            features = self.encoder(text)
        tokens = self.project(features)
        share = present.float() / present.sum(dim=1, keepdim=True).clamp_min(1)
        mean = (tokens * share[..., None]).sum(dim=1)
        null = ~present.any(dim=1, keepdim=True)
        return Encoding(torch.where(null, self.null, mean), tokens, present)


class ConditionerSet(nn.Module):
    """Several conditioners as one: the sum of their vectors, and their tokens in a row.

    Args:
        conditioners: conditioners, at most one for each part.
        width: length of their vectors.
        null_parts: parts that the model is trained to do without.
    """

    def __init__(self, conditioners: Iterable[Conditioner], width: int, null_parts: Iterable[str] = ()) -> None:
        super().__init__()
        self.width = width
        self.null_parts = frozenset(null_parts)
        self.parts = nn.ModuleDict({c.part: c for c in conditioners})

    def forward(self, condition: Condition, dropped: Tensor) -> Encoding:
        """Return the encoding of B samples; zeros where there are no conditioners.

        Args:
            condition: condition of B samples; parts without a conditioner are left alone.
            dropped: ``[B]`` bool; where True, the null parts are null.

        Raises:
            UnsupportedError: a part is missing that the model never did without, or holds what it doesn't know.
        """
        reference = next(self.parameters(), torch.zeros((), device=dropped.device))
        vector = torch.zeros(dropped.shape[0], self.width, device=dropped.device, dtype=reference.dtype)
        whole = _no_tokens(vector)
        for part, conditioner in self.parts.items():
            may_be_null = part in self.null_parts
            if getattr(condition, part) is None and not may_be_null:
                raise UnsupportedError(f"this model is conditioned on a {part}, and the condition has none")
            one = conditioner(condition, dropped if may_be_null else torch.zeros_like(dropped))
            whole = Encoding(
                whole.vector + one.vector,
                torch.cat([whole.tokens, one.tokens], dim=1),
                torch.cat([whole.mask, one.mask], dim=1),
            )
        return whole


def make_conditioners(
    width: int,
    *,
    num_labels: int = 0,
    text_vocabulary: int = 0,
    text_length: int = 32,
    text_encoder: Literal["bag", "transformer"] = "transformer",
    null_parts: Iterable[str] = (),
) -> ConditionerSet:
    """Return the conditioners that a configuration asks for; 0 labels or words ask for none."""
    conditioners: list[Conditioner] = []
    if num_labels:
        conditioners.append(LabelEmbedding(num_labels, width))
    if text_vocabulary:
        conditioners.append(TextEncoder(text_vocabulary, width, text_length, text_encoder))
    return ConditionerSet(conditioners, width, null_parts)
