"""benchmarks/gpu_batch.py: what `make gpu` runs, on the CPU; it names what a machine lacks."""

import argparse
import queue
import sys
import threading
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gpu_batch


@pytest.mark.slow
def test_every_stage_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # this process's own are left as they are
    given = argparse.Namespace(out=tmp_path, images=4, batch_size=4)
    spec, chunks = gpu_batch.prepare("color-classifier-small:32", "model", given)
    case = {"spec": spec, "chunks": chunks, "threads": 2, "seconds": 0.5, "model": False}
    found = gpu_batch.together([gpu_batch.window(case, threading.Barrier(1))])
    assert found["images_per_s"] > 0
    assert found["stages"].keys() == set(gpu_batch.STAGES)
    assert min(found["stages"].values()) > 0
    assert sum(found["stages"].values()) <= found["cpu_ms"]
    assert found["in_model"] > 0


def test_processes_are_added_up() -> None:
    one = {"images": 10, "seconds": 2.0, "cpu_s": 1.0, "model_s": 1.0, "stages": {"decode": 0.5}, "busy": 0.5}
    other = {**one, "images": 30, "busy": 0.7, "stages": {"decode": 0.1, "encode": 0.2}}
    found = gpu_batch.together([one, other])
    assert (found["images_per_s"], found["in_model"], found["cpu_ms"]) == (20.0, 0.5, 50.0)
    assert found["busy"] == pytest.approx(0.6)
    assert {name: ms for name, ms in found["stages"].items() if ms} == pytest.approx({"decode": 15.0, "encode": 5.0})


def test_a_process_that_fails_answers_with_its_error() -> None:
    answers: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    ready = threading.Barrier(2)
    with pytest.raises(KeyError):
        gpu_batch.work({}, ready, answers)
    assert answers.get() == {"error": "KeyError: 'spec'"}
    assert ready.broken


def test_what_is_missing_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_batch.check_needs()
    monkeypatch.setattr(gpu_batch, "NEEDED", ("numpy", "lazy_loaders", "nowhere"))
    monkeypatch.setattr(gpu_batch, "WHEELS", {"lazy_loaders": "lazy-loaders"})
    with pytest.raises(SystemExit, match=r"not here: lazy_loaders, nowhere\. .* WHEELS='lazy-loaders nowhere'"):
        gpu_batch.check_needs()
