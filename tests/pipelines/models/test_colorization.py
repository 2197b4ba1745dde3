import numpy as np
import pytest
import torch

from condgen.color.colorize import recolor
from condgen.color.guide import make_guide
from condgen.errors import ConfigError
from pipelines.models import colorization as colour
from pipelines.models.colorization import ColorizeTask


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_image_is_one_tile_and_its_draws_are_the_recolored_original(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, np.iinfo(dtype).max, (30, 50, 3)).astype(dtype)
    task = ColorizeTask(16)
    tiles, region = task.condition(rgb)
    assert [(tuple(tile.shape), tile.dtype) for tile in tiles] == [((1, 16, 16), torch.float32)]
    assert tuple(region) == (3, 0, 10, 16)
    y = torch.from_numpy(rng.normal(0, 0.2, (3, 2, 16, 16)).astype(np.float32))
    together = list(task.images(rgb, iter([y]), region))
    np.testing.assert_array_equal(np.stack(together), recolor(rgb, y, region))
    assert together[0].dtype == dtype

    monkeypatch.setattr(colour, "_TOGETHER_PIXELS", 0)
    alone = list(task.images(rgb, [y], region))
    np.testing.assert_array_equal(np.stack(alone), np.stack(together))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_guided_draws_follow_the_image_from_the_grid_of_the_model(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, np.iinfo(dtype).max, (30, 50, 3)).astype(dtype)
    task = ColorizeTask(16, upsampling="guided", stride=4)
    _, region = task.condition(rgb)
    y = torch.from_numpy(rng.normal(0, 0.2, (3, 2, 16, 16)).astype(np.float32))
    together = np.stack(list(task.images(rgb, iter([y]), region)))
    np.testing.assert_array_equal(together, recolor(rgb, y, region, guide=make_guide(rgb, region, 4)))
    assert not np.array_equal(together, recolor(rgb, y, region))

    monkeypatch.setattr(colour, "_TOGETHER_PIXELS", 0)
    np.testing.assert_array_equal(np.stack(list(task.images(rgb, [y], region))), together)


def test_an_image_smaller_than_the_grid_is_painted_without_a_guide() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 3, 3)).astype(np.uint8)
    task = ColorizeTask(32, upsampling="guided", stride=4)
    _, region = task.condition(rgb)
    y = torch.zeros(1, 2, 32, 32) + 0.1
    np.testing.assert_array_equal(np.stack(list(task.images(rgb, [y], region))), recolor(rgb, y, region))


def test_an_unknown_upsampling_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"upsampling.*guided"):
        ColorizeTask(16, upsampling="guidd")
