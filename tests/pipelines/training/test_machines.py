"""`condgen train` on a cluster of several nodes, all on this machine: nodes come, leave, die and are waited for."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_cluster import ChaosCluster
from machines import Machines, Run, local_env
from PIL import Image
from samples import saved, tar_of

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

SETTINGS = [
    "model.width=8",
    "model.multipliers=[1,2]",
    "model.norm_groups=4",
    "data.size_px=16",
    "data.lanes=4",
    "train.batch_size=8",
    "train.warmup_steps=2",
    "train.log_every_steps=1",
]


@pytest.fixture(scope="module")
def dataset(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen shards of three crops of photographs."""
    folder = tmp_path_factory.mktemp("data") / "dataset"
    folder.mkdir()
    images = [Image.open(path).convert("RGB").resize((40, 40)) for path in sorted(photos.iterdir())]
    for shard in range(16):
        numbers = range(3 * shard, 3 * shard + 3)
        members = [(f"{number:04d}.jpg", saved(images[number % len(images)], "JPEG")) for number in numbers]
        (folder / f"train-{shard:06d}.tar").write_bytes(tar_of(members))
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, condgen_process: object) -> Iterator[ChaosCluster]:
    with ChaosCluster(tmp_path_factory.mktemp("cluster"), {}, nodes=0) as cluster:
        cluster.ask("nodes")  # its head takes drivers
        yield cluster


def run_of(dataset: Path, out: Path, env: dict[str, str], *, steps: int, every: int) -> Run:
    settings = [*SETTINGS, f"train.steps={steps}", f"train.checkpoint_every_steps={every}"]
    assignments = [part for text in settings for part in ("--set", text)]
    arguments = ["--preset", "regression-small", "--data", str(dataset), *assignments]
    return Run(out, arguments, env=env, log=out.with_suffix(".log"))


@pytest.fixture
def make_run(machines: Machines, dataset: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(*, steps: int = 30, every: int = 5) -> Run:
        runs.append(run_of(dataset, tmp_path / "run", machines.env, steps=steps, every=every))
        return runs[-1]

    yield make
    for run in runs:
        run.kill()


@pytest.mark.long
def test_gpus_that_come_later_are_waited_for_and_not_replaced_by_cpus(
    machines: Machines, make_run: Callable[..., Run]
) -> None:
    run = make_run(steps=4).start("--wait-for", "3m")
    run.until(lambda: "waiting for 1 GPU, 0 are there" in run.log)
    assert not run.steps
    machines.add("--num-cpus=2", "--num-gpus=1")  # a declared one: no worker touches CUDA
    assert run.wait() == 0, run.log
    assert run.steps == [1, 2, 3, 4]


def test_machines_that_do_not_come_in_time_are_an_error_that_says_what_is_there(make_run: Callable[..., Run]) -> None:
    run = make_run().start("--wait-for", "1s", "--workers", "2")
    assert run.wait() == 2
    assert "workers: got '2 of 1 GPU each', allowed: what there is room for after 1 s: 0, on 0 GPUs" in run.log


@pytest.mark.long
def test_workers_follow_the_nodes_that_come_and_leave_and_no_step_is_lost(
    machines: Machines, make_run: Callable[..., Run]
) -> None:
    """1 → 2 → 1 → elsewhere: the second node brings room, and takes it away again; then that of the workers drains."""
    first = machines.add("--num-cpus=2")
    run = make_run(steps=100_000, every=50).start("--gpus-per-worker", "0", "--workers", "1:2")
    run.until(lambda: bool(run.checkpoints()))
    second = machines.add("--num-cpus=2")
    run.until(lambda: "there is room for 2 workers in place of 1: training goes on from step" in run.log)
    resized = run.checkpoints()[-1]
    run.until(lambda: run.checkpoints()[-1] > resized)
    # A worker may be on the second node, or its decoding alone; and a node that does nothing at that moment leaves at
    # once, before its drain can be seen.
    resumed, told = "training goes on from step", "is about to leave: training goes on from step"
    before = run.log.count(resumed)
    machines.take_back(second, 30)
    run.until(lambda: run.log.count(resumed) > before)
    machines.add("--num-cpus=2")
    before = run.log.count(told)
    machines.take_back(first, 30)
    run.until(lambda: run.log.count(told) > before)
    drained = run.checkpoints()[-1]
    run.until(lambda: run.checkpoints()[-1] > drained)
    run.send(signal.SIGTERM)
    assert run.wait() == 75, run.log
    last = run.checkpoints()[-1]
    assert last >= drained
    assert run.steps == list(range(1, last + 1))


@pytest.mark.long
def test_a_run_whose_node_is_killed_goes_on_elsewhere_and_names_it(
    machines: Machines, make_run: Callable[..., Run]
) -> None:
    node = machines.add("--num-cpus=2", "--num-gpus=1")
    run = make_run(steps=60).start("--wait-for", "3m")
    run.until(lambda: len(run.checkpoints()) > 0)
    machines.kill(node)
    run.until(lambda: "is gone" in run.log)
    assert "training goes on from step" in run.log
    machines.add("--num-cpus=2", "--num-gpus=1")
    assert run.wait() == 0, run.log
    assert run.steps == list(range(1, 61))


@pytest.mark.long
def test_sigterm_saves_a_checkpoint_and_the_same_command_goes_on_to_the_same_bytes(
    dataset: Path, tmp_path: Path, condgen_process: object
) -> None:
    whole, cut = (run_of(dataset, tmp_path / name, local_env(), steps=600, every=100) for name in ("whole", "cut"))
    try:
        assert whole.start().wait() == 0, whole.log
        cut.start("--max-duration", "2h")
        cut.until(lambda: bool(cut.checkpoints()))
        cut.send(signal.SIGUSR2)
        cut.until(lambda: any(step % 100 for step in cut.checkpoints()))
        cut.send(signal.SIGTERM)
        assert cut.wait() == 75, cut.log
        assert "run the same command again to go on" in cut.log
        assert 0 < cut.checkpoints()[-1] < 600
        assert cut.start().wait() == 0, cut.log
    finally:
        whole.kill()
        cut.kill()
    assert cut.steps == whole.steps == list(range(1, 601))
    assert cut.store.read("model.safetensors") == whole.store.read("model.safetensors")
