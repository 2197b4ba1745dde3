"""The numbers of an evaluation are the same from one process and from a pool of actors, to the last bit."""

from pathlib import Path

import pytest
from small_results import job_in, run_job, write_picture

from jobs.evaluation.evaluate import run
from pipelines.evaluation import job as evaluation_job
from pipelines.evaluation import parts
from pipelines.evaluation.options import EvaluateOptions
from pipelines.results.settings import BatchSettings


@pytest.mark.timeout(600)
def test_a_pool_of_actors_gives_the_bytes_of_one_process(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(14):
        write_picture(tmp_path / f"color/{number:02d}.png", number, size=(40 + number, 40))
    settings = BatchSettings(draws=1, batch_size=4, chunk_samples=2, precision="fp32")
    run_job(job_in(tmp_path, settings, "color", "r"))
    monkeypatch.setattr(parts, "PART_SAMPLES", 4)
    monkeypatch.setattr(parts.cut_parts, "__defaults__", (4,))
    found = {}
    for name, least in (("here", 10**6), ("ray", 1)):
        monkeypatch.setattr(evaluation_job, "RAY_FROM_IMAGES", least)
        options = EvaluateOptions(results=str(tmp_path / "r"), size_px=32, resamples=40, out=str(tmp_path / name))
        found[name] = run(options)
    assert found["here"].values == found["ray"].values
    assert found["here"].facts == found["ray"].facts
    for file in ("evaluation.json", "evaluation.parquet"):
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "ray" / file).read_bytes()
