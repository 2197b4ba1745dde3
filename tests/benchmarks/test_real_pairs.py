"""benchmarks/real_pairs.py: the measures of facades and of unpaired domains, on images made by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import real_pairs


def of_colors(codes: Tensor) -> Tensor:
    """Codes ``[B, S, S]`` of classes as label maps ``[B, 3, S, S]`` in [-1, 1]."""
    return (torch.tensor(real_pairs.LABEL_COLORS)[codes].movedim(-1, 1) / 127.5 - 1).float()


def colors(images: Tensor) -> NDArray[np.float32]:
    """A stand-in for a network's features: the mean color."""
    return images.float().mean(dim=(2, 3)).numpy()


def layout() -> Tensor:
    """Two label maps: an upper half of class 0 or 1 over a lower one of class 10."""
    classes = torch.full((2, 8, 8), 10)
    classes[0, :4], classes[1, :4] = 0, 1
    return classes


def test_classes_are_found_in_label_maps_that_jpeg_has_blurred() -> None:
    classes = torch.arange(12).repeat_interleave(12).view(1, 12, 12)
    noisy = of_colors(classes) + 0.1 * torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(real_pairs.classes_of(noisy), classes)


def test_a_regions_color_is_wrong_by_how_far_its_mean_is_off_whatever_its_texture() -> None:
    classes = layout()
    truth = torch.zeros(2, 3, 8, 8)
    made = truth.clone()
    made[:, :, :4] += 0.3  # half of the image is off by 0.3, the other half has a texture around the true mean
    made[:, :, 4:, ::2], made[:, :, 4:, 1::2] = 0.5, -0.5
    assert real_pairs.region_error(made, truth, classes) == pytest.approx(0.15, abs=1e-6)


def test_trivial_answers_are_made_of_what_they_may_know() -> None:
    classes = layout()
    x = of_colors(classes)
    photographs = torch.zeros(2, 3, 8, 8)
    photographs[0, :, :4], photographs[1, :, :4], photographs[:, :, 4:] = 0.5, -0.5, 0.25
    rows = real_pairs.trivial_facades(x.flip(0), photographs.flip(0), x, photographs)
    torch.testing.assert_close(rows["each label's mean color"], photographs.flip(0))
    torch.testing.assert_close(rows["the mean photograph"][0], photographs.mean(dim=0))
    torch.testing.assert_close(rows["the best constant color"], torch.full((2, 3, 8, 8), 0.25))
    assert torch.equal(rows["the label map"], x.flip(0))
    assert torch.equal(rows["a training photograph"], photographs)


def test_the_numbers_of_the_truth_are_the_best_there_are_and_blur_shows_as_texture() -> None:
    truth = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = of_colors(torch.zeros(4, 16, 16, dtype=torch.int64))
    best = real_pairs.facade_numbers(truth, x, truth, colors)
    assert (best["mean absolute error"], best["region's color"]) == (0.0, 0.0)
    assert (best["texture"], best["SSIM"]) == (pytest.approx(1), pytest.approx(1))
    blurred = torch.nn.functional.avg_pool2d(truth, 5, 1, 2)
    worse = real_pairs.facade_numbers(blurred, x, truth, colors)
    assert worse["texture"] < 0.5
    assert worse["PSNR"] < best["PSNR"]


def test_an_image_as_it_is_keeps_its_content_and_a_negative_loses_it() -> None:
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    domain = x.flip(0) * 0.5
    kept, lost = (real_pairs.domain_numbers(made, x, domain, colors) for made in (x, -x))
    assert kept["change"] == 0
    assert kept["L's correlation"] == pytest.approx(1)
    assert lost["L's correlation"] < -0.9
    assert kept["texture"] == pytest.approx(2)
    assert "change" not in real_pairs.domain_numbers(x, None, domain, colors)


def test_rows_are_taken_evenly_and_lie_side_by_side(tmp_path: Path) -> None:
    assert real_pairs.evenly(list(range(100)), 4) == [0, 25, 50, 75]
    assert real_pairs.evenly([1, 2], 4) == [1, 2]
    rows = [[torch.full((3, 8, 8), -1.0), torch.full((3, 8, 8), 1.0)] for _ in range(6)]
    real_pairs.save_sheet(rows, tmp_path / "new" / "sheet.png", 4, across=2)
    sheet = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    assert sheet.shape == (18, 38, 3)
    assert sheet[:8, :8].max() == 0
    assert sheet[10:, 30:].min() == 255


def test_a_table_leaves_out_what_a_row_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    real_pairs.print_table({"made": {"a": 1.0, "b": 0.5}, "true": {"a": 0.25}})
    assert capsys.readouterr().out.splitlines() == [
        "| | a | b |",
        "| --- | ---: | ---: |",
        "| made | 1.000 | 0.500 |",
        "| true | 0.250 |  |",
    ]
