"""The model that ships with condgen, on photographs of scikit-image and scikit-learn, which it was not trained on."""

import pickle
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.base import Condition, SampleOptions
from condgen.color.lab import normalize_l, rgb_to_lab
from condgen.errors import ConfigError
from condgen.noise import NoiseSource, SampleId
from condgen.pretrained import DEFAULT_COLORIZER, PRETRAINED, read_pretrained
from pipelines.models.options import ColorizeOptions
from pipelines.models.source import LoadedModel, PackagedModel, image_task, open_model
from pipelines.storage.package_files import locate

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


@pytest.fixture(scope="module")
def shipped() -> LoadedModel:
    return open_model(DEFAULT_COLORIZER).load()


@pytest.fixture(scope="module")
def lab(shipped: LoadedModel) -> torch.Tensor:
    """Squares of photographs at the model's size, ``[N, 3, S, S]``."""
    size, found = shipped.extra["size_px"], []
    for name in PHOTOGRAPHS:
        path = locate("skimage", f"data/{name}")
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        square = image.crop((0, 0, side, side)).resize((size, size), Image.Resampling.BILINEAR)
        found.append(torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255)
    return rgb_to_lab(torch.stack(found))


def draws(shipped: LoadedModel, lab: torch.Tensor, options: SampleOptions, count: int) -> torch.Tensor:
    noise = NoiseSource(0, [SampleId("test", name) for name in PHOTOGRAPHS], range(count))
    return shipped.model.sample(Condition(image=normalize_l(lab[:, :1])), noise, options) * 110


def distance(ab: torch.Tensor, true: torch.Tensor) -> float:
    return float((ab - true).square().sum(dim=-3).sqrt().mean())


def test_it_is_loaded_by_its_name_and_travels_by_it(shipped: LoadedModel) -> None:
    source = open_model(DEFAULT_COLORIZER)
    assert isinstance(source, PackagedModel)
    there = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own
    assert there.uri == DEFAULT_COLORIZER
    assert there.load(expect_digest=shipped.digest).digest == shipped.digest
    assert image_task(shipped, ColorizeOptions()) is not None


def test_a_name_that_does_not_ship_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'colorizer'"):
        read_pretrained("colourizer")


@pytest.mark.parametrize("name", PRETRAINED)
def test_its_files_are_small_and_it_has_a_card(name: str) -> None:
    assert sum(len(data) for data in read_pretrained(name).values()) < 24e6
    card = (files("condgen.pretrained") / name / "README.md").read_text()
    for heading in ("## Data", "## Training", "## What it measures", "## What it is bad at", "## License"):
        assert heading in card


def test_its_answers_are_nearer_to_the_truth_than_grey(shipped: LoadedModel, lab: torch.Tensor) -> None:
    point = draws(shipped, lab, SampleOptions(mode="point"), 1)[:, 0]
    grey = distance(torch.zeros_like(point), lab[:, 1:])
    assert distance(point, lab[:, 1:]) < 0.95 * grey


@pytest.mark.slow
def test_its_draws_differ_are_colorful_and_have_no_blotches(shipped: LoadedModel, lab: torch.Tensor) -> None:
    ab = draws(shipped, lab, SampleOptions(), 3)
    chroma, true = (float(value.square().sum(dim=-3).sqrt().mean()) for value in (ab, lab[:, 1:]))
    assert 0.4 * true < chroma < 1.6 * true
    assert distance(ab[:, 0], ab[:, 1]) > 0.15 * true

    def variation(value: torch.Tensor) -> float:
        small = torch.nn.functional.interpolate(value.flatten(0, -4), size=(64, 64), mode="area")
        return float(small.diff(dim=-1).abs().mean() + small.diff(dim=-2).abs().mean())

    assert variation(ab) < 1.5 * variation(lab[:, 1:])
