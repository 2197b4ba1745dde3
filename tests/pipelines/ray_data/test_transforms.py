"""Transforms treat both pictures of a pair alike, a sample the same anywhere; filters count; mixtures have shares."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from samples import paired_dataset, single_dataset

from condgen.errors import ConfigError, DatasetError
from pipelines.datasets.chunk import ChunkLimits
from pipelines.ray_data.counters import Tally
from pipelines.ray_data.operator import Decode
from pipelines.ray_data.reading import known_samples, read_paired, read_single
from pipelines.ray_data.tensors import column_images, image_array
from pipelines.ray_data.transforms import REPEAT, keep, mix, transform
from pipelines.ray_data.transforms import _Apply as Apply
from pipelines.ray_data.transforms import _Choose as Choose
from pipelines.ray_data.transforms import _Keep as Keep


@pytest.fixture(scope="module", autouse=True)
def _by_value() -> None:
    """Predicates of this file travel to Ray's workers, which do not have it."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def pairs_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return paired_dataset(tmp_path_factory.mktemp("transforms") / "pairs", 12)


def pair_block(rows: int, size: tuple[int, int] = (30, 40), target_size: tuple[int, int] | None = None) -> pa.Table:
    """Rows whose pictures tell of each pixel where it was; the target is the inverse of the input."""
    height, width = size
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0], image[..., 1] = np.arange(width) * 4, np.arange(height)[:, None] * 4
    target = 255 - image if target_size is None else np.zeros((*target_size, 3), dtype=np.uint8)
    return pa.table(
        {
            "source": ["x.tar"] * rows,
            "key": [str(row) for row in range(rows)],
            "input": image_array([image] * rows),
            "target": image_array([target] * rows),
        }
    )


def apply(block: pa.Table, joint: Any = None, only: Any = None, seed: int = 0, epoch: int = 0) -> list[Any]:
    done = Apply(joint, only or {}, seed, epoch)(block)
    return list(zip(column_images(done, "input"), column_images(done, "target"), strict=True))


@pytest.fixture(scope="module")
def v2() -> Any:
    """torchvision's transforms, which cost seconds to import and are therefore imported by these tests alone."""
    from torchvision.transforms import v2

    return v2


@pytest.fixture(scope="module")
def geometry(v2: Any) -> Any:
    return v2.Compose([v2.RandomCrop(16), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])


def test_both_images_of_a_pair_are_cropped_flipped_and_resized_alike(v2: Any, geometry: Any) -> None:
    resized = v2.RandomResizedCrop(16, interpolation=v2.InterpolationMode.NEAREST)
    for joint in (geometry, resized, v2.RandomRotation(90)):
        for left, right in apply(pair_block(30), v2.Compose([joint])):
            inside = (left[..., 2] == 0) & (right[..., 2] == 255)
            assert inside.any()
            np.testing.assert_array_equal(left[inside], 255 - right[inside])


def test_samples_are_augmented_each_in_its_own_way(geometry: Any) -> None:
    done = apply(pair_block(40), geometry)
    assert all(left.shape == (16, 16, 3) for left, _ in done)
    assert len({left.tobytes() for left, _ in done}) > 35


def test_jitter_is_the_same_for_both_or_on_the_input_alone(v2: Any) -> None:
    block = pair_block(6)
    gray = np.full((30, 40, 3), 120, dtype=np.uint8)
    for name in ("input", "target"):
        block = block.set_column(block.column_names.index(name), name, image_array([gray] * 6))
    for left, right in apply(block, v2.ColorJitter(brightness=0.5)):
        np.testing.assert_array_equal(left, right)
    levels = set()
    for left, right in apply(block, only={"input": v2.ColorJitter(brightness=0.5)}):
        np.testing.assert_array_equal(right, gray)
        levels.add(int(left[0, 0, 0]))
    assert len(levels) > 3


