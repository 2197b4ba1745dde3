"""Runs that are cut again and again, at random moments, end as those that nothing cuts: not a bit differs.

A run of each kind of family, on one worker and on two, with its data and its folder in the real S3 server. `make soak`
alone has it: SOAK_CUTS cuts in all, from SOAK_SEED. What a cut of each kind does is shown to CI by `test_train.py`.
"""

import contextlib
import functools
import hashlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from chaos_cluster import ChaosCluster
from cuts import KINDS, Cuts
from machines import Machines, Run
from samples import paired_dataset, single_dataset

from pipelines.storage.store import Store
from pipelines.training.run_folder import METRICS, RunFolder, rows_from_bytes
from pipelines.training.status import read_state

CUTS = int(os.environ.get("SOAK_CUTS", "100"))
SEED = int(os.environ["SOAK_SEED"])

pytestmark = [pytest.mark.long, pytest.mark.timeout(600 + 60 * CUTS)]

SETTINGS = (
    "data.size_px=16 data.lanes=4 train.batch_size=4 train.warmup_steps=2 "
    "train.log_every_steps=5 train.checkpoint_every_steps=20"
)
GAN = "model.width=8 model.discriminator_width=8 model.patch_px=16 model.norm_groups=4"
PAIRS = "data.task=pairs model.condition_channels=3 model.target_channels=3"
FAMILIES = {
    "GAN": ("pix2pix-small", "--data pairs", f"{GAN} {PAIRS} train.steps=400 model.depth=3"),
    "unpaired": (
        "cyclegan-small",
        "--data a --data-b b",
        f"{GAN} train.steps=200 model.blocks=1 model.pool_px=16 model.pool_size=5",
    ),
    "likelihood": (
        "autoregressive-small",
        "--data pairs --member image=target",
        "train.steps=400 model.width=16 model.heads=2 model.layers=2 model.out_stride=2 model.patch_px=4",
    ),
    "diffusion": (
        "diffusion-small",
        "--data pairs --member image=target",
        "train.steps=400 model.width=8 model.multipliers=[1,2] model.norm_groups=4 model.out_stride=1",
    ),
}
"""Preset, datasets and settings of a family of each kind. On two workers `cyclegan` has no pools: each has its own."""
OF_TWO = {"unpaired": "model.pool_size=0"}
SHARE_OF_TWO = 0.4


