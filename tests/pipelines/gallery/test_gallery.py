"""The gallery's JSON: any part of the list, search, filters, orders, errors, what a job adds, what is damaged."""

import shutil
import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn_results import DrawnResults
from galleries import SIZES, evaluate_by_hand, open_gallery
from PIL import Image
from samples import saved, smooth, tar_of
from small_results import write_picture

from condgen.errors import ConfigError, MissingError
from pipelines.gallery.gallery import Gallery
from pipelines.results.settings import BatchSettings, OutputOptions

HOSTILE = ["<script>alert(1)</script>", "'; drop table images --", "a%b_c\\d", "\u202egnp.evil", 'say "hi"', "tab\tend"]


def keys(answer: dict[str, Any]) -> list[str]:
    return [item["key"] for item in answer["items"]]


def test_any_page_has_the_images_of_its_positions(gallery: Gallery) -> None:
    everything = [*SIZES, "broken"]
    for start in range(10):
        answer = gallery.images(start=start, count=4)
        assert keys(answer) == everything[start : start + 4]
        assert (answer["total"], answer["exact"], answer["start"]) == (9, True, start)
    item = gallery.images(start=3, count=1)["items"][0]
    assert (item["id"], item["source"], item["width"], item["height"]) == ("3", "album/3.png", 43, 30)
    assert [(one["role"], one["draw"], one["label"]) for one in item["pictures"]] == [
        ("input", None, "input"),
        ("draw", 0, "draw 0"),
        ("draw", 1, "draw 1"),
        ("original", None, "original"),
    ]
    assert item["values"] == {
        "key": "album/3",
        "source": "album/3.png",
        "status": "draws",
        "width": 43,
        "height": 30,
        "colorfulness": 0.0,
        "psnr": 17.0,
    }


@pytest.mark.parametrize("arguments", [{"start": -1}, {"count": 0}, {"count": 201}, {"sort": "no"}, {"of": "all"}])
def test_what_is_not_allowed_is_refused(gallery: Gallery, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        gallery.images(**arguments)


@pytest.mark.parametrize("text", ["um/3", "UM/3", "m/", "/3", "3"])
def test_search_finds_what_is_within_keys(gallery: Gallery, text: str) -> None:
    expected = [key for key in SIZES if text.lower() in key]
    answer = gallery.images(search=text)
    assert (keys(answer), answer["total"], answer["exact"]) == (expected, len(expected), True)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("width:eq:43", ["album/3"]),
        ("width:ne:43", [key for key in SIZES if key != "album/3"]),
        ("width:lt:42", ["album/0", "album/1"]),
        ("width:le:42", ["album/0", "album/1", "album/2"]),
        ("width:gt:46", ["album/7"]),
        ("width:ge:46.0", ["album/6", "album/7"]),
        ("key:contains:ROK", ["broken"]),
        ("key:eq:album/1", ["album/1"]),
        ("status:eq:error", ["broken"]),
        ("psnr:gt:18.5", ["album/0", "album/1"]),
    ],
)
def test_each_operator_filters(gallery: Gallery, where: str, expected: list[str]) -> None:
    answer = gallery.images(where=[where])
    assert (keys(answer), answer["total"]) == (expected, len(expected))


def test_filters_search_and_order_go_together(gallery: Gallery) -> None:
    answer = gallery.images(
        where=["width:ge:41", "width:le:45"], search="album", sort="width", descending=True, start=1, count=3
    )
    assert (keys(answer), answer["total"]) == (["album/4", "album/3", "album/2"], 5)


@pytest.mark.parametrize(
    "where", ["no:eq:1", "width", "width:eq", "width:like:4", "width:eq:x", "width:contains:4", "width:eq:nan"]
)
def test_a_filter_of_another_form_is_refused(gallery: Gallery, where: str) -> None:
    with pytest.raises(ConfigError, match="where"):
        gallery.images(where=[where])


