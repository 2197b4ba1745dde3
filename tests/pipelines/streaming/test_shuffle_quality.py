"""How well epochs are shuffled: the measures tell a good order from a bad one, and ours is as documented."""

import numpy as np
import pytest

from pipelines.streaming.epoch_order import EpochOrder, OrderConfig, choose_lanes
from pipelines.streaming.shuffle_quality import epoch_positions, kolmogorov_smirnov, shuffle_quality


def order(samples: int, batch_size: int, epoch: int = 0) -> EpochOrder:
    chunks = samples // 16
    lanes = choose_lanes(chunks, 2, batch_size)
    return EpochOrder([16] * chunks, OrderConfig(seed=0, lanes=lanes, window_chunks=2, batch_size=batch_size), epoch)


def test_positions_are_those_of_the_batches() -> None:
    small = EpochOrder([3, 1, 2, 4, 2], OrderConfig(seed=7, lanes=2, window_chunks=2, batch_size=4), 5)
    slots = epoch_positions(small)
    firsts = np.array([0, 3, 4, 6, 10])
    flat = [pair for chunk, index in small.batches() for pair in zip(chunk.tolist(), index.tolist(), strict=True)]
    for slot, (chunk, index) in enumerate(flat):
        if chunk >= 0:
            assert slots[firsts[chunk] + index] == slot


def test_a_uniform_sample_passes_and_a_biased_one_does_not() -> None:
    random = np.random.default_rng(0)
    assert kolmogorov_smirnov(random.random(1000)) < 1.36 / 1000**0.5
    assert kolmogorov_smirnov(random.random(1000) ** 1.3) > 1.36 / 1000**0.5
    assert kolmogorov_smirnov([0.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("samples", [1024, 10_240, 102_400])
def test_a_samples_place_in_the_dataset_says_nothing_of_its_place_in_the_epoch(samples: int) -> None:
    quality = shuffle_quality(order(samples, 64))
    chunks = samples // 16  # which are what is permuted
    assert abs(quality.correlation) < 4 / chunks**0.5
    assert abs(quality.displacement - 1 / 3) < 2 / chunks**0.5
    unshuffled = shuffle_quality(EpochOrder([samples], OrderConfig(seed=0, lanes=1, window_chunks=1, batch_size=64), 0))
    assert abs(unshuffled.neighbor_distance - 1 / 3) < 0.02  # one window of all is a uniform permutation


def test_over_epochs_the_position_of_any_sample_is_uniform() -> None:
    epochs = [epoch_positions(order(1024, 16, epoch)) for epoch in range(400)]
    for sample in (0, 500, 1023):
        assert kolmogorov_smirnov([slots[sample] / (slots.max() + 1) for slots in epochs]) < 1.63 / 400**0.5


def test_neighbours_stay_nearer_than_in_a_uniform_permutation() -> None:
    quality = shuffle_quality(order(102_400, 256))
    assert 0.01 < quality.neighbor_distance < 0.1
    assert quality.shared_batches < 0.12
