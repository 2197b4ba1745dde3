"""The stream of a training run through a real Ray: every sample and chunk once, read and decoded; faults counted."""

import hashlib
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from samples import flat, paired_dataset, saved, stream_config, tar_of

from condgen.errors import ConfigError, StorageError
from pipelines.images.decoding import decode
from pipelines.storage.store import open_store
from pipelines.streaming import stream as training
from pipelines.streaming.augmentation import Augmentation, draw_crop
from pipelines.streaming.epoch_order import OrderConfig, StreamPosition
from pipelines.streaming.prefetch import prefetched
from pipelines.streaming.stream import StreamBatch, StreamConfig, TrainingStream, load_block

SAMPLES = 90
BAD = {17, 60}  # not images
ORDER = OrderConfig(seed=2, lanes=4, window_chunks=2, batch_size=8)


def picture(number: int) -> bytes:
    """A flat picture whose colour is its number, so that any crop of it tells which it was."""
    return saved(Image.new("RGB", (20, 16), (number, 255 - number, 7)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty shards of three flat pictures, each a chunk."""
    root = tmp_path_factory.mktemp("dataset")
    members = [(f"{n:04d}.png", b"no picture" if n in BAD else picture(n)) for n in range(SAMPLES)]
    for shard in range(SAMPLES // 3):
        (root / f"all-{shard:06d}.tar").write_bytes(tar_of(members[3 * shard : 3 * shard + 3]))
    return root


@dataclass(frozen=True)
class CountingStore:
    """A store that writes down each range that is read from it, whatever process reads."""

    inner: Any
    log: str

    @property
    def uri(self) -> str:
        return str(self.inner.uri)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        with open(self.log, "a") as log:  # noqa: PTH123 - one write of one line is atomic with "a"
            log.write(f"{name} {start} {stop}\n")
        return bytes(self.inner.read_range(name, start, stop))


def counting_load(block: pa.Table, *, plan: StreamConfig) -> pa.Table:
    """`load_block` that writes down each picture that is decoded, whatever process decodes."""
    from pipelines.streaming import stream as training

    def counting(data: bytes, **options: Any) -> Any:
        with open(f"{plan.store.log}-decoded", "a") as log:  # type: ignore[attr-defined]  # noqa: PTH123
            log.write(f"{hashlib.sha256(data).hexdigest()}\n")
        return decode(data, **options)

    with patch.object(training, "decode", counting):
        return load_block(block, plan=plan)


class BrokenStore(CountingStore):
    """A store that can't read one shard."""

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        if name == "all-000001.tar":
            raise StorageError(f"{self.uri}/{name}", "read", "the server answers 503 SlowDown again and again")
        return super().read_range(name, start, stop)


@pytest.fixture
def plan(folder: Path, tmp_path: Path) -> StreamConfig:
    """An order over the thirty chunks; the store counts what is read."""
    # The fakes of this file travel to Ray's workers, which do not have it.
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    store: Any = CountingStore(open_store(folder), str(tmp_path / "reads"))
    return stream_config(folder, ORDER, Augmentation(size_px=8, crop_scale_min=0.5, flip=True), store=store)


def numbers(batches: list[StreamBatch]) -> list[int]:
    """Which pictures were given, by their colour."""
    return [int(rgb[0, 0, 0]) for batch in batches for rgb in batch.rgb[batch.weight > 0]]


def stream(plan: StreamConfig, count: int, **options: Any) -> list[StreamBatch]:
    start = options.pop("start", StreamPosition())
    return list(TrainingStream(plan, start, count, task_cpus=0.5, **options))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_sample_is_seen_once_an_epoch_and_each_chunk_read_and_decoded_once(
    ray_cluster: None, plan: StreamConfig, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "load_block", counting_load)
    batches = plan.epoch(0).num_batches
    shares = [stream(plan, batches, rank=rank, num_workers=workers) for rank in range(workers)]
    seen = [number for share in shares for number in numbers(share)]
    assert sorted(seen) == sorted(set(range(SAMPLES)) - BAD)
    assert sum(batch.faults for share in shares for batch in share) == len(BAD)
    reads = Counter((tmp_path / "reads").read_text().splitlines())
    assert len(reads) == plan.chunks.num_rows
    assert set(reads.values()) == {1}
    decoded = Counter((tmp_path / "reads-decoded").read_text().splitlines())
    assert decoded.pop(hashlib.sha256(b"no picture").hexdigest()) == len(BAD)  # the same bytes
    assert len(decoded) == SAMPLES - len(BAD)
    assert set(decoded.values()) == {1}


def test_both_images_of_a_pair_are_cropped_and_mirrored_alike_and_the_same_at_a_resume(
    ray_cluster: None, tmp_path: Path
) -> None:
    plan = stream_config(
        paired_dataset(tmp_path / "pairs", 24, per_shard=4),
        OrderConfig(seed=0, lanes=1, window_chunks=2, batch_size=4),
        Augmentation(size_px=16, crop_scale_min=0.5, flip=True),
        samples=4,
        members=("input", "target"),
    )
    whole = stream(plan, 6)
    pairs = np.concatenate([batch.rgb for batch in whole])
    assert pairs.shape == (24, 2, 16, 16, 3)
    # The target is the input with red and green inverted; scaling rounds each of them.
    assert np.abs(pairs[:, 0, ..., :2].astype(int) - (255 - pairs[:, 1, ..., :2].astype(int))).max() <= 1
    assert sorted(pairs[:, 0, 0, 0, 2].tolist()) == list(range(24))
    assert len({pair[0, :, :, :2].tobytes() for pair in pairs}) == 24
    rest = stream(plan, 3, start=whole[2].after)
    for before, after in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(before.rgb, after.rgb)


def test_a_pair_of_several_shapes_is_left_out_with_the_reason(tmp_path: Path) -> None:
    pair = [("a.input.png", flat(1, (40, 30))), ("a.target.png", flat(1, (30, 30)))]
    (tmp_path / "x.tar").write_bytes(tar_of(pair))
    order = OrderConfig(seed=0, lanes=1, window_chunks=1, batch_size=1)
    plan = stream_config(tmp_path, order, Augmentation(size_px=8), members=("input", "target"))
    row = load_block(plan.chunks.append_column("epoch", [[0]]), plan=plan).to_pylist()[0]
    assert list(row["weight"]) == [0]
    assert row["faults"][0]["message"] == "images of a pair have several shapes: 40x30 and 30x30"


def test_a_run_of_several_epochs_gives_each_whole_in_its_own_order(ray_cluster: None, plan: StreamConfig) -> None:
    per_epoch = plan.epoch(0).num_batches
    batches = stream(plan, 3 * per_epoch)
    epochs = [numbers(batches[at : at + per_epoch]) for at in range(0, len(batches), per_epoch)]
    assert all(sorted(epoch) == sorted(set(range(SAMPLES)) - BAD) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert batches[per_epoch - 1].after == StreamPosition(epoch=1, batch=0)
    assert batches[per_epoch].after == StreamPosition(epoch=1, batch=1)


def test_a_resume_goes_on_at_the_very_next_sample_with_the_same_pixels(ray_cluster: None, plan: StreamConfig) -> None:
    whole = stream(plan, 20)
    for cut in (1, 6, 11, 12, 13):
        rest = stream(plan, 20 - cut, start=whole[cut - 1].after)
        assert len(rest) == 20 - cut
        for before, after in zip(whole[cut:], rest, strict=True):
            np.testing.assert_array_equal(before.rgb, after.rgb)
            np.testing.assert_array_equal(before.weight, after.weight)
            assert before.after == after.after


def test_two_workers_share_what_one_has(ray_cluster: None, plan: StreamConfig) -> None:
    alone = stream(plan, 6)
    shares = [stream(plan, 6, rank=rank, num_workers=2) for rank in range(2)]
    for number, batch in enumerate(alone):
        lanes = np.arange(ORDER.batch_size) % ORDER.lanes
        for rank in range(2):
            np.testing.assert_array_equal(shares[rank][number].rgb, batch.rgb[lanes % 2 == rank])


@pytest.mark.parametrize(("before", "after"), [(1, 2), (4, 1)])
def test_another_number_of_workers_goes_on_with_the_same_global_batches(
    ray_cluster: None, plan: StreamConfig, before: int, after: int
) -> None:
    cut = 5
    whole = stream(plan, plan.epoch(0).num_batches)
    shares = [stream(plan, cut, rank=rank, num_workers=before) for rank in range(before)]
    assert len({share[-1].after for share in shares}) == 1
    saved = shares[0][-1].after.state_dict(plan.order, plan.digest)
    start = StreamPosition.from_state(saved, plan.order, plan.digest)
    rest = [stream(plan, len(whole) - cut, start=start, rank=rank, num_workers=after) for rank in range(after)]
    seen = Counter(number for share in [*shares, *rest] for number in numbers(share))
    assert set(seen) == set(range(SAMPLES)) - BAD
    assert set(seen.values()) == {1}
    lanes = np.arange(ORDER.batch_size) % ORDER.lanes
    for number, batch in enumerate(whole[cut:]):
        for rank in range(after):
            np.testing.assert_array_equal(rest[rank][number].rgb, batch.rgb[lanes % after == rank])


def test_no_chunk_is_read_beyond_the_end_of_the_run(ray_cluster: None, plan: StreamConfig, tmp_path: Path) -> None:
    stream(plan, 1)
    assert len((tmp_path / "reads").read_text().splitlines()) == ORDER.lanes * ORDER.window_chunks


def test_a_chunk_that_stays_lost_is_an_error_that_names_the_object(ray_cluster: None, plan: StreamConfig) -> None:
    broken: Any = BrokenStore(plan.store.inner, plan.store.log)  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"could not read .*all-000001\.tar: .*SlowDown") as caught:
        stream(replace(plan, store=broken), plan.epoch(0).num_batches)
    assert type(caught.value) is StorageError


def test_workers_that_do_not_fit_are_refused_before_anything_starts(plan: StreamConfig) -> None:
    with pytest.raises(ConfigError, match="workers: got 99"):
        TrainingStream(plan, StreamPosition(), 1, num_workers=99)


def test_a_samples_augmentation_depends_on_seed_epoch_and_sample_alone(plan: StreamConfig) -> None:
    block = plan.chunks.slice(0, 2).append_column("epoch", [[0, 0]])
    together = load_block(block, plan=plan)
    alone = load_block(block.slice(1, 1), plan=plan)
    assert together["rgb"][1].as_py() == alone["rgb"][0].as_py()
    crop = draw_crop(plan.augmentation, seed=1, epoch=0, source="a.tar", key="x")
    assert crop == draw_crop(plan.augmentation, seed=1, epoch=0, source="a.tar", key="x")
    others = [(2, 0, "a.tar", "x"), (1, 1, "a.tar", "x"), (1, 0, "b.tar", "x"), (1, 0, "a.tar", "y")]
    for seed, epoch, source, key in others:
        assert crop != draw_crop(plan.augmentation, seed=seed, epoch=epoch, source=source, key=key)


def test_crops_cover_scales_places_and_both_directions() -> None:
    augmentation = Augmentation(size_px=8, crop_scale_min=0.6, flip=True)
    crops = [draw_crop(augmentation, seed=0, epoch=0, source="s", key=str(i)) for i in range(500)]
    scales = np.array([crop.scale for crop in crops])
    assert scales.min() >= 0.6
    assert scales.max() <= 1.0
    assert abs(scales.mean() - 0.8) < 0.02  # 500 draws: the mean's deviation is 0.005
    assert abs(np.mean([crop.left for crop in crops]) - 0.5) < 0.07
    assert 200 < sum(crop.mirrored for crop in crops) < 300


def test_a_crop_cuts_the_part_that_it_says_and_mirrors_it() -> None:
    picture = np.zeros((20, 40, 3), dtype=np.uint8)
    picture[:, :, 0] = np.arange(40) * 6
    crop = draw_crop(Augmentation(size_px=10), seed=0, epoch=0, source="s", key="k")
    assert crop.scale == 1.0
    assert not crop.mirrored
    left = crop.left * 20
    found = crop.apply(picture, 10)[:, :, 0].astype(float)
    expected = 6 * (left + 0.5 + np.arange(10) * 2)  # each output pixel is the mean of two columns
    assert np.abs(found[5] - expected).max() <= 6
    mirrored = replace(crop, mirrored=True).apply(picture, 10)
    np.testing.assert_array_equal(mirrored, crop.apply(picture, 10)[:, ::-1])


def test_an_undecodable_sample_has_no_weight_and_a_reason(plan: StreamConfig) -> None:
    chunk = 17 // 3
    block = plan.chunks.slice(chunk, 1).append_column("epoch", [[0]])
    row = load_block(block, plan=plan).to_pylist()[0]
    assert list(row["weight"]) == [1, 1, 0]
    assert [(fault["key"], fault["stage"]) for fault in row["faults"]] == [("0017", "decode")]


def test_prefetching_keeps_the_order_and_passes_errors_on() -> None:
    def items() -> Any:
        yield from range(5)
        raise StorageError("x", "read", "gone")

    found = []
    with pytest.raises(StorageError):
        found.extend(item for item in prefetched(items(), 2))
    assert found == list(range(5))
    ahead = prefetched(iter(range(10)), 3)
    assert list(ahead) == list(range(10))


def test_a_reader_that_is_asked_to_leave_does_not_wait_for_an_item_and_finds_it_later() -> None:
    ready, leaves = threading.Event(), threading.Event()

    def items() -> Any:
        yield 0
        ready.wait(20)
        yield 1

    ahead = prefetched(items(), 2, leaves.is_set)
    assert next(ahead) == 0
    leaves.set()
    assert next(ahead) is None
    leaves.clear()
    ready.set()
    assert list(ahead) == [1]


def test_prefetching_is_bounded_and_ends_with_its_reader() -> None:
    made = []

    def items() -> Any:
        for number in range(1000):
            made.append(number)
            yield number

    ahead = prefetched(items(), 2)
    assert next(ahead) == 0
    time.sleep(0.3)
    assert len(made) <= 5
    ahead.close()
    deadline = time.monotonic() + 5
    while any(thread.name == "prefetch" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
