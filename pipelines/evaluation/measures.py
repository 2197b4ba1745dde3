"""One image measured: its answers (draws, a point, grey, ...) against its reference, as rows of a table.

    rows, hits = measure(reference, answers, MeasureSettings(kind="colorize"))

Everything is measured at one resolution: the reference's short side is brought to `size_px`, its aspect stays, and the
answers are brought to the reference's size. Energy score, diversity and total variation are taken at `small_px`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from condgen.checks import check_choice
from condgen.color.colorize import recolor, resize
from condgen.color.lab import rgb_to_lab
from condgen.errors import ConfigError
from condgen.metrics.color import NUM_THRESHOLDS, ab_cells, ab_distance, cell_hits, chroma, colorfulness, count_hits
from condgen.metrics.distribution import energy_score, pair_distance, rms_norm, total_variation
from condgen.metrics.fidelity import SSIM_WINDOW_PX, psnr, ssim

__all__ = ["Answer", "ImageRow", "MeasureSettings", "MeasuredImage", "measure", "measured_size", "recolored"]

_PIXELS_AT_ONCE = 3_000_000
_CODES = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """How images are measured.

    Attributes:
        kind: `colorize` (in ab too) or `translate` (in sRGB alone).
        size_px: short side at which all is measured, >= 16; smaller images are enlarged to it.
        small_px: short side for energy score, diversity and total variation; at most `size_px`.
    """

    kind: str = "colorize"
    size_px: int = 256
    small_px: int = 64

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("colorize", "translate"))
        if self.size_px < 16:
            raise ConfigError("size", self.size_px, f"at least 16: SSIM's window alone has {SSIM_WINDOW_PX} pixels")

    @property
    def is_color(self) -> bool:
        """Whether colors are judged, on a lightness that is given."""
        return self.kind == "colorize"

    @property
    def set_px(self) -> int:
        """The short side for energy score, diversity and total variation."""
        return min(self.small_px, self.size_px)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is given as an answer for one image: K images `[H, W, 3]` uint8 of any size, sRGB."""

    name: str
    images: Sequence[NDArray[np.uint8]]


@dataclass(slots=True, kw_only=True)
class ImageRow:
    """A row of `evaluation.parquet`: one answer for one image as a whole (`draw` is -1), or one draw of it.

    Attributes:
        answer: `reference`, `draws`, `point`, `best` (of K), `grey`, `mean_color`, `mean_image`, `input`.
        draw: number of the draw (from 0; -1 for the answer as a whole, whose values are means over its draws; the
            chosen draw's for `best`).
        draws: images that the row is of: K for the answer `draws` as a whole, else 1.
        psnr, ssim: values in dB, and at most 1; for `best` the largest of the draws'.
        rgb_error: mean absolute difference of sRGB codes, 0 to 255.
        ab_error: mean distance in ab.
        auc: area under the raw accuracy curve, in 0 to 1.
        colorfulness: measure of Hasler and Süsstrunk.
        chroma: mean of sqrt(a^2 + b^2).
        total_variation: at `set_px`, of ab or of codes.
        error: `rms_norm` of the difference at `set_px`, of ab or of codes.
        energy_score, diversity: measures of all draws together, at `set_px`.
        nll, marginal_nll: values of the reference under the model and its training set (nats a pixel of its grid).
        cells, cell_pixels: occupied cells of the ab plane and their pixels, for `reference`.
        cell_hits: aligned with the reference's `cells`, summed over the answer's draws; see
            `condgen.metrics.color.cell_hits`.
    """

    answer: str
    draw: int = -1
    draws: int = 1
    psnr: float | None = None
    ssim: float | None = None
    rgb_error: float | None = None
    ab_error: float | None = None
    auc: float | None = None
    colorfulness: float | None = None
    chroma: float | None = None
    total_variation: float | None = None
    error: float | None = None
    energy_score: float | None = None
    diversity: float | None = None
    nll: float | None = None
    marginal_nll: float | None = None
    cells: NDArray[np.int64] | None = None
    cell_pixels: NDArray[np.int64] | None = None
    cell_hits: NDArray[np.int64] | None = None


_OF_A_DRAW = (
    "psnr", "ssim", "rgb_error", "ab_error", "auc", "colorfulness", "chroma", "total_variation", "error",
)  # fmt: skip
_LARGEST_IS_BEST = ("psnr", "ssim")


