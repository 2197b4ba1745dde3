"""One job under a fault of each kind: a killed worker, actor, node, driver, a faulty S3, a full disk; the same bytes.

`make soak` runs it for longer: SOAK_FAULTS faults, from SOAK_SEED.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from chaos import KINDS, Chaos, Job
from chaos_cluster import ChaosCluster
from faults import FaultProxy
from PIL import Image
from samples import digests, write_crops

from pipelines.storage.store import open_store

FAULTS = int(os.environ.get("SOAK_FAULTS", str(len(KINDS))))
SEED = int(os.environ["SOAK_SEED"])
NUM_IMAGES = 200
DRAWS = 2
CHUNK = 8
BAD = {"cut.jpg", "empty.jpg"}
POISON = "0100-poison.png"

pytestmark = [
    pytest.mark.soak,
    pytest.mark.slow,
    pytest.mark.timeout(300 + 60 * FAULTS),
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc: Linux only"),
]


def write_archive(folder: Path, photos: Path) -> None:
    """Crops of photographs; among them two bad files and a picture that kills the process of its model."""
    folder.mkdir()
    write_crops(folder, photos, NUM_IMAGES - 1)
    Image.new("RGB", (96, 64), (255, 255, 255)).save(folder / POISON)


def arguments(archive: str, results: str) -> list[str]:
    options = ["--model", "chaos_models:Poisoned", "--draws", str(DRAWS), "--chunk-samples", str(CHUNK)]
    return ["colorize", archive, results, *options]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's working directory, with the model."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(Path(__file__).parents[1] / "chaos_models.py", folder)
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    folder = tmp_path_factory.mktemp("chaos") / "archive"
    write_archive(folder, photos)
    return folder


@pytest.fixture(scope="module")
def undisturbed(archive: Path, home: Path, condgen: Callable[..., Any]) -> Path:
    """The results of a run that only the poison disturbs."""
    results = archive.parent / "undisturbed"
    began = time.monotonic()
    done = condgen(*arguments(str(archive), str(results)), cwd=home)
    assert done.code == 0, done.err
    print(f"the undisturbed run, with the poison: {time.monotonic() - began:.1f} s")
    return results


def test_only_the_poison_and_the_bad_files_are_errors(undisturbed: Path) -> None:
    errors = pd.read_parquet(undisturbed / "errors").set_index("source")
    assert set(errors.index) == {*BAD, POISON}
    assert errors.loc[POISON, "stage"] == "process"
    assert set(errors.loc[sorted(BAD), "stage"]) == {"decode"}


@pytest.fixture
def proxy(s3: Any) -> Iterator[FaultProxy]:
    with FaultProxy(s3.endpoint, every_request=True) as running:
        running.stall_s = 4.0
        yield running


def test_chaos_leaves_no_trace(
    undisturbed: Path, archive: Path, home: Path, s3: Any, proxy: FaultProxy, tmp_path: Path
) -> None:
    expected = digests(undisturbed, "draws/", "errors/")
    bucket = s3.uri("chaos")
    s3.filesystem().put(str(archive), "chaos/archive", recursive=True)
    results = f"{bucket}/results-{SEED}-{FAULTS}"
    store = open_store(results)
    brake = tmp_path / "brake"
    job = Job(
        command=[sys.executable, "-m", "jobs", *arguments(f"{bucket}/archive", results)],
        cwd=home,
        committed=lambda: len(store.list("draws")),
        chunks=sum(name.startswith("draws/") for name in expected),
        brake=brake,
    )
    env = {"AWS_ENDPOINT_URL": proxy.endpoint, "CHAOS_BRAKE": str(brake)}
    print(f"{FAULTS} faults, seed {SEED} (the same ones again: SOAK_FAULTS={FAULTS} SOAK_SEED={SEED})")
    with ChaosCluster(tmp_path, env) as cluster:
        chaos = Chaos(cluster, job, proxy, SEED)
        chaos.run(FAULTS)
    print(f"faults: {dict(chaos.counts)} {dict(chaos.details)}; S3 answers spoiled: {len(proxy.injected)}")
    assert sum(chaos.counts.values()) == FAULTS
    assert set(chaos.counts) == set(KINDS[:FAULTS])

    assert digests(results, "draws/", "errors/") == expected
    local = tmp_path / "results"
    s3.filesystem().get(results.removeprefix("s3://"), str(local), recursive=True)
    rows = duckdb.read_parquet(f"{local}/draws/*.parquet").aggregate("source, draw, count(*) as n", "source, draw")
    counted = rows.df()
    assert set(counted["n"]) == {1}
    assert set(counted.groupby("source").size()) == {DRAWS}
    errors = set(pd.read_parquet(local / "errors")["source"])
    assert errors == {*BAD, POISON}
    assert counted["source"].nunique() + len(errors) == NUM_IMAGES
    assert not [entry.name for entry in store.list("attempts")], "marks of attempts are left"
    assert "(raylet)" not in "".join([*job.outputs, job.output()])
