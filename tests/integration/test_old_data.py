"""What version 0.1 left on disk is read by today's code, which goes on with it to the same bytes."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from old_data.make import TRAIN, TRANSLATE

OLD = Path(__file__).resolve().parents[1] / "old_data"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old data, where the model of the user's is in the working directory."""
    shutil.copytree(OLD / "0.1", tmp_path / "old")
    shutil.copy(OLD / "inverse.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "old" / "results" / "plan" / "000.json"
    plan.write_text(plan.read_text().replace("/tmp/old/", f"{tmp_path}/old/"))
    return tmp_path / "old"


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def draws(folder: Path) -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """The rows and the footer of every draws file; a footer also states by which versions it was made."""
    content = {}
    for path in sorted(folder.iterdir()):
        table = pq.read_table(path)
        footer = json.loads(table.schema.metadata[b"condgen"])
        content[path.name] = (table.to_pylist(), {name: footer[name] for name in footer.keys() - {"versions"}})
    return content


def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    """How far the weights of two models are from each other, of the same names and shapes."""
    assert one.keys() == other.keys()
    return math.sqrt(sum(float(np.square(one[name] - other[name]).sum()) for name in one))


@pytest.fixture
def done(condgen: Callable[..., Any]) -> Callable[..., None]:
    """Run a command that must succeed."""

    def done(*arguments: str | Path) -> None:
        finished = condgen(*arguments)
        assert finished.code == 0, finished.err

    return done


def test_a_dataset_is_whole_and_is_made_again_with_the_same_bytes(done: Callable[..., None], old: Path) -> None:
    done("validate", old / "dataset")
    done("shard", old / "images", old / "again", "--samples-per-shard", "5", "--split", "train=0.8,val=0.2")
    assert files(old / "again") == files(old / "dataset")


def test_an_index_is_whole_and_is_made_again_with_the_same_bytes(done: Callable[..., None], old: Path) -> None:
    before = files(old / "foreign")
    done("validate", old / "foreign")
    done("index", old / "foreign", "--overwrite")
    assert files(old / "foreign") == before


def test_a_batch_job_goes_on_from_its_plan_to_the_same_draws(done: Callable[..., None], old: Path) -> None:
    results = old / "results"
    before = draws(results / "draws")
    lost = sorted((results / "draws").iterdir())[1]
    lost.unlink()
    done("translate", old / "images", results, *TRANSLATE.split())
    assert draws(results / "draws") == before
    done("verify", results)


def test_training_goes_on_from_a_checkpoint_to_the_same_model(done: Callable[..., None], old: Path) -> None:
    done("train", "--data", old / "dataset", "--out", old / "run", *TRAIN.split())
    run, finished = old / "run", old / "finished"
    ours, theirs = json.loads((run / "model.json").read_text()), json.loads((finished / "model.json").read_text())
    for facts in (ours, theirs):
        del facts["condgen"], facts["extra"]["versions"]
    assert ours == theirs
    began, ended, expected = (
        safetensors.numpy.load_file(folder / "model.safetensors")
        for folder in (old / "run/checkpoints/step-00000004", run, finished)
    )
    # CPUs of another kind round otherwise: 0.4 % of the way gone, where a lost moment of the optimizer leaves 68 %.
    assert distance(ended, expected) < 0.02 * distance(began, expected)
