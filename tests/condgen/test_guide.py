"""Guided upsampling: color keeps to the photograph's own edges, and loses nothing elsewhere."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from condgen.color._lines import grid_values
from condgen.color.colorize import Region, fit_square, recolor
from condgen.color.guide import make_guide
from condgen.color.lab import denormalize_ab, lab_to_rgb
from condgen.errors import ConfigError
from condgen.metrics.bleeding import bleeding, crossing, edge_bands
from condgen.nn.unet import pool_to_stride, upsample_from_stride
from tests.condgen.painting import lab, wild_colors
from tests.condgen.recolor_reference import guided_reference

SQUARE_PX, STRIDE = 64, 4


def rgb_of(lab: torch.Tensor) -> NDArray[np.uint8]:
    codes = (lab_to_rgb(lab).clamp(0, 1) * 255).round().byte().movedim(0, -1)
    return np.ascontiguousarray(codes.numpy())


def predicted(rgb: NDArray[np.uint8], size_px: int = SQUARE_PX) -> tuple[torch.Tensor, torch.Tensor, Region]:
    """What a model that knows each cell's mean says, at its grid and in its square."""
    fitted = fit_square(rgb, size_px)
    grid = pool_to_stride(torch.from_numpy(fitted.ab_n)[None], STRIDE)
    return grid, upsample_from_stride(grid, STRIDE, (size_px, size_px)), fitted.region


def painted(rgb: NDArray[np.uint8], *, guided: bool, size_px: int = SQUARE_PX) -> NDArray[np.uint8]:
    _, square, region = predicted(rgb, size_px)
    guide = make_guide(rgb, region, STRIDE) if guided else None
    out: NDArray[np.uint8] = recolor(rgb, square, region, guide=guide)[0]
    return out


def two_areas(edge: int, step: float, noise: float = 0.0) -> NDArray[np.uint8]:
    """Two flat areas, of other colors and of lightness that differs by ``step``."""
    values = torch.tensor([50 - step / 2, 14.0, -12.0])[:, None, None].repeat(1, 96, 512)
    values[:, :, edge:] = torch.tensor([50 + step / 2, -6.0, 16.0])[:, None, None]
    values[0] += noise * torch.randn(96, 512, generator=torch.Generator().manual_seed(0))
    return rgb_of(values)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("region", [Region(0, 0, 32, 32), Region(3, 1, 20, 31), Region(30, 30, 2, 2)])
def test_the_compiled_loops_are_the_numpy_passes_bit_for_bit(
    photo: NDArray[np.uint8], region: Region, stride: int
) -> None:
    for rgb, spread in ((photo, 0.1), (np.ascontiguousarray(photo[:40, :37]), 1.0)):
        ab_n = wild_colors(2, 32, spread)
        guide = make_guide(rgb, region, stride)
        assert guide is not None
        made = recolor(rgb, ab_n, region, guide=guide)
        np.testing.assert_array_equal(made, guided_reference(rgb, ab_n, region, stride))


_SHA = "46c95843d96380e7aecd207a1c357907"
_PROGRAM = """
import hashlib, numpy as np
from condgen.color.colorize import recolor
from condgen.color.guide import make_guide
rgb = np.random.default_rng(1).integers(0, 256, (60, 90, 3)).astype(np.uint8)
ab = np.random.default_rng(0).normal(0, 0.2, (3, 2, 48, 48)).astype(np.float32)
made = recolor(rgb, ab, (8, 0, 32, 48), guide=make_guide(rgb, (8, 0, 32, 48), 4))
print(hashlib.sha256(made.tobytes()).hexdigest()[:32])
"""


@pytest.mark.slow
def test_the_bytes_are_the_same_in_any_process() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    region = (8, 0, 32, 48)
    made = recolor(rgb, wild_colors(3, 48, 0.2), region, guide=make_guide(rgb, region, 4))
    assert hashlib.sha256(made.tobytes()).hexdigest()[:32] == _SHA
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == _SHA


@pytest.mark.parametrize("edge", [256, 260, 269])
def test_no_color_crosses_a_strong_edge(edge: int) -> None:
    # A cell is 32 pixels of the photograph: bilinear interpolation bleeds by a quarter of that and more.
    rgb = two_areas(edge, step=40)
    left, right = lab(rgb)[1:, 0, 0], lab(rgb)[1:, 0, -1]
    bilinear, guided = (
        crossing(lab(painted(rgb, guided=guided))[1:, 32:64], left, right, edge) for guided in (False, True)
    )
    assert bilinear.width_px > 7
    assert bilinear.reach_px > 12
    assert guided.width_px < 1.2
    assert guided.reach_px == 0


def test_a_faint_edge_still_holds_most_of_the_color_back() -> None:
    rgb = two_areas(265, step=10)
    left, right = lab(rgb)[1:, 0, 0], lab(rgb)[1:, 0, -1]
    widths = [crossing(lab(painted(rgb, guided=guided))[1:, 32:64], left, right, 265).width_px for guided in (0, 1)]
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("source", ["astronaut", "coffee"])
def test_a_photograph_gains_at_its_edges_and_loses_nothing_elsewhere(source: str) -> None:
    rgb = np.ascontiguousarray(getattr(data, source)())
    truth = lab(rgb)
    bands = edge_bands(truth)
    bilinear, guided = (
        bleeding(lab(painted(rgb, guided=guided, size_px=160))[1:], truth[1:], bands) for guided in (False, True)
    )
    assert guided.at_edges < 0.85 * bilinear.at_edges
    assert guided.elsewhere < 0.9 * bilinear.elsewhere
    assert guided.at_lightness_edges < bilinear.at_lightness_edges


