"""What a batch job tells Ray's metrics, as a real Prometheus sees it; and jobs from Python on the session's cluster."""

import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import write_image
from PIL import Image
from prometheus_server import prometheus
from small_results import write_model

from condgen.errors import ConfigError, JobError
from pipelines.batch.archive import Selection
from pipelines.batch.job import BatchJob, Resources, run_batch
from pipelines.batch.report import BatchReport, Pace
from pipelines.results.plan import load_plans
from pipelines.results.settings import AUTO_BATCH, BatchSettings
from pipelines.storage.store import open_store

IMAGES = 21


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for number in range(IMAGES - 1):
        write_image(folder / f"{number:02d}.png", 50 + 10 * number)
    (folder / "99.dat").write_text("no image")
    return folder


def job(archive: Path, model: str, **values: object) -> BatchJob:
    """A job for a single actor: to start one takes longer than all of these images."""
    settings = BatchSettings(draws=2, batch_size=4, chunk_samples=4)
    places = {"archive": str(archive), "results": str(archive.parent / "results"), "model": model}
    return BatchJob(**{**places, "settings": settings, "resources": Resources(actors=(1, 1)), **values})  # type: ignore[arg-type]


def run(wanted: BatchJob, watch: Callable[[Pace], None] | None = None) -> BatchReport:
    return run_batch(wanted, watch=watch)


def ray_address() -> str:
    import ray

    (node,) = [node for node in ray.nodes() if node["Alive"]]
    return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


def samples(text: str, results: str) -> dict[str, float]:
    """What of condgen is in a scrape of Ray, for one job: the metric with its status or stage, summed."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("ray_condgen_") and f'results="{results}"' in line:
            name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()  # type: ignore[union-attr]
            kind = re.search(r'(?:status|stage)="(\w+)"', labels)
            key = f"{name}/{kind.group(1)}" if kind else name
            found[key] = found.get(key, 0.0) + float(value)
    return found


def wait_for(get: Callable[[], dict[str, float]], key: str, value: float) -> dict[str, float]:
    deadline = time.monotonic() + 60
    while True:
        found = get()
        if found.get(key) == value:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def test_a_job_is_seen_in_rays_endpoint_and_by_prometheus(
    ray_cluster: None, archive: Path, model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    paces: list[tuple[int, int]] = []
    report = run(
        job(archive, model, resources=Resources(actors=(2, 2))), lambda pace: paces.append((pace.images, pace.errors))
    )
    assert (report.images, report.with_draws, report.errors) == (IMAGES, IMAGES - 1, 1)
    assert paces[0] == (0, 0)
    assert paces[-1] == (IMAGES, 1)
    results = report.results

    def scrape() -> dict[str, float]:
        with urllib.request.urlopen(f"http://{ray_address()}/metrics", timeout=10) as answer:
            return samples(answer.read().decode(), results)

    found = wait_for(scrape, "ray_condgen_images_total/done", IMAGES - 1)
    assert found["ray_condgen_images_total/error"] == 1
    assert found["ray_condgen_draws_total"] == 2 * (IMAGES - 1)
    assert found["ray_condgen_stage_seconds_total/model"] > 0
    assert found["ray_condgen_bytes_out_total"] > found["ray_condgen_bytes_in_total"] > 0
    scrape_config = {"job_name": "ray", "scrape_interval": "1s", "static_configs": [{"targets": [ray_address()]}]}
    program = request.getfixturevalue("prometheus_program")
    with prometheus(program, {"scrape_configs": [scrape_config]}, tmp_path) as server:

        def query() -> dict[str, float]:
            rows = server.query(f'sum by (status) (ray_condgen_images_total{{results="{results}"}})')
            return {labels["status"]: value for labels, value in rows}

        assert wait_for(query, "done", IMAGES - 1) == {"done": IMAGES - 1, "error": 1}


def test_more_errors_than_allowed_stop_a_job_and_a_higher_rate_goes_on(
    ray_cluster: None, archive: Path, model: str
) -> None:
    for number in range(10):
        (archive / f"0{number}-bad.jpg").write_bytes(b"no picture")
    with pytest.raises(JobError, match=r"max-error-rate 0\.1"):
        run(job(archive, model, max_error_rate=0.1))
    report = run(job(archive, model, max_error_rate=0.5))
    assert (report.images, report.errors) == (IMAGES + 10, 11)
    assert not open_store(report.results).list("attempts")


def test_growth_and_retries_are_plans_of_their_own(ray_cluster: None, archive: Path, model: str) -> None:
    assert run(job(archive, model, selection=Selection(limit=6))).images == 6
    assert run(job(archive, model)).images == IMAGES
    (archive / "99.dat").unlink()
    write_image(archive / "99.png", 77)
    write_image(archive / "AA.png", 78)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(archive / "99.dat", "PNG")  # an image now, by its bytes
    report = run(job(archive, model, retry_errors=True))
    assert (report.images, report.errors, report.generations) == (IMAGES + 2, 0, 4)
    again = run(job(archive, model))
    assert (again.images, again.pace.images, again.generations) == (IMAGES + 2, 0, 4)


def test_what_is_left_open_is_settled_once_and_kept(ray_cluster: None, archive: Path, model: str) -> None:
    settings = BatchSettings(draws=1, batch_size=AUTO_BATCH, precision="auto", chunk_samples=8)
    report = run(job(archive, model, settings=settings))
    (plan,) = load_plans(open_store(report.results))
    begun = BatchSettings.from_json(plan.plan.settings)
    assert begun.batch_size >= 1
    assert begun.precision in ("fp32", "bf16")
    assert run(job(archive, model, settings=settings)).pace.images == 0
    with pytest.raises(ConfigError, match="batch_size"):
        run(job(archive, model, settings=BatchSettings(draws=1, batch_size=begun.batch_size + 1, chunk_samples=8)))
