"""Models by import path, from program files and from storage; what each is refused for."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condgen import checkpoint
from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.errors import CheckpointError, ConfigError, MissingError, UnsupportedError
from condgen.families import build
from condgen.noise import NoiseSource, SampleId
from pipelines.models.colorization import ColorizeTask
from pipelines.models.options import ColorizeOptions, TranslateOptions
from pipelines.models.source import (
    ImportedModel,
    LoadedModel,
    ProgramFile,
    StoredModel,
    image_task,
    is_import_path,
    open_model,
)
from pipelines.models.translation import TranslateTask
from pipelines.models.user import ModuleFacts, check_output, wrap
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import open_store

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    size_px = 16

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)

class Holder:
    Net = Net

def make():
    return Net()

made = Net()

def broken():
    raise ValueError("no weights here")

def number():
    return 7
"""
TINY: dict[str, Any] = {"width": 8, "norm_groups": 4, "multipliers": [1], "blocks_per_level": 1, "out_stride": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module of the user's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    before, known = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]


def source(draws: int = 1, samples: int = 2) -> NoiseSource:
    return NoiseSource(0, [SampleId("a", str(i)) for i in range(samples)], range(draws))


def images(channels: int = 3, samples: int = 2, size: int = 16) -> Condition:
    generator = torch.Generator().manual_seed(0)
    return Condition(image=torch.empty(samples, channels, size, size).uniform_(-1, 1, generator=generator))


@pytest.mark.parametrize("model", ["mine:Net", "a.b_c.d:Net", "a:B.c"])
def test_import_paths(model: str) -> None:
    assert is_import_path(model)


@pytest.mark.parametrize(
    "model", ["s3://bucket/run", "runs/first", "/abs/run", "model.pt", "C:\\run", "a:", ":b", "a:b/c"]
)
def test_what_is_no_import_path(model: str) -> None:
    assert not is_import_path(model)


@pytest.mark.parametrize("name", ["Net", "make", "made", "Holder.Net"])
def test_a_class_a_function_or_a_module_is_a_model(folder: Path, name: str) -> None:
    loaded = open_model(f"mine:{name}").load()
    assert loaded.extra == {"size_px": 16, "task": "image"}
    assert not loaded.model.training
    x = images()
    y = loaded.model.sample(x, source(), SampleOptions())
    assert (y.shape, y.dtype, y.requires_grad) == ((2, 1, 3, 16, 16), torch.float32, False)
    assert isinstance(image_task(loaded, TranslateOptions()), TranslateTask)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Net", "ModuleNotFoundError: No module named 'nowhere' .the working directory"),
        ("mine:Nett", "did you mean 'Net'"),
        ("mine:broken", "ValueError: no weights here"),
        ("mine:number", "a class of torch.nn.Module or a function that returns one"),
        ("mine:torch", "called without arguments"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_model(name).load()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_worker_elsewhere_loads_the_same_model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = open_model("mine:Net")
    digest = model.load().digest
    ours = Path(__file__).resolve().parents[3]
    code = (
        f"import sys, pickle; sys.path.insert(0, {str(ours)!r})\n"
        f"model = pickle.loads({pickle.dumps(model)!r})\n"
        f"print(model.load({digest!r}).digest)"
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    ran = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == digest, ran.stderr


def test_the_working_directory_comes_after_all_that_is_installed(folder: Path) -> None:
    (folder / "json.py").write_text("raise RuntimeError('shadowed')")
    open_model("mine:Net").load()
    assert sys.path[-1] == str(folder)
    with pytest.raises(ConfigError, match="a name that json has"):
        open_model("json:Net").load()


def test_the_digest_is_of_source_weights_and_attributes(folder: Path) -> None:
    def digest(text: str) -> str:
        (folder / "mine.py").write_text(text)
        sys.modules.pop("mine", None)
        import importlib
        import linecache

        importlib.invalidate_caches()
        linecache.clearcache()
        return open_model("mine:Net").load().digest

    first = digest(SOURCE)
    assert digest(SOURCE) == first
    assert digest(SOURCE.replace("x + self.conv(x)", "x - self.conv(x)      ")) != first
    assert digest(SOURCE.replace("size_px = 16", "size_px = 32")) != first
    weights = digest(SOURCE + "\nclass Net(Net):\n    w = None\n")
    torch.manual_seed(1)  # the caller's state says nothing
    assert digest(SOURCE + "\nclass Net(Net):\n    w = None\n") == weights
    path = folder / "weights.pth"
    loading = (
        SOURCE + f"\n_Net = Net\ndef Net():\n    n = _Net(); n.load_state_dict(torch.load({str(path)!r})); return n\n"
    )
    values = nn.Conv2d(3, 3, 3).state_dict(prefix="conv.")
    torch.save(values, path)
    before = digest(loading)
    values["conv.bias"][0] += 1e-3
    torch.save(values, path)
    assert digest(loading) != before


def test_another_model_than_the_plans_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="mine:Net holds another model"):
        open_model("mine:Net").load("0" * 64)


class Affine(nn.Module):
    """Checks the range of what it is given."""

    size_px = 16
    value_range = (0, 255)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert 0 <= float(x.min()) <= float(x.max()) <= 255
        assert float(x.max()) > 200
        return 255 - x


def test_a_modules_own_range_of_values() -> None:
    condition = images()
    y = wrap(Affine()).sample(condition, source(), SampleOptions())
    torch.testing.assert_close(y[:, 0], -condition.image, atol=1e-5, rtol=0)


class Noisy(nn.Module):
    size_px = 16
    noise_shape = (3, 16, 16)

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return x + noise


def test_draws_have_noise_of_their_own_that_the_temperature_scales() -> None:
    model, condition = wrap(Noisy()), images()
    assert model.is_stochastic
    y = model.sample(condition, source(3), SampleOptions(temperature=0.5))
    expected = condition.image[:, None] + source(3).normal((3, 16, 16)) * 0.5
    torch.testing.assert_close(y, expected)
    alone = model.sample(condition, NoiseSource(0, source().samples, [2]), SampleOptions(temperature=0.5))
    assert torch.equal(alone[:, 0], y[:, 2])
    point = model.sample(condition, source(2), SampleOptions(mode="point"))
    assert torch.equal(point, condition.image[:, None].expand(-1, 2, -1, -1, -1))


class Still(nn.Module):
    size_px = 16

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_model_without_noise_refuses_copies_and_the_way_back() -> None:
    model = wrap(Still())
    assert not model.is_stochastic
    with pytest.raises(UnsupportedError, match="its 2 draws would be copies"):
        model.sample(images(), source(2), SampleOptions())
    with pytest.raises(UnsupportedError, match="no direction 'b2a'"):
        model.sample(images(), source(), SampleOptions(direction="b2a"))
    with pytest.raises(UnsupportedError, match=r"images \[B, 3, S, S\]"):
        model.sample(images(1), source(), SampleOptions())
    batch = Batch(condition=images(), target=torch.zeros(2, 3, 16, 16), weight=torch.ones(2))
    with pytest.raises(UnsupportedError, match="not trained here"):
        model(batch)


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({}, "model.size_px"),
        ({"size_px": "64"}, "model.size_px"),
        ({"size_px": 0}, "model.size_px"),
        ({"size_px": 16, "task": "colour"}, "model.task"),
        ({"size_px": 16, "value_range": 255}, "model.value_range"),
        ({"size_px": 16, "value_range": (1, 0)}, "model.value_range"),
        ({"size_px": 16, "task": "color", "value_range": (0, 1)}, "model.value_range"),
    ],
)
def test_wrong_attributes_are_named(facts: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: got"):
        ModuleFacts.of(facts)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: x[:, :2], r"got \(3, 2, 16, 16\), allowed: \(3, 1, 16, 16\) or \(3, 3, 16, 16\)"),
        (lambda x: x[..., ::2], r"got \(3, 3, 16, 8\)"),
        (lambda x: (x, x), "got 'tuple'"),
        (lambda x: x.reshape(5, -1), "RuntimeError"),
    ],
)
def test_a_wrong_output_is_known_before_a_job_starts(forward: Any, message: str) -> None:
    module = Still()
    module.forward = forward  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=message):
        check_output(wrap(module), 16)


