"""Sharding: a plan from a listing, one shard from its files, a manifest from the receipts."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import noise

from condgen.errors import ConfigError
from pipelines.datasets.contents import Contents
from pipelines.datasets.tar import split_key
from pipelines.datasets.tar_samples import group_samples
from pipelines.images.encoding import encode
from pipelines.sharding.assignment import (
    KeyedRecord,
    ShardAssignment,
    assign_keys,
    cut_shards,
    input_digest,
    safe_key,
    split_share,
)
from pipelines.sharding.options import ShardOptions
from pipelines.sharding.recipe import Recipe
from pipelines.sharding.sources import Listing, Record, RecordImage, list_images
from pipelines.sharding.writer import write_shard
from pipelines.storage.backend import Entry
from pipelines.storage.store import Store, open_store


def listing(*names: str, size_bytes: int = 100) -> Listing:
    records, rejected = list_images(Contents("images", [Entry(name, size_bytes) for name in sorted(names)]))
    return Listing("images", "single", (), records, rejected)


def plan(options: ShardOptions, *names: str, size_bytes: int = 100) -> list[ShardAssignment]:
    return cut_shards(assign_keys(listing(*names, size_bytes=size_bytes), options), options)


def keys(*names: str) -> dict[str, str]:
    return {sample.record.parts[0].name: sample.key for sample in assign_keys(listing(*names), ShardOptions())}


def planned(store: Store, *names: str) -> ShardAssignment:
    samples = []
    for name in names:
        size = store.size(name) if store.exists(name) else 0
        record = Record(name, name, "", (RecordImage("", name, size),))
        samples.append(KeyedRecord(safe_key(name.rpartition(".")[0]), "train", record))
    return ShardAssignment("train-000000.tar", "train", tuple(samples))


RECIPE = Recipe(max_pixels=10**6)


def picture(seed: int, width: int = 20, height: int = 10) -> bytes:
    return encode(noise(seed, width, height), "jpeg")


def test_keys_keep_folders_and_escape_dots() -> None:
    assert keys("a/b.jpg", "v1.0/c.d.JPEG", "e", "100%.png") == {
        "a/b.jpg": "a/b", "v1.0/c.d.JPEG": "v1.0/c%2Ed", "e": "e", "100%.png": "100%25",
    }  # fmt: skip


def test_files_with_one_name_and_several_extensions_stay_apart_and_in_one_split() -> None:
    assert keys("a.png", "a.jpg", "a.JPG", "a.png.jpg") == {
        "a.JPG": "a", "a.jpg": "a%2Ejpg", "a.png": "a%2Epng", "a.png.jpg": "a%2Epng%2Ejpg",
    }  # fmt: skip
    options = ShardOptions(split={"train": 0.5, "test": 0.5})
    for number in range(20):
        shards = plan(options, f"{number}.jpg", f"{number}.png")
        assert len({shard.split for shard in shards}) == 1


def is_listed(stem: str) -> bool:
    """Whether storage lists such a name: with empty and hidden parts it does not."""
    return not any(part.startswith(".") or not part for part in f"x{stem}".split("/"))


@pytest.mark.slow
@given(st.sets(st.text("ab.%/é\udcff\n", min_size=1, max_size=8).filter(is_listed), max_size=12))
@settings(max_examples=300, deadline=None)
def test_keys_are_unique_text_that_webdataset_gives_back(stems: set[str]) -> None:
    names = sorted(f"x{stem}{extension}" for stem in stems for extension in (".jpg", ".png"))
    found = keys(*names)
    assert len(found) == len(set(found.values())) == len(names)
    for key in found.values():
        key.encode()
        assert split_key(f"{key}.jpg") == (key, "jpg")


def test_every_listed_file_is_a_record_or_rejected() -> None:
    images, others = ["a.jpg", "b", "c.webp"], ["SOURCES.tsv", "film.mp4", "notes", "notes.txt"]
    contents = Contents("images", [Entry(name, 1) for name in images], {}, [Entry(name, 1) for name in others])
    records, rejected = list_images(contents)
    assert [record.name for record in records] == images
    assert [(row.source, row.error) for row in rejected] == [(name, "NotAnImage") for name in others]


def test_splits_are_of_about_the_size_asked_for_and_stable_when_the_archive_grows() -> None:
    options = ShardOptions(split={"train": 0.8, "val": 0.1, "test": 0.1}, samples_per_shard=100)

    def splits(count: int) -> dict[str, str]:
        shards = plan(options, *(f"{number}.jpg" for number in range(count)))
        return {sample.key: shard.split for shard in shards for sample in shard.samples}

    few, many = splits(1000), splits(3000)
    assert all(many[name] == split for name, split in few.items())
    assert [list(many.values()).count(name) / 3000 for name in ("train", "val", "test")] == pytest.approx(
        [0.8, 0.1, 0.1], abs=0.02
    )
    assert split_share("a") == 0.7913742705223815  # of a dataset that exists: never to change


def test_shards_are_bounded_in_samples_and_bytes() -> None:
    shards = plan(ShardOptions(samples_per_shard=10), *(f"{n}.jpg" for n in range(25)))
    assert [(shard.name, len(shard.samples)) for shard in shards] == [
        ("train-000000.tar", 10), ("train-000001.tar", 10), ("train-000002.tar", 5),
    ]  # fmt: skip
    shards = plan(ShardOptions(shard_bytes=100), *(f"{n}.jpg" for n in range(3)), size_bytes=60)
    assert [len(shard.samples) for shard in shards] == [1, 1, 1]


def test_the_order_of_the_listing_does_not_matter_and_its_content_does() -> None:
    names = [f"{n}.jpg" for n in range(20)]
    assert plan(ShardOptions(), *names[::-1]) == plan(ShardOptions(), *names)
    digests = [
        input_digest(listing(*names[::-1]), ShardOptions()),
        input_digest(listing(*names), ShardOptions()),
        input_digest(listing(*names[1:]), ShardOptions()),
        input_digest(listing(*names), ShardOptions(samples_per_shard=7)),
        input_digest(listing(*names, size_bytes=101), ShardOptions()),
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


@pytest.mark.parametrize("split", [{}, {"train": 0.5}, {"train": 1.5}, {"train": 1, "test": 0}, {"../x": 1}, {"A": 1}])
def test_shares_that_can_not_be_are_refused(split: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="split"):
        ShardOptions(split=split)


def test_a_shard_holds_the_original_bytes_and_says_where_they_are(tmp_path: Path) -> None:
    source, dest = open_store(tmp_path / "in"), open_store(tmp_path / "out")
    names = [f"d/{number:02d}.JPG" for number in range(20)]
    for number, name in enumerate(names):
        source.write(name, picture(number))
    receipt = write_shard((source,), dest, planned(source, *names), RECIPE)
    data = dest.read("train-000000.tar")
    assert receipt.info.sha256 == hashlib.sha256(data).hexdigest()
    assert [run.samples for run in receipt.runs] == [16, 4]
    samples = []
    for run in receipt.runs:
        piece = data[run.start : run.stop]
        assert run.sha256 == hashlib.sha256(piece).hexdigest()
        assert run.pixels == run.samples * 200
        samples += group_samples(piece)
    assert [sample.key for sample in samples] == [name[:-4] for name in names]
    assert samples[3].members["jpg"] == picture(3)
    assert json.loads(samples[3].members["json"]) == {
        "source": "d/03.JPG", "width": 20, "height": 10, "sha256": hashlib.sha256(picture(3)).hexdigest(),
    }  # fmt: skip
    assert [sample.key for sample in receipt.samples] == [sample.key for sample in samples]
    assert receipt.samples[3].sha256 == hashlib.sha256(picture(3)).hexdigest()
    assert receipt.statistics.colors.num_samples == 20
    assert receipt.statistics.colors.ab_histogram.sum() == 20 * 200
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_a_png_that_is_named_jpg_is_a_png_in_the_shard(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write("a.jpg", encode(np.zeros((2, 2, 3), np.uint8), "png"))
    assert write_shard((store,), store, planned(store, "a.jpg"), RECIPE).members == {"png": 1, "json": 1}


def test_what_is_no_image_is_rejected_with_the_reason_and_a_shard_of_nothing_is_not_stored(tmp_path: Path) -> None:
    store = open_store(tmp_path / "in")
    store.write("cut.jpg", picture(1)[:300])
    store.write("empty.jpg", b"")
    store.write("text.jpg", b"hello")
    store.write("large.jpg", picture(2, 200, 200))
    names = [*(entry.name for entry in store.list()), "gone.jpg"]
    receipt = write_shard((store,), open_store(tmp_path / "out"), planned(store, *names), Recipe(max_pixels=10_000))
    assert receipt.info is None
    assert [(row.source, row.error) for row in receipt.rejected] == [
        ("cut.jpg", receipt.rejected[0].error), ("empty.jpg", "EmptyFile"), ("large.jpg", "TooManyPixels"),
        ("text.jpg", "NotAnImage"), ("gone.jpg", "Missing"),
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()
