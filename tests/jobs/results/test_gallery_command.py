"""`condgen gallery`: its address, how it ends, and what it refuses in a line."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from drawn_results import DrawnResults
from small_results import write_picture

from jobs.cli import app as cli
from jobs.results.gallery import prune


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("command")
    for name in ("archive", "other"):
        write_picture(root / name / f"{name}.png", 1)
        DrawnResults(root / name, root / f"results-{name}").make()
    return root


@pytest.mark.slow
def test_it_prints_an_address_serves_there_and_ends_at_once(made: Path, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with errors.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "gallery", str(made / "results-archive")],
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            env=environment,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("gallery       http://127.0.0.1:")
        address = line.split()[1]
        with httpx.Client(follow_redirects=True) as browser:
            page = browser.get(address)
            assert (page.status_code, page.url.path, page.url.query) == (200, "/", b"")
            assert "/static/gallery.js" in page.text
            script = browser.get(page.url.join("/static/gallery.js"))
            assert (script.status_code, script.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
            answer = browser.get(page.url.join("/api/images")).json()
            assert [item["key"] for item in answer["items"]] == ["archive"]
            assert browser.get(page.url.join(answer["items"][0]["pictures"][1]["thumb"])).status_code == 200
            process.send_signal(signal.SIGINT)  # with the browser's connection open
            assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
    token = address.partition("token=")[2]
    assert len(token) >= 40
    assert token not in errors.read_text()
    assert "Traceback" not in errors.read_text()
    assert "run the same command again" not in errors.read_text()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli._run(["gallery", *map(str, arguments)]) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert shown.out == ""
    assert line.startswith("error: ")
    return line


def test_what_it_can_not_show_is_a_line(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no-such-folder" in refused(capsys, tmp_path / "no-such-folder")
    assert "has no plan" in refused(capsys, made / "archive")
    assert "same archive" in refused(capsys, made / "results-archive", made / "results-other")
    assert "--cache" in refused(capsys, made / "results-archive", "--cache", "much")
    assert "--host" in refused(capsys, made / "results-archive", "--host", "no such host")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "--port" in refused(capsys, made / "results-archive", "--port", str(port))


def test_indexes_that_were_used_least_recently_go_first(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "kept", "new")):
        path = tmp_path / f"{name}.sqlite"
        path.write_bytes(bytes(1000))
        Path(f"{path}-wal").write_bytes(bytes(500))
        os.utime(path, (number, number))
    prune(tmp_path, 1600, [tmp_path / "kept.sqlite"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "kept.sqlite",
        "kept.sqlite-wal",
        "new.sqlite",
        "new.sqlite-wal",
    ]
