"""`condgen extract --key` and `--keys`: those images alone, and no row group of others is read."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn_results import DrawnResults
from PIL import Image
from samples import saved, smooth, tar_of
from small_results import write_picture

from condgen.errors import ConfigError
from jobs.cli import app as cli
from jobs.results.extract import listed_images, run_selected
from pipelines.results.settings import BatchSettings
from pipelines.storage.parquet import StoredParquet


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("keys")
    for number in range(9):
        write_picture(root / f"archive/album/{number}.png", number, (24, 20))
    write_picture(root / "archive/album/4.webp", 40, (24, 20))
    (root / "archive/broken.jpg").write_bytes(b"nothing")
    DrawnResults(root / "archive", root / "results").make()
    return root


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stored(results: Path) -> dict[tuple[str, int], bytes]:
    rows = [row for path in (results / "draws").iterdir() for row in pq.read_table(path).to_pylist()]
    return {(row["source"], row["draw"]): row["image"]["bytes"] for row in rows}


def extract(root: Path, out: Path, *arguments: str) -> int:
    return cli._run(["extract", str(root / "results"), str(out), *arguments])


def test_images_of_keys_are_written_under_their_names(loose: Path, tmp_path: Path) -> None:
    assert extract(loose, tmp_path, "--key", "album/2", "--key", "album/7", "--draw", "1") == 0
    images = stored(loose / "results")
    assert files(tmp_path) == {"album/2.jpg": images["album/2.png", 1], "album/7.jpg": images["album/7.png", 1]}


def test_two_images_of_a_key_are_both_written_unless_a_source_is_named(loose: Path, tmp_path: Path) -> None:
    assert extract(loose, tmp_path / "both", "--key", "album/4") == 0
    assert sorted(files(tmp_path / "both")) == ["album/4.jpg", "album/4.webp.jpg"]
    assert extract(loose, tmp_path / "one", "--key", "album/4", "--source", "album/4.webp", "--draw", "all") == 0
    images = stored(loose / "results")
    assert files(tmp_path / "one") == {f"album/4.draw{k}.jpg": images["album/4.webp", k] for k in (0, 1)}


def test_keys_come_from_a_file_or_from_stdin(loose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys.txt").write_text("album/1\r\n\nalbum/4.png\talbum/4\n")
    assert extract(loose, tmp_path / "a", "--keys", str(tmp_path / "keys.txt")) == 0
    assert sorted(files(tmp_path / "a")) == ["album/1.jpg", "album/4.jpg"]
    monkeypatch.setattr("sys.stdin", io.StringIO("album/8"))
    assert extract(loose, tmp_path / "b", "--keys", "-") == 0
    assert sorted(files(tmp_path / "b")) == ["album/8.jpg"]


def test_the_same_again_writes_nothing_and_other_files_are_left_alone(loose: Path, tmp_path: Path) -> None:
    assert extract(loose, tmp_path, "--key", "album/2") == 0
    (tmp_path / "album/3.jpg").write_bytes(b"mine")
    report = run_selected(str(loose / "results"), str(tmp_path), [(None, "album/2"), (None, "album/3")])
    assert (report.exit_code, report.found.left, report.found.written, report.found.blocked) == (1, 1, 0, 1)
    assert files(tmp_path)["album/3.jpg"] == b"mine"


def test_keys_that_are_not_there_are_told(loose: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract(loose, tmp_path, "--key", "album/2", "--key", "album/99", "--key", "broken") == 1
    assert "not found     2 keys of no image with draws: album/99, broken" in capsys.readouterr().out
    assert extract(loose, tmp_path, "--key", "album/99") == 2
    assert capsys.readouterr().err.startswith("error: --key: got 'album/99'")
    assert extract(loose, tmp_path, "--source", "album/2.png") == 2
    assert extract(loose, loose / "archive/x", "--key", "album/2") == 2
    (tmp_path / "none.txt").write_text("\n\n")
    with pytest.raises(ConfigError, match="--keys"):
        listed_images([], None, str(tmp_path / "none.txt"))


def test_only_row_groups_that_have_them_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive").mkdir()
    for shard in range(3):
        members = [(f"{shard}-{number:03d}.png", saved(smooth(number, (16, 16)))) for number in range(90)]
        (tmp_path / f"archive/{shard}.tar").write_bytes(tar_of(members))
    DrawnResults(tmp_path / "archive", tmp_path / "results", BatchSettings(draws=2, chunk_samples=90)).make()
    read: list[Any] = []
    real = StoredParquet.read_row_groups

    def noted(self: StoredParquet, groups: Any, columns: Any = None) -> pa.Table:
        if "draw" in self.schema_arrow.names:  # a draws file, and no plan
            read.append((list(groups), columns))
        return real(self, groups, columns)

    monkeypatch.setattr(StoredParquet, "read_row_groups", noted)
    assert extract(tmp_path, tmp_path / "out", "--key", "1-050") == 0
    assert sorted(files(tmp_path / "out")) == ["1-050.jpg"]
    assert [groups for groups, columns in read if columns == ["image"]] == [[1]]  # rows 100 and 101, of one file
    assert len(read) == 2


def test_results_that_are_not_complete_will_do_and_the_names_are_by_shard_where_they_must(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    for shard in ("a", "b", "c"):
        picture = Image.new("RGB", (16, 16), (ord(shard), 40, 90))
        (tmp_path / f"archive/{shard}.tar").write_bytes(
            tar_of([("same.png", saved(picture)), (f"{shard}.png", saved(picture))])
        )
    drawn = DrawnResults(tmp_path / "archive", tmp_path / "results")
    drawn.plan()
    drawn.work(2)
    assert extract(tmp_path, tmp_path / "both", "--key", "same", "--key", "a") == 0
    assert sorted(files(tmp_path / "both")) == ["a/a.jpg", "a/same.jpg", "b/same.jpg"]
    assert extract(tmp_path, tmp_path / "one", "--key", "same", "--source", "b.tar") == 0
    assert sorted(files(tmp_path / "one")) == ["same.jpg"]
    assert extract(tmp_path, tmp_path / "gone", "--key", "c") == 2


def test_in_object_storage(loose: Path, s3: Any) -> None:
    bucket = s3.uri("extract-keys")
    s3.filesystem().put(str(loose / "results"), f"{bucket}/results", recursive=True)
    report = run_selected(f"{bucket}/results", f"{bucket}/images", [(None, "album/5")], draw=None)
    assert (report.exit_code, report.found.written) == (0, 2)
    listed = [name.removeprefix("extract-keys/images/") for name in s3.filesystem().find(f"{bucket}/images")]
    assert sorted(listed) == ["album/5.draw0.jpg", "album/5.draw1.jpg"]
