"""The gallery in a real browser, against the real server: one result, two of them, and one that is still being made."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import (
    CUT_KEY,
    HOSTILE_SHOWN,
    SEVERAL_KEYS,
    keep_screenshot,
    open_page,
    overflow_px,
    served,
    settings,
    violations,
    wait_for_picture,
    write_archive,
)
from drawn_results import DrawnResults

from jobs.evaluation.compare import run as compare
from pipelines.evaluation.job import evaluate
from pipelines.evaluation.options import EvaluateOptions

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.slow

NUM_IMAGES = len(SEVERAL_KEYS) + 2


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("gallery") / "archive")


@pytest.fixture(scope="module")
def results(archive: Path) -> list[str]:
    """Two results of the same archive."""
    places = [archive.parent / name for name in ("a", "b")]
    for place, tint in zip(places, ("", "other"), strict=True):
        DrawnResults(archive, place, settings(), tint=tint).make()
    return [str(place) for place in places]


@pytest.fixture(scope="module")
def gallery(results: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gallery of one result."""
    with served(results[:1], tmp_path_factory.mktemp("cache")) as address:
        yield address


@pytest.fixture
def page(browser: Any, gallery: str) -> Any:
    opened = open_page(browser, gallery)
    yield opened
    assert opened.said == []
    opened.close()


def keys(page: Any) -> list[str]:
    return page.locator(".card h3 bdi").all_text_contents()


def wait_for_index(page: Any) -> None:
    page.wait_for_selector(".progress[hidden]", state="attached")


def test_the_result_and_its_images_are_there(page: Any) -> None:
    assert len(keys(page)) == NUM_IMAGES
    assert HOSTILE_SHOWN in keys(page)
    assert page.evaluate("window.hacked") is None
    tiles = page.locator(".tiles li").all_text_contents()
    assert tiles[0] == f"{NUM_IMAGES}images in"
    assert "token" not in page.url
    first = page.locator(".card").first
    assert first.locator("figcaption").count() == 4
    wait_for_picture(first.locator("figure.draw img").first)


def test_search_filter_and_order_ask_the_server(page: Any) -> None:
    wait_for_index(page)
    page.get_by_label("Key contains").fill("tower")
    expect(page.locator(".card")).to_have_count(1)
    page.get_by_label("Key contains").fill("")
    expect(page.locator(".card")).to_have_count(NUM_IMAGES, timeout=60_000)
    page.get_by_label("Order", exact=True).select_option(label="most colorful")
    expect(page.locator(".value.is-sorted").first).to_be_visible()
    down = [float(text) for text in page.locator(".value.is-sorted b").all_text_contents()]
    assert down == sorted(down, reverse=True)
    assert len(down) == len(SEVERAL_KEYS) + 1
    page.get_by_text("Filter by a column").click()
    page.get_by_label("Column", exact=True).select_option(label="key")
    page.get_by_label("Value", exact=True).fill("city/")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(2)


def test_a_jump_goes_to_an_image_by_its_number(browser: Any, gallery: str) -> None:
    page = open_page(browser, gallery)
    page.get_by_label("Go to number").fill("4")
    page.keyboard.press("Enter")
    expect(page.locator(".place").first).to_contain_text(re.compile("^4–"))
    assert len(keys(page)) == NUM_IMAGES - 3
    page.close()


def test_the_dialog_has_full_size_values_and_commands(page: Any) -> None:
    page.locator("button.key", has_text="boats").click()
    dialog = page.get_by_role("dialog", name="boats")
    page.wait_for_selector("dialog table")
    image = dialog.locator(".frame > img")
    wait_for_picture(image)
    assert "/full/" in image.get_attribute("src")
    text = dialog.text_content()
    assert "condgen redraw" in text
    assert "condgen extract" in text
    assert "source_sha256" in text
    assert violations(page) == []
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator(":focus")).to_have_text(re.compile("^boats"))  # once the dialog has told that it closed


