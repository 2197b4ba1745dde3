"""Options are declared once, in dataclasses: the command line has them, and so have the settings and the plan."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import typer
from small_results import SIZE_PX, run_job, write_picture
from torch import nn

from condgen.errors import ConfigError
from condgen.options import SampleOptions
from jobs.cli import app as cli
from jobs.cli.options import Command, Group, expand
from pipelines.batch.job import BatchJob
from pipelines.images.encoding import SUFFIXES
from pipelines.results.settings import OUTPUT_FORMATS, BatchSettings, OutputOptions
from pipelines.storage.store import open_store

SECTIONS = ("Arguments:", "Options:", "Sampling:", "Output:", "Selection:", "Resources:")


@dataclass(frozen=True, kw_only=True)
class Churned(SampleOptions):
    """How a model draws, with one option more."""

    churn: float = field(default=0.0, metadata={"help": "Noise added in each step.", "metavar": "C", "min": 0.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChurnedSettings(BatchSettings):
    """The settings of a job that has it."""

    sample: Churned = field(default_factory=Churned, metadata={"heading": "Sampling"})


def test_an_option_that_is_added_to_the_dataclass_is_on_the_command_line_and_in_the_plan(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[ChurnedSettings] = []

    def draw(settings: Annotated[ChurnedSettings, Group(leave_out=("direction",))]) -> None:
        asked.append(settings)

    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(cls=Command)(expand(draw))
    app(["--churn", "0.5", "--steps", "7"], standalone_mode=False)
    app([], standalone_mode=False)
    assert [(one.sample.churn, one.sample.steps) for one in asked] == [(0.5, 7), (0.0, None)]
    assert asked[0].to_json()["churn"] == 0.5
    assert ChurnedSettings.from_json(json.loads(json.dumps(asked[0].to_json()))) == asked[0]
    before = {name: value for name, value in asked[0].to_json().items() if name != "churn"}
    assert ChurnedSettings.from_json(before).sample.churn == 0.0
    app(["--help"], standalone_mode=False)
    sampling = capsys.readouterr().out.partition("Sampling:")[2].partition("\n\n")[0]
    assert "--churn C" in sampling
    assert "--direction" not in sampling


@pytest.mark.parametrize(
    ("command", "left_out"), [("colorize", {"direction"}), ("translate", set()), ("evaluate", set())]
)
def test_every_option_of_sampling_is_an_option_of_each_command_that_draws(
    command: str, left_out: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._run([command, "--help"]) == 0
    sampling = capsys.readouterr().out.partition("Sampling:")[2].partition("\n\n")[0]
    names = {one.name for one in fields(SampleOptions) if "help" in one.metadata}
    assert {"temperature", "steps", "top_p", "direction"} < names
    for name in names:
        assert (f"--{name.replace('_', '-')} " in sampling) == (name not in left_out), name


def test_the_help_shows_options_under_headings(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["colorize", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(line for line in lines if line in SECTIONS) == SECTIONS


def test_settings_are_a_flat_object_in_a_plan() -> None:
    values = BatchSettings(draws=2).to_json()
    assert list(values) == [
        *("kind", "draws", "seed", "batch_size", "precision", "mode", "temperature", "direction", "steps"),
        *("guidance_scale", "sampler", "top_k", "top_p", "chroma", "upsampling", "large", "overlap_px"),
        *("output_format", "quality", "columns", "member", "functions", "max_pixels", "chunk_samples"),
    ]
    assert BatchSettings.from_json(values) == BatchSettings(draws=2)
    with pytest.raises(TypeError, match="swirl"):
        BatchSettings.from_json({**values, "swirl": 1})


class Same(nn.Module):
    """A user's model without noise."""

    size_px = SIZE_PX

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def translation(root: Path, model: str, **settings: Any) -> BatchJob:
    write_picture(root / "archive" / "0.png", 0)
    settings = {"kind": "translate", "batch_size": 2, **settings}
    return BatchJob(
        archive=str(root / "archive"),
        results=str(root / "results"),
        model=model,
        settings=BatchSettings(**settings),
    )


@pytest.mark.parametrize(("model", "draws"), [(f"{__name__}:Same", 1), ("small_results:NoisyTint", 3)])
def test_the_model_decides_how_many_draws_where_nobody_does(model: str, draws: int, tmp_path: Path) -> None:
    report = run_job(translation(tmp_path, model))
    assert report.draws == draws
    plan = json.loads(open_store(str(tmp_path / "results")).read("plan/000.json"))
    assert plan["settings"]["draws"] == draws


def test_draws_that_a_model_without_noise_can_not_give_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^draws: got 3, allowed: 1"):
        run_job(translation(tmp_path, f"{__name__}:Same", draws=3))


def test_results_go_on_with_the_draws_that_they_were_begun_with(tmp_path: Path) -> None:
    run_job(translation(tmp_path, "small_results:NoisyTint", draws=2), stop_after=0)
    report = run_job(translation(tmp_path, "small_results:NoisyTint"))
    assert report.draws == 2


def test_an_output_that_no_encoder_makes_is_refused_before_anything_begins() -> None:
    assert set(OUTPUT_FORMATS) == set(SUFFIXES)
    with pytest.raises(ConfigError, match=r"output_format.*gif"):
        OutputOptions(output_format="gif")
    with pytest.raises(ConfigError, match=r"quality.*1 to 100"):
        OutputOptions(quality=0)
