"""Planning in columns: a hundred thousand chunks in seconds; benchmarks/plan.py has the million."""

import subprocess
import sys
from pathlib import Path

import pytest
from one_by_one import chunks_from_extents, chunks_from_files

from pipelines.batch.archive import plan_archive
from pipelines.datasets.chunk import ChunkLimits, chunks_to_table
from pipelines.datasets.opening import open_dataset
from pipelines.storage.store import open_store

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, which is not here")
def test_a_hundred_thousand_chunks_are_planned_in_seconds_and_little_memory() -> None:
    script = "import sys; sys.path.insert(0, 'benchmarks'); import plan; plan.main(100_000)"
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert float(lines[-1].rpartition(": ")[2].split()[0]) < 20  # about 1 s on an idle core
    peaks = [float(line.split()[-2]) for line in lines if line.endswith("MiB")]
    assert max(peaks) < 800  # 240 MiB were seen, the interpreter and Arrow among them


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, which is not here")
def test_an_index_and_a_plan_are_read_and_written_in_little_memory(tmp_path: Path) -> None:
    script = "import sys; sys.path.insert(0, 'benchmarks'); import scale; scale.main()"
    for name in ("index", "plan", "growth"):
        arguments = ["--step", name, "--index", "12000000", "--out", str(tmp_path)]
        command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        peak_mib = float(done.stdout.partition("peak")[2].split()[0])
        assert peak_mib < 450, done.stdout  # 310 MiB were seen; the index and the plan as tables take 650


def test_a_plan_in_columns_has_the_chunks_that_are_listed_one_by_one(photos: Path, tmp_path: Path) -> None:
    from pipelines.datasets.tar import TarWriter

    tar = TarWriter()
    for number in range(20):
        tar.add(f"{number}.jpg", bytes(600))
    open_store(tmp_path).write("x.tar", tar.finish())
    for limits in (ChunkLimits(samples=16), ChunkLimits(samples=3)):
        for archive in (str(tmp_path), str(tmp_path / "x.tar")):
            chunks = chunks_from_extents(open_dataset(archive).runs(), limits)
            assert plan_archive(archive, limits).equals(chunks_to_table(chunks))
        chunks = chunks_from_files(open_store(photos).list(), limits)
        assert plan_archive(str(photos), limits).equals(chunks_to_table(chunks))
