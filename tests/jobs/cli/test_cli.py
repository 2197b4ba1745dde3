"""The command line: helpful without torch or ray, and one line where something is wrong."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import typer

from condgen.errors import ConfigError, JobError
from jobs.cli import app as cli
from pipelines.datasets.option_texts import read_split

COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
TRAIN = ["train", "--preset", "regression-small", "--data", "a", "--out", "b"]
HEAVY = ("torch", "torchvision", "ray", "pyarrow", "numpy", "s3fs", "fsspec", "jinja2", "PIL", "pandas", "yaml")


# CPU seconds, not the clock's: other processes may be using the machine.
ANSWERS = f"""
import json, sys, time
from jobs.cli import app as cli
start = time.process_time()
for arguments in json.loads(sys.argv[1]):
    began = time.process_time()
    code = cli._run(arguments)
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    print(json.dumps([arguments, heavy, code, start + time.process_time() - began]), file=sys.stderr)
"""


def test_help_imports_nothing_heavy_and_answers_within_a_second() -> None:
    calls = [["--help"], ["--version"], ["models"], *([command, "--help"] for command in COMMANDS)]
    program = [sys.executable, "-c", ANSWERS, json.dumps(calls)]
    done = subprocess.run(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    answers = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(arguments, heavy, code) for arguments, heavy, code, _ in answers] == [(call, [], 0) for call in calls]
    assert max(seconds for *_, seconds in answers) < 1.0


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_a_purpose_and_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"condgen {command}" in shown.partition("Examples:")[2]


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run([]) == 0
    assert "condgen demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "--presett", "x"], "did you mean '--preset'?"),
        (["colorize", "a"], "RESULTS"),
        (["colorize", "a", "b", "--model", "c", "--draws", "0"], "--draws"),
        (["colorize", "a", "b", "--model", "c", "--draws", "many"], "--draws"),
        (["shard", "a", "b", "--split", "train"], "NAME=SHARE"),
        (["train", "--preset", "nothing", "--data", "a", "--out", "b"], "preset"),
        ([*TRAIN, "--set", "model.widht=1"], "'model.width'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert part in lines[0]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("a.b", 1, "2"), 2, "error: a.b: got 1, allowed: 2\n"),
        (JobError("two\nlines"), 1, "error: two lines\n"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to go on\n"),
    ],
)
def test_how_a_command_ends(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("condgen.presets.PRESETS", _Raising(error))
    assert cli._run(["models"]) == code
    assert capsys.readouterr().err == text


class _Raising(dict[str, Any]):
    """A table that raises when it is read."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def keys(self) -> Any:
        raise self.error

    def __iter__(self) -> Any:
        raise self.error


def test_verbose_anywhere_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("condgen.presets.PRESETS", _Raising(ConfigError("a.b", 1, "2")))
    assert cli._run(["models", "--verbose"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: a.b: got 1, allowed: 2\n")


def test_an_error_that_ray_wrapped_is_shown_as_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = RuntimeError("ray::task() many lines")
    wrapped.cause = JobError("the disk is full")  # type: ignore[attr-defined]
    monkeypatch.setattr("condgen.presets.PRESETS", _Raising(wrapped))
    assert cli._run(["models"]) == 1
    assert capsys.readouterr().err == "error: the disk is full\n"


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("condgen.presets.PRESETS", _Raising(ZeroDivisionError("oh")))
    assert cli._run(["models"]) == 1
    assert "ZeroDivisionError: oh" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "models"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["train", "train=", "=1", "train=x", "train=0.5,train=0.5", ""])
def test_a_split_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME=SHARE"):
        read_split(text)


def test_a_split_is_names_and_shares() -> None:
    assert read_split("train=0.9, test=0.1") == {"train": 0.9, "test": 0.1}


def test_every_preset_and_family_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from condgen.families import FAMILIES
    from condgen.presets import PRESETS

    assert cli._run(["models"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*FAMILIES, *PRESETS))