def test_a_sample_is_augmented_the_same_whatever_is_beside_it(geometry: Any) -> None:
    block = pair_block(10)
    together = apply(block, geometry, seed=3, epoch=2)
    backwards = apply(block.take(list(range(9, -1, -1))), geometry, seed=3, epoch=2)[::-1]
    alone = [apply(block.slice(row, 1), geometry, seed=3, epoch=2)[0] for row in range(10)]
    for one, two, three in zip(together, backwards, alone, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[0], three[0])
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}):
        changed = apply(block, geometry, **other)
        assert any(not np.array_equal(one[0], two[0]) for one, two in zip(together, changed, strict=True))


def test_torchs_own_generator_is_left_as_it_was(geometry: Any) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    apply(pair_block(4), geometry)
    torch.testing.assert_close(torch.rand(3), expected)


def test_pairs_of_two_sizes_are_refused_with_what_to_do_or_brought_to_one(v2: Any, geometry: Any) -> None:
    block = pair_block(2, target_size=(50, 50))
    with pytest.raises(DatasetError, match=r"x\.tar 0 \(input 40x30, target 50x50\).*one size first"):
        apply(block, geometry)
    for left, right in apply(block, v2.Compose([v2.Resize((32, 32)), geometry])):
        assert left.shape == right.shape == (16, 16, 3)


def test_a_column_that_is_not_there_is_named(geometry: Any) -> None:
    with pytest.raises(DatasetError, match="no column image to transform; decoded images: input, target"):
        apply(pair_block(1), only={"image": geometry})


def test_transforms_that_end_in_floats_keep_their_dtype_and_the_layout(v2: Any, geometry: Any) -> None:
    to_float = v2.ToDtype(torch.float32, scale=True)
    left, _ = apply(pair_block(1), v2.Compose([geometry, to_float]))[0]
    assert (left.shape, left.dtype) == ((16, 16, 3), np.float32)
    assert left.max() <= 1.0


def test_a_pair_dataset_is_transformed_the_same_in_every_run(ray_cluster: None, pairs_uri: str, geometry: Any) -> None:
    runs = []
    for limits in (ChunkLimits(samples=16), ChunkLimits(samples=3)):
        dataset = transform(read_paired(pairs_uri, limits=limits), geometry, seed=1)
        assert known_samples(dataset) == 12
        runs.append({row["key"]: row for row in dataset.iter_rows()})
    assert len(runs[0]) == 12
    for key, row in runs[0].items():
        np.testing.assert_array_equal(row["input"][..., :2], 255 - row["target"][..., :2])
        np.testing.assert_array_equal(row["input"], runs[1][key]["input"])


# Filters.


def long_number(row: dict[str, Any]) -> bool | str:
    number = int(row["key"])
    if number % 3 == 0:
        return "a third"
    return number != 10


def test_what_a_filter_drops_is_counted_by_reason_once(ray_cluster: None, tmp_path: Path) -> None:
    tally = Tally()
    dataset = keep(read_single(single_dataset(tmp_path / "d", 30), tally=tally), long_number, tally)
    for _ in range(2):
        assert sorted(int(row["key"]) for row in dataset.iter_rows()) == [
            number for number in range(30) if number % 3 and number != 10
        ]
        assert tally.counts() == {"a third": 10, "dropped": 1, "kept": 19, "read": 30}


def test_a_task_that_is_run_again_is_not_counted_twice(ray_cluster: None) -> None:
    tally = Tally()
    operator = Keep(long_number, tally)
    block = pair_block(7)
    for _ in range(3):
        assert operator(block).num_rows == 4
    assert tally.counts() == {"a third": 3, "kept": 4}
    operator(block.slice(0, 0))
    assert tally.counts() == {"a third": 3, "kept": 4}
    Keep(lambda row: bool(row), tally)(block)
    assert tally.counts() == {"a third": 3, "kept": 11}


def test_counts_survive_a_worker_that_is_killed_after_it_counted(ray_cluster: None, tmp_path: Path) -> None:
    mark = tmp_path / "killed"

    def die_once(row: dict[str, Any]) -> dict[str, Any]:
        import os
        import signal

        if row["key"] == "00011" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return row

    tally = Tally()
    dataset = keep(read_single(single_dataset(tmp_path / "d", 30), tally=tally), long_number, tally).map(die_once)
    assert len(dataset.take_all()) == 19
    assert mark.exists()
    assert tally.counts() == {"a third": 10, "dropped": 1, "kept": 19, "read": 30}


