"""`condgen validate` finds every fault, `condgen index` takes what others made; neither follows, loads or crashes."""

import hashlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from samples import noise, tar_of

from jobs.cli import app as cli
from jobs.datasets import index, inspect, shard, validate
from pipelines.batch.archive import plan_archive
from pipelines.datasets.chunk import ChunkLimits, iter_chunks, read_chunk
from pipelines.datasets.extent import extents_to_table
from pipelines.datasets.manifest import table_bytes
from pipelines.datasets.opening import archive_store, open_dataset
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.sharding.options import ShardOptions
from pipelines.storage.store import open_store


def picture(seed: int) -> bytes:
    return encode(noise(seed, 32, 24), "jpeg")


def made(*members: tuple[str, bytes]) -> bytes:
    return tar_of(members)


def errors(place: object) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fault in validate.run(str(place)).faults:
        found.setdefault(fault.error, []).append(fault.key)
    return found


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of two shards of eight photographs each, without a fault."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(16):
        (images / f"{number:02d}.jpg").write_bytes(picture(number))
    shard.run(str(images), str(tmp_path / "dataset"), options=ShardOptions(samples_per_shard=8))
    return tmp_path / "dataset"


def test_a_dataset_without_faults_is_exit_code_0(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["validate", str(dataset)]) == 0
    out = capsys.readouterr().out
    assert "2 shards, 16 samples, 16 images read" in out
    assert "no faults" in out


