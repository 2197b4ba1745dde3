"""Datasets: what a manifest says is what is there, and shards made elsewhere are read without losing a sample."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from samples import tar_of

from condgen.errors import ConfigError, DatasetError, MissingError
from pipelines.batch.archive import plan_archive
from pipelines.datasets.chunk import ChunkLimits, iter_chunks, read_chunk
from pipelines.datasets.extent import EXTENT_SCHEMA, Extent, extents_to_table
from pipelines.datasets.manifest import Manifest, ShardInfo, table_bytes
from pipelines.datasets.opening import archive_store, open_archive, open_dataset
from pipelines.datasets.shard_names import expand_braces, split_of
from pipelines.datasets.tar_samples import group_samples
from pipelines.storage.store import Store, open_store


def shard(
    samples: int, prefix: str = "k", image: bytes = b"x" * 700, members: tuple[str, ...] = ("jpg", "json")
) -> bytes:
    return tar_of((f"{prefix}{number:04d}.{member}", image) for number in range(samples) for member in members)


def complete(store: Store, samples: int = 3) -> Manifest:
    """A small dataset with manifest and index."""
    data = shard(samples)
    runs = [
        Extent(
            shard="train-000000.tar",
            start=0,
            stop=len(data) - 1024,
            samples=samples,
            first_key="k0000",
            last_key="k0002",
            sha256=hashlib.sha256(data[:-1024]).hexdigest(),
        )
    ]
    index = table_bytes(extents_to_table(runs))
    info = ShardInfo(name="train-000000.tar", split="train", samples=samples, size_bytes=len(data))
    manifest = Manifest(
        kind="single", shards=(info,), runs=1, index_sha256=hashlib.sha256(index).hexdigest(), members={"jpg": samples}
    )
    store.write("train-000000.tar", data)
    store.write("index.parquet", index)
    store.write("manifest.json", manifest.to_json().encode())
    return manifest


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def test_a_manifest_survives_its_json(store: Store) -> None:
    manifest = complete(store)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert open_dataset(store).manifest == manifest
    assert open_dataset(store.uri).manifest.digest == manifest.digest
    assert replace(manifest, kind="paired").digest != manifest.digest


def test_a_manifest_of_a_later_condgen_with_more_in_it_is_read_and_of_another_version_refused(store: Store) -> None:
    values = json.loads(complete(store).to_json())
    assert Manifest.from_json(json.dumps({**values, "added": 1})).samples == 3
    with pytest.raises(DatasetError, match="newer"):
        Manifest.from_json(json.dumps({**values, "version": 2}))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"format": "other", "version": 1}', b'"x"'])
def test_a_damaged_manifest_is_a_dataset_error_that_names_it(store: Store, text: bytes) -> None:
    store.write("index.parquet", b"")
    store.write("manifest.json", text)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        open_dataset(store)


def test_a_manifest_that_was_cut_says_whose_it_is(store: Store) -> None:
    text = complete(store).to_json().encode()
    store.delete("index.parquet")
    store.write("manifest.json", text[: len(text) // 2])
    with pytest.raises(DatasetError, match=r"manifest\.json is damaged"):
        open_dataset(store)


def test_an_index_that_is_not_the_manifests_is_refused(store: Store) -> None:
    complete(store)
    store.write("index.parquet", table_bytes(extents_to_table([])))
    with pytest.raises(DatasetError, match=r"index\.parquet"):
        open_archive(store)


def test_splits_are_named_when_one_is_asked_for_that_is_not_there(store: Store) -> None:
    complete(store)
    dataset = open_dataset(store)
    assert dataset.runs("train") == dataset.runs()
    with pytest.raises(DatasetError, match="train"):
        dataset.runs("test")


def test_an_index_is_the_same_bytes_for_equal_tables() -> None:
    runs = [Extent(shard="a.tar", start=0, stop=1024, samples=1, first_key="é", last_key="é", sha256="0" * 64)]
    assert table_bytes(extents_to_table(runs)) == table_bytes(extents_to_table(iter(runs)))
    assert extents_to_table([]).schema == EXTENT_SCHEMA


def test_runs_of_a_scan_cover_every_sample_once_with_its_checksum(store: Store) -> None:
    store.write("train-0.tar", shard(40))
    store.write("deep/val-0.tar", shard(5, "v", members=("input.jpg", "target.jpg")))
    for checksums in (True, False):
        dataset = open_dataset(store, checksums=checksums)
        assert dataset.manifest.splits == {"train": 40, "val": 5}
        keys = []
        for run in dataset.runs():
            data = store.read_range(run.shard, run.start, run.stop)
            assert run.sha256 == (hashlib.sha256(data).hexdigest() if checksums else "")
            samples = group_samples(data)
            assert len(samples) == run.samples <= 16
            assert (samples[0].key, samples[-1].key) == (run.first_key, run.last_key)
            keys += [sample.key for sample in samples]
        assert keys == [f"k{n:04d}" for n in range(40)] + [f"v{n:04d}" for n in range(5)]


def test_large_members_are_scanned_by_their_headers(store: Store) -> None:
    store.write("x.tar", shard(5, image=bytes(3 << 20)))
    with_sums, without = (open_dataset(store, checksums=checksums) for checksums in (True, False))
    assert [replace(run, sha256="") for run in with_sums.runs()] == without.runs()
    assert len(without.runs()) == 1
    many = open_dataset(f"{store.uri}/x.tar", checksums=True)
    assert many.runs() == with_sums.runs()


def test_kinds_are_told_by_the_members(store: Store) -> None:
    store.write("a.tar", shard(1, members=("input.png", "target.png", "json")))
    assert open_dataset(store).manifest.kind == "paired"
    assert open_dataset(store).manifest.members == {"input.png": 1, "json": 1, "target.png": 1}


@pytest.mark.parametrize("cut", ["header", "member", "boundary", "empty"])
def test_a_cut_shard_counts_what_it_lost_as_one_sample(store: Store, cut: str) -> None:
    data = shard(2, members=("jpg",))
    ends = {"header": 1536 + 100, "member": 1536 + 600, "boundary": 1536, "empty": 0}
    store.write("a.tar", data[: ends[cut]])
    store.write("b.tar", data)
    runs = open_dataset(store).runs()
    assert sum(run.samples for run in runs if run.shard == "a.tar") == (1 if cut == "empty" else 2)
    assert sum(run.samples for run in runs if run.shard == "b.tar") == 2
    lost = [run for run in runs if run.shard == "a.tar"][-1]
    assert lost.stop <= ends[cut]


def test_a_refused_member_is_a_sample_of_its_own_run(store: Store) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            info = tarfile.TarInfo(name)
            if name == "b.jpg":
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info, io.BytesIO())
    store.write("x.tar", buffer.getvalue())
    runs = open_dataset(store).runs()
    assert [(run.samples, run.first_key) for run in runs] == [(1, "a"), (1, "b"), (1, "c")]
    (refused,) = group_samples(store.read_range("x.tar", runs[1].start, runs[1].stop))
    assert "link" in refused.fault.detail


def test_a_tar_of_zeros_is_not_read_into_memory(tmp_path: Path) -> None:
    with (tmp_path / "zeros.tar").open("wb") as file:
        file.truncate(10**9)
    (run,) = open_dataset(open_store(tmp_path), checksums=True).runs()
    assert (run.samples, run.stop - run.start) == (1, 65536)


def test_shards_are_found_by_name_braces_and_globs(store: Store) -> None:
    for number in range(3):
        store.write(f"x-{number:03d}.tar", shard(number + 1))
    store.write("y.tar", shard(9))
    for pattern, samples in (("x-{000..002}.tar", 6), ("x-*.tar", 6), ("x-00[01].tar", 3), ("y.tar", 9), ("", 15)):
        assert open_dataset(f"{store.uri}/{pattern}").manifest.samples == samples
    for pattern in ("x-{000..003}.tar", "z-*.tar", "z.tar"):
        with pytest.raises(MissingError, match="no such file"):
            open_dataset(f"{store.uri}/{pattern}")


@pytest.mark.parametrize(("pattern", "names"), [
    ("a.tar", ["a.tar"]), ("{8..10}", ["8", "9", "10"]), ("{08..10}", ["08", "09", "10"]),
    ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]), ("{2..0}", ["2", "1", "0"]),
])  # fmt: skip
def test_braces_stand_for_what_a_shell_makes_of_them(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


def test_a_billion_names_are_refused() -> None:
    with pytest.raises(DatasetError, match="million"):
        expand_braces("{0..999999999}")


@pytest.mark.parametrize(("name", "split"), [
    ("train-000001.tar", "train"), ("imagenet_validation-3.tar", "val"), ("deep/test/0.tar", "test"), ("x.tar", "all"),
    ("constrain-0.tar", "all"),
])  # fmt: skip
def test_splits_are_told_by_the_words_of_a_name(name: str, split: str) -> None:
    assert split_of(name) == split


def test_places_without_shards(store: Store, tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        open_dataset(f"{tmp_path}/nope")
    with pytest.raises(MissingError):
        open_archive(open_store(tmp_path / "nope"))
    store.write("a.jpg", b"")
    assert open_archive(store).files.to_pylist() == [{"name": "a.jpg", "size_bytes": 0}]
    assert open_archive(store).dataset is None
    with pytest.raises(DatasetError, match="condgen shard"):
        open_dataset(store)


def test_a_scan_reads_object_storage_too(s3: object) -> None:
    remote = open_store(f"{s3.uri('datasets-tests')}/scan")  # type: ignore[attr-defined]
    remote.write("train-0.tar", shard(20))
    assert open_dataset(f"{remote.uri}/train-*.tar").manifest.samples == 20
    with pytest.raises(MissingError, match="bucket"):
        open_dataset("s3://no-such-bucket/x")


def test_shards_are_named_in_folders_and_by_lists(store: Store) -> None:
    for name in ("a/x-0.tar", "a/x-1.tar", "b/x-0.tar", "c/deep/y.tar"):
        store.write(name, shard(2))
    root = store.uri
    for pattern, names in (
        (f"{root}/{{a,b}}/x-0.tar", ["a/x-0.tar", "b/x-0.tar"]),
        (f"{root}/*/x-*.tar", ["a/x-0.tar", "a/x-1.tar", "b/x-0.tar"]),
        (f"{root}/a/x-{{0..1}}.tar::{root}/c/deep/y.tar", ["a/x-0.tar", "a/x-1.tar", "c/deep/y.tar"]),
    ):
        archive = open_archive(pattern)
        assert (archive_store(pattern).uri, archive.store.uri) == (root, root)
        assert [run.shard for run in archive.dataset.runs()] == names
    with pytest.raises(ConfigError, match="one storage"):
        open_archive(f"{root}/a/x-0.tar::s3://bucket/x.tar")


def test_a_folder_with_a_pattern_in_its_name_is_a_folder(tmp_path: Path) -> None:
    folder = open_store(tmp_path / "photos [2020] {a}")
    folder.write("x[1].tar", shard(2))
    assert open_dataset(folder.uri).manifest.samples == 2
    assert archive_store(folder.uri).uri == folder.uri


def test_an_archive_is_planned_from_headers_and_read_whole(store: Store) -> None:
    store.write("a.tar", shard(40, image=bytes(3000)))
    chunks = list(iter_chunks(plan_archive(f"{store.uri}/*.tar", ChunkLimits(samples=20))))
    assert [chunk.samples for chunk in chunks] == [16, 16, 8]
    assert all(part.sha256 == "" for chunk in chunks for part in chunk.runs)
    samples = [sample for chunk in chunks for sample in read_chunk(store, chunk)]
    assert [sample.key for sample in samples] == [f"k{n:04d}" for n in range(40)]
    assert all(sample.fault is None and sample.members["jpg"] == bytes(3000) for sample in samples)
    store.write("a.tar", shard(39, image=bytes(3000)) + bytes(16384))
    changed = read_chunk(store, chunks[2])
    assert [sample.fault.error for sample in changed if sample.fault] == ["ChecksumMismatch"] * 8


def test_members_are_called_by_a_mapping(store: Store) -> None:
    store.write("a.tar", shard(3, members=("Cond.PNG", "jpg")))
    (chunk,) = iter_chunks(plan_archive(store, ChunkLimits()))
    (first, *_) = read_chunk(store, chunk, {"input": "cond", "target": "jpg"})
    assert sorted(first.members) == ["input.png", "target.jpg"]


def test_a_member_that_no_image_can_be_is_refused_without_reading_it(tmp_path: Path) -> None:
    info = tarfile.TarInfo("b.jpg")
    info.size = 10**9
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(tar_of([("a.jpg", b"")])[:512] + info.tobuf())
        file.truncate(1024 + 10**9 + 2048)
    runs = open_dataset(open_store(tmp_path)).runs()
    assert [(run.first_key, run.samples) for run in runs] == [("a", 1), ("b", 1)]
    assert runs[1].stop - runs[1].start <= 65536
