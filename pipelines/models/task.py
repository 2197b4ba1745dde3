"""How images go through a model: the protocol of `pipelines.models.colorization` and `pipelines.models.translation`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

__all__ = ["PictureTask", "Rgb"]

C = TypeVar("C")

Rgb: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""An image `[H, W, 3]`, sRGB."""


class PictureTask(Protocol[C]):
    """How pictures become what a model takes, and what it gives becomes pictures again.

    Both functions are pure: the same picture gives the same bytes, in any process.
    """

    def condition(self, rgb: Rgb) -> tuple[Sequence[torch.Tensor], C]:
        """A picture `[H, W, 3]` as the model's inputs, and what `pictures` needs to know of it.

        The inputs are one or more tiles, each `[C, S, S]` float32 and all of one shape; they are made on access, so
        that those of a huge picture are not all held.
        """

    def pictures(self, rgb: Rgb, outputs: Iterable[torch.Tensor], context: C) -> Iterable[Rgb]:
        """K pictures `[H, W, 3]` of the type of `rgb`, of what the model gave for each tile in order.

        The outputs are `[K, C', S', S']` float32 on the CPU, and are computed as they are asked for.
        """
