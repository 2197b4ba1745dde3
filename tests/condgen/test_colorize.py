import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from condgen.color._tables import tables
from condgen.color.colorize import Region, fit_square, recolor, resize
from condgen.color.guide import Guide, make_guide
from condgen.color.lab import denormalize_ab, denormalize_l, lab_to_rgb
from condgen.errors import ConfigError
from tests.condgen.painting import lab, wild_colors
from tests.condgen.recolor_reference import recolor_reference


def guide_of(rgb: NDArray[np.uint8], region: Region, *, guided: bool) -> Guide | None:
    return make_guide(rgb, region, 4) if guided else None


def test_a_image_is_fitted_with_its_aspect_and_its_edges_repeated(photo: NDArray[np.uint8]) -> None:
    fitted = fit_square(photo, 48)
    assert fitted.region == (8, 0, 32, 48)
    assert (fitted.l_n.shape, fitted.ab_n.shape) == ((1, 48, 48), (2, 48, 48))
    assert (fitted.l_n.dtype, fitted.ab_n.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(fitted.l_n[0, :8], np.repeat(fitted.l_n[0, 8:9], 8, axis=0))
    np.testing.assert_array_equal(fitted.ab_n[:, 40:], np.repeat(fitted.ab_n[:, 39:40], 8, axis=1))


def test_a_square_of_the_right_size_is_only_converted(photo: NDArray[np.uint8]) -> None:
    square = np.ascontiguousarray(photo[:64, :64])
    fitted = fit_square(square, 64)
    both = torch.cat([denormalize_l(torch.from_numpy(fitted.l_n)), denormalize_ab(torch.from_numpy(fitted.ab_n))])
    torch.testing.assert_close(both.double(), lab(square), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(40, 1), (1, 40), (1, 1), (40, 2)])
def test_resizing_is_right_down_to_a_single_column(size: tuple[int, int], dtype: type) -> None:
    # torch's own is not: every row of its single column is the first (float32), or worse (uint8).
    ramp = np.linspace(0, np.iinfo(dtype).max, 200)
    rgb = np.broadcast_to(ramp[:, None, None] if size[0] > 1 else ramp[None, :, None], (200, 200, 3)).astype(dtype)
    small = resize(rgb, *size).double().numpy() / np.iinfo(dtype).max
    count = max(size)
    wanted = (np.arange(count) + 0.5) / count
    np.testing.assert_allclose(small[0].max(axis=int(size[0] > 1)), wanted, atol=0.012)
    np.testing.assert_allclose(small.min(axis=0), small.max(axis=0))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_the_smallest_images_are_fitted_and_recolored(shape: tuple[int, int]) -> None:
    rgb = np.full((*shape, 3), (200, 40, 90), np.uint8)
    fitted = fit_square(rgb, 16)
    assert max(fitted.region.height, fitted.region.width) == 16
    back = recolor(rgb, fitted.ab_n[None], fitted.region)
    assert back.shape == (1, *shape, 3)
    assert int(np.abs(back.astype(int) - rgb).max()) <= 1


def test_a_photographs_own_colors_give_it_back(photo: NDArray[np.uint8]) -> None:
    fitted = fit_square(photo, 300)
    back = recolor(photo, fitted.ab_n[None], fitted.region)[0]
    assert int(np.abs(back.astype(int) - photo).max()) <= 1


def test_no_color_gives_the_grey_of_the_same_lightness(photo: NDArray[np.uint8]) -> None:
    grey = recolor(photo, np.zeros((1, 2, 8, 8), np.float32), (0, 0, 8, 8))[0]
    assert (grey.max(axis=-1).astype(int) - grey.min(axis=-1) <= 1).all()
    assert float((lab(grey)[0] - lab(photo)[0]).abs().max()) < 0.3


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("spread", [0.1, 0.5, 3.0])
def test_lightness_is_kept_whatever_the_colors(photo: NDArray[np.uint8], spread: float, guided: bool) -> None:
    region = Region(0, 0, 64, 64)
    painted = recolor(photo, wild_colors(1, 64, spread), region, guide=guide_of(photo, region, guided=guided))[0]
    assert float((lab(painted)[0] - lab(photo)[0]).abs().max()) < 0.3  # what 8 bits leave
    assert float(lab(painted)[1:].abs().mean()) > (4 if guided else 5)