def test_orders_have_ties_by_place_and_what_has_no_value_last(gallery: Gallery) -> None:
    ascending = keys(gallery.images(sort="colorfulness"))
    assert ascending == [f"album/{number}" for number in (0, 3, 6, 1, 4, 7, 2, 5)] + ["broken"]
    descending = keys(gallery.images(sort="colorfulness", descending=True))
    assert descending == [f"album/{number}" for number in (2, 5, 1, 4, 7, 0, 3, 6)] + ["broken"]
    assert keys(gallery.images(sort="psnr", descending=True))[-2:] == ["album/5", "broken"]
    assert keys(gallery.images(sort="psnr"))[-2:] == ["album/5", "broken"]
    assert [column["better"] for column in gallery.overview()["columns"] if column["of"] == "evaluation"] == [
        "higher",
        None,
    ]


def test_errors_are_a_list_of_their_own(gallery: Gallery) -> None:
    answer = gallery.images(of="errors")
    (item,) = answer["items"]
    assert (answer["total"], item["key"], item["error"]["stage"], item["error"]["error"]) == (
        1,
        "broken",
        "decode",
        "NotAnImage",
    )
    assert "--retry-errors" in item["commands"]["retry"]
    assert item["pictures"][1]["missing"]
    assert gallery.overview()["results"][0]["counts"] == {
        "images": 9,
        "committed": 9,
        "draws": 16,
        "errors": 1,
        "filtered": 0,
    }


def test_details_have_every_column_and_the_footer(gallery: Gallery) -> None:
    details = gallery.image(2)["details"]
    assert details["path"] == ["album/2.draw0.jpg", "album/2.draw1.jpg"]
    assert len(details["image_sha256"]) == 2
    assert details["file versions"] == {"condgen": "0"}
    assert details["plan"] == "000"
    for place in (9, -1, 10**12):
        with pytest.raises(MissingError):
            gallery.image(place)


def test_hostile_keys_are_texts_and_can_be_found(tmp_path: Path, opened: ExitStack) -> None:
    image = saved(Image.new("RGB", (16, 16), (200, 40, 90)))
    (tmp_path / "archive").mkdir()
    pq.write_table(pa.table({"image": [image] * len(HOSTILE), "key": HOSTILE}), tmp_path / "archive/t.parquet")
    DrawnResults(tmp_path / "archive", tmp_path / "results").make()
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    assert keys(gallery.images()) == HOSTILE
    for key in HOSTILE:
        assert keys(gallery.images(search=key)) == [key]
        assert keys(gallery.images(where=[f"key:eq:{key}"])) == [key]
        assert keys(gallery.images(where=[f"key:contains:{key[1:]}"])) == [key]
    assert keys(gallery.images(search="%")) == ["a%b_c\\d"]
    assert keys(gallery.images(search="_c")) == ["a%b_c\\d"]
    assert gallery.renditions.thumbnail("A", 3, "original").media_type == "image/jpeg"


def shard(path: Path, names: list[str], first: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    members = []
    for number, name in enumerate(names, first):
        members += [(f"{name}.png", saved(smooth(number, (36, 28)))), (f"{name}.json", b'{"year": %d}' % number)]
    path.write_bytes(tar_of(members))


def test_shards_and_what_was_copied_from_them(tmp_path: Path, opened: ExitStack) -> None:
    shard(tmp_path / "archive/a.tar", [f"{number}" for number in range(20)], 0)
    shard(tmp_path / "archive/b.tar", ["0", "1", "bad"], 20)
    settings = BatchSettings(draws=1, chunk_samples=18, output=OutputOptions(columns=(("year", "int64"),)))
    DrawnResults(tmp_path / "archive", tmp_path / "results", settings).make()
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    assert [(item["source"], item["key"]) for item in gallery.images(start=19, count=3)["items"]] == [
        ("a.tar", "19"),
        ("b.tar", "0"),
        ("b.tar", "1"),
    ]
    assert keys(gallery.images(where=["year:ge:21"])) == ["1", "bad"]
    assert gallery.images(start=20, count=1)["items"][0]["values"]["year"] == 20
    # The archive's own images, of both runs of the first shard and of the second one.
    for place in (0, 17, 19, 21):
        found = gallery.renditions.full("A", place, "original")
        assert (found.media_type, found.data) == ("image/png", saved(smooth(place, (36, 28))))


def test_a_job_that_grew_and_tried_failures_again(tmp_path: Path, opened: ExitStack) -> None:
    for name in ("a", "b", "c", "e"):
        write_picture(tmp_path / f"archive/{name}.png", ord(name))
    whole = (tmp_path / "archive/b.png").read_bytes()
    for name in ("b", "c"):
        (tmp_path / f"archive/{name}.png").write_bytes(whole[:60])
    drawn = DrawnResults(tmp_path / "archive", tmp_path / "results", BatchSettings(draws=2, chunk_samples=2))
    drawn.plan(), drawn.work()
    write_picture(tmp_path / "archive/d.png", 4)
    drawn.plan(), drawn.work()
    (tmp_path / "archive/b.png").write_bytes(whole)
    drawn.plan_retry(), drawn.work()
    (tmp_path / "archive/c.png").write_bytes(whole)
    drawn.plan_retry(), drawn.work()
    drawn.finish()
    for wait in (False, True):  # from the files, and from the index
        gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path / str(wait), wait=wait))
        assert keys(gallery.images()) == ["a", "b", "c", "e", "d"]
        assert [item["values"]["status"] for item in gallery.images()["items"]] == ["draws"] * 5
        for place in range(5):
            assert gallery.renditions.thumbnail("A", place, "draw", 1).data
    assert gallery.images(of="errors")["total"] == 0
    assert gallery.image(1)["details"]["plan"] == "002"
    assert gallery.image(2)["details"]["plan"] == "003"


