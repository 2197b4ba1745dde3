"""Models as programs: they give what the models give, and translate and colorize take them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condgen.base import Condition, SampleOptions
from condgen.errors import UnsupportedError
from condgen.noise import NoiseSource, SampleId
from pipelines.models.export import export_program
from pipelines.models.options import ColorizeOptions
from pipelines.models.source import LoadedModel, image_task, open_model
from tests.condgen.models import seeded_model, tiny

pytestmark = pytest.mark.slow

CGAN = {
    "width": 8,
    "discriminator_width": 8,
    "norm_groups": 4,
    "multipliers": [1, 2],
    "noise_dim": 4,
    "noise_width": 16,
}


def loaded(model: Any, **extra: Any) -> LoadedModel:
    return LoadedModel(model=model, digest="", extra={"size_px": 16, "task": "color", **extra})


def open_program(path: Path, data: bytes) -> LoadedModel:
    path.write_bytes(data)
    return open_model(str(path), trust_code=True).load()


def test_a_point_prediction_is_a_program_that_gives_the_same(tmp_path: Path) -> None:
    model = tiny("regression")
    exported = export_program(loaded(model), SampleOptions(mode="point"))
    assert exported.facts == {"size_px": 16, "task": "color"}
    assert exported.difference < 1e-5
    program = open_program(tmp_path / "regression.pt2", exported.data)
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    pictures = []
    for one in (loaded(model), program):
        task = image_task(one, ColorizeOptions(upsampling="bilinear"))
        x, layout = task.condition(rgb)
        y = one.model.sample(Condition(image=torch.stack(list(x))), NoiseSource(0, [None], [0]), SampleOptions())
        pictures.append(next(iter(task.images(rgb, y, layout))))
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1


@pytest.mark.parametrize(
    ("model", "numbers"),
    [(("color_classifier", {}), 8 * 8), (("cgan", CGAN), 4), (("diffusion", {"steps": 2}), 2 * 8 * 8)],
    ids=["color_classifier", "cgan", "diffusion"],
)
def test_draws_are_a_program_whose_noise_is_an_input(
    tmp_path: Path, model: tuple[str, dict[str, Any]], numbers: int
) -> None:
    family, config = model
    made = seeded_model("cgan", config) if family == "cgan" else tiny(family, **config)
    exported = export_program(loaded(made), SampleOptions(mode="draw"))
    assert exported.facts["noise_shape"] == [numbers]
    program = open_program(tmp_path / "draws.pt2", exported.data).model
    noise = NoiseSource(3, [SampleId("a", "0"), SampleId("a", "1")], range(3))
    y = program.sample(Condition(image=torch.zeros(2, 1, 16, 16)), noise, SampleOptions())
    assert y.shape == (2, 3, 2, 16, 16)
    assert not torch.equal(y[0, 0], y[0, 1])


def test_a_model_of_labels_is_refused() -> None:
    model = tiny("diffusion", num_labels=3)
    with pytest.raises(UnsupportedError, match="takes a label or a text"):
        export_program(loaded(model), SampleOptions())


def test_the_facts_are_in_the_file() -> None:
    exported = export_program(loaded(tiny("regression"), task="image"), SampleOptions(mode="point"))
    extra = {"condgen.json": ""}
    torch.export.load(io.BytesIO(exported.data), extra_files=extra)
    assert json.loads(extra["condgen.json"]) == {"size_px": 16, "task": "image"}
