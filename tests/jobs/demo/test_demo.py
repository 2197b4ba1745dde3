"""The demo's folder, and the claims that it prints."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from small_results import job_in, run_job, write_picture

from condgen.errors import ConfigError
from jobs.demo import run as demo
from jobs.demo.claims import DemoClaims, measure_claims
from jobs.demo.run import DemoOptions
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import open_store

PICTURES = {"num_training": 10, "origins": ["a generator"]}


def measured(**changes: Any) -> DemoClaims:
    values: dict[str, Any] = {"num_images": 5, "nll": 2.0, "marginal_nll": 3.0}
    colorfulness = {"grey": 0.0, "points": 8.0, "draws": 30.0, "originals": 40.0}
    return DemoClaims(**values | colorfulness | changes)


def test_every_claim_is_borne_out_by_its_own_numbers() -> None:
    assert [holds for _, holds in measured().claims()] == [True, True, True]
    assert [holds for _, holds in measured(grey=31.0).claims()] == [False, True, True]
    assert [holds for _, holds in measured(points=31.0).claims()] == [True, False, True]
    assert [holds for _, holds in measured(nll=3.5).claims()] == [True, True, False]


def test_a_claim_that_fails_is_said_to_fail() -> None:
    assert not any("FAILS" in line for line in measured().lines())
    assert sum("FAILS" in line for line in measured(nll=3.5).lines()) == 1
    assert [row["holds"] for row in measured(nll=3.5).findings() if row["claim"]] == ["yes", "yes", "no"]


def test_an_earlier_demo_of_the_same_is_gone_on_with(tmp_path: Path) -> None:
    store, options = open_store(tmp_path), DemoOptions(out=str(tmp_path))
    demo._claim(store, options, {"train_steps": 0})
    demo._claim(store, options, PICTURES)
    demo._claim(store, options, PICTURES)
    with pytest.raises(ConfigError, match="--fresh"):
        demo._claim(store, options, {"train_steps": 3})
    with pytest.raises(ConfigError, match="num_training: got 11, allowed: 10"):
        demo._claim(store, options, {**PICTURES, "num_training": 11})


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine.txt").write_text("mine")
    store = open_store(tmp_path)
    with pytest.raises(ConfigError, match="--out"):
        demo._claim(store, DemoOptions(out=str(tmp_path)), PICTURES)
    demo._remove(store)
    assert (tmp_path / "results" / "mine.txt").read_text() == "mine"


def test_fresh_removes_what_a_demo_made_and_nothing_else(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    demo._claim(store, DemoOptions(out=str(tmp_path)), PICTURES)
    store.write("results/draws/a.parquet", b"x")
    store.write("notes.txt", b"mine")
    demo._remove(store)
    assert [entry.name for entry in store.list()] == ["notes.txt"]


@pytest.mark.slow
def test_the_claims_are_taken_from_an_evaluation_of_each_of_the_results(tmp_path: Path) -> None:
    for number in range(5):
        write_picture(tmp_path / f"archive/{number}.png", number, size=(44 + number, 40))
    for name, settings in (("draws", BatchSettings(draws=2)), ("points", BatchSettings().as_point())):
        run_job(job_in(tmp_path, settings, results=name))
    found = measure_claims(draws=str(tmp_path / "draws"), points=str(tmp_path / "points"))
    assert found.num_images == 5
    assert found.grey < 1 < found.points < found.draws
    assert found.nll == pytest.approx(math.log(313), abs=0.6)
    assert found.marginal_nll == pytest.approx(math.log(313), abs=0.05)
    for name, answer in (("draws", "draws"), ("points", "point")):
        metrics = json.loads((tmp_path / name / "evaluation.json").read_text())["metrics"]
        assert metrics["colorfulness"][answer]["value"] == getattr(found, name)
    assert [row["holds"] for row in found.findings()][:2] == ["yes", "yes"]
