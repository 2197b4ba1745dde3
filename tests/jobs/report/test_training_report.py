"""The page of a training run: whatever state it is in, whichever version began it, and however long it is."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

import pytest
from html_tree import parse_html, text_of, with_class
from PIL import Image
from samples import noise
from training_runs import CONFIG, make_old_run, make_run, metric_row

from condgen.errors import DatasetError, MissingError
from jobs.cli import app as cli
from jobs.report.kind import find_kind
from jobs.report.run_sheets import MAX_SHEETS
from jobs.report.training import collect, render, run
from pipelines.storage.store import open_store

NASTY = "<script>alert('x')</script>&\"'\u202egpj"
UPDATED = datetime(2026, 11, 29, 17, 12, 31, tzinfo=UTC)
OLD = Path(__file__).resolve().parents[2] / "old_data" / "0.1"


def page_of(folder: Path, **options: Any) -> Element:
    return parse_html(render(collect(str(folder), **options)))


def titles(page: Element) -> list[str]:
    return [text_of(one) for one in page.findall(".//figcaption/span")]


def alerts(page: Element) -> list[str]:
    return [text_of(one) for one in with_class(page, "alert")]


def tiles(page: Element) -> list[str]:
    return [text_of(one) for one in with_class(page, "tiles")[0].iter("b")]


def charts(page: Element) -> list[Element]:
    return with_class(page, "chart")


def test_a_run_that_goes_on_shows_all_of_it(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run"), now=UPDATED + timedelta(seconds=5))
    assert text_of(next(page.iter("h1"))) == "Training of pix2pix-facades"
    assert alerts(page) == []
    assert tiles(page)[:2] == ["running", "600"]
    assert titles(page) == [
        "Loss (logarithmic)",
        "Loss: g_adversarial",
        "Loss: l1 (logarithmic)",
        "Error in codes of 0 to 255 in validation",
        "Learning rate",
        "Images/s, all workers",
        "Wait for data, % of the time",
        "Standing still for checkpoints, s",
    ]
    text = text_of(page)
    assert "least loss in validation, at step 400" in text
    assert "process 72 on head-0 since 2026-11-29 16:00:00 UTC" in text
    assert "2 of 4" in text
    assert CONFIG["versions"]["revision"] in text


def test_terms_over_decades_are_logarithmic_and_have_validation_beside_them(tmp_path: Path) -> None:
    data = collect(str(make_run(tmp_path / "run", rows=[metric_row(step) for step in (1, 10, 100, 600)])))
    by_name = {one.title: one for one in data.charts}
    assert by_name["Loss: l1"].is_log
    assert not by_name["Learning rate"].is_log
    assert [name for name, _ in by_name["Loss: l1"].legend] == ["training", "validation"]
    assert [name for name, _ in by_name["Wait for data, % of the time"].legend] == ["worker 0", "worker 1"]


def test_interruptions_and_checkpoints_are_marked_at_their_steps(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run"))
    loss, _, *others = charts(page)
    (start,) = with_class(loss, "start")
    assert text_of(start) == "went on from step 300"
    assert [text_of(one) for one in with_class(loss, "checkpoint")] == [
        "checkpoint step-00000400-e0002",
        "checkpoint step-00000600-e0002",
    ]
    left, right, last = (float(loss.get(f"data-{name}")) for name in ("left", "right", "last-step"))
    assert float(start.get("x1")) == pytest.approx(left + (right - left) * 300 / last, abs=0.1)
    assert all(with_class(one, "start") and not with_class(one, "checkpoint") for one in others)


def test_a_run_that_failed_says_so_at_the_top(tmp_path: Path) -> None:
    reason = "the loss is not finite at step 70: lower train.learning_rate"
    rows = [*(metric_row(step) for step in range(10, 61, 10)), metric_row(70, losses={"l1": math.nan})]
    folder = make_run(tmp_path / "run", rows=rows, status={"state": "failed", "reason": reason}, sheets=())
    page = page_of(folder)
    first, second = alerts(page)
    assert first == f"Training failed: {reason}."
    assert "no number from step 70 on" in second
    assert [text_of(one) for one in with_class(page, "bad")] == ["failedstate"]
    assert not any("nan" in tostring(one, "unicode") for one in charts(page))


def test_a_driver_that_is_silent_is_told_and_one_that_ended_is_not(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    later = UPDATED + timedelta(hours=3)
    (alert,) = alerts(page_of(folder, now=later))
    assert "no sign of life for 3.0 h" in alert
    make_run(folder, status={"state": "interrupted", "reason": "--max-duration 10m is over"})
    page = page_of(folder, now=later)
    assert alerts(page) == []
    assert "--max-duration 10m is over" in text_of(page)


def test_a_run_of_version_0_1_is_shown_with_what_it_has(tmp_path: Path) -> None:
    page = page_of(make_old_run(tmp_path / "run"))
    assert tiles(page)[0] == "done"
    assert "all steps are done" in text_of(page)
    assert page.find(".//input") is None
    assert len(titles(page)) == 5
    old = page_of(OLD / "run")
    assert "There are no rows of metrics yet." in text_of(old)
    assert "not finished" in text_of(old)


def test_a_run_that_only_waits_is_shown(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(json.dumps({"state": "waiting", "reason": "waiting for 8 GPUs, 2 are there"}))
    page = page_of(tmp_path)
    assert "waiting for 8 GPUs, 2 are there" in text_of(page)
    assert text_of(next(page.iter("h1"))) == "Training of a model"


def test_the_page_of_thousands_of_rows_is_small(tmp_path: Path) -> None:
    rows = [metric_row(step, workers=32) for step in range(1, 10_001)]
    folder = make_run(tmp_path / "run", rows=rows, sheets=())
    page = render(collect(str(folder)))
    assert len(page) < 250_000
    assert "mean of the workers" in page


def test_of_many_sheets_some_are_shown_the_first_and_the_last_among_them(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", sheets=range(10, 601, 10))
    (folder / "sheets" / "step-00000600.png").write_bytes(b"no picture")
    data = collect(str(folder))
    assert data.num_sheets == 60
    assert len(data.sheets) == MAX_SHEETS - 1
    assert data.sheets[0].step == 10
    assert "The sheet of step 600 can't be read, and is left out." in data.notes
    assert all(sheet.uri.startswith("data:image/webp;base64,") for sheet in data.sheets)


def test_sheets_are_bounded_in_bytes_whatever_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.report.run_sheets._MOST_BYTES", 30_000)
    folder = make_run(tmp_path / "run", sheets=())
    (folder / "sheets").mkdir()
    for step in (10, 20):
        Image.fromarray(noise(step, 500, 400)).save(folder / "sheets" / f"step-{step:08d}.png")
    sheets = collect(str(folder)).sheets
    assert [sheet.step for sheet in sheets] == [10, 20]
    assert sum(len(sheet.uri) for sheet in sheets) < 30_000 * 1.4


def test_lines_that_are_damaged_are_counted_and_left_out(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61\n[]\n')
    (folder / "validation.jsonl").write_bytes(b"\xff\xfe\n")
    (folder / "run.json").write_text("{")
    notes = " ".join(collect(str(folder)).notes)
    assert "2 of 62 lines of metrics.jsonl can't be read" in notes
    assert "1 of 1 lines of validation.jsonl" in notes
    assert "run.json is damaged" in notes


def test_what_comes_from_the_run_is_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    config = CONFIG | {"preset": NASTY, "model": {NASTY: NASTY}}
    rows = [metric_row(step, losses={NASTY: 1.0, "b": 2.0}) for step in (1, 2, 3)]
    status = {"state": "failed", "reason": NASTY, "lease": {"host": NASTY}}
    html = render(collect(str(make_run(tmp_path / "run", rows=rows, status=status, config=config))))
    page = parse_html(html)
    (script,) = page.iter("script")
    assert "alert('x')" not in text_of(script)
    assert "\u202e" not in html
    assert "\\u202egpj" in text_of(next(page.iter("h1")))
    assert not {"link", "iframe", "object", "base"} & {one.tag for one in page.iter()}
    assert not any(name == "style" or name.startswith("on") for one in page.iter() for name in one.attrib)
    assert not re.search(r"https?://|url\(|@import", html)
    policy = page.find(".//meta[@http-equiv]").get("content", "")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_report_finds_out_what_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run")
    assert cli._run(["report", str(folder)]) == 0
    assert f"{folder}/report.html (training to step 600, 3 sheets of samples" in capsys.readouterr().out
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert find_kind(open_store(str(OLD / "results"))) == "results"
    assert find_kind(open_store(str(folder))) == "run"


@pytest.mark.parametrize("file", ["config.json", "notes.txt", "run.json"])
def test_what_is_neither_is_refused_in_one_line(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / file).write_text('{"model_type": "bert"}')
    assert cli._run(["report", str(tmp_path)]) != 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "neither the RESULTS of condgen colorize or translate" in line
    with pytest.raises(DatasetError):
        find_kind(open_store(str(tmp_path)))
    with pytest.raises(MissingError):
        run(str(tmp_path / "nothing"))


def test_a_card_of_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["report", str(make_run(tmp_path / "run")), "--card"]) == 2
    assert "has no draws" in capsys.readouterr().err


def test_a_run_in_object_storage(tmp_path: Path, s3: Any) -> None:
    bucket = s3.uri("training-report")
    s3.filesystem().put(str(make_run(tmp_path / "run")), f"{bucket}/run", recursive=True)
    page = run(f"{bucket}/run")
    html = s3.filesystem().cat_file(page.path.removeprefix("s3://")).decode()
    assert html.count('class="sheet"') == 3