@dataclass(slots=True)
class MeasuredImage:
    """All of one image: its rows, and what sets are made of.

    Attributes:
        rows: the reference's first, then each answer's: the whole and its draws.
        hits: counts of `condgen.metrics.color.count_hits` by answer but `reference`, summed over its draws.
        images: `reference` and each answer, `[K, 3, H, W]` uint8 at the measured size.
    """

    rows: list[ImageRow]
    hits: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    images: dict[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class _Prepared:
    """Images at the measured size `[K, 3, H, W]` uint8, in [0, 1], their ab, and small ones in the norm's units."""

    codes: Tensor
    unit: Tensor
    ab: Tensor | None
    small: Tensor


def measured_size(height: int, width: int, size_px: int) -> tuple[int, int]:
    """Return height and width with the short side at `size_px`, the aspect kept to a pixel."""
    scale = size_px / min(height, width)
    return max(size_px, round(height * scale)), max(size_px, round(width * scale))


def recolored(rgb: NDArray[np.uint8], ab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return an image whose ab is one color everywhere, on its own lightness: `[H, W, 3]` uint8.

    Args:
        rgb: `[H, W, 3]` uint8.
        ab: the color, `[2]` in ab units; (0, 0) is grey.
    """
    constant = (np.asarray(ab) / 110).astype(np.float32).reshape(1, 2, 1, 1)
    painted: NDArray[np.uint8] = recolor(rgb, constant, (0, 0, 1, 1))[0]
    return painted


@torch.inference_mode()
def measure(reference: NDArray[np.uint8], answers: Sequence[Answer], settings: MeasureSettings) -> MeasuredImage:
    """Measure the answers for one image.

    Args:
        reference: the true image, `[H, W, 3]` uint8.
        answers: names are different.
        settings: the resolution and the kind.
    """
    height, width = measured_size(reference.shape[0], reference.shape[1], settings.size_px)
    (truth,) = _prepare([reference], height, width, settings)
    found = MeasuredImage([_reference_row(truth)], images={"reference": truth.codes})
    cells = ab_cells(truth.ab[0]) if truth.ab is not None else None
    occupied = found.rows[0].cells
    for answer in answers:
        rows: list[ImageRow] = []
        hits: list[NDArray[np.int64]] = []
        parts = list(_prepare(answer.images, height, width, settings))
        for part in parts:
            rows += _draw_rows(answer.name, part, truth, first=len(rows))
            if cells is not None and part.ab is not None and truth.ab is not None:
                hits += [count_hits(distance, cells) for distance in ab_distance(part.ab, truth.ab)]
        for row, counts in zip(rows, hits, strict=False):
            row.auc = float(cell_hits(counts).sum() / (NUM_THRESHOLDS * counts.sum()))
        whole = _whole_row(answer.name, rows, torch.cat([part.small for part in parts]), truth.small[0])
        found.rows += [whole, *(rows if len(rows) > 1 else [])]
        if hits:
            found.hits[answer.name] = total = np.sum(hits, axis=0)
            whole.cell_hits = cell_hits(total)[occupied]
        if len(rows) > 1:
            found.rows.append(_best_row(rows, hits, occupied))
            if hits:
                found.hits["best"] = hits[found.rows[-1].draw]
        found.images[answer.name] = torch.cat([part.codes for part in parts])
    return found


def _prepare(
    images: Sequence[NDArray[np.uint8]], height: int, width: int, settings: MeasureSettings
) -> Iterator[_Prepared]:
    """Bring images to the measured size, a bounded number of pixels at a time."""
    scale = settings.set_px / min(height, width)
    small_size = round(height * scale), round(width * scale)
    step = max(1, _PIXELS_AT_ONCE // (height * width))
    for first in range(0, len(images), step):
        codes = torch.stack([resize(image, height, width) for image in images[first : first + step]])
        unit = codes.float() / _CODES
        ab = rgb_to_lab(unit)[:, 1:] if settings.is_color else None
        small = F.adaptive_avg_pool2d(ab if ab is not None else unit * _CODES, small_size)
        yield _Prepared(codes, unit, ab, small)


def _reference_row(truth: _Prepared) -> ImageRow:
    row = ImageRow(answer="reference", total_variation=float(total_variation(truth.small)))
    if truth.ab is not None:
        row.colorfulness, row.chroma = float(colorfulness(truth.codes)), float(chroma(truth.ab))
        row.cells, row.cell_pixels = np.unique(ab_cells(truth.ab).numpy(), return_counts=True)
    return row


def _draw_rows(answer: str, part: _Prepared, truth: _Prepared, *, first: int) -> list[ImageRow]:
    """Measure each of some images against the reference."""
    values: dict[str, Tensor] = {
        "psnr": psnr(part.unit, truth.unit),
        "ssim": ssim(part.unit, truth.unit[0]),
        "rgb_error": (part.unit - truth.unit).abs().mean(dim=(1, 2, 3)) * _CODES,
        "total_variation": total_variation(part.small),
        "error": rms_norm(part.small - truth.small),
    }
    if part.ab is not None and truth.ab is not None:
        values["ab_error"] = ab_distance(part.ab, truth.ab).mean(dim=(1, 2))
        values["colorfulness"] = colorfulness(part.codes)
        values["chroma"] = chroma(part.ab)
    columns = {name: tensor.tolist() for name, tensor in values.items()}
    return [
        ImageRow(answer=answer, draw=first + place, **{name: column[place] for name, column in columns.items()})
        for place in range(len(part.codes))
    ]


def _whole_row(answer: str, rows: Sequence[ImageRow], small: Tensor, truth: Tensor) -> ImageRow:
    """The answer as a whole: means over its draws, and what they are as a distribution."""
    means = {name: _mean([getattr(row, name) for row in rows]) for name in _OF_A_DRAW}
    whole = ImageRow(answer=answer, draws=len(rows), energy_score=float(energy_score(small, truth)))
    for name, value in means.items():
        setattr(whole, name, value)
    if len(rows) > 1:
        whole.diversity = float(pair_distance(small))
    return whole


def _best_row(
    rows: Sequence[ImageRow], hits: Sequence[NDArray[np.int64]], occupied: NDArray[np.int64] | None
) -> ImageRow:
    """The draw that is nearest to the truth at the small size; PSNR and SSIM are the largest of any draw's."""
    place = min(range(len(rows)), key=lambda k: rows[k].error or 0.0)
    values = {name: getattr(rows[place], name) for name in _OF_A_DRAW}
    values |= {name: max(getattr(row, name) for row in rows) for name in _LARGEST_IS_BEST}
    best = ImageRow(answer="best", draw=place, **values)
    if hits:
        best.cell_hits = cell_hits(hits[place])[occupied]
    return best


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
