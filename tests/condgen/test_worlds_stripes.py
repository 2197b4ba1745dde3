"""World "stripes": its truth is what its docstring says, and its measures tell pictures that are not true."""

import pytest
import torch

from condgen.worlds.stripes import BRIGHT, LEVEL, PERIOD_PX, SIZE_PX, draw_stripes, histogram_error, structure


def true(count: int = 300) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stripes = draw_stripes(count, torch.Generator().manual_seed(3))
    return stripes.condition, stripes.target, stripes.kind


def test_true_images_are_bright_or_dark_and_the_opposite_half_a_period_on() -> None:
    x, y, kind = true()
    assert x.shape == (300, 3, SIZE_PX, SIZE_PX)
    assert y.shape == (300, 1, SIZE_PX, SIZE_PX)
    assert kind.shape == (300, 2, 2)
    found = structure(y, kind)
    # A quarter of the pixels are at an edge, where the mean is even between the levels.
    assert found.bright_or_dark == pytest.approx(1 - 0.25 * BRIGHT / LEVEL, abs=0.01)
    assert found.autocorrelation == pytest.approx(-1, abs=0.01)
    assert found.mismatch == 0
    assert float(y.abs().max()) < LEVEL + 0.3


def test_x_tells_the_kind_and_not_the_phase() -> None:
    x, y, kind = true()
    assert torch.equal(x[:, :, ::16, ::16].argmax(1), kind)
    assert set(x.unique().tolist()) == {-1, 1}
    upright = y[:, 0, 8, :16][kind[:, 0, 0] == 0]
    assert (
        float(upright.mean(dim=0).abs().max()) < 4 * LEVEL / len(upright) ** 0.5
    )  # every pixel as often bright as dark
    assert float((upright[:, 0] * upright[:, PERIOD_PX]).mean()) > 0.4


def test_a_generator_gives_the_same_samples() -> None:
    assert torch.equal(true()[1], true()[1])


def test_grey_flat_and_noisy_images_have_no_structure() -> None:
    _, y, kind = true()
    grey = structure(torch.zeros_like(y), kind)
    assert (grey.bright_or_dark, grey.autocorrelation) == (0, 0)
    flat = structure(torch.full_like(y, LEVEL), kind)
    assert flat.autocorrelation == pytest.approx(1)
    shuffled = y.flatten(2)[..., torch.randperm(SIZE_PX**2, generator=torch.Generator().manual_seed(0))].view_as(y)
    found = structure(shuffled, kind)
    assert abs(found.autocorrelation) < 0.1
    assert found.mismatch > 0.3


def test_images_of_other_conditions_do_not_match() -> None:
    _, y, kind = true()
    assert structure(y, kind.roll(1, 0)).mismatch == pytest.approx(2 / 3, abs=0.05)


def test_the_histogram_is_of_values_wherever_they_are() -> None:
    stripes = draw_stripes(300, torch.Generator().manual_seed(3))
    y = stripes.target
    assert histogram_error(y, stripes) == 0
    assert histogram_error(-y, stripes) < 0.01  # the other phase
    quadrants = y.unflatten(2, (2, 16)).unflatten(4, (2, 16))
    turned = quadrants.transpose(3, 5).reshape(y.shape)
    assert not torch.equal(turned, y)
    assert histogram_error(turned, stripes) < 1e-6
    size = LEVEL * 7 / 8  # a quarter of the pixels, at an edge, is half as far from grey
    assert histogram_error(torch.zeros_like(y), stripes) == pytest.approx(size, abs=0.01)
    assert histogram_error(y / 2, stripes) == pytest.approx(size / 2, abs=0.01)
    assert histogram_error(torch.full_like(y, LEVEL), stripes) == pytest.approx(LEVEL, abs=0.02)