def test_a_job_that_goes_on_is_shown_as_far_as_it_is(tmp_path: Path, opened: ExitStack) -> None:
    for number in range(9):
        write_picture(tmp_path / f"archive/{number}.png", number)
    drawn = DrawnResults(tmp_path / "archive", tmp_path / "results")
    drawn.plan()
    drawn.work(1)
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path, look_again_s=0.05))
    assert keys(gallery.images()) == ["0", "1", "2"]
    assert gallery.progress() == {
        "index": {"done": 1, "total": 1, "unit": "parts"},
        "committed": 3,
        "total": 9,
        "unfinished": True,
        "pending": False,
    }
    drawn.work(1)
    gallery.wait()
    assert keys(gallery.images(start=2, count=9)) == ["2", "3", "4", "5"]
    assert keys(gallery.images(search="5")) == ["5"]
    drawn.work()
    drawn.finish()
    gallery.wait(finished=True)
    assert gallery.images()["total"] == 9
    assert not gallery.progress()["unfinished"]


def test_a_committed_chunk_behind_one_that_is_not_keeps_its_places(tmp_path: Path, opened: ExitStack) -> None:
    for number in range(9):
        write_picture(tmp_path / f"archive/{number}.png", number)
    drawn = DrawnResults(tmp_path / "archive", tmp_path / "results")
    drawn.plan()
    drawn.work()
    sorted((tmp_path / "results/draws").iterdir())[1].unlink()
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    assert [(item["id"], item["key"]) for item in gallery.images(start=2, count=2)["items"]] == [("2", "2"), ("6", "6")]
    pending = gallery.image(4)
    assert pending["pictures"][1]["missing"] == "not done yet"


def test_a_damaged_file_is_told_of_its_images_alone(tmp_path: Path, opened: ExitStack) -> None:
    for number in range(9):
        write_picture(tmp_path / f"archive/{number}.png", number)
    DrawnResults(tmp_path / "archive", tmp_path / "results").make()
    damaged = sorted((tmp_path / "results/draws").iterdir())[1]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-100])
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    items = gallery.images()["items"]
    assert [item["values"]["status"] for item in items] == ["draws"] * 3 + ["error"] * 3 + ["draws"] * 3
    assert "damaged" in items[4]["error"]["message"] or "no Parquet" in items[4]["error"]["message"]
    assert gallery.images(of="errors")["total"] == 3
    gallery.close()
    damaged.write_bytes(whole)  # another start looks again
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    assert gallery.images(of="errors")["total"] == 0
    assert keys(gallery.images(search="4")) == ["4"]


def test_a_chunk_of_which_nothing_was_made_has_its_errors(tmp_path: Path, opened: ExitStack) -> None:
    (tmp_path / "archive").mkdir()
    for number in range(3):
        (tmp_path / f"archive/{number}.jpg").write_bytes(b"nothing")
    write_picture(tmp_path / "archive/3.png", 3)
    DrawnResults(tmp_path / "archive", tmp_path / "results").make()
    for wait in (False, True):
        gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path / str(wait), wait=wait))
        assert [item["values"]["status"] for item in gallery.images()["items"]] == ["error"] * 3 + ["draws"]
    assert keys(gallery.images(of="errors")) == ["0", "1", "2"]