# Mixtures.


def identities(count: int) -> pa.Table:
    return pa.table({"source": ["s"] * count, "key": [str(number) for number in range(count)]})


@pytest.mark.parametrize("rate", [0.3, 1.0, 2.0, 2.6])
def test_each_sample_is_taken_at_its_rate_by_a_hash_of_its_own(rate: float) -> None:
    block = identities(4000)
    taken = Choose(rate, 0, 0, 0)(block)
    copies = Counter(taken["key"].to_pylist())
    assert set(copies.values()) <= {int(rate), int(rate) + 1}
    if rate.is_integer():
        assert len(taken) == rate * 4000
    assert abs(len(taken) - rate * 4000) < 4 * (4000 * 0.25) ** 0.5
    assert sorted(zip(taken["key"].to_pylist(), taken[REPEAT].to_pylist(), strict=True)) == sorted(
        (key, copy) for key, count in copies.items() for copy in range(count)
    )
    again = [Choose(rate, 0, 0, 0)(block.slice(at, 100)) for at in range(0, 4000, 100)]
    assert sorted(pa.concat_tables(again)["key"].to_pylist()) == sorted(taken["key"].to_pylist())
    if not rate.is_integer():
        for other in (Choose(rate, 1, 0, 0), Choose(rate, 0, 1, 0), Choose(rate, 0, 0, 1)):
            assert sorted(other(block)["key"].to_pylist()) != sorted(taken["key"].to_pylist())


def test_a_mixture_has_its_shares_without_repeats_or_with(ray_cluster: None, tmp_path: Path) -> None:
    a = single_dataset(tmp_path / "a", 200, per_shard=20)
    b = single_dataset(tmp_path / "b", 40, per_shard=20)
    limits = ChunkLimits(samples=10)

    def mixture(**options: Any) -> list[tuple[str, int]]:
        parts = [read_single(a, limits=limits), read_single(b, limits=limits)]
        marked = [part.add_column("of", lambda block, of=of: pa.array([of] * len(block)), batch_format="pyarrow")
                  for of, part in zip("ab", parts, strict=True)]  # fmt: skip
        mixed = mix([(marked[0], 0.7), (marked[1], 0.3)], sizes=[200, 40], **options)
        return [(row["of"] + row["key"], row[REPEAT]) for row in mixed.iter_rows()]

    once = mixture(seed=0)
    counts = Counter(key[0] for key, _ in once)
    assert counts["b"] == 40
    assert abs(counts["a"] - 40 * 7 / 3) < 4 * (200 * 0.4667 * 0.5333) ** 0.5
    assert len(set(once)) == len(once)
    assert once == mixture(seed=0)
    assert sorted(once) != sorted(mixture(seed=1))
    again = mixture(seed=0, repeat=True)
    counts = Counter(key[0] for key, _ in again)
    assert counts["a"] == 200
    assert abs(counts["b"] - 200 * 3 / 7) < 4 * (40 * 0.25) ** 0.5
    assert len(set(again)) == len(again)
    assert len({key for key, _ in again}) == 240


def test_parts_of_a_mixture_come_side_by_side(ray_cluster: None, tmp_path: Path) -> None:
    limits = ChunkLimits(samples=10)
    parts = [single_dataset(tmp_path / name, 1280, per_shard=160) for name in "ab"]
    mixed = mix([(read_single(part, limits=limits, decode=Decode(encoded=True)), 1.0) for part in parts], seed=0)
    if not hasattr(mixed, "mix"):
        pytest.skip("Ray interleaves by turns before it has Dataset.mix")
    order = [row["json"] for row in mixed.iter_rows()]
    assert len(order) == 2560
    assert len(set(order[:640])) < 640  # the same captions in both: half of them come twice


def test_weights_that_are_not_positive_are_refused() -> None:
    for parts in ([], [(None, 0.0)], [(None, -1.0)]):
        with pytest.raises(ConfigError, match=r"mix\.parts"):
            mix(parts, seed=0)  # type: ignore[arg-type]
