"""Commands for copying: a shell reads them as they are meant, and a job takes them for its own."""

import shlex

import pytest

from condgen.options import SampleOptions
from condgen.pretrained import DEFAULT_COLORIZER
from jobs.viewer.commands import extract_command, redraw_command, retry_command
from pipelines.results.plan import Plan
from pipelines.results.settings import BatchSettings, OutputOptions

NASTY = "a b'; rm -rf $HOME #\"\n`"


def plan(settings: BatchSettings, *, model: str = "runs/first", taken_as: str = "") -> Plan:
    return Plan(
        generation=0,
        kind="archive",
        archive="photos/",
        model={"uri": model, "family": "f", "digest": "d"},
        settings=settings.to_json(),
        num_chunks=1,
        num_samples=1,
        chunks_sha256="0",
        taken_as=taken_as,
    )


def test_names_are_one_word_of_a_shell_each() -> None:
    words = shlex.split(redraw_command(NASTY, NASTY, NASTY, 2))
    assert words == ["condgen", "redraw", NASTY, "--key", NASTY, "--source", NASTY, "--draw", "2"]
    assert shlex.split(extract_command(NASTY, f"{NASTY}.jpg", NASTY))[-2:] == ["--key", NASTY]


def test_an_image_of_a_shard_is_named_with_its_source() -> None:
    assert extract_command("r", "0.tar", "k") == ("printf '%s\\t%s\\n' 0.tar k | condgen extract r images/ --keys -")


@pytest.mark.parametrize(
    "settings",
    [
        BatchSettings(draws=3),
        BatchSettings(draws=5, seed=7, batch_size=4, chunk_samples=9, member="image"),
        BatchSettings(draws=2, sample=SampleOptions(temperature=0.5, steps=8, top_p=0.9)),
        BatchSettings(
            draws=2, output=OutputOptions(output_format="png", columns=(("year", "int64"), ("album", "string")))
        ),
        BatchSettings(kind="translate", draws=1),
        BatchSettings().as_point(),
    ],
)
def test_a_retry_says_what_its_results_were_begun_with(settings: BatchSettings) -> None:
    """The command line, read as `condgen` reads it, has the settings of the plan."""
    from typer.testing import CliRunner

    from jobs.cli import batch
    from jobs.cli.app import app

    seen: list[BatchSettings] = []

    def run(_archive: str, _results: str, _model: str, read: BatchSettings, _options: object, **named: bool) -> None:
        seen.append(read.as_point() if named["point"] else read)

    words = shlex.split(retry_command(plan(settings), "results/") or "")
    assert words[:2] == ["condgen", settings.kind]
    assert words[-1] == "--retry-errors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_run", run)
        outcome = CliRunner().invoke(app, words[1:])
    assert outcome.exit_code == 0, outcome.output
    assert [read.settle(settings, "") for read in seen] == [settings]


def test_the_shipped_colorizer_needs_no_name_and_functions_have_no_command() -> None:
    assert "--model" not in (retry_command(plan(BatchSettings(draws=3), model=DEFAULT_COLORIZER), "r") or "")
    assert "--as table" in (retry_command(plan(BatchSettings(draws=3), taken_as="table"), "r") or "")
    assert retry_command(plan(BatchSettings(draws=3, functions="digest")), "r") is None
