"""The measure of bleeding, against answers that are known."""

import math

import pytest
import torch
from torch import Tensor

from condgen.errors import ConfigError
from condgen.metrics.bleeding import bleeding, crossing, edge_bands

LEFT, RIGHT = torch.tensor([20.0, 0.0]), torch.tensor([-10.0, 40.0])


def flat_areas(edge: int, width: int = 64) -> Tensor:
    """Lab of two flat areas, both L = 50."""
    lab = torch.full((3, 32, width), 50.0)
    lab[1:, :, :edge], lab[1:, :, edge:] = LEFT[:, None, None], RIGHT[:, None, None]
    return lab


@pytest.mark.parametrize("cell_px", [8, 16, 32])
def test_a_ramp_from_cell_to_cell_crosses_by_a_quarter_of_a_cell(cell_px: int) -> None:
    share = ((torch.arange(64) + 0.5 - 32) / cell_px + 0.5).clamp(0, 1)
    ramp = (LEFT[:, None] + share * (RIGHT - LEFT)[:, None])[:, None].expand(2, 10, 64)
    found = crossing(ramp, LEFT, RIGHT, 32)
    assert found.width_px == pytest.approx(cell_px / 4, rel=0.01)
    assert found.reach_px == math.floor(0.4 * cell_px + 0.5)


def test_nothing_crosses_where_color_ends_at_the_edge() -> None:
    found = crossing(flat_areas(20)[1:], LEFT, RIGHT, 20)
    assert (found.width_px, found.reach_px) == (0, 0)


def test_the_wrong_color_in_three_columns_is_a_width_of_three_pixels() -> None:
    found = crossing(flat_areas(23)[1:], LEFT, RIGHT, 20)
    assert found.width_px == pytest.approx(3)
    assert found.reach_px == 3


def test_each_pixel_is_near_an_edge_of_color_or_of_lightness_alone_or_elsewhere() -> None:
    lab = torch.full((3, 256, 1024), 50.0)
    lab[1, :, :300] = 40.0  # an edge of color alone
    lab[0, :, 700:] = 90.0  # one of lightness alone
    lab[:, 200:, 300:302] = 80.0
    bands = edge_bands(lab)
    assert bool((bands.color.int() + bands.lightness.int() + bands.elsewhere.int() == 1).all())
    row = 100
    assert torch.nonzero(bands.color[row])[:, 0].tolist() == list(range(289, 311))
    assert torch.nonzero(bands.lightness[row])[:, 0].tolist() == list(range(688, 712))
    assert bool(bands.elsewhere[row, 400:600].all())


def test_the_band_is_of_the_same_share_of_a_smaller_image() -> None:
    shares = []
    for size in (1024, 512):
        lab = torch.zeros(3, size // 8, size)
        lab[1, :, size // 2 :] = 60.0
        shares.append(float(edge_bands(lab).color.double().mean()))
    assert shares[1] == pytest.approx(shares[0], abs=0.005)


def test_errors_are_told_apart_by_where_they_are() -> None:
    lab = flat_areas(512, 1024)
    bands = edge_bands(lab)
    ab = lab[1:].clone()
    ab[0, :, 505:519] += 3  # of 24 columns near the edge
    ab[1, :, 505:519] += 4
    ab[0, :, 900:] += 1
    found = bleeding(ab, lab[1:], bands)
    near = int(bands.color[0].sum())
    assert found.at_edges == pytest.approx(14 * 5 / near)
    assert found.elsewhere == pytest.approx(124 / (1024 - near))
    assert found.overall == pytest.approx((14 * 5 + 124) / 1024)
    assert math.isnan(found.at_lightness_edges)


def test_arrays_of_other_shapes_are_refused() -> None:
    lab = flat_areas(10)
    with pytest.raises(ConfigError, match="ab"):
        bleeding(lab[1:, :16], lab[1:], edge_bands(lab))
    with pytest.raises(ConfigError, match="ab"):
        bleeding(lab, lab, edge_bands(lab))
