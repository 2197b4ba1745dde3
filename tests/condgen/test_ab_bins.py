import numpy as np
import pytest
import torch

from condgen.color.ab_bins import AbBins, gamut_points
from condgen.color.lab import rgb_to_lab
from condgen.errors import ConfigError
from condgen.statistics import DatasetStatistics


def srgb_colors(levels: int) -> torch.Tensor:
    """ab of a lattice of sRGB colours, ``[2, levels, levels^2]`` float32."""
    axis = torch.linspace(0, 1, levels, dtype=torch.float64)
    cube = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, levels, -1)
    return rgb_to_lab(cube)[1:].float()


@pytest.fixture(scope="module")
def bins() -> AbBins:
    return AbBins()


def test_step_10_has_the_papers_313_bins(bins: AbBins) -> None:
    assert len(bins) == 313
    assert len(np.unique(gamut_points(10), axis=0)) == 313
    assert (gamut_points(10) % 10 == 0).all()


@pytest.mark.slow
def test_the_313_bins_do_not_depend_on_how_finely_the_gamut_is_sampled() -> None:
    colors = srgb_colors(86).reshape(2, -1).T
    axis = torch.arange(-120.0, 121.0, 10.0)
    points = torch.cartesian_prod(axis, axis)
    colors = torch.from_numpy(np.unique(colors.mul(2).round().numpy(), axis=0)) / 2
    inside = points[torch.cdist(points, colors).amin(dim=1) <= 13.5]
    np.testing.assert_array_equal(inside.numpy(), gamut_points(10))


def test_every_srgb_color_has_a_bin_within_half_a_step(bins: AbBins) -> None:
    ab = srgb_colors(40)
    error = (bins.decode(bins.nearest(ab)) - ab).abs()
    assert float(error.max()) <= 5.001


def test_nearest_is_the_nearest_of_all(bins: AbBins) -> None:
    ab = torch.empty(2, 20, 40).uniform_(-115, 115, generator=torch.Generator().manual_seed(0))
    distance = (ab.permute(1, 2, 0)[..., None, :] - bins.centers).norm(dim=-1)
    mine = (bins.decode(bins.nearest(ab)) - ab).norm(dim=0)
    torch.testing.assert_close(mine, distance.amin(dim=-1), atol=1e-2, rtol=0)


def test_a_bins_own_color_comes_back(bins: AbBins) -> None:
    index = torch.arange(len(bins))[None]
    assert torch.equal(bins.nearest(bins.decode(index)), index)


def test_soft_encoding_agrees_with_all_distances(bins: AbBins) -> None:
    ab = srgb_colors(12)
    index, weight = bins.soft_encode(ab)
    assert index.shape == (*ab.shape[1:], 10)
    dense = torch.zeros(*ab.shape[1:], len(bins)).scatter_(-1, index, weight)
    squared = torch.cdist(ab.permute(1, 2, 0), bins.centers).square()
    nearest, order = squared.topk(10, largest=False)
    expected = torch.zeros_like(dense).scatter_(-1, order, torch.softmax(-nearest / 50, dim=-1))
    torch.testing.assert_close(weight.sum(dim=-1), torch.ones(ab.shape[1:]))
    # The table may take another tenth neighbour, whose weight is below 1 %.
    assert float((dense - expected).abs().sum(dim=-1).max()) < 0.02


def test_a_color_far_outside_still_has_weights(bins: AbBins) -> None:
    _, weight = bins.soft_encode(torch.tensor([[[900.0]], [[-900.0]]]))
    torch.testing.assert_close(weight.sum(dim=-1), torch.ones(1, 1))


def test_the_mean_of_a_soft_encoding_is_near_its_color(bins: AbBins) -> None:
    ab = srgb_colors(8) * 0.5  # well inside, where neighbours lie on all sides
    index, weight = bins.soft_encode(ab)
    dense = torch.zeros(*ab.shape[1:], len(bins)).scatter_(-1, index, weight)
    torch.testing.assert_close(bins.decode_mean(dense), ab, atol=2.0, rtol=0)


def test_a_histogram_counts_by_bin(bins: AbBins) -> None:
    ab = srgb_colors(16)
    counts = bins.count(DatasetStatistics.of_ab(ab.numpy()[None]))
    expected = torch.bincount(bins.nearest(ab).flatten(), minlength=len(bins)).double()
    assert float((counts - expected).abs().sum()) / ab[0].numel() < 0.02  # colours on the border of two bins


@pytest.mark.parametrize("kwargs", [{"grid_step": 7}, {"num_neighbors": 0}, {"num_neighbors": 400}])
def test_settings_that_make_no_bins_are_refused(kwargs: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        AbBins(**kwargs)
