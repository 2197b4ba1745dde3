"""docs/pipelines.md and docs/own-models.md: every Python block runs, and gives what the page says."""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from samples import paired_dataset, single_dataset
from small_results import write_model

from condgen.base import Condition, SampleOptions
from condgen.errors import ConfigError
from condgen.noise import NoiseSource, SampleId
from pipelines.models.options import ColorizeOptions
from pipelines.models.source import image_task, open_model

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "pipelines.md"
OWN_MODELS = DOCS / "own-models.md"
BATCH = DOCS / "batch.md"


def blocks(page: Path = PAGE) -> dict[str, str]:
    """The page's Python blocks by the heading above each."""
    found: dict[str, str] = {}
    for section in re.split(r"^#{2,3} ", page.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            assert title not in found
            found[title] = code
    return found


def run(heading: str, page: Path = PAGE, **names: Any) -> dict[str, Any]:
    """Run the block under a heading that begins so; its functions travel by value, as those of a script do."""
    (code,) = [code for title, code in blocks(page).items() if title.startswith(heading)]
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    text = page.read_text()
    code = "\n" * text[: text.index(code)].count("\n") + code  # at its own lines, where its source is looked for
    exec(compile(code, str(page), "exec"), scope)  # noqa: S102  # the page's own code is what is tested
    return scope


def test_the_page_has_five_compositions_and_a_training() -> None:
    assert len(blocks()) == 6


def test_photographs_for_colorization(ray_cluster: None, tmp_path: Path) -> None:
    uri = single_dataset(tmp_path / "photos", 100, bad=frozenset({7, 70}))
    scope = run("1.", PHOTOS=uri)
    assert scope["rgb"].shape[1:] == (64, 64, 3)
    assert scope["counts"] == {"decode: NotAnImage": 2, "read": 98}


def test_pairs_with_joint_augmentation(ray_cluster: None, tmp_path: Path) -> None:
    scope = run("2.", PAIRS=paired_dataset(tmp_path / "pairs", 8))
    assert [tuple(tensor.shape) for tensor in scope["batch"].values()] == [(4, 32, 32, 3)] * 2


def test_two_unpaired_domains(ray_cluster: None, tmp_path: Path) -> None:
    horses, zebras = single_dataset(tmp_path / "horses", 9), single_dataset(tmp_path / "zebras", 30)
    scope = run("3.", HORSES=horses, ZEBRAS=zebras)
    assert sorted(row["target_key"] for row in scope["rows"]) == [f"{number:05d}" for number in range(30)]
    assert {row["key"] for row in scope["rows"]} == {f"{number:05d}" for number in range(9)}


def test_a_mixture_of_two_datasets(ray_cluster: None, tmp_path: Path) -> None:
    scope = run("4.", PHOTOS=single_dataset(tmp_path / "photos", 200), ART=single_dataset(tmp_path / "art", 30))
    rows = sum(len(batch["key"]) for batch in scope["batches"])
    assert abs(rows - 100) < 4 * (200 * 0.35 * 0.65) ** 0.5  # 30 of art and 35 % of the photographs


def test_filter_count_and_write(ray_cluster: None, tmp_path: Path) -> None:
    scope = run("5.", PHOTOS=single_dataset(tmp_path / "photos", 60), OUT=str(tmp_path / "out"))
    assert scope["counts"] == {"kept": 50, "low number": 10}
    assert pq.read_table(tmp_path / "out").num_rows == 50


def test_train_a_model(ray_cluster: None, tmp_path: Path) -> None:
    places = {"PHOTOS": single_dataset(tmp_path / "photos", 24), "RUN": str(tmp_path / "run")}
    scope = run("Train a model", **places)
    assert scope["steps"] == 4
    assert len(scope["losses"]) == 2
    assert run("Train a model", **places)["report"].already
    assert open_model(places["RUN"]).load().model.family == "regression"


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory with the page's modules, as it says."""
    monkeypatch.chdir(tmp_path)
    for name, heading in (("residual", "A residual network"), ("painter", "Several draws")):
        (code,) = [code for title, code in blocks(OWN_MODELS).items() if title == heading]
        (tmp_path / f"{name}.py").write_text(code)
    before = list(sys.path)
    yield
    sys.path[:] = before
    for name in ("residual", "painter"):
        sys.modules.pop(name, None)


def test_own_models_says_what_is_tested() -> None:
    headings = ["A residual network", "Try it on one image", "Several draws", "Program files"]
    assert list(blocks(OWN_MODELS)) == headings


def test_a_residual_network_and_one_image(own_models: None, tmp_path: Path) -> None:
    scope = run("Try it", OWN_MODELS)
    assert len(scope["tiles"]) == 6
    assert (scope["image"].shape, scope["image"].dtype) == ((100, 150, 3), np.uint8)
    assert not np.array_equal(scope["image"], scope["rgb"])

    weights = {name: value * 0 for name, value in scope["loaded"].model.module.state_dict().items()}
    torch.save(weights, "residual.pth")
    zeros = open_model("residual:trained").load()
    assert zeros.digest != scope["loaded"].digest
    y = zeros.model.sample(Condition(image=torch.stack(list(scope["tiles"]))), scope["noise"], SampleOptions())
    (same,) = scope["task"].images(scope["rgb"], y, scope["layout"])
    np.testing.assert_array_equal(same, scope["rgb"])


def test_several_draws_of_an_own_model(own_models: None) -> None:
    loaded = open_model("painter:Painter").load()
    assert loaded.model.is_stochastic
    rgb = np.full((40, 60, 3), 120, np.uint8)
    task = image_task(loaded, ColorizeOptions())
    tiles, context = task.condition(rgb)
    noise = NoiseSource(0, [SampleId("a", "b")], range(3))
    y = loaded.model.sample(Condition(image=torch.stack(list(tiles))), noise, SampleOptions())
    pictures = [picture.tobytes() for picture in task.images(rgb, y, context)]
    assert len(set(pictures)) == 3


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:FutureWarning")
def test_program_files(own_models: None) -> None:
    sys.path.append(".")
    scope = run("Program files", OWN_MODELS)
    x = torch.rand(3, 3, 64, 64) * 2 - 1
    expected = scope["model"]((x + 1) / 2) * 2 - 1
    for name in ("residual.pt", "residual.pt2"):
        with pytest.raises(ConfigError, match="--trust-code"):
            open_model(name)
        model = open_model(name, trust_code=True).load().model
        y = model.sample(Condition(image=x), NoiseSource(0, [None] * 3, [0]), SampleOptions())
        torch.testing.assert_close(y[:, 0], expected.detach(), atol=1e-5, rtol=0)


def test_the_batch_job_with_functions_of_ones_own(ray_cluster: None, tmp_path: Path) -> None:
    write_model(tmp_path / "run")
    for number, side in enumerate((40, 40, 20, 40)):
        ramp = np.tile(np.linspace(0, 255, side, dtype=np.uint8), (side, 1))
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(np.stack([ramp] * 3, axis=-1)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "notes.dat").write_text("no photograph")
    places = {"PHOTOS": str(tmp_path / "photos"), "RESULTS": str(tmp_path / "results"), "RUN": str(tmp_path / "run")}
    assert run("From Python", BATCH, **places)["counts"] == (5, 3, 1, 1)
    rows = pq.read_table(tmp_path / "results" / "draws").to_pylist()
    picture = np.asarray(Image.open(io.BytesIO(rows[0]["image"]["bytes"])).convert("L"))
    assert picture[:, :8].mean() > picture[:, -8:].mean() + 100  # mirrored
