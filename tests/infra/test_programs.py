"""The script that gets the tests' programs: what it asks apt-get for, and what it says where apt-get fails."""

import sys
from pathlib import Path
from typing import Any

import pytest
from scripts import load_script


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, on a machine that has an apt-get of ours alone, which writes down what it is asked."""
    module = load_script("programs")
    monkeypatch.setattr(module, "PLACE", tmp_path / "programs")
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return module


def apt_get(tmp_path: Path, code: int) -> Path:
    """Put an apt-get on the PATH that ends with this code; returns the file of its arguments."""
    program = tmp_path / "bin" / "apt-get"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\necho "E: no such mirror" >&2\nexit {code}\n')
    program.chmod(0o755)
    return tmp_path / "asked"


def run(programs: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["programs.py", *arguments])
    return int(programs.main())


def test_prometheus_is_unpacked_and_ceph_and_slurm_are_installed_where_the_system_may_change(
    programs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = apt_get(tmp_path, 0)
    assert run(programs, monkeypatch) == 0
    update, download = asked.read_text().splitlines()
    assert update.endswith(" update")
    assert download.endswith(" download prometheus")
    assert "Dir::State=" in download
    asked.unlink()
    assert run(programs, monkeypatch, "--system") == 0
    ceph = "radosgw ceph-mon ceph-osd ceph-common chromium"
    assert asked.read_text().splitlines()[-1].endswith(f"install --yes --no-install-recommends {ceph}")
    assert run(programs, monkeypatch, "--infra") == 0
    assert asked.read_text().endswith(
        f" {ceph} munge slurmctld slurmd slurm-client buildah mmdebstrap iproute2 procps\n"
    )


def test_a_mirror_that_fails_is_tried_again_and_told_and_ends_only_what_must_have_it(
    programs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = apt_get(tmp_path, 100)
    assert run(programs, monkeypatch) == 0
    assert len(asked.read_text().splitlines()) == 3
    assert "failed 3 times: E: no such mirror" in capsys.readouterr().err
    assert run(programs, monkeypatch, "--system") == 1
    assert "error: apt-get" in capsys.readouterr().err


def test_without_apt_get_it_says_so(
    programs: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(programs, monkeypatch) == 0
    assert "no apt-get here" in capsys.readouterr().err
    assert run(programs, monkeypatch, "--system") == 1
