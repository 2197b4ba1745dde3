"""A model's judgment of the true images: their likelihood, and how well its categories are calibrated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.base import Condition, ConditionalModel
from condgen.color.colorize import fit_square, resize
from condgen.errors import UnsupportedError
from condgen.families.color_classifier.model import ColorClassifier
from condgen.metrics.calibration import NUM_CONFIDENCE_BINS, count_reliability
from condgen.metrics.likelihood import marginal_ab_nll
from pipelines.models.source import LoadedModel, ModelSource, kind_of

__all__ = ["JudgeSpec", "LikelihoodModel", "Verdict", "can_judge"]


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """The model whose likelihood is asked for."""

    model: ModelSource
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a model says of one true image.

    Attributes:
        nll: negative log-likelihood in nats a pixel of the model's grid; None where it has no likelihood.
        marginal_nll: the same under the training set's marginal, which knows the colors but not the image; of a color
            classifier alone.
        reliability: counts of `condgen.metrics.calibration.count_reliability`; zeros where it has no categories.
    """

    nll: float | None
    marginal_nll: float | None
    reliability: NDArray[np.float64]


def can_judge(loaded: LoadedModel) -> bool:
    """Return whether a model has a likelihood or categories, of images as they are measured here."""
    kind = type(loaded.model)
    has = kind.log_prob is not ConditionalModel.log_prob or kind.categories is not ConditionalModel.categories
    channels = getattr(loaded.model.config, "target_channels", 2)
    return has and channels == (2 if kind_of(loaded) == "colorize" else 3)


class LikelihoodModel:
    """A loaded model that is asked about true images, on this process's device.

    Args:
        spec: the model.

    Raises:
        CheckpointError: it is another model than the spec says.
    """

    def __init__(self, spec: JudgeSpec) -> None:
        loaded = spec.model.load(expect_digest=spec.digest)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = loaded.model.eval().to(self._device)
        self._is_color = kind_of(loaded) == "colorize"
        self._size_px = int(loaded.extra["size_px"])
        stride = int(getattr(loaded.model.config, "out_stride", 1))
        self._grid_pixels = (self._size_px // stride) ** 2

    @torch.inference_mode()
    def __call__(self, reference: NDArray[np.uint8], given: NDArray[np.uint8] | None) -> Verdict:
        """Ask about one image: of its middle square, so that no margin counts.

        Args:
            reference: the true image, `[H, W, 3]` uint8.
            given: the input, of any size, where it is not made of the reference.
        """
        x, y = self._tensors(reference, given)
        condition = Condition(image=x.to(self._device))
        y = y.to(self._device)
        return Verdict(
            nll=self._nll(condition, y),
            marginal_nll=float(marginal_ab_nll(self._model, y)) if isinstance(self._model, ColorClassifier) else None,
            reliability=self._reliability(condition, y),
        )

    def _nll(self, condition: Condition, y: Tensor) -> float | None:
        try:
            return -float(self._model.log_prob(condition, y)) / self._grid_pixels
        except UnsupportedError:
            return None

    def _reliability(self, condition: Condition, y: Tensor) -> NDArray[np.float64]:
        try:
            log_p, truth = self._model.categories(condition, y)
        except UnsupportedError:
            return np.zeros((3, NUM_CONFIDENCE_BINS))
        return count_reliability(log_p.cpu(), truth.cpu())

    def _tensors(self, reference: NDArray[np.uint8], given: NDArray[np.uint8] | None) -> tuple[Tensor, Tensor]:
        """Return the condition and the target as the model takes them, a batch of one."""
        squares = [_middle_square(image) for image in (reference, *([given] if given is not None else []))]
        if self._is_color:
            fitted = [fit_square(square, self._size_px) for square in squares]
            return torch.from_numpy(fitted[-1].l_n)[None], torch.from_numpy(fitted[0].ab_n)[None]
        codes = [_square_codes(square, self._size_px) for square in squares]
        return codes[-1][None], codes[0][None]


def _square_codes(square: NDArray[np.uint8], size_px: int) -> Tensor:
    return resize(square, size_px, size_px).float() / 127.5 - 1


def _middle_square(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = min(rgb.shape[:2])
    top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])
