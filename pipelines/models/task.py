"""The protocol of how images go through a model, which `colorization` and `translation` follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

__all__ = ["ImageTask", "Rgb"]

C = TypeVar("C")

Rgb: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""An image `[H, W, 3]`, sRGB."""


class ImageTask(Protocol[C]):
    """How images become what a model takes, and how its output becomes images again.

    Both functions are pure: the same image gives the same bytes, in any process.
    """

    def condition(self, rgb: Rgb) -> tuple[Sequence[torch.Tensor], C]:
        """Return an image `[H, W, 3]` as the model's inputs, and what `images` needs to know of it.

        The inputs are one or more tiles, each `[C, S, S]` float32 and all of one shape; they are made on access, so
        that those of a huge image are not all held.
        """

    def images(self, rgb: Rgb, outputs: Iterable[torch.Tensor], context: C) -> Iterable[Rgb]:
        """Return K images `[H, W, 3]` of the type of `rgb`, from the model's output for each tile in order.

        The outputs are `[K, C', S', S']` float32 on the CPU, and are computed as they are asked for.
        """