def test_faults_are_printed_and_written_and_exit_code_1(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = dataset / "train-000001.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    for name in ("faults.parquet", "faults.jsonl"):
        assert cli._run(["validate", str(dataset), "--report", str(tmp_path / name)]) == 1
        out = capsys.readouterr().out
        assert "train-000001.tar" in out
        assert "ChecksumMismatch" in out
    rows = pq.read_table(tmp_path / "faults.parquet").to_pylist()
    assert rows == [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert [row["error"] for row in rows].count("ChecksumMismatch") == 2  # of the shard, and of the run
    assert cli._run(["validate", str(dataset), "--report", "faults.txt"]) == 2
    assert cli._run(["validate", str(tmp_path / "nope")]) == 2
    assert cli._run(["validate", str(tmp_path / "images")]) == 2


@pytest.mark.parametrize("cut", ["header", "member", "boundary", "end mark"])
def test_a_cut_tar_is_found_wherever_it_was_cut(dataset: Path, cut: str) -> None:
    tar = dataset / "train-000000.tar"
    data = tar.read_bytes()
    with tarfile.open(tar) as file:
        members = [member for member in file if member.name.endswith(".jpg")]
    third = members[2].offset
    tar.write_bytes(data[: {"header": third + 100, "member": third + 600, "boundary": third, "end mark": -1024}[cut]])
    for place in (dataset, str(tar)):
        assert "CutTar" in errors(place)
    assert {"SizeMismatch", "CountMismatch"} <= errors(dataset).keys()


def test_manifest_and_index_that_say_something_else(dataset: Path) -> None:
    store = open_store(dataset)
    opened = open_dataset(store)
    whole = {entry.name: store.read(entry.name) for entry in store.list()}

    def after(**files: bytes | None) -> dict[str, list[str]]:
        for name, data in {**whole, "mine.tar": None, **files}.items():
            store.delete(name) if data is None else store.write(name, data)
        return errors(dataset)

    assert after() == {}
    assert after(**{"manifest.json": b"{"}) == {"DamagedDataset": [""]}
    assert after(**{"index.parquet": table_bytes(extents_to_table([]))}) == {"DamagedDataset": [""]}
    assert after(**{"train-000001.tar": None}) == {"MissingShard": [""]}
    assert after(**{"mine.tar": made(("x.jpg", picture(0)))}) == {"ExtraShard": [""]}
    runs = opened.runs()
    index_of_half = table_bytes(extents_to_table(runs[:1]))
    values = json.loads(whole["manifest.json"])
    values["index_sha256"] = hashlib.sha256(index_of_half).hexdigest()
    found = after(**{"index.parquet": index_of_half, "manifest.json": json.dumps(values).encode()})
    assert found.keys() == {"IndexMismatch"}


def test_undecodable_images_missing_members_and_duplicate_keys(tmp_path: Path) -> None:
    good = picture(1)
    zeroed = good[: len(good) // 2] + bytes(len(good) // 2)
    (tmp_path / "a.tar").write_bytes(
        made(
            ("1.input.jpg", good), ("1.target.jpg", good),
            ("2.input.jpg", good), ("2.json", b"{}"),
            ("3.input.jpg", good), ("3.target.jpg", zeroed),
            ("4.input.jpg", good), ("4.input.png", good), ("4.target.png", b"text"),
            ("1.input.jpg", good), ("1.target.jpg", good),
        )
    )  # fmt: skip
    (tmp_path / "b.tar").write_bytes(made(("3.input.jpg", good), ("3.target.jpg", good)))
    assert errors(tmp_path) == {
        "CutImage": ["3"],
        "MissingMember": ["2", "4"],
        "NotAnImage": ["4"],
        "DuplicateKey": ["1", "3"],
    }
    (tmp_path / "b.tar").unlink()
    (tmp_path / "a.tar").write_bytes(made(("1.json", b"{}"), ("2.jpg", good), ("2.jpg", good)))
    assert errors(tmp_path) == {"NoImage": ["1"], "Duplicate": ["2"]}


class _Touched:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_members_that_could_do_harm_are_refused_and_no_pickle_is_loaded(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(picture(7))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, link in (
            ("link.jpg", tarfile.SYMTYPE, str(secret)), ("hard.jpg", tarfile.LNKTYPE, str(secret)),
            ("device.jpg", tarfile.CHRTYPE, ""), ("block.jpg", tarfile.BLKTYPE, ""), ("pipe.jpg", tarfile.FIFOTYPE, ""),
            ("/etc/absolute.jpg", tarfile.REGTYPE, ""), ("../up.jpg", tarfile.REGTYPE, ""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info, io.BytesIO())
        data = pickle.dumps(_Touched(str(tmp_path / "loaded")))
        for name, content in (("ok.jpg", picture(1)), ("ok.pyd", data), ("ok.pickle", data), ("ok.pth", data)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    place = tmp_path / "shards"
    open_store(place).write("x.tar", buffer.getvalue())
    report = validate.run(str(place))
    names = {"link", "hard", "device", "block", "pipe", "etc/absolute", "../up"}
    assert {fault.key for fault in report.faults} == names
    assert {fault.error for fault in report.faults} == {"RefusedMember"}
    assert report.images == 1
    index.run(str(place))
    inspect.run(str(place), sheet=str(tmp_path / "sheet.png"))
    assert errors(place).keys() == {"RefusedMember"}
    assert not (tmp_path / "loaded").exists()


def test_decompression_bombs_are_refused_by_their_headers(tmp_path: Path) -> None:
    bomb = bytearray(encode(np.zeros((1, 1, 3), np.uint8), "png"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    (tmp_path / "x.tar").write_bytes(made(("1.png", bytes(bomb)), ("2.jpg", picture(1))))
    assert errors(tmp_path) == {"TooManyPixels": ["1"]}


@pytest.mark.slow
def test_a_billion_zeros_are_refused_at_once_and_not_held(tmp_path: Path) -> None:
    for name, head in (("zeros.tar", b""), ("member.tar", made(("a.jpg", picture(1)))[:-1024])):
        with (tmp_path / name).open("wb") as file:
            file.write(head)
            if head:
                info = tarfile.TarInfo("b.jpg")
                info.size = 10**9
                file.write(info.tobuf())
            file.truncate(file.tell() + 10**9 + 1024)
    program = (
        "import resource, sys; from jobs.cli import app as cli; from jobs.datasets import validate\n"
        "validate.RAY_FROM_BYTES = 1 << 40  # the checks are made here, where memory is measured\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"code = cli._run(['validate', {str(tmp_path)!r}])\n"
        "print(code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    code, grown_mb = map(int, last.split())
    assert code == 1
    assert grown_mb < 400  # pyarrow and Pillow themselves are most of it; a tar is 1,000
    assert time.monotonic() - began < 60
    assert any("zeros.tar" in line and "BadTar" in line for line in lines)
    assert any("member.tar: b: RefusedMember" in line for line in lines)


def test_shards_of_every_dialect_are_indexed(tmp_path: Path) -> None:
    place = tmp_path / "shards"
    (place / "deep").mkdir(parents=True)
    long = "d" * 120 + "/" + "e" * 120
    for number, (layout, prefix) in enumerate(((tarfile.GNU_FORMAT, "./"), (tarfile.PAX_FORMAT, "nested/folder/"))):
        with tarfile.open(place / f"deep/train-{number}.tar", "w", format=layout) as tar:
            for name in ("a.JPEG", "b.v2.Jpg", "é/c.webp", f"{long}.jpg", "d.png"):
                data = encode(decode(picture(1)), "webp" if "webp" in name else "png" if "png" in name else "jpeg")
                info = tarfile.TarInfo(f"{prefix}{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            readme = tarfile.TarInfo("README")
            tar.addfile(readme, io.BytesIO())
    report = index.run(str(place))
    manifest = report.manifest
    assert (manifest.samples, report.faulty, report.undecodable) == (10, 0, 0)
    assert manifest.members == {"jpeg": 2, "jpg": 2, "png": 2, "v2.jpg": 2, "webp": 2}
    assert manifest.statistics["sizes"]["width"] == {"min": 32, "median": 32, "max": 32}
    assert manifest.statistics["modes"] == {"RGB": 10}
    train = manifest.train_statistics()
    assert train.num_samples == 10
    assert open_dataset(str(place)).manifest == manifest
    keys = {run.first_key for run in open_dataset(str(place)).runs()}
    assert keys == {"a", "nested/folder/a"}
    assert errors(place) == {}
    assert cli._run(["index", str(place)]) == 2  # it is there
    assert index.run(str(place), overwrite=True, statistics=False).manifest.statistics == {}


def test_an_index_elsewhere_is_opened_as_the_dataset(tmp_path: Path, s3: Any) -> None:
    shards = open_store(f"{s3.uri('index-tests')}/{tmp_path.name}")
    for number in range(3):
        members = [(f"{n}.{kind}", picture(n)) for n in range(3) for kind in ("Cond.jpg", "out.jpg")]
        shards.write(f"x-{number}.tar", made(*members))
    place = str(tmp_path / "index")
    arguments = ["index", f"{shards.uri}/x-{{0..1}}.tar", "--member", "input=cond", "--member", "target=out"]
    assert cli._run(arguments) == 2  # where to?
    assert cli._run([*arguments, "--out", place]) == 0
    assert [entry.name for entry in shards.list()] == ["x-0.tar", "x-1.tar", "x-2.tar"]
    opened = open_dataset(place)
    assert (opened.uri, opened.store.uri, opened.manifest.kind) == (place, shards.uri, "paired")
    assert archive_store(place).uri == shards.uri
    (chunk, _) = iter_chunks(plan_archive(place, ChunkLimits()))
    (first, *_) = read_chunk(opened.store, chunk, opened.manifest.member_names)
    assert sorted(first.members) == ["input.jpg", "target.jpg"]
    assert errors(place) == {"DuplicateKey": ["0", "1", "2"]}
    text = "\n".join(inspect.run(place).lines())
    assert f"shards in {shards.uri}" in text
    shards.write("x-1.tar", made(("9.cond.jpg", picture(9)), ("9.out.jpg", picture(9))))
    assert {"SizeMismatch", "IndexMismatch", "CountMismatch"} <= errors(place).keys()


def test_a_contact_sheet_shows_both_images_of_pairs_and_gaps_where_one_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(
        made(*((f"{n}.{kind}.jpg", picture(n)) for n in range(30) for kind in ("input", "target")), ("z.jpg", b"no"))
    )
    report = inspect.run(str(tmp_path), sheet=str(tmp_path / "sheet.png"), sheet_samples=6)
    assert report.lines()[-1] == f"contact sheet: {tmp_path}/sheet.png"
    rgb = decode((tmp_path / "sheet.png").read_bytes())
    assert rgb.shape == (2 * (160 + 28 + 8) + 8, 3 * (320 + 8) + 8, 3)
    left, right = rgb[8 + 20 : 8 + 140, 8 + 20 : 8 + 140], rgb[8 + 20 : 8 + 140, 8 + 180 : 8 + 300]
    assert np.array_equal(left, right)
    assert left.std() > 0
    assert cli._run(["inspect", str(tmp_path), "--contact-sheet", "sheet.jpg"]) == 2
    assert not Path("sheet.jpg").exists()
