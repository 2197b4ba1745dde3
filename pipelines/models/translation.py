"""Translation: an image of any size through a model that takes squares, and back at its own size.

An image that fits the square is padded by its reflection and cropped back. A larger one is cut into tiles that
overlap, and the model's output is blended smoothly; or it is resized. Its aspect is never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import torch

from condgen.checks import check_choice
from condgen.color.colorize import resize
from condgen.errors import ConfigError
from pipelines.models.task import Rgb

__all__ = ["LARGE", "Axis", "Layout", "TranslateTask"]

_Floats: TypeAlias = npt.NDArray[np.float32]

LARGE = ("tile", "resize")
"""The ways to handle images larger than the model takes."""

_STRIP_ROWS = 64


@dataclass(frozen=True, slots=True)
class Axis:
    """How one side of an image, of `length_px`, is covered by squares of side `size_px`.

    Attributes:
        length_px, size_px: lengths of the image's side and of a square's (pixels; > 0).
        starts: places of the squares' first pixels in the image, ascending; one, at 0, where the side fits a square.
    """

    length_px: int
    size_px: int
    starts: tuple[int, ...]

    @classmethod
    def cover(cls, length_px: int, size_px: int, overlap_px: int) -> Axis:
        """Return as few squares as overlap by `overlap_px` or more, spread evenly from end to end."""
        if length_px <= size_px:
            return cls(length_px, size_px, (0,))
        gaps = -(-(length_px - size_px) // (size_px - overlap_px))
        return cls(length_px, size_px, tuple(i * (length_px - size_px) // gaps for i in range(gaps + 1)))

    @property
    def span_px(self) -> int:
        """The pixels of the image in a square."""
        return min(self.length_px, self.size_px)

    @property
    def pad_px(self) -> tuple[int, int]:
        """The pixels added before and after the image, to fill a square."""
        missing = self.size_px - self.span_px
        return missing // 2, missing - missing // 2

    def weight(self, place: int) -> _Floats:
        """Return the share of a square in each of its `span_px` pixels; all squares add up to 1 at every pixel.

        They rise and fall smoothly (3 t^2 - 2 t^3) over what two neighbors share.
        """
        start = self.starts[place]
        total = np.zeros(self.span_px)
        for other, at in enumerate(self.starts):
            low, high = max(start, at), min(start, at) + self.span_px
            if low < high:
                total[low - start : high - start] += self._raw(other)[low - at : high - at]
        share: _Floats = (self._raw(place) / total).astype(np.float32)
        return share

    def _raw(self, place: int) -> npt.NDArray[np.float64]:
        weight = np.ones(self.span_px)
        if place > 0:
            shared = self.starts[place - 1] + self.span_px - self.starts[place]
            weight[:shared] *= _smooth_ramp(shared)
        if place + 1 < len(self.starts):
            shared = self.starts[place] + self.span_px - self.starts[place + 1]
            weight[self.span_px - shared :] *= _smooth_ramp(shared)[::-1]
        return weight


def _smooth_ramp(length: int) -> npt.NDArray[np.float64]:
    t = (np.arange(length) + 0.5) / max(length, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True, slots=True)
class Layout:
    """How an image lies in its tiles, which go row by row.

    Attributes:
        rows, columns: sides of the image as it is cut.
        resized: whether that is another size than the image's own.
    """

    rows: Axis
    columns: Axis
    resized: bool


class _Tiles(Sequence[torch.Tensor]):
    """The tiles of an image, `[3, S, S]` float32 in [-1, 1], each made when it is asked for."""

    def __init__(self, image: npt.NDArray[Any], layout: Layout, top: int) -> None:
        self._image, self._layout, self._half = image, layout, np.float32(top / 2)

    def __len__(self) -> int:
        return len(self._layout.rows.starts) * len(self._layout.columns.starts)

    @overload
    def __getitem__(self, place: int) -> torch.Tensor: ...
    @overload
    def __getitem__(self, place: slice) -> list[torch.Tensor]: ...
    def __getitem__(self, place: int | slice) -> torch.Tensor | list[torch.Tensor]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        row, column = divmod(range(len(self))[place], len(self._layout.columns.starts))
        rows, columns = self._layout.rows, self._layout.columns
        top, left = rows.starts[row], columns.starts[column]
        part = self._image[top : top + rows.span_px, left : left + columns.span_px]
        for axis, side in ((0, rows), (1, columns)):
            if any(side.pad_px):
                pads = [(0, 0)] * 3
                pads[axis] = side.pad_px
                part = np.pad(part, pads, mode="reflect" if max(side.pad_px) < side.span_px else "edge")
        values = part.astype(np.float32) / self._half - np.float32(1)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


class TranslateTask:
    """Image-to-image models for `pipelines.batch.engine.ChunkEngine`: `[3, S, S]` in [-1, 1] to `[3 or 1, S, S]`.

    With a model that returns its input, tiles give an image's own bytes. Beyond the results, memory is that
    of the K draws of one row of tiles, whatever the size of the image.

    Args:
        size_px: S, side of the square that the model takes (pixels).
        large: `tile` cuts an image with a side > S into tiles; `resize` makes its longer side S, and the model's
            output large again (bilinear both ways).
        overlap_px: least overlap of neighboring tiles (pixels; at most half of S is used).

    Raises:
        ConfigError: an argument is not allowed.
    """

    def __init__(self, size_px: int, *, large: str = "tile", overlap_px: int = 32) -> None:
        check_choice("large", large, LARGE)
        if overlap_px < 0:
            raise ConfigError("overlap_px", overlap_px, "a whole number >= 0")
        if size_px < 1:
            raise ConfigError("size_px", size_px, "a whole number >= 1")
        self._size_px = size_px
        self._overlap_px = min(overlap_px, size_px // 2)
        self._resize = large == "resize"

    def condition(self, rgb: Rgb) -> tuple[Sequence[torch.Tensor], Layout]:
        """Return `[H, W, 3]` uint8 or uint16 as tiles `[3, S, S]` float32 in [-1, 1], and how they lie."""
        size, height, width = self._size_px, rgb.shape[0], rgb.shape[1]
        resized = self._resize and max(height, width) > size
        image: npt.NDArray[Any] = rgb
        if resized:
            scale = size / max(height, width)
            smaller = resize(rgb, max(1, round(height * scale)), max(1, round(width * scale)))
            image = smaller.permute(1, 2, 0).numpy()
        rows = Axis.cover(image.shape[0], size, self._overlap_px)
        columns = Axis.cover(image.shape[1], size, self._overlap_px)
        layout = Layout(rows, columns, resized)
        return _Tiles(image, layout, int(np.iinfo(rgb.dtype).max)), layout

    def images(self, rgb: Rgb, outputs: Iterable[torch.Tensor], context: Layout) -> Iterator[Rgb]:
        """Yield the tiles' `[K, 3 or 1, S, S]`, in order, as K images `[H, W, 3]` of the original's size and type."""
        out: npt.NDArray[Any] | None = None
        for top, rows in _finished_rows(outputs, context):
            if context.resized:
                yield from _enlarge(rows, rgb)
                return
            if out is None:
                out = np.empty((rows.shape[0], *rgb.shape), rgb.dtype)
            _encode(rows, out[:, top : top + rows.shape[2]])
        if out is not None:
            yield from out


def _finished_rows(outputs: Iterable[torch.Tensor], layout: Layout) -> Iterator[tuple[int, _Floats]]:
    """Yield blended rows of the image, `[K, C, h, W]`, with the first row's place, as soon as no tile adds to them."""
    rows, columns = layout.rows, layout.columns
    found = iter(outputs)
    shares = [columns.weight(place) for place in range(len(columns.starts))]
    (pad_top, _), (pad_left, _) = rows.pad_px, columns.pad_px
    held: _Floats | None = None
    for place, top in enumerate(rows.starts):
        share = rows.weight(place)[:, None]
        for left, column_share in zip(columns.starts, shares, strict=True):
            y = next(found).numpy()
            part = y[:, :, pad_top : pad_top + rows.span_px, pad_left : pad_left + columns.span_px]
            if len(shares) == len(rows.starts) == 1:
                yield top, part
                return
            if held is None:
                held = np.zeros((*y.shape[:2], rows.span_px, columns.length_px), np.float32)
            held[..., left : left + columns.span_px] += part * (share * column_share)
        if held is None:
            return
        last = place + 1 == len(rows.starts)
        done = rows.span_px if last else rows.starts[place + 1] - top
        yield top, held[:, :, :done]
        held[:, :, : rows.span_px - done] = held[:, :, done:].copy()
        held[:, :, rows.span_px - done :] = 0