def test_colors_inside_the_gamut_are_those_of_the_tensor_functions(photo: NDArray[np.uint8]) -> None:
    ab_n = wild_colors(1, 40, 0.05)
    painted = recolor(photo, ab_n, (10, 0, 20, 30))[0]
    part = torch.from_numpy(ab_n)[:, :, 10:30, :30].double()
    up = torch.nn.functional.interpolate(part, size=photo.shape[:2], mode="bilinear", align_corners=False)
    exact = lab_to_rgb(torch.cat([lab(photo)[:1], denormalize_ab(up[0])])) * 255
    inside = ((exact > 0) & (exact < 255)).all(dim=0)
    assert float(inside.double().mean()) > 0.8
    error = (torch.from_numpy(painted).movedim(-1, 0).double() - exact).abs().amax(dim=0)
    assert float(error[inside].max()) < 0.6


def test_colors_come_back_where_they_were(photo: NDArray[np.uint8]) -> None:
    ab_n = np.zeros((1, 2, 30, 30), np.float32)
    ab_n[:, 0, :, 15:] = 0.5
    left, right = np.split(recolor(photo, ab_n, (0, 0, 30, 30))[0], 2, axis=1)
    assert float(lab(left[:, :140])[1].abs().max()) < 1
    assert float(lab(right[:, 10:])[1].median()) > 25


@pytest.mark.parametrize("spread", [0.02, 0.4, 3.0])
@pytest.mark.parametrize("region", [Region(0, 0, 32, 32), Region(3, 1, 20, 31), Region(31, 31, 1, 1)])
def test_the_compiled_loop_is_the_numpy_passes_bit_for_bit(
    photo: NDArray[np.uint8], region: Region, spread: float
) -> None:
    ab_n = wild_colors(2, 32, spread)
    for rgb in (photo, np.ascontiguousarray(photo[:7, :5])):
        np.testing.assert_array_equal(recolor(rgb, ab_n, region), recolor_reference(rgb, ab_n, region))


def sha(array: NDArray[np.uint8]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:32]


def test_the_bytes_are_those_they_have_always_been() -> None:
    # Of a random picture, in which every code occurs.
    rgb = np.random.default_rng(1).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    assert sha(recolor(rgb, wild_colors(3, 48, 0.4), (8, 0, 32, 48))) == "08a994eae7c8b4fd22dcbea369672bd6"
    assert sha(recolor(rgb, wild_colors(3, 48, 0.03), (8, 0, 32, 48))) == "8674a863a97850d37d69662a0d2d1ffc"


@pytest.fixture(scope="module")
def deep(photo: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """A picture of 16 bits, whose low byte is not that of an 8-bit one."""
    low = np.random.default_rng(2).integers(0, 257, photo.shape)
    return np.minimum(photo.astype(np.int64) * 257 + low, 65535).astype(np.uint16)


@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0])
def test_sixteen_bits_keep_their_lightness(deep: NDArray[np.uint16], spread: float) -> None:
    painted = recolor(deep, wild_colors(2, 64, spread), (0, 0, 64, 64))
    assert painted.dtype == np.uint16
    error = (lab(painted[1])[0] - lab(deep)[0]).abs()
    assert float(error.max()) < 0.002
    assert len(np.unique(painted[0])) > 5000  # and not 8 bits in disguise


def test_the_darkest_of_sixteen_bits_keep_their_lightness() -> None:
    ramp = np.repeat(np.arange(600, dtype=np.uint16).reshape(20, 30, 1), 3, axis=2)
    painted = recolor(ramp, np.zeros((1, 2, 8, 8), np.float32), (0, 0, 8, 8))[0]
    assert int(np.abs(painted.astype(int) - ramp).max()) <= 1


def test_a_sixteen_bit_images_own_colors_give_it_back(deep: NDArray[np.uint16]) -> None:
    small = np.ascontiguousarray(deep[:64, :64])
    fitted = fit_square(small, 64)
    back = recolor(small, fitted.ab_n[None], fitted.region)[0]
    assert int(np.abs(back.astype(int) - small).max()) <= 8


def test_sixteen_bits_are_fitted_as_eight_are(photo: NDArray[np.uint8]) -> None:
    square = np.ascontiguousarray(photo[:64, :64])
    a, b = fit_square(square, 64), fit_square(square.astype(np.uint16) * 257, 64)
    np.testing.assert_allclose(a.l_n, b.l_n, atol=1e-6)
    smaller, smaller16 = fit_square(photo, 32), fit_square(photo.astype(np.uint16) * 257, 32)
    assert smaller.region == smaller16.region
    assert float(np.abs(smaller.l_n - smaller16.l_n).max()) < 0.02  # 8 bits are resized as codes


