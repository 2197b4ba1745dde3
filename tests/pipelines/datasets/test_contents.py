"""What a place is taken for, and that nothing of a listing is lost between what is taken and what is left out."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from condgen.errors import ConfigError, MissingError
from pipelines.datasets.contents import (
    KINDS,
    MixedContentsError,
    NothingTakenError,
    kind_of_bytes,
    kind_of_name,
    read_contents,
)
from pipelines.datasets.opening import NoShardsError, open_archive, open_dataset
from pipelines.datasets.shard_names import locate


def image() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()


def shard(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(image())
            tar.addfile(info, io.BytesIO(image()))
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"image": [image()]}), out)
    return out.getvalue()


CONTENT: dict[str, Callable[[], bytes]] = {
    "jpg": image, "JPG": image, "": image, "scan": image, "tar": lambda: shard("a.png"), "parquet": parquet,
    "csv": lambda: b"url\nx.jpg\n", "gz": lambda: b"\x1f\x8b\x08",
}  # fmt: skip


def fill(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT.get(path.suffix.lstrip("."), lambda: b"words")())
    return str(folder)


def taken(uri: str, **options: Any) -> tuple[str, list[str]]:
    contents = read_contents(locate(uri), **options)
    return contents.kind, [entry.name for entry in contents.entries]


@pytest.mark.parametrize(
    ("names", "kind", "wanted"),
    [
        (["a.jpg", "b/c.JPG", "no-extension", "x.scan"], "images", ["a.jpg", "b/c.JPG", "no-extension", "x.scan"]),
        (["a.jpg", "manifest.json", "README.md", "metadata.csv", "film.mp4", "x.zip"], "images", ["a.jpg"]),
        (["x.tar", "y.tar", "README.md", "x.json"], "shards", ["x.tar", "y.tar"]),
        (["0.tar", "0.parquet", "0_stats.json"], "shards", ["0.tar"]),
        (["part-0.parquet", "_SUCCESS", "README.md", ".gitattributes"], "parquet", ["part-0.parquet"]),
        (["list.csv", "README.md", "_SUCCESS"], "table", ["list.csv"]),
        (["a.parquet", "dictionary.csv"], "parquet", ["a.parquet"]),
        (["a.jpg", "@eaDir/a.jpg", ".thumbnails/a.jpg", "__MACOSX/._a.jpg", "Thumbs.db"], "images", ["a.jpg"]),
        (["a.jpg", "x.tar.gz"], "images", ["a.jpg"]),
    ],
)
def test_a_place_is_what_its_names_tell_and_the_rest_is_counted(
    tmp_path: Path, names: list[str], kind: str, wanted: list[str]
) -> None:
    contents = read_contents(locate(fill(tmp_path, *names)))
    assert (contents.kind, [entry.name for entry in contents.entries]) == (kind, wanted)
    assert len(contents.entries) + sum(contents.left_out.values()) == len(names)
    assert f"{len(names) - len(wanted)} other file" in contents.describe() or len(names) == len(wanted)


def test_where_no_name_tells_the_first_bytes_do(tmp_path: Path) -> None:
    for folder, content in {"images": image(), "shards": shard("a.png"), "parquet": parquet()}.items():
        for number in range(3):
            path = tmp_path / folder / f"key-{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        assert taken(str(tmp_path / folder)) == (folder, ["key-0", "key-1", "key-2"])


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["a.jpg", "b.jpg", "backup.tar"], {"images", "shards"}),
        (["photo-without-extension", "backup.tar"], {"images", "shards"}),
        (["a.jpg", "b.parquet"], {"images", "parquet"}),
        (["x.tar", "y.parquet"], {"shards", "parquet"}),
    ],
)
def test_of_two_kinds_none_is_guessed(tmp_path: Path, names: list[str], kinds: set[str]) -> None:
    uri = fill(tmp_path, *names)
    with pytest.raises(MixedContentsError) as error:
        open_archive(uri)
    assert {kind for kind in KINDS if f"--as {kind}" in str(error.value)} == kinds
    for kind in kinds:
        contents = read_contents(locate(uri), taken_as=kind)
        assert len(contents.entries) + sum(contents.left_out.values()) == len(names)


def test_a_command_that_takes_one_kind_leaves_the_others_out(tmp_path: Path) -> None:
    uri = fill(tmp_path, "a.jpg", "x.tar", "y.parquet")
    assert taken(uri, kinds=("shards",)) == ("shards", ["x.tar"])
    assert open_dataset(uri).manifest.samples == 1
    with pytest.raises(NoShardsError, match=r"but 1 \.jpg"):
        open_dataset(fill(tmp_path / "photos", "a.jpg"))


@pytest.mark.parametrize(
    ("pattern", "kind", "count"),
    [
        ("*.jpg", "images", 2), ("a.jpg", "images", 1), ("{a,b}.jpg", "images", 2), ("sub/*", "images", 1),
        ("*.tar", "shards", 1), ("x.tar", "shards", 1), ("list.csv", "table", 1), ("no-extension", "images", 1),
    ],
)  # fmt: skip
def test_a_file_and_a_pattern_are_taken_as_they_are_typed(tmp_path: Path, pattern: str, kind: str, count: int) -> None:
    uri = fill(tmp_path, "a.jpg", "b.jpg", "no-extension", "sub/c.jpg", "sub/c.txt", "x.tar", "list.csv")
    got, names = taken(f"{uri}/{pattern}")
    assert (got, len(names)) == (kind, count)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**/*.jpg", ["0.jpg", "a/1.jpg", "a/b/2.jpg"]),
        ("a/**/*.jpg", ["1.jpg", "b/2.jpg"]),
        ("**/b/*", ["a/b/2.jpg"]),
        ("a/**", ["1.jpg", "b/2.jpg"]),
        ("[1930]/*.jpg", ["3.jpg"]),
        ("[1930]", ["3.jpg"]),
        ("*/*.jpg", ["[1930]/3.jpg", "a/1.jpg"]),
    ],
)
def test_globs_are_those_of_a_shell(tmp_path: Path, pattern: str, names: list[str]) -> None:
    uri = fill(tmp_path, "0.jpg", "a/1.jpg", "a/b/2.jpg")
    if "1930" in pattern or pattern == "*/*.jpg":
        fill(tmp_path, "[1930]/3.jpg")
    assert taken(f"{uri}/{pattern}") == ("images", names)


def test_a_folder_may_be_called_as_a_shard(tmp_path: Path) -> None:
    assert taken(fill(tmp_path / "photos.tar", "0.jpg")) == ("images", ["0.jpg"])


def test_what_the_user_says_decides(tmp_path: Path) -> None:
    uri = fill(tmp_path, "a.jpg", "b", "x.tar", "notes.txt")
    assert taken(uri, taken_as="images") == ("images", ["a.jpg", "b"])
    assert taken(uri, taken_as="shards") == ("shards", ["x.tar"])
    assert taken(f"{uri}/notes.txt", taken_as="images") == ("images", ["notes.txt"])
    assert taken(fill(tmp_path / "texts", "a.txt"), taken_as="images") == ("images", ["a.txt"])
    with pytest.raises(NothingTakenError, match="Parquet"):
        taken(uri, taken_as="parquet")
    with pytest.raises(ConfigError, match="did you mean 'shards'"):
        taken(uri, taken_as="shard")


def test_what_can_not_be_taken_is_told(tmp_path: Path) -> None:
    for names, message in (
        (["x.tar.gz", "y.tgz"], "compressed shards, such as x.tar.gz"),
        (["README.md", "a.pdf"], r"1 \.md, 1 \.pdf|1 \.pdf, 1 \.md"),
    ):
        with pytest.raises(NothingTakenError, match=message):
            open_archive(fill(tmp_path / names[0], *names))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingTakenError, match="no files"):
        open_archive(str(tmp_path / "empty"))
    with pytest.raises(MissingError):
        open_archive(str(tmp_path / "missing.jpg"))


@pytest.mark.parametrize(
    "text", [b'{"@context": "http://iiif.io/api/presentation/3/context.json"}', b'{"name": "app"}', b"[]", b"not JSON"]
)
def test_a_manifest_of_something_else_is_a_file_like_others(tmp_path: Path, text: bytes) -> None:
    for names, kind in ((["a.jpg"], "images"), (["x.tar"], "shards")):
        folder = tmp_path / kind
        fill(folder, *names)
        (folder / "manifest.json").write_bytes(text)
        (folder / "domains.json").write_text(json.dumps({"domains": ["example.org"]}))
        archive = open_archive(str(folder))
        assert archive.left_out == {".json": 2}
        assert (archive.dataset is not None) == (kind == "shards")


def test_an_unreadable_file_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert taken(str(tmp_path)) == ("images", ["gone"])


def test_names_and_bytes() -> None:
    for name, kind in {
        "a.JPEG": "images", "a.tiff": "images", "a.tar": "shards", "a.tar.gz": "compressed", "a.TGZ": "compressed",
        "a.csv.gz": "table", "a.ndjson": "table", "a/.git/config": "hidden", "a/@eaDir/b.jpg": "hidden",
        "DSC_0001": None, "_DSC0001": None, "a.scan": None, "README": "other", "dir/_SUCCESS": "other",
        "photos.tar/a.jpg": "images", "a.jpg.part": "other",
    }.items():  # fmt: skip
        assert kind_of_name(name) == kind, name
    assert kind_of_bytes(image()[:512]) == "images"
    assert kind_of_bytes(shard("a.png")[:512]) == "shards"
    assert kind_of_bytes(parquet()[:512]) == "parquet"
    assert kind_of_bytes(b"") is None
