import math

import pytest
import torch

from condgen.worlds.shirts import (
    MODES,
    NOISE,
    WEIGHTS,
    draw_shirts,
    entropy,
    entropy_of_levels,
    flips,
    log_prob_of_levels,
    mode_shares,
)  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_shirt_has_one_of_two_colors_with_the_stated_odds() -> None:
    shirts = draw_shirts(4000, generator())
    found = mode_shares(shirts.ab[:, None], shirts.mask)
    assert found.weight == pytest.approx(WEIGHTS[0], abs=0.03)  # four standard errors
    assert found.agreement == 1.0
    assert found.off_mode < 1e-4
    assert set(found.first.flatten().tolist()) == {0.0, 1.0}


def test_independent_pixels_agree_as_rarely_as_the_issue_says() -> None:
    shirts = draw_shirts(200, generator())
    which = (torch.rand(200, 1, 16, 16, generator=generator(1)) > WEIGHTS[0]).long()
    draws = torch.tensor(MODES)[which].movedim(-1, 2)
    found = mode_shares(draws, shirts.mask)
    assert found.agreement == pytest.approx(sum(w * w for w in WEIGHTS), abs=0.01)
    assert flips(draws, shirts.mask) == pytest.approx(2 * WEIGHTS[0] * WEIGHTS[1], abs=0.02)
    assert flips(shirts.ab[:, None], shirts.mask) == 0.0


def test_the_mean_is_off_mode_and_both_modes_are_found_where_they_are() -> None:
    shirts = draw_shirts(20, generator())
    mean = sum(w * torch.tensor(m) for w, m in zip(WEIGHTS, MODES, strict=True))
    assert mode_shares(torch.as_tensor(mean)[:, None, None].expand(20, 1, 2, 16, 16), shirts.mask).off_mode == 1.0
    colors = torch.tensor(MODES)[None, :, :, None, None].expand(20, 2, 2, 16, 16)
    assert mode_shares(colors, shirts.mask).both == 1.0
    assert mode_shares(colors[:, :1], shirts.mask).both == 0.0


def test_luminance_tells_the_odds_and_the_shading_keeps_its_mean() -> None:
    shirts = draw_shirts(3000, generator(), odds=None)
    bright = shirts.odds > 0.8
    first = mode_shares(shirts.ab[:, None], shirts.mask).first[:, 0]
    assert float(first[bright].mean()) == pytest.approx(0.9, abs=0.05)
    shaded = draw_shirts(300, generator(), odds=None, shading=0.4)
    inside = shaded.mask.float()
    mean = (shaded.luminance[:, 0] * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))
    torch.testing.assert_close(mean, 0.3 + 0.4 * shaded.odds, atol=0.03, rtol=0)
    slope = (shaded.luminance[:, 0].diff(dim=2) * (inside[:, :, 1:] * inside[:, :, :-1])).sum(dim=(1, 2))
    assert float(slope.min()) > 0


def test_the_entropy_is_that_of_its_noise_and_color() -> None:
    shirts = draw_shirts(2, generator())
    gaussian = 512 * 0.5 * math.log(2 * math.pi * math.e * NOISE**2)
    assert entropy(shirts.mask).tolist() == pytest.approx([gaussian + 0.6474] * 2, abs=1e-3)
    fine = entropy_of_levels(shirts.mask, 2001) + 512 * math.log(2 / 2000)  # density times the bins' volume
    torch.testing.assert_close(fine.float(), entropy(shirts.mask), atol=0.1, rtol=0)


def test_the_mean_log_prob_of_levels_is_minus_their_entropy() -> None:
    shirts = draw_shirts(4000, generator())
    for num in (9, 21):
        gap = -log_prob_of_levels(shirts, num) - entropy_of_levels(shirts.mask, num)
        error = float(gap.std()) / math.sqrt(4000)
        assert abs(float(gap.mean())) < 4 * error
        assert error < 0.5