@pytest.fixture(scope="module")
def bucket(s3: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The datasets, in the S3 server."""
    folder = tmp_path_factory.mktemp("data")
    paired_dataset(folder / "pairs", 48, per_shard=6)
    single_dataset(folder / "a", 48, per_shard=6)
    single_dataset(folder / "b", 40, per_shard=5)
    uri: str = s3.uri("cuts")
    s3.filesystem().put(f"{folder}/", "cuts/", recursive=True)
    return uri


@pytest.fixture(scope="module")
def cluster(bucket: str, tmp_path_factory: pytest.TempPathFactory, condgen_process: object) -> Iterator[ChaosCluster]:
    with ChaosCluster(tmp_path_factory.mktemp("cluster"), {}, nodes=0) as cluster:
        cluster.ask("nodes")  # its head takes drivers
        yield cluster


@pytest.fixture
def make_run(machines: Machines, bucket: str, tmp_path: Path) -> Iterator[Callable[[str, int], Run]]:
    runs: list[Run] = []

    def make(kind: str, workers: int) -> Run:
        preset, data, settings = FAMILIES[kind]
        place = [word if word.startswith("--") or "=" in word else f"{bucket}/{word}" for word in data.split()]
        settings = f"{SETTINGS} {settings} {OF_TWO.get(kind, '') if workers > 1 else ''}"
        assignments = [part for text in settings.split() for part in ("--set", text)]
        shape = ["--workers", str(workers), "--gpus-per-worker", "0", "--threads", "1"]
        out, log = f"{bucket}/runs/{tmp_path.name}-{len(runs)}", tmp_path / f"run-{len(runs)}.log"
        runs.append(Run(out, ["--preset", preset, *place, *shape, *assignments], env=machines.env, log=log))
        return runs[-1]

    yield make
    for run in runs:
        run.kill()


def outcome(store: Store) -> dict[str, Any]:
    """All of a run that is the same whatever happened: bytes of the model and the last checkpoint, rows, counts."""
    folder = RunFolder(store)
    newest = folder.newest()
    assert newest is not None
    last = {name: digest for name, digest in folder.digests(newest).items() if name.endswith(".safetensors")}
    assert len(last) >= 3
    model = json.loads(store.read("model.json"))
    del model["extra"]["versions"]  # of the code, which may be edited meanwhile
    model["bytes"] = hashlib.sha256(store.read("model.safetensors")).hexdigest()
    rows = [asdict(row) for row in rows_from_bytes(store.read(METRICS))]
    for row in rows:
        for clock in ("seconds", "images_per_s", "stalled_s", "waited"):
            del row[clock]
    summary = json.loads(store.read("run.json"))
    ends = {name: summary[name] for name in ("reason", "step", "images", "undecodable", "loss", "losses")}
    return {"model": model, "last checkpoint": (newest.step, last), "rows": rows, "end": ends}


def check(run: Run, expected: Mapping[str, Any]) -> None:
    """Compare a finished run with one that nothing cut, and see that nothing else is left in its folder."""
    found = outcome(run.store)
    for name, value in expected.items():
        assert found[name] == value, f"{name}:\n{run.log}"
    folder = RunFolder(run.store)
    for checkpoint in folder.fence_now().complete():
        folder.read_checkpoint(checkpoint)  # its digests
    assert read_state(run.store) == "done"
    assert "Traceback" not in run.log


@pytest.mark.soak
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_run_that_is_cut_at_random_ends_as_one_that_nothing_cuts(
    kind: str, machines: Machines, make_run: Callable[[str, int], Run]
) -> None:
    place = list(FAMILIES).index(kind)
    number = (CUTS + len(FAMILIES) - 1 - place) // len(FAMILIES)
    of_two = round(SHARE_OF_TWO * number)
    print(f"{kind}: {number} cuts, seed {SEED} (the same ones again: SOAK_CUTS={CUTS} SOAK_SEED={SEED})")
    began = time.monotonic()
    runs: Counter[int] = Counter()
    say = functools.partial(print, f"{kind:10}", flush=True)
    with Cuts(machines, random.Random(SEED + place), say=say) as cuts:
        for workers, share in ((1, number - of_two), (2, of_two)):
            whole = make_run(kind, workers).start()
            assert whole.wait() == 0, whole.log
            expected = outcome(whole.store)
            for run in cuts.run(lambda workers=workers: make_run(kind, workers), share):
                check(run, expected)
                runs[workers] += 1
    seconds = time.monotonic() - began
    print(f"{kind}: {dict(cuts.counts)} {dict(cuts.moments)}, runs by workers {dict(runs)}, {seconds:.0f} s")
    assert sum(cuts.counts.values()) == number
    assert set(cuts.counts) == set(KINDS) or number < 2 * len(KINDS)


def test_a_driver_that_was_stopped_past_its_lease_and_continued_is_fenced_and_the_other_ends_the_run(
    machines: Machines, make_run: Callable[[str, int], Run], tmp_path: Path
) -> None:
    for _ in range(3):
        machines.add("--num-cpus=2")
    whole, first = make_run("GAN", 1), make_run("GAN", 1)
    assert whole.start().wait() == 0, whole.log
    first.start().until(lambda: bool(first.checkpoints()))
    assert first.process is not None
    # As a machine that hangs, with the driver on it. The raylet hangs, too: else Ray would keep the CPUs of the other
    # machines on which images are decoded for its worker.
    frozen = [first.process.pid, *machines.cluster.placed("RayTrainWorker")[0]]
    second = first.beside(tmp_path / "second.log")
    try:
        for process in frozen:
            os.kill(process, signal.SIGSTOP)
        left_at = first.checkpoints()[-1]
        second.start().until(lambda: second.checkpoints()[-1] > left_at)
        assert second.process is not None
        for process in frozen:
            os.kill(process, signal.SIGCONT)
        assert first.wait() == 1, first.log
        last = first.log.strip().splitlines()[-1]
        assert f"{first.out} was taken over by process {second.process.pid} on" in last
        assert "waiting up to 30 s for a sign of life" in second.log
        assert second.wait() == 0, second.log
    finally:
        for process in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
        second.kill()
    check(second, outcome(whole.store))
    assert "Traceback" not in first.log


def test_storage_that_hangs_for_longer_than_it_is_asked_again_costs_time_alone(
    machines: Machines, make_run: Callable[[str, int], Run], s3: Any
) -> None:
    machines.add("--num-cpus=2")
    whole, run = make_run("diffusion", 1), make_run("diffusion", 1)
    assert whole.start().wait() == 0, whole.log
    run.start().until(lambda: bool(run.checkpoints()))
    os.kill(s3.pid, signal.SIGSTOP)
    try:
        for worker in machines.cluster.workers("RayTrainWorker"):
            os.kill(worker, signal.SIGKILL)
        run.until(lambda: "the storage gives no answer" in run.log)
    finally:
        os.kill(s3.pid, signal.SIGCONT)
    assert run.wait() == 0, run.log
    check(run, outcome(whole.store))
