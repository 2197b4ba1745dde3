"""What a command tells of its progress where nobody watches a bar."""

import pytest

from jobs.cli import progress
from jobs.cli.progress import Progress


def test_a_log_gets_a_line_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("training", total=2_000, unit="steps") as bar:
        for step in range(1, 201):
            now[0] += 1.0
            bar.advance(10, l2=f"{1 / step:.2f}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 600 of 2,000 steps,  l2 0.02",
        "training: 1,200 of 2,000 steps,  l2 0.01",
        "training: 1,800 of 2,000 steps,  l2 0.01",
    ]


def test_a_total_that_is_not_known_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with Progress("extracting", total=None, unit="images") as bar:
        bar.advance(7)
        bar.show(9, 12)
    assert capsys.readouterr().err.splitlines() == ["extracting: 7 images", "extracting: 9 of 12 images"]
