"""The configuration of ``regression``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import Count, Positive
from condgen.nn.config import UNetConfig

__all__ = ["RegressionConfig"]


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(UNetConfig):
    """See ``condgen.families.regression.model``.

    Attributes:
        target_channels: channels of y; 2 for color (ab).
        loss: ``l2``, the squared error, whose optimum is the mean of p(y | x); ``l1``, the absolute error, whose
            optimum is the median; ``smooth_l1``, squared within ``smooth_beta`` and absolute beyond (Huber 1964).
        smooth_beta: error at which ``smooth_l1`` becomes absolute (the target's units).
    """

    family: ClassVar[str] = "regression"

    target_channels: Count = 2
    loss: Literal["l2", "l1", "smooth_l1"] = "l2"
    smooth_beta: Positive = 0.1
