"""Colors put onto images by PyTorch's operations, on the device at hand: bit for bit what the compiled loops make.

Without a GPU these run on the CPU alone. They need numba besides condgen, torch and pytest: `make gpu`.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("numba")

from condgen.color import _device_paint
from condgen.color.colorize import fit_square, recolor
from condgen.color.guide import make_guide

SIZE_PX, STRIDE = 32, 4


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    return torch.device(request.param)


def photo(shape: tuple[int, int], kind: type[np.generic]) -> NDArray[Any]:
    """An image with smooth areas, edges, noise, black and white."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    plane = np.sin(x / 9.0) + np.cos(y / 5.0) + 2.0 * (x > y)
    values = np.stack([plane, plane[::-1], plane[:, ::-1]], -1) + rng.normal(0, 0.2, (*shape, 3))
    top = np.iinfo(kind).max
    return np.clip((values + 2.0) / 6.0 * top * 1.2 - 0.1 * top, 0, top).astype(kind)


def colors(spread: float, draws: int = 2) -> NDArray[np.float32]:
    coarse = np.random.default_rng(1).normal(0, spread, (draws, 2, SIZE_PX // STRIDE, SIZE_PX // STRIDE))
    return np.kron(coarse, np.ones((STRIDE, STRIDE))).astype(np.float32)


@pytest.mark.parametrize("spread", [0.05, 0.4, 5.0])  # of the last, most colors are outside the gamut
@pytest.mark.parametrize("shape", [(40, 61), (90, 33)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("guided", [True, False])
def test_the_device_paints_what_the_compiled_loops_paint(
    guided: bool, kind: type[np.generic], shape: tuple[int, int], spread: float, device: torch.device
) -> None:
    rgb, ab_n = photo(shape, kind), colors(spread)
    region = fit_square(rgb, SIZE_PX).region
    guide = make_guide(rgb, region, STRIDE) if guided else None
    here = recolor(rgb, ab_n, region, guide=guide, device=device)
    assert here.dtype == rgb.dtype
    assert np.array_equal(here, recolor(rgb, ab_n, region, guide=guide))


def test_an_image_is_painted_in_strips(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, ab_n = photo((41, 30), np.uint8), colors(0.3)
    region = fit_square(rgb, SIZE_PX).region
    guide = make_guide(rgb, region, STRIDE)
    whole = recolor(rgb, ab_n, region, guide=guide, device=device)
    monkeypatch.setattr(_device_paint, "_STRIP_PIXELS", 7 * 2 * 30)  # of 41 rows: five strips and a part of one
    assert np.array_equal(recolor(rgb, ab_n, region, guide=guide, device=device), whole)
