"""Colorfulness, and the accuracy curves of Zhang et al. 2016, by hand and by the definition pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from condgen.metrics.color import (
    AB_CELLS,
    ab_cells,
    ab_distance,
    accuracy_curves,
    auc_balanced,
    auc_raw,
    cell_hits,
    chroma,
    colorfulness,
    count_hits,
)


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 30, shape).astype(np.float32).clip(-100, 90))


def test_grey_has_no_color() -> None:
    grey = torch.randint(0, 256, (1, 8, 8)).expand(3, 8, 8).to(torch.uint8)
    assert float(colorfulness(grey)) == 0


def test_colorfulness_of_two_halves_is_the_papers_formula() -> None:
    rgb = torch.zeros(2, 3, 4, 4)
    rgb[:, 0, :, :2], rgb[:, 2, :, 2:] = 255, 255  # red, blue: rg 255 and 0, yb 127.5 and -255
    spread = math.hypot(127.5, 191.25)
    offset = math.hypot(127.5, -63.75)
    torch.testing.assert_close(colorfulness(rgb), torch.full((2,), spread + 0.3 * offset))


def test_chroma_is_the_mean_length_of_ab() -> None:
    ab = torch.tensor([[[3.0, 0.0]], [[4.0, -10.0]]])
    assert float(chroma(ab)) == pytest.approx((5 + 10) / 2)


def test_a_cell_holds_its_lower_edge_and_not_its_upper() -> None:
    ab = torch.tensor([[[0.0, 9.99, 10.0, -0.01, -110.0, 500.0]], [[0.0, 0.0, 0.0, 0.0, -110.0, 500.0]]])
    cells = ab_cells(ab)[0].tolist()
    assert cells[0] == cells[1]
    assert cells[2] == cells[0] + 22
    assert cells[3] == cells[0] - 22
    assert cells[4:] == [0, AB_CELLS - 1]


def test_a_pixel_is_within_all_thresholds_from_its_distance_on() -> None:
    distance = torch.tensor([[0.0, 0.5, 1.0, 149.5, 150.0, 150.5]])
    counts = count_hits(distance, torch.zeros(1, 6, dtype=torch.int64))
    by_hand = [sum(float(d) <= t for t in range(151)) for d in distance[0]]
    assert by_hand == [151, 150, 150, 1, 1, 0]
    assert cell_hits(counts)[0] == sum(by_hand)
    assert auc_raw(counts) == pytest.approx(sum(by_hand) / (151 * 6))


def test_auc_is_the_mean_over_thresholds_of_the_weighted_share_of_pixels() -> None:
    """The definition as it would be written for arrays that fit: a mask a threshold, a weight a pixel."""
    truth, guess = images(0, 2, 40, 30), images(1, 2, 40, 30) / 2
    counts = count_hits(ab_distance(guess, truth), ab_cells(truth))
    t, g = truth.numpy().reshape(2, -1), guess.numpy().reshape(2, -1)
    distance = np.sqrt(((g - t) ** 2).sum(axis=0))
    _, inverse, count = np.unique(np.floor(t / 10), axis=1, return_inverse=True, return_counts=True)
    weight = 1 / count[inverse.ravel()]
    weight /= weight.sum()
    raw = [(distance <= threshold).mean() for threshold in range(151)]
    balanced = [(weight * (distance <= threshold)).sum() for threshold in range(151)]
    assert auc_raw(counts) == pytest.approx(np.mean(raw), abs=1e-9)
    assert auc_balanced(counts) == pytest.approx(np.mean(balanced), abs=1e-9)
    curves = accuracy_curves(counts)
    np.testing.assert_allclose(curves[0], raw, atol=1e-9)
    np.testing.assert_allclose(curves[1], balanced, atol=1e-9)
    assert abs(auc_raw(counts) - auc_balanced(counts)) > 0.01  # the two are told apart


def test_counts_of_images_add_up_to_those_of_their_set() -> None:
    truth, guess = images(2, 3, 2, 8, 8), images(3, 3, 2, 8, 8)
    each = [count_hits(ab_distance(g, t), ab_cells(t)) for g, t in zip(guess, truth, strict=True)]
    together = count_hits(ab_distance(guess, truth), ab_cells(truth))
    np.testing.assert_array_equal(sum(each), together)


def test_a_perfect_answer_has_all_of_both_areas() -> None:
    truth = images(4, 2, 16, 16)
    counts = count_hits(ab_distance(truth, truth), ab_cells(truth))
    assert auc_raw(counts) == auc_balanced(counts) == 1.0