def test_a_cell_keeps_the_mean_that_was_predicted(photo: NDArray[np.uint8]) -> None:
    grid, _, region = predicted(photo)
    rows = slice(region.top // STRIDE + 1, (region.top + region.height) // STRIDE - 1)
    errors = []
    for guided in (False, True):
        got = fit_square(painted(photo, guided=guided), SQUARE_PX).ab_n
        difference = pool_to_stride(torch.from_numpy(got)[None], STRIDE) - grid
        errors.append(float(denormalize_ab(difference[..., rows, 1:-1]).abs().mean()))
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("color", [(0.0, 0.0), (0.2, -0.1)])
def test_one_color_everywhere_stays_one_color(photo: NDArray[np.uint8], color: tuple[float, float]) -> None:
    region = (10, 0, 43, 64)
    ab_n = np.broadcast_to(np.array(color, np.float32)[None, :, None, None], (1, 2, 64, 64))
    plain, guided = (recolor(photo, ab_n, region, guide=guide) for guide in (None, make_guide(photo, region, STRIDE)))
    assert int(np.abs(plain.astype(int) - guided).max()) <= 1


def ramp(noise: float) -> tuple[NDArray[np.uint8], NDArray[np.float32], Region]:
    """A grey image that gets lighter from left to right, and a predicted color that goes from blue to orange."""
    rise = torch.linspace(-1, 1, 256, dtype=torch.float64)
    grain = noise * torch.randn(256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rgb = rgb_of(torch.stack([45 + 25 * rise + grain, torch.zeros_like(grain), torch.zeros_like(grain)]))
    color = np.linspace(-0.11, 0.11, SQUARE_PX, dtype=np.float32) * np.array([[[0.6]], [[1.0]]], np.float32)
    ab_n = np.broadcast_to(color, (1, 2, SQUARE_PX, SQUARE_PX))
    return rgb, ab_n, Region(0, 0, SQUARE_PX, SQUARE_PX)


def test_grain_does_not_become_color() -> None:
    rgb, ab_n, region = ramp(noise=8)
    guided = lab(recolor(rgb, ab_n, region, guide=make_guide(rgb, region, STRIDE))[0])[1:]
    plain = lab(recolor(rgb, ab_n, region)[0])[1:]
    assert (
        float((guided - plain).abs().mean()) < 0.25
    )  # of 28 from end to end; 0.8 where texture does not count against a slope


def test_a_highlight_is_not_extrapolated_to_a_color() -> None:
    # White dots in the dark: the slope that was fitted around them would make them as orange as the bright end.
    rgb, ab_n, region = ramp(noise=0)
    rgb[120:124, 8:72:16] = 240
    guided = lab(recolor(rgb, ab_n, region, guide=make_guide(rgb, region, STRIDE))[0])[1:]
    plain = lab(recolor(rgb, ab_n, region)[0])[1:]
    assert float((guided - plain)[:, 120:124, 8:72:16].abs().max()) < 3


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 8])
def test_the_grid_is_read_back_from_its_interpolation(stride: int) -> None:
    grid = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (2, 2, 12, 12)).astype(np.float32))
    square = upsample_from_stride(grid, stride, (12 * stride, 12 * stride)).numpy()
    values = np.empty((2, 2, 9, 11), np.float32)
    grid_values(square, stride, (2, 1), np.array([1, -2], np.float32), values)
    expected = grid[:, :, 2:11, 1:12].numpy() * np.array([1, -2], np.float32)[:, None, None]
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_sixteen_bits_are_painted_as_eight_are(photo: NDArray[np.uint8]) -> None:
    ab_n, region = wild_colors(2, 64, 0.1), (10, 0, 43, 64)
    deep = photo.astype(np.uint16) * 257
    made = recolor(deep, ab_n, region, guide=make_guide(deep, region, STRIDE))
    eight = recolor(photo, ab_n, region, guide=make_guide(photo, region, STRIDE))
    assert made.dtype == np.uint16
    assert int(np.abs(made.astype(int) - eight.astype(int) * 257).max()) < 300
    assert float((lab(made[1])[0] - lab(deep)[0]).abs().max()) < 0.002
    assert len(np.unique(made[0])) > 5000


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2), (17, 90), (400, 7)])
def test_images_of_any_size_and_aspect_are_painted(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (*shape, 3)).astype(np.uint8)
    fitted = fit_square(rgb, SQUARE_PX)
    guide = make_guide(rgb, fitted.region, STRIDE)
    made = recolor(rgb, wild_colors(2, SQUARE_PX, 0.2), fitted.region, guide=guide)
    assert made.shape == (2, *shape, 3)
    assert float((lab(made[0])[0] - lab(rgb)[0]).abs().max()) < 0.3


def test_an_image_smaller_than_the_grid_has_nothing_to_be_guided() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (15, 10, 3)).astype(np.uint8)
    assert make_guide(rgb, fit_square(rgb, SQUARE_PX).region, STRIDE) is None  # 16 cells down, 15 pixels
    assert make_guide(np.repeat(rgb, 2, axis=0), (0, 0, 64, 21), STRIDE) is not None


def test_another_photographs_guide_is_refused(photo: NDArray[np.uint8]) -> None:
    region = (0, 0, 64, 64)
    other = make_guide(np.ascontiguousarray(photo[:100]), region, STRIDE)
    with pytest.raises(ConfigError, match="guide"):
        recolor(photo, wild_colors(1, 64, 0.1), region, guide=other)
