"""The measures of benchmarks/real_data.py on pictures made by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import real_data


def test_the_distance_looks_where_the_truth_has_a_colour() -> None:
    truth = torch.ones(1, 3, 8, 8)
    truth[:, 0, :4] = -1.0
    truth[:, :, :2] = -1.0
    mask = real_data.coloured(truth)
    assert mask[0, :, 0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    made = torch.stack([truth, torch.ones_like(truth), -torch.ones_like(truth)], dim=1)
    found = real_data.coloured_distance(made, truth, mask)
    torch.testing.assert_close(found, torch.tensor([[0.0, 2 / 3, 4 / 3]]))


def test_perfect_draws_are_nearest_to_their_own_truth_and_other_draws_are_not() -> None:
    truth = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.8 - 1
    perfect = real_data.numbers_of(truth[:, None].expand(-1, 2, -1, -1, -1), truth, torch.ones_like(truth))
    assert perfect["draws"] == perfect["nearest of K"] == perfect["between draws"] == 0
    assert perfect["own"] == 1
    assert perfect["outline"] > 0.5
    assert perfect["another emoji"] > 0.5
    wrong = real_data.numbers_of(truth.roll(1, 0)[:, None], truth, truth)
    assert wrong["own"] == 0
    assert wrong["outline"] == 0


def test_pictures_come_to_a_size_in_the_range_of_the_models() -> None:
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
    assert [row["hexcode"] for row in real_data.chosen(tmp_path)] == ["1F600"]


def test_both_domains_have_about_half_of_the_names() -> None:
    halves = [real_data.half_of(f"{number:X}") for number in range(2000)]
    assert set(halves) == {"a", "b"}
    assert halves.count("a") == pytest.approx(1000, abs=100)
