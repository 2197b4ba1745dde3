"""The report in a real browser: what it shows, how it is used by mouse and keyboard, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from browsing import (
    CUT_KEY,
    HOSTILE_KEY,
    HOSTILE_SHOWN,
    SEVERAL_KEYS,
    complete_run,
    keep_screenshot,
    open_page,
    overflow_px,
    settings,
    violations,
    write_archive,
)
from drawn_results import DrawnResults

from jobs.report.page import run

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.slow

NUM_IMAGES = len(SEVERAL_KEYS) + 1


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report on a disk."""
    root = tmp_path_factory.mktemp("report")
    drawn = DrawnResults(write_archive(root / "archive"), root / "results", settings())
    drawn.make()
    account = drawn.account()
    from pipelines.results.files import write_errors

    write_errors(drawn.store, "000", account.failures_of("000"))
    complete_run(root / "results", {"draws": account.draws, "errors_by_kind": account.kinds})
    return Path(run(str(root / "results")).path).as_uri()


@pytest.fixture
def page(browser: Any, report: str) -> Any:
    opened = open_page(browser, report)
    yield opened
    assert opened.said == []
    opened.close()


def keys(page: Any) -> list[str]:
    return page.locator("button.key bdi").all_text_contents()


def choose(page: Any, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).select_option(label=option)


def split_of(box: Any) -> str:
    return box.evaluate("box => getComputedStyle(box.querySelector('.over')).clipPath")


def test_each_image_has_its_input_its_draws_and_its_original(page: Any) -> None:
    assert len(keys(page)) == NUM_IMAGES
    first = page.locator(".card").first
    assert first.locator("figcaption").all_text_contents() == ["grey input", "draw 0", "draw 1", "original"]
    sizes = first.locator("figure > .pair > img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert sizes == [96] * 4
    assert page.get_by_role("status").first.text_content() == f"{NUM_IMAGES} images, 1 to {NUM_IMAGES} shown"


def test_the_slider_by_keyboard_lays_the_original_over_the_draws(page: Any) -> None:
    card = page.locator(".card").first
    slider = card.get_by_role("slider", name="original over the draws of boats")
    box = card.locator("figure.draw .pair").first
    assert "100%" in split_of(box)
    slider.focus()
    slider.press("End")
    assert slider.get_attribute("aria-valuetext") == "100 % of the original"
    assert "0%" in split_of(box)
    slider.press("ArrowLeft")
    assert slider.input_value() == "99"


def test_the_edge_follows_the_mouse_and_goes_back(page: Any) -> None:
    box = page.locator(".card").first.locator("figure.draw .pair").first
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 4, place["y"] + 9)
    assert "25" in box.evaluate("box => box.style.getPropertyValue('--split')")
    page.mouse.move(1, 1)
    assert box.evaluate("box => box.style.getPropertyValue('--split')") == ""


def test_a_search_and_a_filter_leave_what_they_say(page: Any) -> None:
    page.get_by_label("Key contains").fill("CITY")
    expect(page.locator(".card")).to_have_count(2)
    assert keys(page) == ["city/bridge", "city/tower"]
    assert "2 images" in page.get_by_role("status").first.text_content()
    page.get_by_label("Key contains").fill("")
    expect(page.locator(".card")).to_have_count(NUM_IMAGES)
    page.get_by_text("Filter by a column").click()
    choose(page, "Column", "colorfulness")
    choose(page, "Comparison", "is more than")
    page.get_by_label("Value", exact=True).fill("100000")
    page.get_by_role("button", name="Add filter").click()
    expect(page.locator(".card")).to_have_count(0)
    page.get_by_role("button", name="Remove the filter: colorfulness is more than 100000").click()
    expect(page.locator(".card")).to_have_count(NUM_IMAGES)


def test_orders_go_both_ways_and_have_names_that_people_understand(page: Any) -> None:
    choose(page, "Order", "most colorful")
    expect(page.locator(".value.is-sorted").first).to_be_visible()
    down = keys(page)
    choose(page, "Order", "least colorful")
    expect(page.locator("button.key bdi").first).to_have_text(down[-1])
    assert keys(page) == down[::-1]
    shown = [float(text) for text in page.locator(".value.is-sorted b").all_text_contents()]
    assert shown == sorted(shown)
    names = page.get_by_label("Order", exact=True).locator("option").all_text_contents()
    assert {"worst first: energy score", "draws that differ most", "as in the archive"} <= set(names)


