"""Features are torchvision's own, at one size, and a set's Fréchet distance orders what is worse."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from condgen.errors import CheckpointError
from condgen.metrics.sets import FeatureMoments, FrechetReference
from pipelines.evaluation.features import FEATURE_PX, NUM_FEATURES, MobileNetFeatures, load_extractor
from pipelines.models.pretrained_weights import find_mobilenet_v2, read_weights


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


class Size(torch.nn.Module):
    """A network whose features are height, width and the mean of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = torch.stack([torch.tensor(float(x.shape[2])), torch.tensor(float(x.shape[3])), x.mean()])
        return values.reshape(1, 3, 1, 1)


@pytest.mark.parametrize(("height", "width"), [(448, 600), (100, 134), (224, 300)])
def test_images_of_any_size_are_brought_to_one_and_keep_their_aspect(height: int, width: int) -> None:
    found = MobileNetFeatures(Size())(torch.full((1, 3, height, width), 128, dtype=torch.uint8))[0]
    assert found[:2].tolist() == [FEATURE_PX, 300]
    normalised = [(128 / 255 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert found[2] == pytest.approx(np.mean(normalised), abs=1e-4)


@pytest.mark.slow
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
