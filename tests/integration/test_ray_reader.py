"""Ray's own `read_webdataset` beside ours: three ways in which it loses samples or time, kept on record.

Where a test of its loss fails, Ray has mended it: say so in docs/pipelines.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import ray.data
from samples import flat, single_dataset

from condgen.errors import DatasetError, StorageError
from pipelines.chunks import ChunkLimits, chunks_from_runs, read_chunk
from pipelines.datasets import MANIFEST_NAME, load_dataset
from pipelines.read import read_single
from pipelines.rows import Decode
from pipelines.storage import open_store
from pipelines.tars import TarWriter

SAMPLES = 20


def shard() -> tuple[bytes, int]:
    """A tar of twenty pictures, and where its eighth begins."""
    tar, cut = TarWriter(), 0
    for number in range(SAMPLES):
        begins, _ = tar.add(f"{number:03d}.png", flat(number))
        cut = begins if number == 8 else cut
    return tar.finish(), cut


def test_a_tar_cut_at_a_members_boundary_loses_samples_in_silence_there_and_not_here(
    ray_cluster: None, tmp_path: Path
) -> None:
    data, cut = shard()
    assert cut % 512 == 0
    (tmp_path / "x.tar").write_bytes(data[:cut])
    assert ray.data.read_webdataset(str(tmp_path / "x.tar"), decoder=False).count() == 8  # of 20, and no word of it
    with pytest.raises(DatasetError, match=r"x\.tar.*read: "):
        read_single(str(tmp_path)).materialize()
    rows = read_single(str(tmp_path), decode=Decode(on_error="row")).take_all()
    assert [bool(row["error"]) for row in sorted(rows, key=lambda row: str(row["error"]))] == [False] * 8 + [True]


def test_a_cut_shard_of_an_indexed_dataset_is_an_error_that_names_it(tmp_path: Path) -> None:
    data, cut = shard()
    (tmp_path / "x.tar").write_bytes(data)
    runs = load_dataset(str(tmp_path)).runs()
    (tmp_path / "x.tar").write_bytes(data[:cut])
    store = open_store(str(tmp_path))
    assert not store.exists(MANIFEST_NAME)
    chunks = list(chunks_from_runs(runs, ChunkLimits()))
    with pytest.raises(StorageError, match=r"x\.tar: it has \d+ bytes.*cut or replaced"):
        read_chunk(store, chunks[-1])


def task_of(sample: Any) -> Any:
    """A sample with the Ray task that has it in hand."""
    sample["task"] = ray.get_runtime_context().get_task_id()
    return sample


def test_a_tar_is_one_task_there_and_several_here(ray_cluster: None, tmp_path: Path) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    uri = single_dataset(tmp_path / "d", 400, per_shard=400)
    theirs = ray.data.read_webdataset(f"{uri}/train-000000.tar", decoder=[task_of], override_num_blocks=4)
    assert len({row["task"] for row in theirs.iter_rows()}) == 1
    ours = read_single(uri, decode=Decode(encoded=True)).map(task_of)
    assert len({row["task"] for row in ours.iter_rows()}) >= 3
