"""The page of a training run in a real browser: the slider by keyboard, at all widths, light and dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from training_runs import make_run

from jobs.report.training import run

STEPS = ["200", "400", "600"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


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
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    told: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto(address)
    yield page
    context.close()
    assert told == []


def shown(page: Any) -> list[str]:
    """The steps of the sheets that are seen."""
    return page.eval_on_selector_all(".sheet", "all => all.filter(x => x.offsetHeight).map(x => x.dataset.step)")


def test_the_page_in_a_browser(page: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the window"
    assert page.locator("svg.chart").first.is_visible() is (width > 760), "the wide drawing of the loss"

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
    size = page.eval_on_selector(".sheet:not([hidden]) img", "x => [x.naturalWidth, x.complete]")
    assert size[0] > 100
    assert size[1]

    cursors = "all => all.map(x => [+x.querySelector('.cursor').getAttribute('x1'), +x.dataset.left, +x.dataset.right])"
    places = page.eval_on_selector_all("svg.chart", cursors)
    assert all(x == pytest.approx(left + (right - left) * 400 / 600) for x, left, right in places)

    page.get_by_text("train", exact=True).click()
    assert page.get_by_role("cell", name="0.0002").is_visible()
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    page.get_by_label("Colors of the page").select_option("light" if width > 760 else "dark")
    assert page.evaluate(background) != before

    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_without_scripts_the_newest_sheet_is_there(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.get_by_alt_text("Samples of step 600").is_visible()
    assert not page.get_by_role("slider").is_visible()
    assert page.get_by_text("Training failed: the loss is not finite at step 610.").is_visible()
    context.close()
