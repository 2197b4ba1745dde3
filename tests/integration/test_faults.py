"""Faults on the way to a real S3 server: those that pass can't be seen in the data, those that stay are named."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from faults import FaultProxy

from condgen.errors import StorageError
from pipelines.datasets.chunk import Chunk, ExtentPart, read_chunk
from pipelines.datasets.tar import TarWriter
from pipelines.storage.store import RetryPolicy, Store, open_store

DATA = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
QUICK = RetryPolicy(attempts=4, base_s=0.01, max_s=0.05)
TIMEOUTS = {"connect_timeout": 2, "read_timeout": 1, "retries": {"total_max_attempts": 1}}
PASSING = ["slow_down", "reset", "cut", "stall", "wrong_range", "whole_object"]


@pytest.fixture(scope="module")
def proxy(s3: Any) -> Iterator[Any]:
    with FaultProxy(s3.endpoint) as running:
        yield running


@pytest.fixture
def store(s3: Any, proxy: Any) -> Store:
    """A store through the proxy, with an object in it."""
    uri = f"{s3.uri('faults')}/data"
    open_store(uri).write("x.bin", DATA)
    proxy.clear()
    return open_store(uri, retry=QUICK, endpoint_url=proxy.endpoint, config_kwargs=TIMEOUTS)


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_invisible_in_a_range(store: Store, proxy: Any, fault: str) -> None:
    times = 1 if fault == "stall" else 3
    proxy.inject(fault, times, name="x.bin")
    assert store.read_range("x.bin", 4096, 104_096) == DATA[4096:104_096]
    assert proxy.injected == [fault] * times


@pytest.mark.parametrize("fault", ["slow_down", "reset", "cut", "stall"])
def test_a_fault_that_passes_is_invisible_in_a_whole_object(store: Store, proxy: Any, fault: str) -> None:
    proxy.inject(fault, 1, name="x.bin")
    assert store.read("x.bin", size_bytes=len(DATA)) == DATA
    assert proxy.injected == [fault]


@pytest.mark.parametrize(("fault", "reason"), [
    ("slow_down", "SlowDown|reduce your request rate|503"),
    ("reset", "reset|closed|payload|disconnected"),
    ("cut", "payload|closed|disconnected|Incomplete|ContentLength"),
    ("wrong_range", "bytes 4096-104095 were asked for, the answer has bytes 3584-103583"),
    ("whole_object", "bytes 4096-104095 were asked for, the answer has all of the object's 200000 bytes"),
])  # fmt: skip
def test_a_fault_that_stays_ends_in_an_error_that_names_the_object(
    store: Store, proxy: Any, fault: str, reason: str
) -> None:
    proxy.inject(fault, 50, name="x.bin")
    with pytest.raises(
        StorageError, match=rf"(?is)could not read s3://faults/data/x\.bin: .*({reason}).*after 4 tries"
    ):
        store.read_range("x.bin", 4096, 104_096)
    assert len(proxy.injected) == 4


def test_a_server_that_stalls_again_and_again_is_given_up_in_bounded_time(store: Store, proxy: Any) -> None:
    proxy.inject("stall", 50, name="x.bin")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"faults/data/x\.bin.*after 2 tries"):
        replace(store, retry=RetryPolicy(attempts=2, base_s=0.01)).read_range("x.bin", 0, 1000)
    assert time.monotonic() - began < 15


def test_waits_grow_between_tries(store: Store, proxy: Any) -> None:
    proxy.inject("slow_down", 3, name="x.bin")
    began = time.monotonic()
    replace(store, retry=RetryPolicy(attempts=4, base_s=0.2)).read_range("x.bin", 0, 10)
    assert time.monotonic() - began > 0.7  # at least half of 0.2 + 0.4 + 0.8 s


@pytest.fixture
def shard(s3: Any) -> tuple[str, Chunk]:
    """A shard of twelve samples in a bucket, and the chunk of all of them."""
    tar = TarWriter()
    for number in range(12):
        tar.add(f"{number:02d}.bin", bytes([number]) * 3000)
    data = tar.finish()
    uri = f"{s3.uri('faults')}/shards"
    open_store(uri).write("x.tar", data)
    run = ExtentPart(0, len(data) - 1024, 12, hashlib.sha256(data[:-1024]).hexdigest())
    return uri, Chunk(ordinal=0, name="c", shard="x.tar", samples=12, first_sample=0, runs=(run,))


@pytest.mark.parametrize("fault", [*PASSING, "other_bytes"])
def test_a_fault_that_passes_is_invisible_in_a_chunk(shard: tuple[str, Chunk], proxy: Any, fault: str) -> None:
    uri, chunk = shard
    proxy.clear()
    proxy.inject(fault, 1, name="x.tar")
    store = open_store(uri, retry=QUICK, endpoint_url=proxy.endpoint, config_kwargs=TIMEOUTS)
    samples = read_chunk(store, chunk)
    assert [sample.members["bin"] for sample in samples] == [bytes([number]) * 3000 for number in range(12)]
    assert proxy.injected == [fault]


def test_bytes_that_stay_other_than_the_index_are_faults_of_each_sample(shard: tuple[str, Chunk], proxy: Any) -> None:
    uri, chunk = shard
    proxy.clear()
    proxy.inject("other_bytes", 50, name="x.tar")
    store = open_store(uri, retry=QUICK, endpoint_url=proxy.endpoint, config_kwargs=TIMEOUTS)
    samples = read_chunk(store, chunk)
    assert [sample.fault.error for sample in samples if sample.fault] == ["ChecksumMismatch"] * 12
    assert len(proxy.injected) == 2
