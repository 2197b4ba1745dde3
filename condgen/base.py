"""The interface of every model family, and the values that go in and out of it. It knows no family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from condgen.checks import check_choice
from condgen.errors import ConfigError, UnsupportedError
from condgen.noise import NoiseSource
from condgen.options import SampleOptions
from condgen.statistics import DatasetStatistics

__all__ = ["Batch", "Condition", "ConditionalModel", "SampleOptions", "condition_image", "weighted_mean"]

_T = TypeVar("_T", "Condition", "Batch")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What B samples are conditioned on: an image, a label, a text, or several at once.

    Attributes:
        image: image x, ``[B, C, H, W]`` float32 in [-1, 1]; for color, L_n = L / 50 - 1 with C = 1.
        label: classes, ``[B]`` int64.
        text: tokens, ``[B, T]`` int64.
    """

    image: Tensor | None = None
    label: Tensor | None = None
    text: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = [value.shape[0] for value in (self.image, self.label, self.text) if value is not None]
        if not sizes or any(size != sizes[0] for size in sizes[1:]):
            raise ConfigError("condition", sizes, "at least one part, all with the same number of samples")

    @property
    def num_samples(self) -> int:
        """B, the number of samples."""
        return next(v.shape[0] for v in (self.image, self.label, self.text) if v is not None)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Condition:
        """Return the condition on ``device``."""
        return _to(self, device, non_blocking)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B training samples.

    Attributes:
        condition: condition x of B samples.
        target: target y, ``[B, C, H, W]`` float32; for color, ab_n = ab / 110 with C = 2.
        weight: weight of each sample in a loss, ``[B]`` float32; 0 marks padding, which adds nothing.
    """

    condition: Condition
    target: Tensor
    weight: Tensor

    @property
    def num_samples(self) -> int:
        """B, the number of samples, padding included."""
        return self.target.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on ``device``."""
        return _to(self, device, non_blocking)

    def split(self, parts: int) -> list[Batch]:
        """Return the batch in at most ``parts`` parts of equal size (the last may be smaller), as views."""
        if parts == 1:
            return [self]
        size = -(-self.num_samples // parts)
        return [_rows(self, slice(at, at + size)) for at in range(0, self.num_samples, size)]


def _rows(value: _T, rows: slice) -> _T:
    parts = {f.name: getattr(value, f.name) for f in fields(value)}
    cut: Any = {k: v[rows] if isinstance(v, Tensor) else _rows(v, rows) for k, v in parts.items() if v is not None}
    return replace(value, **cut)


def _to(value: _T, device: torch.device | str, non_blocking: bool) -> _T:
    parts = {f.name: getattr(value, f.name) for f in fields(value)}
    on_device = {k: v.to(device, non_blocking=non_blocking) for k, v in parts.items() if v is not None}
    return replace(value, **on_device)


def condition_image(condition: Condition, channels: int) -> Tensor:
    """Return the condition's image, ``[B, channels, H, W]``.

    Raises:
        UnsupportedError: there is none, or it has other channels.
    """
    image = condition.image
    if image is None:
        raise UnsupportedError("this family is conditioned on an image, and the condition has none")
    if image.ndim != 4 or image.shape[1] != channels:
        raise UnsupportedError(
            f"the condition's image is {list(image.shape)}, and this model takes [B, {channels}, H, W]"
        )
    return image


def weighted_mean(per_sample: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of ``[B]`` weighted by ``[B]``; 0 (with gradients of 0) where all weights are 0."""
    return (per_sample * weight).sum() / weight.sum().clamp_min(1e-8)


class ConditionalModel(nn.Module, ABC):
    """A model of p(y | x).

    ``type(model)(model.config)`` builds a model like it. Sampling is done in ``eval()`` mode, and its result is the
    same whatever else is in the batch.

    Attributes:
        config: frozen dataclass that the model was built from.
        family: name of the model's family.
        is_stochastic: whether draws differ; if not, more than one draw is refused.
        directions: directions in which the model translates.
        sample_options: fields of ``SampleOptions`` that default to None and that the family has.
        samplers: names that ``SampleOptions.sampler`` may have; empty where ``sample_options`` has no sampler.
    """

    family: ClassVar[str]
    is_stochastic: ClassVar[bool]
    directions: ClassVar[tuple[str, ...]] = ("a2b",)
    sample_options: ClassVar[tuple[str, ...]] = ()
    samplers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def phases(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """The parameters that each training phase trains, by phase, in the order in which phases are run."""
        return {"model": list(self.parameters())}

    @property
    def phase_periods(self) -> Mapping[str, int]:
        """Steps from one run of a phase to the next, for phases that are not run in every step (a GAN's generator)."""
        return {}

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The modules with most of the work, each called as a function of tensors: what ``train.compile`` compiles.

        None of them may need a second derivative. By default they are the children, and those in lists, with weights.
        """
        containers = nn.ModuleList | nn.ModuleDict
        held = (list(child.children()) if isinstance(child, containers) else [child] for child in self.children())
        return [module for modules in held for module in modules if next(module.parameters(), None) is not None]

    @abstractmethod
    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:
        """Return named scalar terms, which are means weighted by ``batch.weight``; the loss is their sum."""

    @abstractmethod
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, ``[B, K, C, H, W]`` float32 without gradients, with K = ``noise.num_draws``.

        Raises:
            UnsupportedError: the family has no noise and K > 1, or it does not have the mode or the direction.
        """

    def require_direction(self, direction: str) -> None:
        """Raise UnsupportedError unless the model translates in ``direction``."""
        if direction not in self.directions:
            raise UnsupportedError(
                f"family {self.family!r} has no direction {direction!r}, only {', '.join(self.directions)}: "
                "choose a model that translates both ways, such as a cyclic one"
            )

    def check_options(self, options: SampleOptions) -> None:
        """Refuse options that the model does not have, and a sampler that it does not know.

        Raises:
            ConfigError: the first of them, and those that the model has.
        """
        for one in fields(options):
            value = getattr(options, one.name)
            if one.default is None and value is not None and one.name not in self.sample_options:
                has = f"it has {', '.join(self.sample_options)}" if self.sample_options else "it has no such options"
                raise ConfigError(f"sample.{one.name}", value, f"nothing for family {self.family!r}: {has}")
        if options.sampler is not None and self.samplers:
            check_choice("sample.sampler", options.sampler, self.samplers)

    def log_prob(self, condition: Condition, y: Tensor) -> Tensor:  # noqa: ARG002 - a default
        """Return log p(y | x) in nats, ``[B]`` float32; each family says which form of y it measures."""
        raise UnsupportedError(f"family {self.family!r} has no likelihood: choose a family that has log_prob")

    @property
    def needs_statistics(self) -> bool:
        """Whether ``fit_statistics`` must be called before the first step."""
        return False

    def categories(self, condition: Condition, y: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - a default
        """Return a categorical family's prediction at each place of y, and the true categories.

        Returns:
            log p of the Q categories at N places, ``[B, N, Q]`` float32, and the true categories, ``[B, N]`` int64.

        Raises:
            UnsupportedError: the family has no categories.
        """
        raise UnsupportedError(f"family {self.family!r} has no categories: choose a categorical family")

    def fit_statistics(self, statistics: DatasetStatistics) -> None:
        """Take what the family needs to know of the training set, before the first step."""
