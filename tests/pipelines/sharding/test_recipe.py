"""Recipes: the bytes that were there, or a picture that is smaller, a half, or of another format."""

import io

import numpy as np
import pytest
from PIL import Image

from condgen.errors import ConfigError, ImageError
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.sharding.recipe import Recipe, half_of


def picture(width: int, height: int, format: str = "jpeg") -> bytes:  # noqa: A002
    across = np.linspace(0, 255, width, dtype=np.uint8)
    down = np.linspace(0, 255, height, dtype=np.uint8)
    red, green = np.meshgrid(across, down)
    return encode(np.stack([red, green, 255 - red], -1), format)


def recipe(**options: object) -> Recipe:
    return Recipe(max_pixels=10**7, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "size"), [("short", (150, 100)), ("fit", (100, 67)), ("square", (100, 100))])
def test_larger_images_are_reduced_by_the_side_that_the_mode_names(mode: str, size: tuple[int, int]) -> None:
    made = recipe(resize_px=100, resize_mode=mode).apply(picture(600, 400))
    assert (made.info.width, made.info.height, made.info.format) == (*size, "JPEG")
    rgb = decode(made.data)
    assert (rgb.shape[1], rgb.shape[0]) == size
    whole = np.asarray(Image.open(io.BytesIO(picture(600, 400))).resize((150, 100), Image.Resampling.LANCZOS))
    expected = whole[:, 25:125] if mode == "square" else whole
    if mode != "fit":
        assert np.abs(rgb.astype(int) - expected).mean() < 3


def test_images_are_never_enlarged_and_those_that_stay_keep_their_bytes() -> None:
    data = picture(90, 60)
    for mode in ("short", "fit"):
        made = recipe(resize_px=100, resize_mode=mode).apply(data)
        assert made.data == data
    square = recipe(resize_px=100, resize_mode="square").apply(data)
    assert (square.info.width, square.info.height) == (60, 60)
    assert recipe().apply(data).data == data


def test_what_is_made_has_the_format_asked_for_or_one_like_the_originals() -> None:
    assert recipe(format="webp").apply(picture(20, 10)).info.format == "WEBP"
    assert recipe(resize_px=5).apply(picture(20, 10, "png")).extension == "png"
    assert recipe(resize_px=5).apply(picture(20, 10, "webp")).extension == "jpg"
    low, high = (recipe(format="jpeg", quality=quality).apply(picture(200, 100)).data for quality in (30, 95))
    assert len(low) < len(high)


def test_halves_meet_in_the_middle() -> None:
    rgb = decode(picture(41, 20, "png"))
    assert half_of(rgb, "left").shape == half_of(rgb, "right").shape == (20, 20, 3)
    assert np.array_equal(half_of(rgb, "right"), rgb[:, 21:])
    assert np.array_equal(half_of(rgb, "top"), rgb[:10])
    made = recipe(resize_px=8).apply(picture(41, 20, "png"), "right")
    assert (made.info.width, made.info.height, made.extension) == (8, 8, "png")
    with pytest.raises(ImageError, match="halves"):
        recipe().apply(picture(1, 20, "png"), "left")


@pytest.mark.parametrize("options", [{"resize_px": -1}, {"resize_mode": "long"}, {"format": "gif"}, {"quality": 0}])
def test_recipes_that_can_not_be(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        recipe(**options)
