"""PSNR and SSIM are torchmetrics' and scikit-image's."""

import numpy as np
import pytest
import torch

from condgen.errors import ConfigError
from condgen.metrics.fidelity import MAX_PSNR_DB, psnr, ssim


def pair(noise: float, height: int = 48, width: int = 70) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 6, 9), dtype=np.float32))
    x = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)[0]
    y = (x + noise * torch.from_numpy(rng.standard_normal(x.shape).astype(np.float32))).clamp(0, 1)
    return y, x


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_they_are_torchmetrics(noise: float) -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    y, x = pair(noise)
    # Its own mean includes the edge, where the window is filled up with reflections; Wang et al. leave that out.
    _, places = image.structural_similarity_index_measure(y[None], x[None], data_range=1.0, return_full_image=True)
    assert float(ssim(y, x)) == pytest.approx(float(places[..., 5:-5, 5:-5].mean()), abs=1e-5)
    expected = image.peak_signal_noise_ratio(y[None], x[None], data_range=1.0)
    assert float(psnr(y, x)) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.slow
def test_they_are_scikit_images() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    y, x = pair(0.1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    arrays = [tensor.permute(1, 2, 0).numpy().astype(np.float64) for tensor in (x, y)]
    expected = metrics.structural_similarity(*arrays, channel_axis=2, data_range=1.0, **options)
    assert float(ssim(y, x)) == pytest.approx(expected, abs=1e-5)
    assert float(psnr(y, x)) == pytest.approx(metrics.peak_signal_noise_ratio(*arrays, data_range=1.0), abs=1e-4)


def test_each_image_of_a_batch_has_the_value_that_it_has_alone() -> None:
    y, x = pair(0.1)
    z, _ = pair(0.3)
    batch = torch.stack([y, z])
    torch.testing.assert_close(ssim(batch, x), torch.stack([ssim(y, x), ssim(z, x)]))
    torch.testing.assert_close(psnr(batch, x), torch.stack([psnr(y, x), psnr(z, x)]))


def test_psnr_by_hand_and_of_equal_images() -> None:
    x = torch.zeros(3, 12, 12)
    assert float(psnr(x + 0.1, x)) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr(x, x)) == MAX_PSNR_DB
    assert float(ssim(x, x)) == pytest.approx(1.0)


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 11"):
        ssim(torch.zeros(3, 10, 40), torch.zeros(3, 10, 40))
