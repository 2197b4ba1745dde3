"""A sheet of what a model makes of some images: input, original, and its draws, or its point prediction; a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions, condition_image
from condgen.color.colorize import recolor
from condgen.noise import NoiseSource, SampleId
from pipelines.images.sheet import Cell, draw_sheet
from pipelines.training.feed import Feed, Item

__all__ = ["sample_sheet"]

_DRAWS = 4
_SEED = 0
_LEAST_PX, _MOST_PX = 96, 256

_Rgb = npt.NDArray[np.uint8]


def sample_sheet(model: ConditionalModel, feed: Feed, items: Sequence[Item], task: str, device: torch.device) -> bytes:
    """Return a PNG with a row for each image.

    Args:
        model: model in ``eval()`` mode, on the device.
        feed: feed of the preset's task.
        items: batches of the stream, at least one image in all.
        task: the preset's ``data.task``.
        device: device of the model.
    """
    titles: list[str] = []
    rows: list[list[_Rgb]] = []
    for number, item in enumerate(items):
        batch = feed.batch(item, device)
        noise = _noise(number, batch.num_samples, _DRAWS if model.is_stochastic else 1)
        titles, more = _both_ways(model, batch, noise) if task == "domains" else _one_way(model, item, batch, noise)
        rows += more
    cells = [Cell([_at_size(image) for image in row]) for row in rows]
    side = max(image.width for cell in cells for image in cell.images if image is not None)
    return draw_sheet(cells, columns=1, cell_px=side + 2, titles=titles)


def _noise(number: int, size: int, draws: int) -> NoiseSource:
    return NoiseSource(_SEED, [SampleId("sheet", f"{number}/{place}") for place in range(size)], range(draws))


def _options(model: ConditionalModel, direction: Any = "a2b") -> SampleOptions:
    return SampleOptions(mode="draw" if model.is_stochastic else "point", direction=direction)


def _one_way(
    model: ConditionalModel, item: Any, batch: Batch, noise: NoiseSource
) -> tuple[list[str], list[list[_Rgb]]]:
    """Return the columns' titles and each image's row: the input where it is an image, the original, the answers."""
    answers = model.sample(batch.condition, noise, _options(model)).float().cpu()
    names = [f"draw {number + 1}" for number in range(noise.num_draws)] if model.is_stochastic else ["point"]
    given = batch.condition.image
    if given is None:
        originals = _codes(batch.target)
        return ["original", *names], [[original, *_codes(answers[place])] for place, original in enumerate(originals)]
    rows = []
    for place in range(batch.num_samples):
        if batch.target.shape[1] == 2:  # ab, on the image's own lightness
            rgb = np.ascontiguousarray(item.rgb[place])
            region = (0, 0, *rgb.shape[:2])
            grey = recolor(rgb, torch.zeros(1, 2, *rgb.shape[:2]), region)
            rows.append([*grey, rgb, *recolor(rgb, answers[place], region)])
        else:
            rows.append([*_codes(given[place, None]), *_codes(batch.target[place, None]), *_codes(answers[place])])
    return ["input", "original", *names], rows


def _both_ways(model: ConditionalModel, batch: Batch, noise: NoiseSource) -> tuple[list[str], list[list[_Rgb]]]:
    """Return the titles and rows of two domains, whose images have nothing to do with each other."""
    a, b = condition_image(batch.condition, model.config.condition_channels), batch.target
    columns = [_codes(a), _codes(model.sample(batch.condition, noise, _options(model))[:, 0])]
    titles = ["a", "a to b"]
    if "b2a" in model.directions:
        back = model.sample(Condition(image=b), noise, _options(model, "b2a"))[:, 0]
        columns += [_codes(b), _codes(back)]
        titles += ["b", "b to a"]
    return titles, [list(row) for row in zip(*columns, strict=True)]


def _codes(images: Tensor) -> list[_Rgb]:
    """Return images ``[N, 1 or 3, H, W]`` in [-1, 1] as N arrays ``[H, W, 3]`` uint8."""
    codes = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [np.ascontiguousarray(one.expand(3, -1, -1).permute(1, 2, 0).numpy()) for one in codes]


def _at_size(rgb: _Rgb) -> Image.Image:
    """Return an image whose pixels can be seen: small ones enlarged by whole pixels, large ones reduced."""
    image = Image.fromarray(rgb)
    if image.width > _MOST_PX:
        return image.resize((_MOST_PX, _MOST_PX), Image.Resampling.LANCZOS)
    factor = max(1, _LEAST_PX // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
