"""Random broken files through a batch job: each is accounted for, no worker is lost, memory is bounded."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bad_images import write_bad_archive
from small_results import write_model

from pipelines.batch.engine import Functions
from pipelines.batch.job import BatchJob, run_batch
from pipelines.results.settings import BatchSettings, OutputOptions
from pipelines.storage.store import open_store

pytestmark = pytest.mark.soak

FILES = int(os.environ.get("SOAK_FILES", "300"))
SEED = int(os.environ["SOAK_SEED"])
SETTINGS = BatchSettings(chunk_samples=25, output=OutputOptions(output_format="png"), max_pixels=20_000_000).as_point()
MAX_GROWTH_MIB = 700  # two pictures at a time, each with its bytes, its draws and its encoder


def test_every_bad_file_is_accounted_for_and_no_worker_is_lost(ray_cluster: None, tmp_path: Path) -> None:
    whole = write_bad_archive(tmp_path / "archive", FILES, SEED)
    log = str(tmp_path / "workers.log")

    def witness(rgb: np.ndarray, about: object) -> np.ndarray:
        """Note which process worked, and the most memory that it had."""
        status = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        with Path(log).open("a") as out:
            out.write(f"{os.getpid()} {peak}\n")
        return rgb

    report = run_batch(
        BatchJob(
            archive=str(tmp_path / "archive"),
            results=str(tmp_path / "results"),
            model=write_model(tmp_path / "model", "regression", size_px=16),
            settings=SETTINGS,
            functions=Functions(before=witness),
        )
    )
    assert report.images == FILES == report.with_draws + report.errors
    assert report.with_draws >= len(whole)
    assert report.errors > FILES // 4
    sources = pq.read_table(tmp_path / "results" / "draws", columns=["source"])["source"].to_pylist()
    assert set(whole) <= set(sources)
    errors = pq.read_table(tmp_path / "results" / "errors").to_pylist()
    assert not set(sources) & {row["source"] for row in errors}
    assert not any(row["stage"] == "process" for row in errors)
    assert {row["stage"] for row in errors} <= {"read", "decode"}
    assert max(len(row["message"]) for row in errors) < 300
    lines = [line.split() for line in Path(log).read_text().splitlines()]
    peaks = [int(peak) for _, peak in lines]
    assert len(Counter(pid for pid, _ in lines)) <= 2, "an actor died and another took its place"
    assert max(peaks) - min(peaks) < MAX_GROWTH_MIB * 1024
    assert not open_store(str(tmp_path / "results")).list("attempts")