def test_images_that_were_left_out_say_so(tmp_path: Path, opened: ExitStack) -> None:
    for name in ("a", "left-out", "z"):
        write_picture(tmp_path / f"archive/{name}.png", len(name))
    DrawnResults(tmp_path / "archive", tmp_path / "results").make()
    gallery = opened.enter_context(open_gallery(tmp_path / "results", folder=tmp_path))
    item = gallery.images()["items"][1]
    assert (item["values"]["status"], item["pictures"][1]["missing"]) == (
        "filtered",
        "left out by the job's own function",
    )
    assert item["error"] is None


def test_an_index_is_gone_on_with_and_one_of_other_results_is_not(
    photographs: Path, tmp_path: Path, opened: ExitStack
) -> None:
    results = tmp_path / "results"
    shutil.copytree(photographs / "results", results)
    first = opened.enter_context(open_gallery(results, folder=tmp_path))
    path = first.first.index.path
    first.close()
    with sqlite3.connect(path) as index:  # as a process that was killed would have left it
        index.execute("DELETE FROM chunks WHERE number > 0")
        index.execute("DELETE FROM images WHERE place > 2")
        index.execute("INSERT INTO keys(keys) VALUES ('rebuild')")
        index.execute("UPDATE images SET width = 999 WHERE place = 0")
    again = opened.enter_context(open_gallery(results, folder=tmp_path))
    assert keys(again.images(where=["width:eq:999"])) == ["album/0"]  # was not read again
    assert keys(again.images(search="broken")) == ["broken"]
    assert keys(again.images(search="album"))[-1] == "album/7"
    again.close()
    with sqlite3.connect(path) as index:
        index.execute("UPDATE notes SET value = '[\"other\"]' WHERE name = 'plans'")
    anew = opened.enter_context(open_gallery(results, folder=tmp_path))
    assert anew.images(where=["width:eq:999"])["total"] == 0
    assert anew.images(search="album")["total"] == 8
    anew.close()
    path.write_bytes(b"no database" * 100)
    mended = opened.enter_context(open_gallery(results, folder=tmp_path))
    assert mended.images(search="album")["total"] == 8


def test_two_results_are_paired_by_source_and_key(photographs: Path, tmp_path: Path, opened: ExitStack) -> None:
    settings = BatchSettings(draws=1, chunk_samples=4)
    DrawnResults(photographs / "archive", tmp_path / "other", settings, tint="b").make()
    values = {(f"{key}.png", key): (1.0, 10.0 + number) for number, key in enumerate(SIZES)}
    evaluate_by_hand(tmp_path / "other", values)
    gallery = opened.enter_context(open_gallery(photographs / "results", tmp_path / "other", folder=tmp_path))
    item = gallery.images(start=5, count=1)["items"][0]
    labels = [(one["result"], one["label"]) for one in item["pictures"] if one["role"] == "draw"]
    assert labels == [("A", "draw 0, A"), ("A", "draw 1, A"), ("B", "draw 0, B")]
    assert gallery.renditions.full("B", 5, "draw").data != gallery.renditions.full("A", 5, "draw").data
    assert gallery.images(start=8, count=1)["items"][0]["pictures"][-2]["missing"] == "no draws: it failed"
    assert [one["name"] for one in gallery.overview()["results"]] == ["A", "B"]
    # psnr of B minus that of A: (10 + n) - (20 - n)
    found = gallery.images(sort="B-A.psnr", descending=True)
    assert (keys(found)[:3], found["exact"]) == (["album/7", "album/6", "album/4"], True)
    assert found["items"][0]["values"]["B-A.psnr"] == 4.0
    assert keys(gallery.images(where=["B.psnr:ge:16"])) == ["album/6", "album/7"]


def test_results_of_another_archive_are_no_pair(photographs: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "archive/a.png", 1)
    DrawnResults(tmp_path / "archive", tmp_path / "results").make()
    with pytest.raises(ConfigError, match="same archive"):
        open_gallery(photographs / "results", tmp_path / "results", folder=tmp_path).__enter__()