def test_an_error_is_shown_with_its_input_and_what_tries_it_again(page: Any) -> None:
    page.get_by_role("button", name="Errors (1)").click()
    card = page.locator(".card-error")
    card.wait_for()
    assert CUT_KEY in card.text_content()
    assert "--retry-errors" in card.text_content()
    wait_for_picture(card.locator("img"))
    assert violations(page) == []


def test_what_is_selected_stays_over_pages(browser: Any, gallery: str) -> None:
    page = open_page(browser, f"{gallery}#count=3")
    page.locator(".card input[type=checkbox]").first.check()
    page.get_by_role("navigation", name="Pages, above the images").get_by_role("button", name="Next").click()
    expect(page.locator(".place").first).to_contain_text(re.compile("^4–"))
    page.locator(".card input[type=checkbox]").first.check()
    assert "2 images selected" in page.get_by_role("region", name="Selection").text_content()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_the_page_fits_and_is_accessible(browser: Any, gallery: str, width: int, scheme: str) -> None:
    page = open_page(browser, gallery, width=width, scheme=scheme)
    page.wait_for_load_state("networkidle")
    keep_screenshot(page, f"gallery-{width}-{scheme}", full=True)
    assert overflow_px(page) == 0
    assert violations(page) == []
    page.close()


def test_two_results_stand_side_by_side(browser: Any, results: list[str], tmp_path: Path) -> None:
    with served(results, tmp_path) as address:
        page = open_page(browser, address)
        assert page.locator("#about h2").all_text_contents()[:2] == ["Result A", "Result B"]
        card = page.locator(".card", has_text="boats")
        groups = card.locator(".result").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
        assert groups == ["Input and original", "Result A", "Result B"]
        assert card.locator("figure.draw").count() == 4
        page.locator("button.key", has_text="boats").click()
        page.wait_for_selector("dialog table")
        assert page.get_by_label("Left", exact=True).evaluate("one => one.selectedOptions[0].text") == "draw 0, A"
        assert page.get_by_label("Right", exact=True).evaluate("one => one.selectedOptions[0].text") == "draw 0, B"
        keep_screenshot(page, "gallery-two-dialog")
        page.keyboard.press("Escape")
        page.locator("#viewer").scroll_into_view_if_needed()
        page.wait_for_load_state("networkidle")
        keep_screenshot(page, "gallery-two")
        assert violations(page) == []
        assert page.said == []
        page.close()


def test_what_compare_says_of_two_evaluations_stands_above_them(
    browser: Any, results: list[str], tmp_path: Path
) -> None:
    """The whole of it: condgen evaluate of both, condgen gallery as a process, condgen compare's own lines."""
    for place in results:
        evaluate(EvaluateOptions(results=place, weights="none", size_px=64, resamples=100))
    lines = compare(*results).lines()
    assert any("really better" in line or "No real difference" in line for line in lines)
    command = [sys.executable, "-m", "jobs", "gallery", *results]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            page = open_page(browser, process.stdout.readline().split()[1])
            shown = page.locator("section", has_text="B compared with A").locator("pre")
            shown.wait_for()
            assert shown.text_content() == "\n".join(lines)
            assert page.get_by_text("Evaluation", exact=True).count() == 2
            page.wait_for_load_state("networkidle")
            keep_screenshot(page, "gallery-compared")
            assert violations(page) == []
            assert overflow_px(page) == 0
            assert page.said == []
            page.close()
        finally:
            process.kill()


def test_results_that_are_still_being_made_grow_while_they_are_watched(
    browser: Any, archive: Path, tmp_path: Path
) -> None:
    drawn = DrawnResults(archive, tmp_path / "results", settings())
    drawn.plan()
    drawn.work(most=1)
    with served([str(tmp_path / "results")], tmp_path / "cache") as address:
        page = open_page(browser, address)
        assert len(keys(page)) == 3
        page.get_by_text("The job is not complete: 3 of 8 images committed").wait_for()
        page.locator("button.key").first.focus()
        drawn.work()
        expect(page.locator(".card")).to_have_count(NUM_IMAGES, timeout=60_000)
        assert page.evaluate("document.activeElement.className") == "key", "what is there stays as it is"
        page.close()
