"""Ray's own `read_webdataset` beside ours: four ways in which it loses samples or time, kept on record.

Where a test of its loss fails, Ray has mended it: say so in docs/pipelines.md.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ray.data
from faults import FaultProxy
from pyarrow.fs import S3FileSystem
from samples import flat, single_dataset

from condgen.errors import DatasetError, StorageError
from pipelines.datasets.chunk import ChunkLimits, iter_chunks, read_chunk
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.manifest import MANIFEST_NAME
from pipelines.datasets.opening import open_dataset
from pipelines.datasets.tar import TarWriter
from pipelines.ray_data.operator import Decode
from pipelines.ray_data.reading import read_single
from pipelines.storage.store import RetryPolicy, open_store

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
    index = open_dataset(str(tmp_path)).table()
    (tmp_path / "x.tar").write_bytes(data[:cut])
    store = open_store(str(tmp_path))
    assert not store.exists(MANIFEST_NAME)
    chunks = list(iter_chunks(chunk_table(index, ChunkLimits())))
    with pytest.raises(StorageError, match=r"x\.tar: it has \d+ bytes.*cut or replaced"):
        read_chunk(store, chunks[-1])


def aligned_shard() -> bytes:
    """A tar of twenty samples, each of the 10,240 bytes that tarfile reads at once."""
    tar = TarWriter()
    for number in range(SAMPLES):
        tar.add(f"{number:03d}.bin", bytes([number]) * (10_240 - 512))
    return tar.finish()


def read_theirs(endpoint: str, env: Mapping[str, str], path: str) -> list[str]:
    """Keys that Ray's reader gives of a shard, by pyarrow's S3 with the retries that it has by default."""
    filesystem = S3FileSystem(
        access_key=env["AWS_ACCESS_KEY_ID"],
        secret_key=env["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=endpoint,
        region="us-east-1",
    )
    rows = ray.data.read_webdataset(
        path, filesystem=filesystem, decoder=False, arrow_open_stream_args={"buffer_size": 40_960}
    )
    return sorted(row["__key__"] for row in rows.iter_rows())


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_an_s3_error_in_mid_stream_loses_samples_in_silence_there_and_not_here(
    ray_cluster: None, s3: Any, fault: str
) -> None:
    uri = f"{s3.uri('ray-reader')}/{fault}"
    open_store(uri).write("x.tar", aligned_shard())
    keys = [f"{number:03d}" for number in range(SAMPLES)]
    options = {"retry": RetryPolicy(attempts=4, base_s=0.01)}
    with FaultProxy(s3.endpoint) as proxy:
        path = f"{uri.removeprefix('s3://')}/x.tar"
        assert read_theirs(proxy.endpoint, s3.env, path) == keys
        # Three faults of the third range are one of pyarrow's, which Ray tries again, on the stream where it stands.
        proxy.inject(fault, 3, name="x.tar", after=2)
        theirs = read_theirs(proxy.endpoint, s3.env, path)
        assert proxy.injected == [fault] * 3
        assert set(theirs) < set(keys), "and no word of it"
        proxy.clear()
        proxy.inject(fault, 3, name="x.tar")
        ours = open_store(uri, endpoint_url=proxy.endpoint, **options)
        decode = Decode(encoded=True)
        rows = read_single(open_dataset(ours), member="bin", decode=decode).take_all()
        assert sorted(row["key"] for row in rows) == keys
        assert len(proxy.injected) == 3
        dataset = open_dataset(ours)
        proxy.clear()
        proxy.inject(fault, 50, name="x.tar")
        with pytest.raises(StorageError, match=rf"ray-reader/{fault}/x\.tar.*after 4 tries"):
            read_single(dataset, member="bin", decode=decode).materialize()


def task_of(sample: Any) -> Any:
    """A sample with the Ray task that has it in hand."""
    sample["task"] = ray.get_runtime_context().get_task_id()
    return sample


def test_a_tar_is_one_task_there_and_several_here(ray_cluster: None, tmp_path: Path) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    uri = single_dataset(tmp_path / "d", 1200, per_shard=1200)
    theirs = ray.data.read_webdataset(f"{uri}/train-000000.tar", decoder=[task_of], override_num_blocks=4)
    assert len({row["task"] for row in theirs.iter_rows()}) == 1
    ours = read_single(uri, decode=Decode(encoded=True)).map(task_of)
    assert len({row["task"] for row in ours.iter_rows()}) >= 3
