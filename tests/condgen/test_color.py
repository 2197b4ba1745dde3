import pytest
import torch
from skimage.color import rgb2lab

from condgen.color.lab import (
    denormalize_ab,
    denormalize_l,
    lab_to_rgb,
    normalize_ab,
    normalize_l,
    rgb_to_lab,
)

# B. Lindbloom's CIE color calculator, sRGB, D65, no adaptation.
KNOWN = {
    "black": ((0, 0, 0), (0.0, 0.0, 0.0)),
    "white": ((255, 255, 255), (100.0, 0.0, 0.0)),
    "grey": ((128, 128, 128), (53.5850, 0.0, 0.0)),
    "red": ((255, 0, 0), (53.2408, 80.0925, 67.2032)),
    "green": ((0, 255, 0), (87.7347, -86.1827, 83.1793)),
    "blue": ((0, 0, 255), (32.2970, 79.1875, -107.8602)),
    "yellow": ((255, 255, 0), (97.1393, -21.5537, 94.4780)),
    "cyan": ((0, 255, 255), (91.1132, -48.0875, -14.1312)),
    "magenta": ((255, 0, 255), (60.3242, 98.2343, -60.8249)),
}


def pixel(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


@pytest.mark.parametrize("name", KNOWN)
def test_lab_of_known_colors(name: str) -> None:
    rgb, lab = KNOWN[name]
    torch.testing.assert_close(rgb_to_lab(pixel(rgb) / 255), pixel(lab), atol=2e-3, rtol=0)


def test_lab_agrees_with_scikit_image_over_the_cube() -> None:
    levels = torch.linspace(0, 1, 18, dtype=torch.float64)
    cube = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(3, 18, -1)
    peer = torch.from_numpy(rgb2lab(cube.permute(1, 2, 0).numpy())).permute(2, 0, 1)
    # Its matrix and white are rounded to other digits.
    torch.testing.assert_close(rgb_to_lab(cube), peer, atol=0.02, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-7)])
def test_every_8_bit_level_comes_back_from_lab(dtype: torch.dtype, tolerance: float) -> None:
    levels = torch.arange(0, 256, 5, dtype=dtype) / 255
    cube = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(3, 52, -1)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(cube)), cube, atol=tolerance, rtol=0)


def test_a_color_outside_the_gamut_is_not_clipped() -> None:
    rgb = lab_to_rgb(pixel((50.0, 120.0, 0.0)))
    assert float(rgb.max()) > 1
    torch.testing.assert_close(rgb_to_lab(rgb.clamp(0, 1))[0] > 50, torch.tensor([[True]]))


def test_normalised_values_come_back() -> None:
    lab = rgb_to_lab(torch.rand(2, 3, 4, 4))
    assert float(normalize_l(lab[:, :1]).abs().max()) <= 1
    torch.testing.assert_close(denormalize_l(normalize_l(lab[:, :1])), lab[:, :1], atol=1e-4, rtol=0)
    torch.testing.assert_close(denormalize_ab(normalize_ab(lab[:, 1:])), lab[:, 1:])
