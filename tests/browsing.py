"""Pages as a person meets them: opened in a real browser, watched for errors, checked for accessibility, and pictured.

page = open_page(browser, address, width=375, scheme="dark")
assert violations(page) == []
keep_screenshot(page, "report-375-dark")       # where SCREENSHOTS names a folder
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from samples import saved, smooth

from pipelines.results.settings import BatchSettings, OutputOptions

SEVERAL_KEYS = ["boats", "city/bridge", "city/tower", "forest", "market", "pond"]
HOSTILE_KEY = "weird <img src=x onerror='window.hacked=1'>\u202egpj &amp;"
HOSTILE_SHOWN = "weird <img src=x onerror='window.hacked=1'>\\u202egpj &amp;"
CUT_KEY = "zz-cut"
SIZE = (96, 72)


def write_archive(folder: Path) -> Path:
    """Photographs of a kind: some with ordinary names, one whose name is an attack, and one that is cut."""
    folder.mkdir(parents=True)
    for number, key in enumerate([*SEVERAL_KEYS, HOSTILE_KEY]):
        path = folder / f"{key}.jpg"
        path.parent.mkdir(exist_ok=True)
        # Each more colorful than the one before: the order by colorfulness is that of the numbers.
        rgb = np.asarray(smooth(number, SIZE)).astype(float)
        grey = rgb.mean(axis=2, keepdims=True)
        rgb = grey + (rgb - grey) * (number + 1) / 7
        path.write_bytes(saved(Image.fromarray(rgb.clip(0, 255).astype(np.uint8)), "JPEG", quality=92))
    whole = saved(smooth(9, SIZE), "JPEG", quality=92)
    (folder / f"{CUT_KEY}.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    return folder


def settings(draws: int = 2) -> BatchSettings:
    """What the results of these tests are made with."""
    return BatchSettings(draws=draws, chunk_samples=3, output=OutputOptions(quality=90))


def complete_run(results: Path, counts: Mapping[str, Any]) -> None:
    """Write into run.json what a job's end has besides."""
    path = results / "run.json"
    facts = json.loads(path.read_text())
    facts["counts"] |= counts
    facts["plans"] = [{**plan, "images": facts["counts"]["images"]} for plan in facts["plans"]]
    facts["this_run"] = {
        "images": facts["counts"]["images"],
        "seconds": 2.0,
        "images_per_s": 4.0,
        "stage_seconds": {"decode": 0.4, "model": 1.2},
    }
    path.write_text(json.dumps(facts))


def open_page(
    browser: Any,
    address: str,
    *,
    width: int = 1440,
    scheme: str = "light",
    script: bool = True,
    ready: str = ".grid li",
) -> Any:
    """A page that has been loaded; `page.said` are the errors and warnings on its console."""
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
        java_script_enabled=script,
    )
    page.set_default_timeout(60_000)  # a machine may have other things to do
    page.said = []
    page.on("console", lambda message: message.type in ("error", "warning") and page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(address)
    page.wait_for_selector(ready)
    return page


def violations(page: Any) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA and its own best practices, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:120]} {node['failureSummary']}" for one in found for node in one["nodes"]]


def wait_for_picture(image: Any) -> None:
    """Wait until an `<img>` has loaded and can be decoded.

    The locator is looked up at each try: a grid that is drawn anew takes the element away, and the `decode()` of a lazy
    image that is no longer in the page never ends.
    """
    from playwright.sync_api import expect

    expect(image).not_to_have_js_property("naturalWidth", 0, timeout=60_000)


def overflow_px(page: Any) -> int:
    """How many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def keep_screenshot(page: Any, name: str, *, full: bool = False) -> None:
    """Keep a picture of the page in the folder that SCREENSHOTS names."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=full)


@contextmanager
def served(results: list[str], folder: Path, *, measure: bool = True) -> Iterator[str]:
    """A gallery's server in this process; yields its address with the token."""
    import uvicorn

    from jobs.results.gallery import _page, _static
    from jobs.viewer import commands
    from pipelines.gallery.access import Access, host_names
    from pipelines.gallery.app import make_app
    from pipelines.gallery.gallery import Gallery
    from pipelines.gallery.measuring import Measurer
    from pipelines.gallery.stored_results import StoredResults

    opened = [StoredResults.open(uri) for uri in results]
    measurer = Measurer(is_color=opened[0].is_color) if measure else None
    gallery = Gallery(opened, folder, None, commands, measurer)
    names, any_address = host_names("127.0.0.1")
    access = Access(names=names, any_address=any_address)
    app = make_app(gallery, access, _page(gallery.title), _static())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    gallery.start()
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/?token={access.token}"
    finally:
        server.should_exit = True
        thread.join(30)
        gallery.close()
