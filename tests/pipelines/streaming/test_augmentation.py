"""Crops: a square that needs no resizing is cut out, and is what resizing gives."""

import numpy as np
import pytest
from PIL import Image

from pipelines.streaming.augmentation import Crop


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(32, 32, 0.0, 0.0), (32, 48, 0.0, 0.5), (40, 32, 0.25, 0)]
)
def test_a_square_of_its_own_size_is_cut_out_as_resizing_would(
    height: int, width: int, top: float, left: float, mirrored: bool
) -> None:
    rgb = picture(height, width)
    y, x = round(top * (height - 32)), round(left * (width - 32))
    box = (x, y, x + 32, y + 32)
    expected = np.asarray(Image.fromarray(rgb).resize((32, 32), Image.Resampling.BILINEAR, box=box))
    found = Crop(1.0, top, left, mirrored).apply(rgb, 32)
    np.testing.assert_array_equal(found, expected[:, ::-1] if mirrored else expected)


def test_between_two_pixels_it_is_resized() -> None:
    rgb = picture(32, 33)
    found = Crop(1.0, 0.0, 0.5, False).apply(rgb, 32).astype(float)
    middle = (rgb[:, :-1].astype(float) + rgb[:, 1:]) / 2
    assert np.abs(found - middle).max() <= 1
