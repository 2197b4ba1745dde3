"""The environment script passes pip's configuration on to uv, and only where uv has none."""

from pathlib import Path
from typing import Any

import pytest
from scripts import ROOT, load_script


@pytest.fixture(scope="module")
def venv() -> Any:
    return load_script("venv")


def test_the_environment_outranks_the_install_section_which_outranks_the_global_one(venv: Any) -> None:
    listing = "global.index-url='https://a.example'\ninstall.index-url='https://b.example'\n"
    assert venv.parse_pip_config(listing) == {"index-url": "https://b.example"}
    assert venv.parse_pip_config(f":env:.index-url='https://c.example'\n{listing}") == {
        "index-url": "https://c.example"
    }


def test_several_values_are_passed_in_the_form_that_uv_reads(venv: Any) -> None:
    pip = {"extra-index-url": "https://a.example\nhttps://b.example", "find-links": "/wheels /more", "no-index": "true"}
    assert venv.uv_settings(pip, indexes_are_set=False) == {
        "UV_INDEX": "https://a.example https://b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_NO_INDEX": "1",
    }


def test_only_the_certificate_is_passed_where_uv_knows_its_indexes(venv: Any) -> None:
    pip = {"index-url": "https://a.example", "cert": "/etc/own.pem"}
    assert venv.uv_settings(pip, indexes_are_set=True) == {"SSL_CERT_FILE": "/etc/own.pem"}


def test_uv_counts_as_configured_by_a_variable_or_a_file(venv: Any, tmp_path: Path) -> None:
    nowhere = {"XDG_CONFIG_HOME": str(tmp_path)}
    if not Path("/etc/uv/uv.toml").exists():
        assert not venv.uv_is_configured(nowhere)
    assert venv.uv_is_configured({**nowhere, "UV_DEFAULT_INDEX": "https://a.example"})
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").touch()
    assert venv.uv_is_configured(nowhere)


@pytest.mark.parametrize(
    ("version", "is_supported"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)]
)
def test_a_python_that_was_not_tested_is_refused_by_make_and_by_the_command_line_alike(
    venv: Any, version: tuple[int, int], is_supported: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from jobs.cli import app

    monkeypatch.setattr(app, "_run", lambda _: 0)
    monkeypatch.setattr(app.sys, "version_info", (*version, 1))
    with pytest.raises(SystemExit) as started:
        app.main()
    if is_supported:
        venv.check_python(version)
        assert started.value.code == 0
        return
    words = f"is Python 3.{version[1]}; 3.11 to 3.13 is needed"
    assert (started.value.code, words in capsys.readouterr().err) == (2, True)
    with pytest.raises(SystemExit, match=words):
        venv.check_python(version)


def test_constraints_pin_every_version_and_name_no_index() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    for line in lines:
        requirement = line.partition(";")[0].strip()
        name, pinned, version = requirement.partition("==")
        assert name, line
        assert pinned, line
        assert version, line
        assert "://" not in line
