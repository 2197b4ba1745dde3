"""`--roles`: one name in all commands for which column of a table is what, and messages that can be followed."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from samples import flat

from jobs.cli.app import _run, app
from pipelines.datasets.option_texts import read_roles


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table whose names say nothing of where its images are."""
    (tmp_path / "1.png").write_bytes(flat(1))
    pq.write_table(pa.table({"scan": ["1.png"], "signature": ["a"], "year": [1911]}), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("command", ["shard", "colorize"])
def test_the_message_names_the_option_that_answers_it(
    command: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run([command, str(table), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    (option,) = re.findall(r"--[a-z-]+", said)
    assert re.search(r"image=COLUMN.*scan, signature, year", said)
    shown = next(parameter for parameter in options(command) if option in parameter.opts)
    assert not shown.hidden
    more = ["--dry-run", "--model", "no.such:Model"] if command == "colorize" else []
    code = _run([command, str(table), str(tmp_path / "out"), option, "image=scan,key=signature", *more])
    said = capsys.readouterr().err
    assert "--roles" not in said
    assert code == (2 if more else 0)


@pytest.mark.parametrize(("command", "old"), [("shard", "--columns"), ("colorize", "--archive-columns")])
def test_the_old_name_is_understood_and_not_shown(
    command: str, old: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run([command, str(table), str(tmp_path / "out"), old, "image=scna"])
    assert "did you mean 'scan'" in capsys.readouterr().err
    app([command, "--help"], standalone_mode=False)
    help_text = capsys.readouterr().out
    assert "--roles" in help_text
    assert old not in help_text
    assert _run([command, "a", "b", "--rolse", "image=x"]) == 2
    assert "did you mean '--roles'" in capsys.readouterr().err


def test_columns_to_copy_are_told_from_roles(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["colorize", str(table), str(tmp_path / "out"), "--columns", "image=scan"]) == 2
    assert "--roles image=" in capsys.readouterr().err


def test_roles_are_read() -> None:
    assert read_roles("scan") == {"image": "scan"}
    assert read_roles(" image = a column , key=id") == {"image": "a column", "key": "id"}
    assert read_roles("") == {}
    for text in ("image=", "=x", "image=a,image=b", "image=a,b"):
        with pytest.raises(Exception, match=r"--roles.*ROLE=COLUMN"):
            read_roles(text)


def test_no_two_commands_have_two_names_for_roles() -> None:
    names = {
        name
        for command in ("shard", "colorize", "translate")
        for parameter in options(command)
        if not parameter.hidden and "ROLE=COLUMN" in str(parameter.metavar)
        for name in parameter.opts
    }
    assert names == {"--roles"}


def options(command: str) -> list[typer.core.TyperOption]:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return [one for one in group.commands[command].params if isinstance(one, typer.core.TyperOption)]
