"""Duplicates: the same whatever the order in which they were found, and no two that look alike are kept."""

import random

import numpy as np
import pytest
from PIL import Image
from samples import saved, smooth

from pipelines.images.decoding import decode
from pipelines.sharding.dedup import Fingerprint, close_pairs, find_duplicates, perceptual_hash
from pipelines.sharding.options import MAX_DISTANCE


def rgb(seed: int, size: int = 96) -> np.ndarray:
    """A picture with structure: a few soft blobs."""
    return np.asarray(smooth(seed, (size, size), coarse=(6, 6)))


@pytest.mark.parametrize("distance", range(MAX_DISTANCE + 1))
def test_close_pairs_are_those_that_comparing_all_with_all_finds(distance: int) -> None:
    generator = np.random.default_rng(distance)
    hashes = generator.integers(0, 2**64, 400, dtype=np.uint64)
    for place in range(0, 398, 3):  # neighbours at every distance about the threshold
        bits = generator.choice(64, int(generator.integers(1, 14)), replace=False)
        flipped = sum(1 << int(bit) for bit in bits)
        hashes[place + 1] = int(hashes[place]) ^ flipped
    naive = {
        (i, j, d)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (d := (int(hashes[i]) ^ int(hashes[j])).bit_count()) <= distance
    }
    found = {tuple(row) for block in close_pairs(hashes, distance) for row in block.tolist()}
    assert found == naive


def test_equal_bytes_are_duplicates_of_the_first_by_key() -> None:
    found = [Fingerprint(key, sha) for key, sha in (("c", "1"), ("a", "1"), ("b", "2"), ("d", "2"))]
    assert find_duplicates([], found, None) == {"c": ("a", -1), "d": ("b", -1)}
    assert find_duplicates([Fingerprint("z", "1")], found, None) == {"a": ("z", -1), "c": ("z", -1), "d": ("b", -1)}


def test_near_duplicates_do_not_depend_on_the_order_and_none_that_is_kept_is_near_another() -> None:
    generator = random.Random(0)
    found = []
    for number in range(300):
        base = generator.getrandbits(64)
        for copy in range(generator.randint(1, 4)):
            flips = sum(1 << bit for bit in generator.sample(range(64), generator.randint(0, 6)))
            found.append(Fingerprint(f"{generator.random():.9f}", f"{number}-{copy}", base ^ flips))
    duplicates = find_duplicates([], found, 4)
    for _ in range(3):
        generator.shuffle(found)
        assert find_duplicates([], found, 4) == duplicates
    assert 50 < len(duplicates) < len(found) - 300
    hashes = {item.key: item.phash for item in found}
    kept = [key for key in hashes if key not in duplicates]
    near = [(a, b) for a in kept for b in kept if a < b and (hashes[a] ^ hashes[b]).bit_count() <= 4]
    assert near == []
    for key, (original, distance) in duplicates.items():
        assert original not in duplicates
        assert original < key
        assert (hashes[key] ^ hashes[original]).bit_count() == distance <= 4


def test_what_a_dataset_has_stays_and_newcomers_are_duplicates_of_it() -> None:
    kept = [Fingerprint("x", "1", 0), Fingerprint("y", "2", 1)]  # made without a search for duplicates, say
    found = [Fingerprint("a", "3", 3), Fingerprint("b", "4", 2**64 - 1), Fingerprint("c", "4", 2**64 - 1)]
    assert find_duplicates(kept, found, 2) == {"a": ("x", 2), "c": ("b", -1)}


def test_a_thousand_equal_images_cost_one_comparison_each() -> None:
    found = [Fingerprint(f"{number:05d}", str(number), 0) for number in range(20_000)]
    duplicates = find_duplicates([], found, 4)
    assert len(duplicates) == 19_999
    assert set(duplicates.values()) == {("00000", 0)}


def test_the_perceptual_hash_survives_a_smaller_jpeg_and_tells_images_apart() -> None:
    first, second = rgb(1), rgb(2)
    again = decode(saved(Image.fromarray(first).resize((60, 60)), "jpeg", quality=60))
    assert (perceptual_hash(first) ^ perceptual_hash(again)).bit_count() <= 4
    assert (perceptual_hash(first) ^ perceptual_hash(second)).bit_count() > MAX_DISTANCE
