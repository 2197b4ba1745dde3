"""What `condgen shard` and `condgen index` do with objects that can't be read, odd names, and nothing of something."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import FlatS3, WebServer

from condgen.errors import AccessError, DatasetError, JobError, MissingError
from jobs.datasets import index, shard
from pipelines.datasets.opening import open_archive, open_dataset
from pipelines.datasets.shard_names import locate
from pipelines.datasets.tar import TarWriter
from pipelines.datasets.tar_samples import group_samples
from pipelines.images.encoding import encode
from pipelines.storage.store import RetryPolicy


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: None)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlatS3]:
    with FlatS3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def image(seed: int) -> bytes:
    import numpy as np

    return encode(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8), "png")


def keys(dataset: Path) -> set[str]:
    opened = open_dataset(str(dataset))
    runs = [opened.store.read_range(run.shard, run.start, run.stop) for run in opened.runs()]
    return {str(sample.key) for data in runs for sample in group_samples(data)}


def tar(*names: str, data: bytes) -> bytes:
    writer = TarWriter()
    for name in names:
        writer.add(name, data)
    return writer.finish()


def test_an_object_that_can_not_be_read_is_rejected_with_the_storages_code(tmp_path: Path, s3: FlatS3) -> None:
    s3.objects = {("b", f"in/{number}.png"): image(number) for number in range(6)}
    s3.refused = {("b", "in/1.png"): (403, "InvalidObjectState"), ("b", "in/2.png"): (403, "AccessDenied")}
    s3.refused["b", "in/4.png"] = (500, "InternalError")
    report = shard.run("s3://b/in", str(tmp_path / "set"))
    assert {row.source: (row.stage, row.error) for row in report.rejected} == {
        "1.png": ("read", "S3 InvalidObjectState"),
        "2.png": ("read", "S3 AccessDenied"),
        "4.png": ("read", "S3 InternalError"),
    }
    assert report.manifest.samples == 3
    again = shard.run("s3://b/in", str(tmp_path / "set"))
    assert (again.manifest.samples, again.num_rejected, again.was_there) == (3, 3, True)
    s3.refused = {}
    assert shard.run("s3://b/in", str(tmp_path / "set")).manifest.samples == 6


def test_a_bucket_that_gives_nothing_ends_it(tmp_path: Path, s3: FlatS3) -> None:
    s3.objects = {("b", f"in/{number}.png"): image(number) for number in range(12)}
    s3.refused = dict.fromkeys(s3.objects, (503, "SlowDown"))
    with pytest.raises(JobError, match=r"storage of s3://b/in is out"):
        shard.run("s3://b/in", str(tmp_path / "set"))
    s3.refused = dict.fromkeys(s3.objects, (403, "SignatureDoesNotMatch"))
    with pytest.raises(AccessError, match="credentials"):
        shard.run("s3://b/in", str(tmp_path / "set"))


def test_links_that_fail_in_every_way_are_rejected_and_the_others_taken(tmp_path: Path) -> None:
    statuses = (400, 403, 404, 410, 500, 503)
    with WebServer({f"/{status}.png": status for status in statuses}) as web:
        web.answers["/a.png?size=1"] = image(1)
        uris = [f"{web.uri}/{status}.png" for status in statuses]
        uris += [f"{web.uri}/a.png?size=1", f"https{web.uri[4:]}/t.png", "http://127.0.0.1:1/r.png"]
        (tmp_path / "list.csv").write_text("\n".join(["url", *uris]))
        report = shard.run(str(tmp_path / "list.csv"), str(tmp_path / "set"))
        assert report.manifest.samples == 1
        assert sorted(row.error for row in report.rejected) == [
            "ECONNREFUSED", "HTTP 400", "HTTP 403", "HTTP 410", "HTTP 500", "HTTP 503", "Missing", "TLS",
        ]  # fmt: skip


def test_odd_names_of_a_bucket_become_keys_that_a_tar_can_have(tmp_path: Path, s3: FlatS3) -> None:
    names = ["a//b.png", "a/../c.png", "d e.png", "100%.png", "q?x.png", "h#1.png", "/l.png", "e\u0301.png", "a/b.png"]
    s3.objects = {("b", f"in/{name}"): image(number) for number, name in enumerate(names)}
    report = shard.run("s3://b/in", str(tmp_path / "set"))
    assert (report.manifest.samples, list(report.rejected)) == (len(names), [])
    assert keys(tmp_path / "set") == {
        "a/%2F/b", "a/%2E%2E/c", "d e", "100%25", "q?x", "h#1", "%2F/l", "e\u0301", "a/b",
    }  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(["url", *(f'"s3://b/in/{name}"' for name in names)]))
    assert shard.run(str(tmp_path / "list.csv"), str(tmp_path / "other")).manifest.samples == len(names)


def test_file_names_that_are_no_utf8_keep_their_keys(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate((b"caf\xe9.png", b"lit\\udce9.png", b"\xff\xfe.png")):
        (folder / os.fsdecode(name)).write_bytes(image(number))
    report = shard.run(str(folder), str(tmp_path / "set"))
    assert (report.manifest.samples, list(report.rejected)) == (3, [])
    assert keys(tmp_path / "set") == {"caf%E9", "lit%5Cudce9", "%FF%FE"}
    (tmp_path / "list.csv").write_text(f"url\nin/caf\\udce9.png\n{folder}//../in/lit\\udc5cudce9.png\n")
    assert shard.run(str(tmp_path / "list.csv"), str(tmp_path / "other")).manifest.samples == 2


def test_shards_that_are_named_need_no_listing(monkeypatch: pytest.MonkeyPatch, s3: FlatS3) -> None:
    data = tar("a.png", "b.png", data=image(1))
    with WebServer({f"/set//x-00{number}.tar": data for number in range(2)}) as web:
        web.answers |= {"/y-0.tar?token=a/b": data, "/z.tar?download=true": data}
        for uri, samples in (
            ("/set//x-{000..001}.tar", 4), ("/y-{0,0}.tar?token=a/b", 4), ("/z.tar?download=true", 2),
            (f"/set//x-000.tar::{web.uri}/z.tar?download=true", 4),
        ):  # fmt: skip
            dataset = open_archive(web.uri + uri).dataset
            assert dataset is not None
            assert dataset.manifest.samples == samples
        with pytest.raises(MissingError, match=r"set//x-002\.tar: no such file"):
            open_archive(f"{web.uri}/set//x-{{000..003}}.tar")
        assert not [path for _, path in web.requests if path.endswith("/")]
    s3.objects = {("b", f"x-{number}.tar"): data for number in range(2)}
    assert locate("s3://b/x-{0..1}.tar").files() == ["x-0.tar", "x-1.tar"]


def test_an_index_of_what_nobody_can_read_is_refused_and_not_written(tmp_path: Path) -> None:
    for name, data, told in (
        ("images", tar("a.jpg", "b.jpg", data=b"no image"), r"none of 2 images can be decoded, such as x\.tar a"),
        ("garbage", b"no tar at all" * 1000, "none of 1 samples can be read"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.tar").write_bytes(data)
        with pytest.raises(DatasetError, match=told):
            index.run(str(tmp_path / name))
        assert not (tmp_path / name / "manifest.json").exists()
    assert index.run(str(tmp_path / "images"), statistics=False).manifest.samples == 2


def test_a_growth_whose_new_images_are_all_rejected_fails_and_the_dataset_stays(tmp_path: Path) -> None:
    folder, dest = tmp_path / "in", str(tmp_path / "set")
    folder.mkdir()
    (folder / "a.png").write_bytes(image(1))
    (folder / "old-bad.png").write_bytes(b"no image")
    assert shard.run(str(folder), dest).manifest.samples == 1
    (folder / "notes.txt").write_text("beside the images")
    assert shard.run(str(folder), dest).manifest.samples == 1
    (folder / "new-bad.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"none of the 1 new images can be taken, such as new-bad\.png"):
        shard.run(str(folder), dest)
    (folder / "b.png").write_bytes(image(2))
    assert shard.run(str(folder), dest).manifest.samples == 2
