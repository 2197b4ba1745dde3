"""What every model family implements, and what goes in and out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from condgen.errors import ConfigError, UnsupportedError
from condgen.noise import NoiseSource
from condgen.options import SampleOptions
from condgen.statistics import DatasetStatistics

__all__ = ["Batch", "Condition", "ConditionalModel", "SampleOptions"]

_T = TypeVar("_T", "Condition", "Batch")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What B samples are conditioned on: an image, a label, a text, or several at once.

    Attributes:
        image: ``[B, C, H, W]`` float32 in [-1, 1]; for colour, L_n = L / 50 - 1 with C = 1.
        label: ``[B]`` int64.
        text: ``[B, T]`` int64 tokens.
    """

    image: Tensor | None = None
    label: Tensor | None = None
    text: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {value.shape[0] for value in (self.image, self.label, self.text) if value is not None}
        if len(sizes) != 1:
            raise ConfigError("condition", sorted(sizes), "at least one part, all with the same number of samples")

    @property
    def num_samples(self) -> int:
        """B."""
        return next(v.shape[0] for v in (self.image, self.label, self.text) if v is not None)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Condition:
        """Return the condition on ``device``."""
        return _to(self, device, non_blocking)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B training samples.

    Attributes:
        condition: of B samples.
        target: ``[B, C, H, W]`` float32; for colour, ab_n = ab / 110 with C = 2.
        weight: ``[B]`` float32; 0 marks padding, which adds nothing to a loss.
    """

    condition: Condition
    target: Tensor
    weight: Tensor

    @property
    def num_samples(self) -> int:
        """B, padding included."""
        return self.target.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on ``device``."""
        return _to(self, device, non_blocking)


def _to(value: _T, device: torch.device | str, non_blocking: bool) -> _T:
    parts = {f.name: getattr(value, f.name) for f in fields(value)}
    moved = {k: v.to(device, non_blocking=non_blocking) for k, v in parts.items() if v is not None}
    return replace(value, **moved)


class ConditionalModel(nn.Module, ABC):
    """A model of p(y | x).

    ``config`` is the frozen dataclass that the model was built from: ``type(model)(model.config)`` builds its
    like. Sampling is done in ``eval()`` mode and its result is the same whatever else is in the batch.
    ``sample_options`` are the fields of ``SampleOptions`` that default to None and that the family has.
    """

    family: ClassVar[str]
    is_stochastic: ClassVar[bool]
    directions: ClassVar[tuple[str, ...]] = ("a2b",)
    sample_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def phases(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """The parameters that each training phase trains, by phase, in the order in which phases are run."""
        return {"model": list(self.parameters())}

    @property
    def phase_periods(self) -> Mapping[str, int]:
        """Of phases that are run in every n-th step alone (a generator after n steps of its critic), n."""
        return {}

    @abstractmethod
    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
        """Return named scalar terms, means weighted by ``batch.weight``; the loss is their sum."""

    @abstractmethod
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]`` float32 without gradients, with K = ``noise.num_draws``.

        Raises:
            UnsupportedError: K > 1 asked of a family without noise, or a mode or direction that it doesn't have.
        """

    def require_direction(self, direction: str) -> None:
        """Raise UnsupportedError unless the model translates in ``direction``."""
        if direction not in self.directions:
            raise UnsupportedError(
                f"family {self.family!r} has no direction {direction!r}, only {', '.join(self.directions)}: "
                "choose a model that translates both ways, such as a cyclic one"
            )

    def log_prob(self, condition: Condition, y: Tensor) -> Tensor:  # noqa: ARG002 - a default
        """Return log p(y | x) in nats, ``[B]`` float32; each family says of which quantity."""
        raise UnsupportedError(f"family {self.family!r} has no likelihood: choose a family that has log_prob")

    @property
    def needs_statistics(self) -> bool:
        """Whether ``fit_statistics`` is to be called before the first step."""
        return False

    def categories(self, condition: Condition, y: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - a default
        """Return what a categorical family says of each place of y, and which category is there.

        Returns:
            log p of the Q categories of each of N places, ``[B, N, Q]`` float32, and the true ones, ``[B, N]`` int64.

        Raises:
            UnsupportedError: the family has no categories.
        """
        raise UnsupportedError(f"family {self.family!r} has no categories: choose a categorical family")

    def fit_statistics(self, statistics: DatasetStatistics) -> None:
        """Take what the family needs from the training set, before the first step."""