def test_pages_are_turned_and_remembered(browser: Any, report: str) -> None:
    page = open_page(browser, f"{report}#count=3")
    assert len(keys(page)) == 3
    first = keys(page)
    top = page.get_by_role("navigation", name="Pages, above the images")
    top.get_by_role("button", name="Previous").click(force=True)
    assert keys(page) == first, "there is no page before the first"
    top.get_by_role("button", name="Next").click()
    expect(page.locator(".place").first).to_have_text("4–6 of 7")
    assert set(keys(page)).isdisjoint(first)
    page.reload()
    page.wait_for_selector(".grid li")
    assert "4–6 of 7" in top.text_content()
    page.close()


def test_the_dialog_by_keyboard_alone(page: Any) -> None:
    page.get_by_label("Key contains").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "key":
            break
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="boats")
    dialog.wait_for()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    edge = dialog.get_by_role("slider", name="Edge between the left and the right image")
    edge.focus()
    edge.press("ArrowRight")
    assert edge.input_value() == "51"
    page.wait_for_selector("dialog table")
    assert "source_sha256" in dialog.text_content()
    page.keyboard.press("PageDown")
    page.get_by_role("dialog", name="city/bridge").wait_for()
    choose(page, "Zoom", "200 %")
    assert page.locator(".frame").evaluate("one => one.getBoundingClientRect().width") == 192
    page.keyboard.press("Escape")
    # Once the dialog has told that it closed. `wait_for_function` calls eval from its second try on, as pages forbid.
    expect(page.locator("[data-item=i1]:focus")).to_have_count(1)


def test_what_is_selected_is_copied_as_a_command(page: Any) -> None:
    page.get_by_label("Select boats").check()
    page.get_by_label("Select forest").check()
    region = page.get_by_role("region", name="Selection")
    assert "2 images selected" in region.text_content()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    region.get_by_role("button", name="Copy as condgen extract").click()
    expect(page.locator(".status")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("condgen extract ")
    assert copied.endswith("images/ --key boats --key forest")
    region.get_by_role("button", name="Clear").click()
    assert not region.is_visible()


def test_an_error_shows_what_is_left_of_its_input(page: Any) -> None:
    page.get_by_role("button", name="Errors (1)").click()
    card = page.locator(".card-error")
    card.wait_for()
    assert CUT_KEY in card.text_content()
    assert "CutImage" in card.text_content()
    assert "--retry-errors" in card.text_content()
    expect(card.locator("img")).to_have_js_property("naturalWidth", 96)
    assert violations(page) == []


def test_a_key_that_is_an_attack_is_text(page: Any) -> None:
    assert HOSTILE_SHOWN in keys(page)
    assert page.evaluate("window.hacked") is None
    page.locator("button.key", has_text="onerror").click()
    page.get_by_role("heading", name=HOSTILE_SHOWN, level=2).wait_for()
    page.wait_for_selector("dialog table")
    assert page.evaluate("window.hacked") is None
    assert HOSTILE_KEY not in page.locator("body").inner_text(), "the bidi control is an escape"


def test_the_policy_runs_no_other_script(browser: Any, report: str) -> None:
    page = open_page(browser, report)
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 1'}))"
    )
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b onclick=\"window.hacked=1\" id=x>x</b>')")
    page.locator("#x").click()
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in page.said)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440, 1920])
def test_the_page_fits_and_is_accessible(browser: Any, report: str, width: int, scheme: str) -> None:
    page = open_page(browser, report, width=width, scheme=scheme)
    keep_screenshot(page, f"report-{width}-{scheme}", full=True)
    assert overflow_px(page) == 0
    if width != 1920:
        assert violations(page) == []
        page.locator("button.key").first.click()
        page.wait_for_selector("dialog table")
        keep_screenshot(page, f"report-{width}-{scheme}-dialog")
        assert violations(page) == []
        assert overflow_px(page) == 0
    assert page.said == []
    page.close()


def test_the_switch_changes_the_colors_and_is_remembered(page: Any) -> None:
    def background() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    choose(page, "Colors of the page", "Dark")
    dark = background()
    assert dark != light
    page.reload()
    page.wait_for_selector(".grid li")
    assert background() == dark
    choose(page, "Colors of the page", "As the system")
    assert background() == light


def test_without_a_script_the_page_is_a_plain_list(browser: Any, report: str) -> None:
    page = open_page(browser, report, script=False, ready="#plain article")
    assert page.locator("#plain article").count() == NUM_IMAGES
    assert page.locator("#plain img").count() == NUM_IMAGES * 4
    assert page.locator("#errors").is_visible()
    assert not page.locator("#viewer").is_visible()
    assert overflow_px(page) == 0
    page.close()
