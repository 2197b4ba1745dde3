"""benchmarks/real_data.py and real_sets.py: the measures on pictures made by hand, and which tiles go where."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import real_data
import real_sets

from condgen.color.lab import normalize_ab, rgb_to_lab
from jobs.demo.photographs import held_out_boxes


def test_the_distance_looks_where_the_truth_has_a_color() -> None:
    truth = torch.ones(1, 3, 8, 8)
    truth[:, 0, :4] = -1.0
    truth[:, :, :2] = -1.0
    mask = real_data.coloured(truth)
    assert mask[0, :, 0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    made = torch.stack([truth, torch.ones_like(truth), -torch.ones_like(truth)], dim=1)
    found = real_data.distance(made, truth, mask)
    torch.testing.assert_close(found, torch.tensor([[0.0, 2 / 3, 4 / 3]]))


def test_perfect_draws_are_nearest_to_their_own_truth_and_other_draws_are_not() -> None:
    truth = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.8 - 1
    mask, white = real_data.coloured(truth), torch.ones_like(truth)
    perfect = real_data.numbers_of(truth[:, None].expand(-1, 2, -1, -1, -1), truth, white, mask)
    assert perfect["draws"] == perfect["nearest of K"] == perfect["between draws"] == 0
    assert perfect["own"] == 1
    assert perfect["colour"] == pytest.approx(1)
    assert perfect["input"] > 0.5
    assert perfect["another's"] > 0.5
    wrong = real_data.numbers_of(truth.roll(1, 0)[:, None], truth, truth, mask)
    assert wrong["own"] == 0
    assert wrong["input"] == 0
    assert real_data.numbers_of(white[:, None], truth, truth, real_data.everywhere(truth))["colour"] == 0


def test_true_colors_on_the_luminance_are_the_image_again() -> None:
    rgb = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ab_n = normalize_ab(rgb_to_lab((rgb + 1) / 2)[:, 1:])
    made = real_data.with_colours(real_data.lightness(rgb), ab_n[:, None].expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(made, rgb[:, None].expand(-1, 3, -1, -1, -1), atol=2e-3, rtol=0)


def test_images_come_to_a_size_in_the_range_of_the_models() -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    found = real_data.at_size([black, white], 4)
    assert found.shape == (2, 3, 4, 4)
    assert found[0].unique().tolist() == [-1.0]
    assert found[1].unique().tolist() == [1.0]
    assert real_data.at_size([black], 4, 1).shape == (1, 1, 4, 4)


def test_flags_and_skin_tones_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = ["hexcode,group,skintone", "1F600,smileys,", "1F1E6,flags,", "1F44B,people,2"]
    (tmp_path / "data" / "openmoji.csv").write_text("\n".join(rows) + "\n")
    assert [row["hexcode"] for row in real_sets.chosen(tmp_path)] == ["1F600"]


def test_no_tile_of_one_domain_touches_the_other_or_what_is_held_out() -> None:
    covered = {name: np.zeros((2700, 5400), bool) for name in ("a", "b", "held out")}
    for top in range(0, 2700 - 64, 32):
        for left in range(0, 5400 - 64, 32):
            where = real_sets.domain_of(left, top)
            if where:
                covered[where][top : top + 64, left : left + 64] = True
    a, b, held_out = covered.values()
    assert not (a & b).any()
    assert not ((a | b) & held_out).any()
    assert all(part.mean() > 0.02 for part in covered.values())
    for left, top, right, bottom in held_out_boxes():
        assert not (a | b)[top:bottom, left:right].any()


@pytest.mark.parametrize(
    ("preset", "dataset"),
    [("cyclegan-maps", "maps-held-out"), ("diffusion-digits", "digits"), ("cvae-small", "photographs-held-out")],
)
def test_a_presets_name_tells_what_it_is_measured_on(preset: str, dataset: str) -> None:
    assert real_data.kind_of(preset).dataset == dataset


def test_digits_are_what_was_told_where_the_nearest_known_one_is() -> None:
    digits = [np.full((16, 16, 3), level, np.uint8) for level in (0, 100, 200)]
    known = [real_data.Sample(str(label), one, one, label) for label, one in enumerate(digits)]
    told = real_data.at_size(digits, 16)[:, None]
    assert real_data.measure_digits(told, known, known, None).startswith("1.000 ")
    assert real_data.measure_digits(told.roll(1, 0), known, known, None).startswith("0.000 ")