@pytest.mark.slow
def test_a_program_without_a_folder_for_its_machine_code_has_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import numpy as np, numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "from condgen.color.colorize import recolor\n"
        "rgb = np.random.default_rng(1).integers(0, 256, (60, 90, 3)).astype(np.uint8)\n"
        "ab = np.random.default_rng(0).normal(0, 0.4, (3, 2, 48, 48)).astype(np.float32)\n"
        "import hashlib; print(hashlib.sha256(recolor(rgb, ab, (8, 0, 32, 48)).tobytes()).hexdigest()[:32])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.stdout.strip() == "08a994eae7c8b4fd22dcbea369672bd6", ran.stderr


@pytest.mark.parametrize("guided", [False, True])
def test_a_draw_has_the_same_bytes_alone_and_among_others(photo: NDArray[np.uint8], guided: bool) -> None:
    ab_n, region = wild_colors(3, 64, 0.3), Region(10, 0, 43, 64)
    guide = guide_of(photo, region, guided=guided)
    together = recolor(photo, torch.from_numpy(ab_n), region, guide=guide)
    for k in range(3):
        np.testing.assert_array_equal(
            recolor(photo, ab_n[k : k + 1], region, guide=guide_of(photo, region, guided=guided))[0], together[k]
        )


def test_the_tables_are_as_close_as_they_say() -> None:
    exact_y = np.linspace(0, 1, 1_000_003)
    exact = np.where(exact_y <= 0.0031308, exact_y * 12.92, 1.055 * exact_y ** (1 / 2.4) - 0.055) * 255
    index = (exact_y * 65535 + 0.5).astype(np.int32)
    assert np.abs(tables(255).codes[index] - exact).max() < 0.5 + 0.03
    exact_f = np.where(exact_y > (6 / 29) ** 3, np.cbrt(exact_y), exact_y / (3 * (6 / 29) ** 2) + 4 / 29)
    assert np.abs(tables(255).fy[index] - exact_f).max() * 116 < 0.007


def test_the_tables_of_sixteen_bits_are_as_close_as_they_say() -> None:
    exact_y = np.linspace(0, 1, 1_000_003)
    root, at = np.arange(65536), np.sqrt(exact_y) * 65535
    exact = np.where(exact_y <= 0.0031308, exact_y * 12.92, 1.055 * exact_y ** (1 / 2.4) - 0.055) * 65535
    assert np.abs(np.interp(at, root, tables(65535).codes) - exact).max() < 0.15
    exact_f = np.where(exact_y > (6 / 29) ** 3, np.cbrt(exact_y), exact_y / (3 * (6 / 29) ** 2) + 4 / 29)
    assert np.abs(np.interp(at, root, tables(65535).fy) - exact_f).max() * 116 < 0.0005


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(photo: NDArray[np.uint8], value: float) -> None:
    ab_n = wild_colors(1, 8, 0.1)
    ab_n[0, 1, 2, 3] = value
    with pytest.raises(ConfigError, match="ab_n"):
        recolor(photo, ab_n, (0, 0, 8, 8))


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("signs", [(1, 1), (-1, 1)])
def test_absurd_colors_are_painted_all_the_same(photo: NDArray[np.uint8], signs: tuple[int, int], guided: bool) -> None:
    region, rows = Region(0, 0, 8, 8), np.tile(np.float32(signs), 4)[:, None]
    ab_n = np.full((1, 2, 8, 8), 3e38, np.float32) * rows
    painted = recolor(photo, ab_n, region, guide=guide_of(photo, region, guided=guided))[0]
    assert float((lab(painted)[0] - lab(photo)[0]).abs().max()) < 0.3


@pytest.mark.parametrize("guided", [False, True])
def test_a_strided_image_is_taken_as_it_is(photo: NDArray[np.uint8], guided: bool) -> None:
    flipped, region, ab_n = photo[::-1, ::2], Region(0, 0, 64, 48), wild_colors(1, 64, 0.2)
    same = np.ascontiguousarray(flipped)
    one, other = (recolor(rgb, ab_n, region, guide=guide_of(rgb, region, guided=guided)) for rgb in (flipped, same))
    np.testing.assert_array_equal(one, other)
    assert fit_square(flipped, 32).region == fit_square(same, 32).region


@pytest.mark.parametrize("region", [(0, 0, 33, 32), (-1, 0, 8, 8), (0, 0, 0, 8), (30, 30, 8, 8)])
def test_a_region_outside_the_square_is_refused(photo: NDArray[np.uint8], region: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="region"):
        recolor(photo, wild_colors(1, 32, 0.1), region)


@pytest.mark.parametrize("rgb", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(rgb: NDArray[np.uint8]) -> None:
    with pytest.raises(ConfigError, match="rgb"):
        fit_square(rgb, 8)
    with pytest.raises(ConfigError, match="rgb"):
        recolor(rgb, wild_colors(1, 8, 0.1), (0, 0, 8, 8))
