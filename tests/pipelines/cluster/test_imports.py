"""What a process imports: our own packages wherever it is started, and no pandas where nothing needs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cluster.imports import ROOT, extend_import_path, working_in_root


def python(code: str, cwd: Path | None = None, **env: str) -> str:
    """The last line that a fresh Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False
    )
    return (done.stdout or done.stderr).strip().splitlines()[-1]


def test_a_folder_of_the_users_that_has_the_name_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").touch()
    code = (
        f"import pipelines.cluster.imports as ours, sys; sys.path.insert(0, {str(tmp_path)!r}); ours.check_packages()"
    )
    error = python(code)
    assert f"a package 'jobs' from {tmp_path / 'jobs'}, which shadows condgen's own" in error
    assert f"the one in {ROOT}" in error


def test_ray_starts_in_our_packages_folder_and_the_user_stays_in_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with working_in_root():
        assert Path.cwd() == ROOT
    assert Path.cwd() == tmp_path
    with pytest.raises(ZeroDivisionError), working_in_root():
        raise ZeroDivisionError
    assert Path.cwd() == tmp_path


def test_folders_are_added_once_behind_all_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["installed"])
    extend_import_path(["a", "installed", "a", "b"])
    assert sys.path == ["installed", "a", "b"]


@pytest.mark.slow
def test_pyarrow_does_without_pandas_until_it_is_asked_for() -> None:
    code = "import sys, pyarrow as pa; pa.array([0]); print('pandas' in sys.modules)"
    assert python(code) == "True"  # or the hook is no longer needed
    code = (
        "import sys; from pipelines.cluster.imports import spare_pandas; spare_pandas(); import pyarrow as pa\n"
        "table = pa.table({'a': [1]}); before = 'pandas' in sys.modules; frame = table.to_pandas()\n"
        "print(before, type(frame).__module__, [hook for hook in sys.meta_path if 'NoPandas' in repr(hook)])"
    )
    before, module, hooks = python(code).split(maxsplit=2)
    assert (before, module.partition(".")[0], hooks) == ("False", "pandas", "[]")