def _encode(y: _Floats, out: npt.NDArray[Any]) -> None:
    """Write `[K, 3 or 1, h, W]` in [-1, 1] as codes, `[K, h, W, 3]`; some rows at a time, which stay in the cache."""
    top = np.float32(np.iinfo(out.dtype).max)
    half = top / np.float32(2)
    for draw in range(y.shape[0]):
        for start in range(0, y.shape[2], _STRIP_ROWS):
            rows = slice(start, start + _STRIP_ROWS)
            codes = y[draw, :, rows] * half
            codes += half + np.float32(0.5)
            np.clip(codes, 0, top, out=codes)
            whole = codes.astype(out.dtype)
            for channel in range(3):
                out[draw, rows, :, channel] = whole[channel % whole.shape[0]]


def _enlarge(y: _Floats, rgb: Rgb) -> Iterator[Rgb]:
    """`[K, C, h, w]` as K images of rgb's size and type, bilinear, some rows at a time."""
    height, width = rgb.shape[:2]
    left, right, across = _between(y.shape[3], width)
    above, below, down = _between(y.shape[2], height)
    for draw in y:
        wide = draw[:, :, left] + (draw[:, :, right] - draw[:, :, left]) * across
        out = np.empty_like(rgb)
        for start in range(0, height, _STRIP_ROWS):
            rows = slice(start, start + _STRIP_ROWS)
            upper = wide[:, above[rows]]
            strip = upper + (wide[:, below[rows]] - upper) * down[rows][:, None]
            _encode(strip[None], out[None, rows])
        yield out


def _between(source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], _Floats]:
    """Return bilinear interpolation between pixel centers: lower index, upper index, the upper's weight."""
    at = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0, source - 1.0)
    low = at.astype(np.int64)
    return low, np.minimum(low + 1, source - 1), (at - low).astype(np.float32)
