"""Features are torchvision's own, at one size, and a set's Fréchet distance orders what is worse."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from condgen.errors import CheckpointError
from condgen.metrics.sets import FeatureMoments, FrechetReference
from pipelines.evaluation.features import FEATURE_PX, NUM_FEATURES, load_extractor
from pipelines.pretrained_weights import find_mobilenet_v2, read_weights


@pytest.fixture(scope="module")
def weights() -> Mapping[str, torch.Tensor]:
    path = find_mobilenet_v2()
    if path is None:
        pytest.skip("MobileNetV2's weights are not installed")
    return read_weights(path)


def images(count: int, height: int = 224, width: int = 224) -> torch.Tensor:
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (count, 3, 7, 7)).astype(np.float32))
    wide = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return wide.clamp(0, 255).to(torch.uint8)


def test_they_are_torchvisions_last_map_averaged(weights: Mapping[str, torch.Tensor]) -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.mobilenet_v2(weights=None).eval()
    model.load_state_dict(dict(weights))
    codes = images(2, 224, 256)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        expected = model.features(normalise(codes.float() / 255)).mean(dim=(2, 3)).numpy()
    found = load_extractor(weights)(codes)
    assert found.shape == (2, NUM_FEATURES)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_images_of_other_sizes_are_brought_to_one(weights: Mapping[str, torch.Tensor]) -> None:
    extract = load_extractor(weights)
    large = images(1, 2 * FEATURE_PX, 2 * FEATURE_PX)
    small = torch.nn.functional.interpolate(
        large.float(), size=(FEATURE_PX, FEATURE_PX), mode="bilinear", antialias=True
    )
    other = images(2)[1:]
    of_large, of_small, of_other = extract(large), extract(small.round().to(torch.uint8)), extract(other)
    assert np.abs(of_large - of_small).mean() < 0.3 * np.abs(of_large - of_other).mean()


def test_grey_is_farther_than_half_the_color(weights: Mapping[str, torch.Tensor]) -> None:
    extract = load_extractor(weights)
    codes = images(16).float()
    grey = codes.mean(dim=1, keepdim=True).expand_as(codes)
    reference = FrechetReference(FeatureMoments.of(extract(codes.to(torch.uint8))))
    half, none = (
        reference.distance(FeatureMoments.of(extract(other.to(torch.uint8)))) for other in ((codes + grey) / 2, grey)
    )
    assert 0 < half < none


def test_other_weights_are_refused() -> None:
    with pytest.raises(CheckpointError, match="not torchvision's weights"):
        load_extractor({"a": torch.zeros(1)})
