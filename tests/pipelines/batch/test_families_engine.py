"""Every family through the batch engine: draws that differ, each the same alone as among others; both directions."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import write_image
from PIL import Image

from condgen import checkpoint
from condgen.errors import ConfigError
from condgen.families import FAMILIES
from condgen.options import SampleOptions
from condgen.presets import PRESETS
from pipelines.batch.archive import plan_archive
from pipelines.batch.engine import ChunkEngine
from pipelines.datasets.chunk import ChunkLimits, Sample, iter_chunks, read_chunk
from pipelines.models.options import ColorizeOptions
from pipelines.models.source import image_task, open_model
from pipelines.results.files import Draw
from pipelines.results.settings import BatchSettings, OutputOptions
from pipelines.storage.store import Store, open_store


@pytest.fixture
def archive(tmp_path: Path) -> Store:
    """Two pictures that are neither square nor of a model's size."""
    for number in range(2):
        write_image(tmp_path / "archive" / f"{number}.png", 120 + 80 * number, (90, 50))
    return open_store(str(tmp_path / "archive"))


def engine(family: str, archive: Store, folder: Path, chroma: float = 1.0, **sampling: Any) -> ChunkEngine[Any]:
    """The engine for a family's small preset with its first weights, saved and loaded; two draws where it draws."""
    preset = PRESETS[f"{family.replace('_', '-')}-small"]
    store = open_store(str(folder / "model"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FAMILIES[family].model_class(preset.model)
    for name, data in checkpoint.dump(model, {"size_px": preset.data.size_px}).items():
        store.write(name, data)
    loaded = open_model(store.uri).load()
    kind = "translate" if FAMILIES[family].task == "translate" else "colorize"
    settings = BatchSettings(
        kind=kind,
        batch_size=4,
        draws=1 + loaded.model.is_stochastic,
        sample=SampleOptions(**sampling),
        colorize=ColorizeOptions(chroma=chroma),
        output=OutputOptions(output_format="png"),
    )
    return ChunkEngine(
        archive=archive,
        results=open_store(str(folder / "results")),
        model=loaded.model.eval(),
        task=image_task(loaded, settings.task_options),
        settings=settings,
        footer={},
    )


def samples(archive: Store) -> list[tuple[int, Sample]]:
    (chunk,) = iter_chunks(plan_archive(archive, ChunkLimits()))
    return list(enumerate(read_chunk(archive, chunk)))


def pictures(outcome: object) -> list[bytes]:
    assert isinstance(outcome, list)
    assert all(isinstance(draw, Draw) and (draw.width, draw.height) == (90, 50) for draw in outcome)
    return [draw.image for draw in outcome]


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_differ_and_are_the_same_alone(family: str, archive: Store, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    made = engine(family, archive, tmp_path)
    placed = samples(archive)
    together = {place: pictures(outcome) for place, outcome in made.outcomes(placed).items()}
    draws = 1 if family in ("regression", "cyclegan") else 2
    assert [len(set(found)) for found in together.values()] == [draws, draws]
    assert pictures(made.outcomes(placed[1:])[1]) == together[1]


def test_a_cyclic_model_goes_both_ways(archive: Store, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    made = {
        direction: engine("cyclegan", archive, tmp_path / direction, direction=direction)
        for direction in ("a2b", "b2a")
    }
    found = [pictures(one.outcomes(samples(archive))[0]) for one in made.values()]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("family", "before", "option"),
    [
        ("diffusion", {"steps": 2}, {"steps": 3}),
        ("diffusion", {"steps": 2}, {"sampler": "euler"}),
        ("diffusion", {"steps": 2}, {"guidance_scale": 3.0}),
        ("autoregressive", {}, {"top_k": 1}),
        ("autoregressive", {}, {"top_p": 0.01}),
        ("color_classifier", {}, {"temperature": 0.1}),
    ],
)
def test_options_of_sampling_reach_the_model(
    family: str, before: dict[str, Any], option: dict[str, Any], archive: Store, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    placed = samples(archive)[:1]
    plain, changed = (
        pictures(engine(family, archive, tmp_path / name, **given).outcomes(placed)[0])
        for name, given in (("plain", before), ("changed", before | option))
    )
    assert plain != changed


@pytest.mark.parametrize("option", [{"steps": 2}, {"top_k": 3}, {"guidance_scale": 2.0}])
def test_an_option_that_the_family_has_not_is_refused(option: dict[str, Any]) -> None:
    preset = PRESETS["color-classifier-small"]
    model = FAMILIES[preset.family].model_class(preset.model)
    with pytest.raises(ConfigError, match=f"{next(iter(option))}.*color_classifier.*no such options"):
        model.check_options(SampleOptions(**option))


def test_a_sampler_that_the_family_does_not_know_is_refused_with_the_known_ones() -> None:
    preset = PRESETS["diffusion-small"]
    model = FAMILIES[preset.family].model_class(preset.model)
    with pytest.raises(ConfigError, match=r"sample.sampler.*did you mean 'heun'"):
        model.check_options(SampleOptions(sampler="huen"))


def test_colors_can_be_paler_and_stronger(archive: Store, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    placed = samples(archive)[:1]

    def colourfulness(chroma: float) -> float:
        drawn = pictures(engine("gaussian", archive, tmp_path / str(chroma), chroma=chroma).outcomes(placed)[0])
        rgb = np.asarray(Image.open(io.BytesIO(drawn[0])).convert("RGB"), dtype=np.float32)
        return float((rgb.max(axis=2) - rgb.min(axis=2)).mean())

    grey, pale, plain, strong = (colourfulness(chroma) for chroma in (0.0, 0.5, 1.0, 1.5))
    assert grey == 0.0
    assert grey < pale < plain < strong
    with pytest.raises(ConfigError, match="chroma"):
        engine("gaussian", archive, tmp_path / "below", chroma=-1.0)
