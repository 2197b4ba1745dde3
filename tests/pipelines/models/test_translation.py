import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condgen.errors import ConfigError
from pipelines.models.translation import Axis, TranslateTask


def picture(height: int, width: int, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, int(np.iinfo(dtype).max) + 1, (height, width, 3)).astype(dtype)


def smooth(height: int, width: int, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(y / 40 + x / 70), np.cos(x / 50), np.sin(y / 60)]
    return ((np.stack(planes, axis=-1) * 0.4 + 0.5) * np.iinfo(dtype).max).astype(dtype)


def translated(task: TranslateTask, rgb: npt.NDArray[Any], model: Any) -> list[npt.NDArray[Any]]:
    tiles, layout = task.condition(rgb)
    return list(task.images(rgb, (model(tile) for tile in tiles), layout))


def identity(tile: torch.Tensor) -> torch.Tensor:
    return tile[None]


SHAPES = [(1, 1), (3, 2), (16, 16), (9, 16), (17, 16), (16, 40), (5, 70), (33, 47), (100, 61), (128, 128)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("overlap_px", [0, 1, 5, 8, 99])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_identity_gives_a_images_own_bytes(shape: tuple[int, int], overlap_px: int, dtype: Any) -> None:
    rgb = picture(*shape, dtype)
    (back,) = translated(TranslateTask(16, overlap_px=overlap_px), rgb, identity)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, rgb)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(length=st.integers(1, 400), size=st.integers(1, 64), data=st.data())
def test_squares_cover_a_side_and_their_shares_add_up_to_one(length: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size // 2))
    axis = Axis.cover(length, size, overlap)
    total = np.zeros(length)
    for place, start in enumerate(axis.starts):
        weight = axis.weight(place)
        assert float(weight.min()) > 0
        total[start : start + axis.span_px] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.span_px == length
    assert all(b - a <= size - overlap for a, b in zip(axis.starts, axis.starts[1:], strict=False))
    if len(axis.starts) > 1:  # and one square fewer would not do
        assert size + (len(axis.starts) - 2) * (size - overlap) < length


def test_tiles_are_what_the_model_takes() -> None:
    tiles, _ = TranslateTask(16, overlap_px=4).condition(picture(40, 20))
    assert len(tiles) == 6
    assert {(tuple(tile.shape), tile.dtype) for tile in tiles} == {((3, 16, 16), torch.float32)}
    assert all(bool((tile.abs() <= 1).all()) for tile in tiles)
    assert torch.equal(tiles[-1], tiles[5])
    assert len(tiles[1:3]) == 2
    with pytest.raises(IndexError):
        tiles[6]


def test_a_small_image_is_padded_by_its_reflection_and_a_tiny_one_by_its_edge() -> None:
    ramp = np.repeat(np.arange(12, dtype=np.uint8).reshape(1, 12, 1), 3, axis=2)
    (tile,) = TranslateTask(16).condition(np.repeat(ramp, 16, axis=0))[0]
    row = torch.round((tile[0, 0] + 1) * 127.5).int().tolist()
    assert row == [2, 1, *range(12), 10, 9]
    (tile,) = TranslateTask(16).condition(ramp[:, :3])[0]
    row = torch.round((tile[0, 0] + 1) * 127.5).int().tolist()
    assert row == [0] * 6 + [0, 1, 2] + [2] * 7


def test_tiles_that_disagree_are_blended_without_a_seam() -> None:
    rgb = picture(16, 200)
    values = iter(np.linspace(-0.8, 0.8, 20))

    def constant(tile: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 3, 32, 32), float(next(values)))

    (blended,) = translated(TranslateTask(32, overlap_px=16), rgb, constant)
    assert int(np.abs(np.diff(blended[0, :, 0].astype(int))).max()) <= 2
    assert int(blended.max()) - int(blended.min()) > 50


def test_each_draw_is_a_image_and_one_channel_is_grey() -> None:
    rgb = picture(20, 50)

    def draws(tile: torch.Tensor) -> torch.Tensor:
        return torch.stack([tile[:1], -tile[:1], tile[:1] * 0 + 9])

    same, negative, bright = translated(TranslateTask(16, overlap_px=4), rgb, draws)
    np.testing.assert_array_equal(same, np.repeat(rgb[..., :1], 3, axis=2))
    np.testing.assert_array_equal(negative, 255 - same)
    assert bool((bright == 255).all())  # cut off, and no wrap


def test_the_same_image_gives_the_same_bytes() -> None:
    rgb, task = picture(70, 90), TranslateTask(32, overlap_px=10)
    first, second = (translated(task, rgb, lambda tile: torch.tanh(tile * 3)[None])[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(120, 300), (300, 40), (400, 3), (17, 17)])
def test_resizing_keeps_the_aspect_and_comes_back_at_the_images_size(shape: tuple[int, int], dtype: Any) -> None:
    rgb, task = smooth(*shape, dtype), TranslateTask(64, large="resize")
    tiles, _ = task.condition(rgb)
    assert len(tiles) == 1
    one, two = translated(task, rgb, lambda tile: torch.stack([tile, -tile]))
    assert (one.shape, one.dtype) == (rgb.shape, dtype)
    top = int(np.iinfo(dtype).max)
    assert float(np.abs(one.astype(float) - rgb).mean()) < 0.02 * top
    assert float(np.abs(two.astype(float) - (top - one.astype(float))).max()) <= 1


def test_resizing_leaves_images_alone_that_fit() -> None:
    rgb = picture(30, 64)
    (back,) = translated(TranslateTask(64, large="resize"), rgb, identity)
    np.testing.assert_array_equal(back, rgb)


def test_memory_is_that_of_a_row_of_tiles_and_not_of_all() -> None:
    rgb, task, draws = np.zeros((4096, 128, 3), np.uint8), TranslateTask(64, overlap_px=16), 4
    tiles, layout = task.condition(rgb)

    def outputs() -> Iterator[torch.Tensor]:
        for tile in tiles:
            yield tile.expand(draws, 3, 64, 64)

    tracemalloc.start()
    try:
        assert len(list(task.images(rgb, outputs(), layout))) == draws
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    results, row = draws * rgb.size, draws * 3 * 64 * 128 * 4
    assert peak < results + 8 * row
    assert 8 * row < draws * rgb.size * 4 / 3  # far from the floats of the whole


@pytest.mark.parametrize(
    ("options", "field"),
    [({"large": "crop"}, "large"), ({"overlap_px": -1}, "overlap_px"), ({"size_px": 0}, "size_px")],
)
def test_wrong_options_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: got"):
        TranslateTask(**{"size_px": 16, **options})