class Whole(ConditionalModel):
    """A ConditionalModel of the user's."""

    family = "mine"
    is_stochastic = True
    size_px, task = 8, "image"

    def __init__(self) -> None:
        super().__init__(None)

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> torch.Tensor:
        return noise.normal((3, 8, 8))


def test_a_conditional_model_is_taken_as_it_is() -> None:
    loaded = ImportedModel(f"{__name__}:Whole").load()
    assert type(loaded.model).__name__ == "Whole"
    assert loaded.extra == {"size_px": 8, "task": "image"}
    assert isinstance(image_task(loaded, TranslateOptions()), TranslateTask)


class Nameless(ConditionalModel):
    """A ConditionalModel that doesn't say what it is."""

    size_px, task = 8, "image"
    forward, sample = Whole.forward, Whole.sample

    def __init__(self) -> None:
        super().__init__(None)


def test_a_conditional_model_that_says_too_little_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match=r"Nameless.*says its family and is_stochastic"):
        ImportedModel(f"{__name__}:Nameless").load()


def loaded(model: ConditionalModel, **extra: Any) -> LoadedModel:
    return LoadedModel(model=model, digest="d", extra=extra)


def test_color_and_translation_are_told_apart() -> None:
    colour = loaded(build("color_classifier", TINY), size_px=16)
    image = loaded(build("regression", {**TINY, "condition_channels": 3, "target_channels": 3}), size_px=16)
    assert isinstance(image_task(colour, ColorizeOptions()), ColorizeTask)
    assert isinstance(image_task(image, TranslateOptions()), TranslateTask)
    with pytest.raises(ConfigError, match="for color: condgen colorize"):
        image_task(colour, TranslateOptions())
    with pytest.raises(ConfigError, match="for image to image: condgen translate"):
        image_task(image, ColorizeOptions())
    with pytest.raises(ConfigError, match=r"^kind: got 'colourize'.*did you mean 'colorize'"):
        BatchSettings(kind="colourize")
    with pytest.raises(ConfigError, match=r"^model.size_px: got None"):
        image_task(loaded(build("regression", TINY)), ColorizeOptions())


