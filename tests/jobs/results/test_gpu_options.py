"""Where colors, noise and JPEGs are made is part of the plan, which names it only if it is not the CPU."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_results import job_in, run_job, write_picture

import jobs.results.redraw
from condgen.color import _device_paint
from condgen.device_noise import device_words
from condgen.errors import ConfigError
from pipelines.batch.job import BatchJob
from pipelines.images.decoding import decode
from pipelines.images.device_jpeg import encode_on
from pipelines.models.options import ColorizeOptions
from pipelines.results.settings import BatchSettings, OutputOptions

SETTINGS = BatchSettings(draws=2, seed=5, batch_size=4, chunk_samples=2, precision="fp32")


def job(
    root: Path, results: str = "results", noise_on: str = "cpu", encode_on: str = "cpu", **options: Any
) -> BatchJob:
    output = OutputOptions(encode_on=encode_on)
    settings = replace(SETTINGS, colorize=ColorizeOptions(**options), noise_on=noise_on, output=output)
    return job_in(root, settings, results=results)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        write_picture(tmp_path / f"archive/{number}.png", number, size=(50, 40))
    return tmp_path


@pytest.fixture
def painted_on(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """The devices that paint, where the CPU stands in for a GPU."""
    devices: list[torch.device] = []
    paint_on = _device_paint.paint_on

    def watched(device: torch.device, *arguments: Any) -> Any:
        devices.append(device)
        return paint_on(device, *arguments)

    monkeypatch.setattr(_device_paint, "paint_on", watched)
    for module in ("models.source", "batch.probe"):
        monkeypatch.setattr(f"pipelines.{module}.require_gpu", lambda _: torch.device("cpu"))
    return devices


def plan(results: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((results / "plan/000.json").read_text())["settings"]
    return settings


def rows(results: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((results / "draws").iterdir()) for row in pq.read_table(path).to_pylist()]


def is_the_plans(root: Path, option: str, made: list[Any]) -> None:
    """Check that a plan names the option where it is `gpu` (in `other`), and that redraw and resume go by it."""
    assert option not in plan(root / "results")
    assert plan(root / "other")[option] == "gpu"
    made.clear()
    assert jobs.results.redraw.run(str(root / "other"), key="1", draw=1).redrawn.is_identical
    assert made
    with pytest.raises(ConfigError, match=rf"^{option}: got 'cpu', allowed: 'gpu', as these results"):
        run_job(job(root, "other"))


def test_colors_on_a_gpu_have_the_bytes_of_those_on_the_cpu(root: Path, painted_on: list[torch.device]) -> None:
    run_job(job(root))
    assert not painted_on
    run_job(job(root, "other", colors_on="gpu"))
    assert len(painted_on) == 4
    assert rows(root / "other") == rows(root / "results")


def test_the_plan_names_it_only_if_it_is_not_the_cpu(root: Path, painted_on: list[torch.device]) -> None:
    run_job(job(root), stop_after=1)
    run_job(job(root, "other", colors_on="gpu"), stop_after=1)
    is_the_plans(root, "colors_on", painted_on)


@pytest.mark.usefixtures("painted_on")
def test_noise_of_a_gpu_is_made_there_and_named_by_the_plan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.device] = []
    monkeypatch.setattr(
        "condgen.device_noise.device_words", lambda *given: (made.append(given[-1]), device_words(*given))[1]
    )
    run_job(job(root))
    assert not made
    run_job(job(root, "other", noise_on="gpu"))
    assert made
    assert rows(root / "other") == rows(root / "results")  # the CPU stands in for a GPU
    is_the_plans(root, "noise_on", made)


@pytest.mark.usefixtures("painted_on")
def test_jpegs_of_a_gpu_are_made_there_and_named_by_the_plan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_job(job(root))
    made: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        "pipelines.images.device_jpeg.encode_on", lambda *given: (made.append(given[1].shape), encode_on(*given))[1]
    )
    run_job(job(root, "other", encode_on="gpu"))
    assert made.count((40, 50, 3)) == 4 * 2
    assert made.count((16, 16, 3)) == len(made) - 8 >= 2  # a trial comes before the plan, and in each worker
    for here, there in zip(rows(root / "results"), rows(root / "other"), strict=True):
        # On a CPU, torchvision's encoder halves the size of colors.
        assert here["image"]["bytes"] != there["image"]["bytes"]
        grey, grey_there = (decode(row["image"]["bytes"]) @ (0.299, 0.587, 0.114) for row in (here, there))
        assert np.abs(grey - grey_there).mean() < 2
    is_the_plans(root, "encode_on", made)


@pytest.mark.parametrize("error", [RuntimeError, ImportError, AttributeError])
@pytest.mark.usefixtures("painted_on")
def test_a_gpu_without_an_encoder_is_refused_before_the_job_begins(
    root: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_jpeg(*_: Any) -> None:
        raise error("torchvision has none")

    monkeypatch.setattr("pipelines.images.device_jpeg.encode_jpeg", encode_jpeg)
    with pytest.raises(ConfigError, match=r"^encode_on: got 'gpu', allowed: cpu: a trial on .*torchvision has none"):
        run_job(job(root, encode_on="gpu"))
    assert not (root / "results").exists()
    with pytest.raises(ConfigError, match=r"^encode_on: got 'gpu', allowed: cpu for png: a GPU encodes jpeg alone"):
        OutputOptions(output_format="png", encode_on="gpu")


@pytest.mark.usefixtures("painted_on")
def test_results_are_continued_where_they_were_begun(root: Path) -> None:
    for results, begun, other in (("results", "cpu", "gpu"), ("other", "gpu", "cpu")):
        run_job(job(root, results, colors_on=begun), stop_after=1)
        with pytest.raises(ConfigError, match=rf"^colors_on: got '{other}', allowed: '{begun}', as these results"):
            run_job(job(root, results, colors_on=other))
        assert run_job(job(root, results, colors_on=begun)) is not None


def test_without_a_gpu_the_job_is_refused_before_it_begins(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^colors_on: got 'gpu', allowed: cpu: torch sees no GPU here"):
        run_job(job(root, colors_on="gpu"))
    with pytest.raises(ConfigError, match=r"^noise_on: got 'gpu', allowed: cpu: torch sees no GPU here"):
        run_job(job(root, noise_on="gpu"))
    with pytest.raises(ConfigError, match=r"^encode_on: got 'gpu', allowed: cpu: torch sees no GPU here"):
        run_job(job(root, encode_on="gpu"))
    assert not (root / "results").exists()
    with pytest.raises(ConfigError, match=r"^colors_on: got 'tpu'"):
        job(root, colors_on="tpu")
