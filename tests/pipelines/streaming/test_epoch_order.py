"""The epoch's order: every sample once, the same for all, resumable anywhere."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condgen.errors import CheckpointError, ConfigError
from pipelines.streaming.epoch_order import (
    EpochOrder,
    OrderConfig,
    StreamPosition,
    check_workers,
    choose_lanes,
)

SIZES = np.random.default_rng(5).integers(1, 17, 60)
CONFIG = OrderConfig(seed=3, lanes=8, window_chunks=2, batch_size=16)


def all_samples(sizes: np.ndarray) -> list[tuple[int, int]]:
    return [(chunk, index) for chunk, size in enumerate(sizes) for index in range(size)]


def stream(order: EpochOrder, start: int = 0, rank: int = 0, workers: int = 1) -> list[list[tuple[int, int]]]:
    """The (chunk, index) of each batch, padding included."""
    return [
        list(zip(chunk.tolist(), index.tolist(), strict=True)) for chunk, index in order.batches(start, rank, workers)
    ]


def real(batches: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    return [sample for batch in batches for sample in batch if sample[0] >= 0]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=80),
    lanes=st.sampled_from([1, 2, 4, 8, 64]),
    batch=st.sampled_from([1, 2, 8, 16, 64, 128]),
    window=st.integers(1, 4),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_every_sample_comes_exactly_once_an_epoch_at_any_number_of_workers(
    sizes: list[int], lanes: int, batch: int, window: int, epoch: int, data: st.DataObject
) -> None:
    order = EpochOrder(sizes, OrderConfig(seed=1, lanes=lanes, window_chunks=window, batch_size=batch), epoch)
    workers = data.draw(st.integers(1, lanes))
    seen = [sample for rank in range(workers) for sample in real(stream(order, 0, rank, workers))]
    assert sorted(seen) == all_samples(np.array(sizes))


@pytest.mark.parametrize(("lanes", "batch"), [(8, 16), (8, 4), (4, 4)])
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_the_workers_shares_put_together_are_the_same_global_batches(lanes: int, batch: int, workers: int) -> None:
    order = EpochOrder(SIZES, OrderConfig(seed=3, lanes=lanes, window_chunks=2, batch_size=batch), 1)
    alone = stream(order)
    shares = [stream(order, 0, rank, workers) for rank in range(workers)]
    assert len(alone) == order.num_batches
    for number, whole in enumerate(alone):
        if lanes % workers == 0 and batch % workers == 0:
            assert {len(share[number]) for share in shares} == {batch // workers}
        slots = np.arange(number * batch, (number + 1) * batch)
        merged: list[tuple[int, int] | None] = [None] * batch
        for rank in range(workers):
            places = np.flatnonzero((slots % lanes) % workers == rank)
            for place, sample in zip(places, shares[rank][number], strict=True):
                merged[place] = sample
        assert merged == whole


def test_slots_take_from_the_lanes_in_turn() -> None:
    order = EpochOrder(SIZES, CONFIG, 0)
    lane_of = {int(chunk): lane for lane in range(8) for chunk in order.lane_chunks(lane)}
    flat = [sample for batch in stream(order) for sample in batch]
    assert all(lane_of[chunk] == slot % 8 for slot, (chunk, _) in enumerate(flat) if chunk >= 0)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_resuming_at_any_of_100_positions_gives_exactly_the_remaining_samples(workers: int) -> None:
    order = EpochOrder(SIZES, CONFIG, 2)
    whole = [stream(order, 0, rank, workers) for rank in range(workers)]
    for start in np.random.default_rng(workers).integers(0, order.num_batches + 1, 100).tolist():
        for rank in range(workers):
            assert stream(order, start, rank, workers) == whole[rank][start:]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    workers=st.lists(st.integers(1, CONFIG.lanes), min_size=2, max_size=6),
    batch=st.sampled_from([4, 16]),
    data=st.data(),
)
def test_any_changes_of_workers_at_any_positions_give_each_sample_exactly_once(
    workers: list[int], batch: int, data: st.DataObject
) -> None:
    order = EpochOrder(SIZES, replace(CONFIG, batch_size=batch), 1)
    cuts = sorted(data.draw(st.integers(0, order.num_batches)) for _ in workers[1:])
    seen = []
    for count, start, stop in zip(workers, [0, *cuts], [*cuts, order.num_batches], strict=True):
        seen += [sample for rank in range(count) for sample in real(stream(order, start, rank, count)[: stop - start])]
    assert sorted(seen) == all_samples(SIZES)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7])
def test_each_chunk_is_read_once_an_epoch_in_all_and_before_it_is_needed(workers: int) -> None:
    order = EpochOrder(SIZES, CONFIG, 0)
    reads = [order.reads(0, rank, workers).tolist() for rank in range(workers)]
    assert sorted(chunk for mine in reads for chunk in mine) == list(range(len(SIZES)))
    for rank in range(workers):
        first_need: dict[int, int] = {}
        for at, (chunk, _) in enumerate(real(stream(order, 0, rank, workers))):
            first_need.setdefault(chunk, at)
        windows = {
            int(chunk): (lane, place // CONFIG.window_chunks)
            for lane in range(CONFIG.lanes)
            for place, chunk in enumerate(order.lane_chunks(lane))
        }
        window_need: dict[tuple[int, int], int] = {}
        for chunk, at in first_need.items():
            window_need[windows[chunk]] = min(at, window_need.get(windows[chunk], at))
        needs = [window_need[windows[chunk]] for chunk in reads[rank]]
        assert needs == sorted(needs)


def test_a_resume_reads_again_at_most_one_window_a_lane() -> None:
    order = EpochOrder(SIZES, CONFIG, 0)
    for start in range(order.num_batches):
        left = {chunk for chunk, _ in real(stream(order, start))}
        gone = {chunk for chunk, _ in real(stream(order)[:start])}
        reads = order.reads(start).tolist()
        assert sorted(reads) == sorted(left)
        for lane in range(CONFIG.lanes):
            again = [chunk for chunk in order.lane_chunks(lane) if chunk in left and chunk in gone]
            assert len(again) <= CONFIG.window_chunks


def test_what_was_given_before_a_resume_is_counted() -> None:
    order = EpochOrder(SIZES, CONFIG, 0)
    for start in range(order.num_batches):
        before = [chunk for chunk, _ in real(stream(order)[:start])]
        cut = {chunk: before.count(chunk) for chunk in order.reads(start).tolist() if chunk in before}
        given = order.given(start)
        assert {chunk: given[chunk] for chunk in cut} == cut


def test_a_run_that_ends_within_an_epoch_reads_no_more_than_it_needs() -> None:
    order = EpochOrder(SIZES, CONFIG, 0)
    reads = order.reads(0, stop_batch=3).tolist()
    needed = {chunk for chunk, _ in real(stream(order)[:3])}
    assert needed <= set(reads)
    assert len(reads) <= CONFIG.lanes * CONFIG.window_chunks * 2 < len(SIZES)


def test_a_worker_holds_at_most_two_windows_a_lane() -> None:
    order = EpochOrder(SIZES, CONFIG, 0)
    reads = iter(order.reads().tolist())
    left = {chunk: int(size) for chunk, size in enumerate(SIZES)}
    held: set[int] = set()
    most = 0
    for batch in stream(order):
        for chunk, _ in real([batch]):
            while chunk not in held:
                held.add(next(reads))
                most = max(most, len(held))
            left[chunk] -= 1
            if not left[chunk]:
                held.remove(chunk)
    assert most <= 2 * CONFIG.window_chunks * CONFIG.lanes
    assert not held


def test_lanes_end_within_a_chunk_of_each_other() -> None:
    order = EpochOrder(SIZES, CONFIG, 0)
    assert order.lane_samples.max() - order.lane_samples.min() <= SIZES.max()


def test_epochs_and_seeds_have_orders_of_their_own_and_the_same_have_the_same() -> None:
    first = stream(EpochOrder(SIZES, CONFIG, 0))
    assert first == stream(EpochOrder(SIZES, CONFIG, 0))
    assert first != stream(EpochOrder(SIZES, CONFIG, 1))
    other = OrderConfig(seed=4, lanes=8, window_chunks=2, batch_size=16)
    assert first != stream(EpochOrder(SIZES, other, 0))


def test_the_order_is_that_of_earlier_versions() -> None:
    """A run that was cut before an update of NumPy or of this file must go on in the same order."""
    order = EpochOrder([3, 1, 2, 4, 2], OrderConfig(seed=7, lanes=2, window_chunks=2, batch_size=4), 5)
    pinned = [(0, 1), (2, 0), (0, 2), (3, 2), (4, 0), (3, 3), (4, 1), (3, 1), (0, 0), (3, 0), (1, 0), (2, 1)]
    assert real(stream(order)) == pinned


def test_a_window_shuffles_its_chunks_samples_among_each_other() -> None:
    order = EpochOrder([16] * 64, OrderConfig(seed=0, lanes=2, window_chunks=4, batch_size=4), 0)
    chunk, _ = order.window_samples(0, 3)
    assert sorted(set(chunk.tolist())) == sorted(order.window_chunks(0, 3).tolist())
    assert np.count_nonzero(np.diff(chunk)) > 30  # 4 runs would have 3


def test_a_position_of_another_dataset_or_configuration_is_refused() -> None:
    state = StreamPosition(epoch=2, batch=5).state_dict(CONFIG, "digest-a")
    assert state["slot"] == 5 * CONFIG.batch_size
    assert StreamPosition.from_state(state, CONFIG, "digest-a") == StreamPosition(epoch=2, batch=5)
    with pytest.raises(CheckpointError, match=r"dataset 'digest-a'.*'digest-b'"):
        StreamPosition.from_state(state, CONFIG, "digest-b")
    wider = OrderConfig(seed=3, lanes=16, window_chunks=2, batch_size=16)
    with pytest.raises(CheckpointError, match="lanes 8"):
        StreamPosition.from_state(state, wider, "digest-a")
    with pytest.raises(CheckpointError, match="damaged"):
        StreamPosition.from_state({**state, "slot": 3}, CONFIG, "digest-a")
    with pytest.raises(CheckpointError, match="damaged"):
        StreamPosition.from_state({**state, "epoch": "two"}, CONFIG, "digest-a")


def test_more_workers_than_lanes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"workers: got 9, allowed: 1 to 8, the number of lanes"):
        check_workers(9, lanes=8)
    check_workers(7, lanes=8)


def test_a_batch_that_does_not_fit_the_lanes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size: got 12"):
        OrderConfig(seed=0, lanes=8, window_chunks=2, batch_size=12)
    OrderConfig(seed=0, lanes=8, window_chunks=2, batch_size=4)


@settings(max_examples=100, deadline=None)
@given(chunks=st.integers(1, 5000), window=st.integers(1, 8), batch=st.integers(1, 300))
def test_chosen_lanes_always_fit_the_batch(chunks: int, window: int, batch: int) -> None:
    lanes = choose_lanes(chunks, window, batch)
    assert 1 <= lanes <= 64
    assert lanes & (lanes - 1) == 0
    OrderConfig(seed=0, lanes=lanes, window_chunks=window, batch_size=batch)


def test_a_large_dataset_has_64_lanes() -> None:
    assert choose_lanes(100_000, 2, 256) == 64


@pytest.mark.slow
def test_a_million_chunks_are_ordered_in_seconds() -> None:
    import time

    sizes = np.random.default_rng(0).integers(1, 1025, 1_000_000)
    began = time.perf_counter()
    order = EpochOrder(sizes, OrderConfig(seed=0, lanes=64, window_chunks=2, batch_size=256), 0)
    assert len(order.reads(order.num_batches // 2)) > 400_000
    next(order.batches(order.num_batches // 2))
    assert time.perf_counter() - began < 20  # about 1 s on an idle core
    assert order.num_samples == sizes.sum()