def test_a_model_in_storage_is_data(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    files = checkpoint.dump(build("regression", TINY), {"size_px": 16})
    for name, data in files.items():
        store.write(name, data)
    model = pickle.loads(pickle.dumps(open_model(str(tmp_path))))  # noqa: S301
    assert isinstance(model, StoredModel)
    assert model.uri == store.uri
    assert model.load(checkpoint.digest(files)).extra == {"size_px": 16}
    with pytest.raises(CheckpointError, match="another model"):
        model.load("0" * 64)
    with pytest.raises(MissingError):
        open_model(str(tmp_path / "none"))


def test_a_program_needs_trust_and_is_read_from_a_store(tmp_path: Path) -> None:
    program = torch.export.export(
        Still().eval(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    path = str(tmp_path / "still.pt2")
    torch.export.save(program, path, extra_files={"condgen.json": json.dumps({"size_px": 16})})
    with pytest.raises(ConfigError, match=r"torch\.export program, whose code would be run; --trust-code"):
        open_model(path)
    model = pickle.loads(pickle.dumps(open_model(path, trust_code=True)))  # noqa: S301
    assert isinstance(model, ProgramFile)
    assert model.uri.endswith("/still.pt2")
    found = model.load()
    assert found.model.eval().sample(images(), source(), SampleOptions()).shape == (2, 1, 3, 16, 16)
    assert model.load(found.digest).digest == found.digest
    with pytest.raises(CheckpointError, match="another model"):
        model.load("0" * 64)


def test_programs_that_can_not_be_used_are_refused(tmp_path: Path) -> None:
    for name in ("junk.pt", "junk.pt2"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(CheckpointError, match=r"--model package\.module:Class"):
            open_model(str(tmp_path / name), trust_code=True).load()
    torch.save(nn.Conv2d(3, 3, 1).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="weights alone need their class"):
        open_model(str(tmp_path / "weights.pt"), trust_code=True).load()
    fixed = torch.export.export(Still().eval(), (torch.zeros(2, 3, 16, 16),))
    torch.export.save(fixed, tmp_path / "fixed.pt2", extra_files={"condgen.json": '{"size_px": 16}'})
    with pytest.raises(ConfigError, match="a batch of any size"):
        open_model(str(tmp_path / "fixed.pt2"), trust_code=True).load()
    torch.export.save(fixed, tmp_path / "unsaid.pt2")
    with pytest.raises(ConfigError, match=r"model\.size_px"):
        open_model(str(tmp_path / "unsaid.pt2"), trust_code=True).load()
