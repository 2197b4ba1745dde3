"""Unpaired streams: each domain in epochs of its own, the smaller cycling, both resumed at the next sample."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from samples import single_dataset, stream_config

from condgen.errors import CheckpointError, ConfigError
from pipelines.streaming import stream as training
from pipelines.streaming.augmentation import Augmentation
from pipelines.streaming.epoch_order import EpochOrder, OrderConfig
from pipelines.streaming.pacing import PacedLoop
from pipelines.streaming.stream import StreamConfig
from pipelines.streaming.unpaired import UnpairedBatch, UnpairedPosition, UnpairedStream, domain_seed, unpaired_plans

LARGE, SMALL = 40, 12


def domain(uri: str, batch_size: int = 4, lanes: int = 2, seed: int = 3) -> StreamConfig:
    order = OrderConfig(seed=seed, lanes=lanes, window_chunks=2, batch_size=batch_size)
    return stream_config(uri, order, Augmentation(size_px=4), samples=2)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StreamConfig]:
    """A domain of forty pictures and one of twelve, in shards of two."""
    root = tmp_path_factory.mktemp("unpaired")
    large, small = (single_dataset(root / name, count, per_shard=2) for name, count in (("a", LARGE), ("b", SMALL)))
    return unpaired_plans(domain(large), domain(small))


def numbers(batches: list[UnpairedBatch], name: str) -> list[int]:
    shares = [getattr(batch, name) for batch in batches]
    return [int(rgb[0, 0, 0]) for share in shares for rgb in share.rgb[share.weight > 0]]


def test_each_domain_comes_whole_in_each_epoch_of_its_own(ray_cluster: None, plans: dict[str, StreamConfig]) -> None:
    per_epoch = {name: plan.epoch(0).num_batches for name, plan in plans.items()}
    batches = list(UnpairedStream(plans, UnpairedPosition(), 2 * per_epoch["a"], task_cpus=0.5))
    assert Counter(numbers(batches, "a")) == dict.fromkeys(range(LARGE), 2)
    cycles = [batches[at : at + per_epoch["b"]] for at in range(0, len(batches), per_epoch["b"])]
    whole = [numbers(cycle, "b") for cycle in cycles if len(cycle) == per_epoch["b"]]
    assert len(whole) >= 5
    assert all(sorted(cycle) == list(range(SMALL)) for cycle in whole)
    assert len({tuple(cycle) for cycle in whole}) > 3
    assert batches[-1].after.a.epoch == 2
    assert batches[-1].after.b.epoch >= 5


def test_both_go_on_at_the_very_next_sample_of_their_own(ray_cluster: None, plans: dict[str, StreamConfig]) -> None:
    whole = list(UnpairedStream(plans, UnpairedPosition(), 16, task_cpus=0.5))
    saved = whole[6].after.state_dict(plans)
    start = UnpairedPosition.from_state(saved, plans)
    shares = [list(UnpairedStream(plans, start, 9, rank=rank, num_workers=2, task_cpus=0.5)) for rank in range(2)]
    lanes = np.arange(4) % 2
    for number, batch in enumerate(whole[7:]):
        for rank in range(2):
            np.testing.assert_array_equal(shares[rank][number].a.rgb, batch.a.rgb[lanes % 2 == rank])
            np.testing.assert_array_equal(shares[rank][number].b.rgb, batch.b.rgb[lanes % 2 == rank])


def test_ray_datas_loop_pauses_at_each_of_its_steps(
    ray_cluster: None, plans: dict[str, StreamConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []

    class Counted(PacedLoop):
        def on_execution_step(self, executor: object) -> None:
            began = time.perf_counter()
            super().on_execution_step(executor)
            steps.append(time.perf_counter() - began)

    monkeypatch.setattr(training, "PacedLoop", Counted)
    assert len(list(UnpairedStream(plans, UnpairedPosition(), 4, task_cpus=0.5))) == 4
    assert steps
    assert min(steps) >= 0.01


def test_the_orders_of_the_domains_are_independent(plans: dict[str, StreamConfig]) -> None:
    assert domain_seed(3, "a") != domain_seed(3, "b") != domain_seed(4, "b")
    orders = [
        EpochOrder([1] * 200, OrderConfig(seed=domain_seed(3, name), lanes=1, window_chunks=2, batch_size=1), 0)
        for name in "ab"
    ]
    places = [np.argsort(order.lane_chunks(0)) for order in orders]
    assert abs(np.corrcoef(*places)[0, 1]) < 4 / 200**0.5


def test_a_state_of_other_domains_or_of_one_alone_is_refused(plans: dict[str, StreamConfig]) -> None:
    state = UnpairedPosition().state_dict(plans)
    swapped = {**state, "a": state["b"], "b": state["a"]}
    with pytest.raises(CheckpointError, match="dataset"):
        UnpairedPosition.from_state(swapped, plans)
    with pytest.raises(CheckpointError, match="two domains"):
        UnpairedPosition.from_state(state["a"], plans)


def test_domains_with_batches_of_two_sizes_are_refused(tmp_path: Path) -> None:
    uri = single_dataset(tmp_path / "x", 4)
    with pytest.raises(ConfigError, match="batch_size"):
        unpaired_plans(domain(uri, batch_size=4), domain(uri, batch_size=8))
