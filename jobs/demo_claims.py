"""What the demo claims, measured on the held-out images: is colour there, and is it more probable than by chance?

Two measures, both per image and then averaged:

- colourfulness (Hasler and Süsstrunk 2003) of the grey image, of the L2 regressor's, of the classifier's draws, and of
  the originals, each from the pixels of the pictures in the Parquet files;
- the negative log-likelihood of the true ab bins at the model's grid, in nats a pixel, under the classifier and under
  the training set's marginal, which knows the colours but not the picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from condgen.base import Condition
from condgen.colorize import fit_square
from condgen.errors import CondgenError, DatasetError, ImageError
from condgen.families.color_classifier import ColorClassifier
from condgen.metrics import ab_nll, colorfulness, marginal_ab_nll
from pipelines.chunks import image_member, iter_chunks, read_chunk
from pipelines.images import decode
from pipelines.models import load_model
from pipelines.plans import load_plans
from pipelines.results import draws_name
from pipelines.storage import Store

__all__ = ["Evaluation", "evaluate"]

MEASURED_PX = 256  # pictures are measured at about this size, decoded by DCT scaling
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The measurements, as means over images.

    Attributes:
        num_images: measured, those with draws.
        grey, points, draws, originals: colourfulness.
        nll, marginal_nll: nats a pixel of the model's grid.
    """

    num_images: int
    grey: float
    points: float
    draws: float
    originals: float
    nll: float
    marginal_nll: float

    def claims(self) -> list[tuple[str, bool]]:
        """What is claimed, and whether the numbers bear it out."""
        draws, nll = f"{self.draws:.1f}", f"{self.nll:.2f} < {self.marginal_nll:.2f} nats/pixel"
        return [
            (f"draws are more colourful than the grey image: {draws} > {self.grey:.1f}", self.draws > self.grey),
            (f"draws are more colourful than L2's: {draws} > {self.points:.1f}", self.draws > self.points),
            (f"the true colours are more probable than by chance: {nll}", self.nll < self.marginal_nll),
        ]

    def lines(self) -> list[str]:
        """The measurements and claims, a line each."""
        means = f"grey {self.grey:.1f}, L2 {self.points:.1f}, draws {self.draws:.1f}, originals {self.originals:.1f}"
        return [
            f"Measured on {self.num_images} held-out images",
            f"  colourfulness   {means}",
            f"  ab, nats/pixel  classifier {self.nll:.3f}, training set's marginal {self.marginal_nll:.3f}",
            *(f"  {'holds' if holds else 'FAILS'}           {text}" for text, holds in self.claims()),
        ]

    def findings(self) -> list[dict[str, str]]:
        """The same for the report: a row each of name, value, claim and whether it holds."""
        more_than_grey, more_than_l2, likelier = ("yes" if holds else "no" for _, holds in self.claims())
        return [
            _finding("colourfulness of grey", f"{self.grey:.1f}"),
            _finding("colourfulness of L2", f"{self.points:.1f}"),
            _finding("colourfulness of draws", f"{self.draws:.1f}", "more than grey", more_than_grey),
            _finding("colourfulness of draws", f"{self.draws:.1f}", "more than L2", more_than_l2),
            _finding("colourfulness of originals", f"{self.originals:.1f}"),
            _finding("ab under the marginal", f"{self.marginal_nll:.3f} nats/pixel"),
            _finding("ab under the classifier", f"{self.nll:.3f} nats/pixel", "less than the marginal", likelier),
        ]


def _finding(name: str, value: str, claim: str = "", holds: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "claim": claim, "holds": holds}


def evaluate(*, archive: Store, draws: Store, points: Store, model: Store) -> Evaluation:
    """Measure finished results.

    Args:
        archive: the held-out images.
        draws, points: results of the classifier (K draws) and of the regressor (one) on that archive.
        model: the classifier's run; its prior is the training set's marginal.

    Raises:
        DatasetError: nothing to measure, or another family's model.
    """
    loaded = load_model(model)
    classifier = loaded.model
    if not isinstance(classifier, ColorClassifier):
        raise DatasetError(f"{model.uri} is no colour classifier but {classifier.family}: train one there")
    grey, originals, squares = [], [], []
    for rgb in _originals(archive, draws):
        originals.append(_colourfulness(rgb))
        lightness = np.asarray(rgb.mean(axis=2, keepdims=True), np.uint8)
        grey.append(_colourfulness(np.broadcast_to(lightness, rgb.shape)))
        squares.append(_centre_square(rgb))
    if not originals:
        raise DatasetError(f"{draws.uri} has no draws to measure: see its errors")
    nll, marginal = _likelihoods(classifier, squares, int(loaded.extra["size_px"]))
    return Evaluation(
        num_images=len(originals),
        grey=float(np.mean(grey)),
        points=float(np.mean([_colourfulness(rgb) for rgb in _pictures(points)])),
        draws=float(np.mean([_colourfulness(rgb) for rgb in _pictures(draws)])),
        originals=float(np.mean(originals)),
        nll=nll,
        marginal_nll=marginal,
    )


def _pictures(results: Store) -> Iterator[NDArray[np.uint8]]:
    """All pictures of a results folder."""
    for entry in results.list("draws"):
        table = pq.read_table(io.BytesIO(results.read(entry.name)), columns=["image"])
        for row in table["image"].to_pylist():
            yield decode(row["bytes"], min_size_px=MEASURED_PX)


def _originals(archive: Store, results: Store) -> Iterator[NDArray[np.uint8]]:
    """The archive's images that have draws."""
    plans = load_plans(results)
    if not plans:
        raise DatasetError(f"{results.uri} has no plan: run condgen colorize first")
    for chunk in (chunk for one in plans for chunk in iter_chunks(one.chunks)):
        names = pq.read_table(io.BytesIO(results.read(draws_name(chunk.name))), columns=["source", "key"])
        done = {(row["source"], row["key"]) for row in names.to_pylist()}
        for sample in read_chunk(archive, chunk):
            if (sample.source, sample.key) in done:
                try:
                    yield decode(image_member(sample), min_size_px=MEASURED_PX)
                except ImageError as error:
                    raise CondgenError(f"{sample.source} has draws but can't be read any more: {error}") from error


def _centre_square(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest square in the middle: measured without the margins that a fitted picture has."""
    side = min(rgb.shape[:2])
    top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


@torch.inference_mode()
def _likelihoods(model: ColorClassifier, squares: Sequence[NDArray[np.uint8]], size_px: int) -> tuple[float, float]:
    """The nll of the true bins in nats a grid pixel: the model's, and that of the training set's marginal."""
    model.eval()
    nll, marginal = [], []
    for start in range(0, len(squares), _BATCH):
        fitted = [fit_square(square, size_px) for square in squares[start : start + _BATCH]]
        condition = Condition(image=torch.from_numpy(np.stack([one.l_n for one in fitted])))
        y = torch.from_numpy(np.stack([one.ab_n for one in fitted]))
        nll += ab_nll(model, condition, y).tolist()
        marginal += marginal_ab_nll(model, y).tolist()
    return float(np.mean(nll)), float(np.mean(marginal))


def _colourfulness(rgb: NDArray[np.uint8]) -> float:
    return float(colorfulness(torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)))
