"""The page of a training run in a real browser: the slider by keyboard, at all widths, light and dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import keep_screenshot, open_page, overflow_px, violations
from training_runs import make_run

from jobs.report.training import run

pytestmark = pytest.mark.slow

STEPS = ["200", "400", "600"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run that failed, as a file."""
    status = {"state": "failed", "reason": "the loss is not finite at step 610"}
    folder = make_run(tmp_path_factory.mktemp("training") / "run", status=status)
    return Path(run(str(folder)).path).as_uri()


@pytest.fixture(params=[(375, "light"), (1440, "dark")], ids=["narrow", "wide"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """The page at a width and in a theme; nothing may be told on the console."""
    width, scheme = request.param
    opened = open_page(browser, address, width=width, scheme=scheme, ready=".steps")
    yield opened
    assert opened.said == []
    opened.close()


def shown(page: Any) -> list[str]:
    """The steps of the sheets that are seen."""
    return page.eval_on_selector_all(".sheet", "all => all.filter(x => x.offsetHeight).map(x => x.dataset.step)")


def test_the_slider_goes_over_the_steps_by_keyboard_and_the_charts_follow(page: Any) -> None:
    slider = page.get_by_role("slider", name="Samples of step")
    assert shown(page) == STEPS[-1:], "the newest, at first"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert shown(page) == ["400"]
    assert slider.get_attribute("aria-valuetext") == "step 400"
    page.keyboard.press("Home")
    assert shown(page) == ["200"]
    assert page.get_by_role("button", name="Earlier").is_disabled()
    page.get_by_role("button", name="Later").press("Enter")
    assert shown(page) == ["400"]
    assert page.eval_on_selector(".sheet:not([hidden]) img", "x => x.complete && x.naturalWidth") > 100

    cursors = "all => all.map(x => [+x.querySelector('.cursor').getAttribute('x1'), +x.dataset.left, +x.dataset.right])"
    places = page.eval_on_selector_all("svg.chart", cursors)
    assert places
    assert all(x == pytest.approx(left + (right - left) * 400 / 600) for x, left, right in places)


def test_all_can_be_read_by_everyone_at_any_width(page: Any) -> None:
    width = page.viewport_size["width"]
    keep_screenshot(page, f"training-{width}", full=True)
    assert overflow_px(page) == 0
    assert page.locator(".drawn-wide").first.is_visible() is (width > 760)
    assert page.locator(".drawn-narrow").first.is_visible() is (width < 760), "one drawing of the loss at a time"
    page.get_by_text("train", exact=True).click()
    page.get_by_text("Loss as a table").click()
    assert page.get_by_role("cell", name="0.0002", exact=True).first.is_visible()
    assert violations(page) == []
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    page.get_by_label("Colors of the page").select_option("light" if width > 760 else "dark")
    assert page.evaluate(background) != before
    assert violations(page) == []


def test_without_scripts_the_newest_sheet_is_there(browser: Any, address: str) -> None:
    page = open_page(browser, address, script=False, ready="main")
    assert page.get_by_alt_text("Samples of step 600").is_visible()
    assert not page.get_by_role("slider").is_visible()
    assert page.get_by_text("Training failed: the loss is not finite at step 610.").is_visible()
    page.close()
