"""The gallery's images: measured, as thumbnails, parts of those that failed, and of an archive that has changed."""

import io
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from drawn_results import DrawnResults
from galleries import open_gallery
from PIL import Image
from samples import saved, smooth
from small_results import write_picture

from condgen.errors import CondgenError
from pipelines.gallery.gallery import Gallery
from pipelines.results.settings import BatchSettings, OutputOptions


def test_images_are_measured_if_that_is_asked_for(photographs: Path, tmp_path: Path, opened: ExitStack) -> None:
    from pipelines.gallery.measuring import Measurer

    gallery = opened.enter_context(
        open_gallery(photographs / "results", folder=tmp_path, measure=Measurer(is_color=True))
    )
    found = gallery.images(sort="diversity", descending=True)
    assert found["exact"]
    values = [item["values"].get("diversity") for item in found["items"]]
    assert values[-1] is None
    assert values[:-1] == sorted(values[:-1], reverse=True)
    assert values[0] > 5.0
    assert {column["name"] for column in gallery.overview()["columns"] if column["of"] == "measured"} == {
        "diversity",
        "measured.colorfulness",
    }


def test_thumbnails_are_small_and_kept(gallery: Gallery, photographs: Path) -> None:
    item = gallery.images(start=1, count=1)["items"][0]
    version = item["pictures"][1]["thumb"].partition("v=")[2]
    found = gallery.renditions.thumbnail("A", 1, "draw", 0, version)
    assert (found.media_type, found.is_lasting) == ("image/jpeg", True)
    with Image.open(io.BytesIO(found.data)) as image:
        assert image.size == (41, 30)
    assert gallery.renditions.thumbnail("A", 1, "draw", 0, version).data == found.data
    assert not gallery.renditions.thumbnail("A", 1, "draw", 0, "another").is_lasting
    with Image.open(io.BytesIO(gallery.renditions.full("A", 1, "input").data)) as grey:
        assert np.ptp(np.asarray(grey.convert("RGB")).astype(int), axis=2).max() <= 3


def test_an_archive_that_has_another_image_now_says_so(tmp_path: Path, opened: ExitStack) -> None:
    write_picture(tmp_path / "archive/a.png", 1)
    DrawnResults(tmp_path / "archive", tmp_path / "results").make()
    write_picture(tmp_path / "archive/a.png", 2)
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    with pytest.raises(CondgenError, match="another image"):
        gallery.renditions.thumbnail("A", 0, "original")
    assert gallery.renditions.thumbnail("A", 0, "draw").data
    gallery.close()
    shutil.rmtree(tmp_path / "archive")
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    with pytest.raises(CondgenError, match="can't be read: was it moved"):
        gallery.renditions.full("A", 0, "original")


def test_a_part_of_an_image_that_failed_is_shown(tmp_path: Path, opened: ExitStack) -> None:
    (tmp_path / "archive").mkdir()
    whole = saved(smooth(1, (200, 160)), "JPEG", quality=95)
    (tmp_path / "archive/cut.jpg").write_bytes(whole[: len(whole) // 2])
    DrawnResults(tmp_path / "archive", tmp_path / "results").make()
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    (item,) = gallery.images(of="errors")["items"]
    assert item["pictures"][0]["thumb"]
    assert gallery.renditions.thumbnail("A", 0, "input").data
    assert gallery.renditions.full("A", 0, "input").media_type == "image/jpeg"


def test_tiff_leaves_as_jpeg(tmp_path: Path, opened: ExitStack) -> None:
    write_picture(tmp_path / "archive/a.tif", 1)
    settings = BatchSettings(draws=1, output=OutputOptions(output_format="tiff"))
    DrawnResults(tmp_path / "archive", tmp_path / "results", settings).make()
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    for role in ("draw", "original"):
        assert gallery.renditions.full("A", 0, role).media_type == "image/jpeg"
