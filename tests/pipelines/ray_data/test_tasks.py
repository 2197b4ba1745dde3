"""Which chunks a task reads: tasks are of about the same work, which goes by pixels, and each is worth its start."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray.data
from samples import single_dataset

from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.extent import Extent, extents_to_table
from pipelines.ray_data import tasks
from pipelines.ray_data.pairs import iter_pairs, pair_table
from pipelines.ray_data.reading import read_single, read_unpaired
from pipelines.ray_data.tasks import FloatArray, chunk_seconds, pair_seconds, task_starts

SMALL, LARGE = (20_000, 256 * 256), (4_000_000, 12_000_000)
LIMITS = ChunkLimits(samples=64, size_bytes=4 << 20)


def index(*sizes: tuple[int, int], samples: int = 1) -> pa.Table:
    """An index of extents of (bytes, pixels) each."""
    at, extents = 0, []
    for size_bytes, pixels in sizes:
        extents.append(Extent(shard="0.tar", start=at, stop=at + size_bytes, samples=samples, pixels=pixels))
        at += size_bytes
    return extents_to_table(extents)


def seconds(extents: pa.Table) -> FloatArray:
    return chunk_seconds(extents, chunk_table(extents, LIMITS))


def test_the_work_of_a_chunk_is_that_of_its_pixels() -> None:
    table = index(*[SMALL] * 128, *[LARGE] * 3)
    small, other, *large = seconds(table)
    assert small == other == pytest.approx(64 * (1e-4 + 256 * 256 * 5e-9))
    assert large == pytest.approx([12_000_000 * 5e-9 + 1e-4] * 3)


def test_pixels_that_were_not_counted_are_judged_by_bytes() -> None:
    counted, uncounted = seconds(index(*[LARGE] * 4)), seconds(index(*[(LARGE[0], 0)] * 4))
    assert uncounted == pytest.approx(counted, rel=0.4)


def test_a_row_of_two_domains_is_the_work_of_all_its_chunks() -> None:
    few, many = index(*[LARGE] * 3), index(*[SMALL] * 300)
    plans = [chunk_table(one, LIMITS) for one in (few, many)]
    works = seconds(few), seconds(many)
    for order in ((0, 1), (1, 0)):
        pairs = pair_table(plans[order[0]], plans[order[1]], seed=1, epoch=2)
        found = pair_seconds(pairs, works[order[0]], works[order[1]])
        for row, pair in zip(found, iter_pairs(pairs), strict=True):
            chunks = zip(order, pair.chunks, strict=True)
            assert row == pytest.approx(sum(works[domain][one.ordinal] for domain, ones in chunks for one in ones))


@pytest.mark.parametrize(
    ("work", "wanted", "found"),
    [
        (np.full(5, 0.001), 8, 1),  # not worth more
        (np.full(60, 0.06), 8, 8),
        (np.full(27, 0.1), 256, 27),
        (np.full(27, 0.1), 8, 8),
        (np.full(10**6, 0.1), 8, 4096),  # at most
        (np.full(10**4, 0.1), 8, 100),  # ten seconds each
        (np.full(1, 9.0), 8, 1),
    ],
)
def test_there_are_as_many_tasks_as_wanted_but_each_has_some_work_and_none_too_much(
    work: FloatArray, wanted: int, found: int
) -> None:
    starts = task_starts(work, wanted)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert len(starts) == pytest.approx(found, abs=1 if found > 8 else 0)


def test_large_images_are_spread_over_tasks_where_small_ones_share_some() -> None:
    work = seconds(index(*[LARGE] * 40, *[SMALL] * 6000))
    starts = task_starts(work, 8)
    each = np.add.reduceat(work, starts)
    assert len(starts) == 8
    assert each.max() < 1.2 * each.mean()
    chunks = np.diff(starts, append=len(work))
    assert chunks[0] < chunks[-1]


def test_a_dataset_is_read_in_these_tasks(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = single_dataset(tmp_path / "photos", 45)
    limits, rows = ChunkLimits(samples=16), []

    def from_blocks(blocks: list[pa.Table]) -> ray.data.Dataset:
        rows.append([block.num_rows for block in blocks])
        return make(blocks)

    make = ray.data.from_blocks
    monkeypatch.setattr(ray.data, "from_blocks", from_blocks)
    read_single(uri, limits=limits)
    read_unpaired(uri, uri, limits=limits)
    monkeypatch.setattr(tasks, "_MIN_SECONDS", 0.001)
    read_single(uri, limits=limits)
    read_unpaired(uri, uri, limits=limits)
    assert rows == [[5], [5], [1] * 5, [1] * 5]
