#!/usr/bin/env python3
"""Make the README's picture of the report, from what the demo left, with Debian's Chromium.

    pictures.py                       # demo-out/showcase-results -> docs/figures/report.jpg
    pictures.py --results results/    # of other results

The picture's comment holds a digest of what the page is made of, so that a test can ask for a new picture when the page
has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VIEWER = ROOT / "jobs" / "viewer"
TEMPLATES = ROOT / "jobs" / "templates"
PICTURE = ROOT / "docs" / "figures" / "report.jpg"
SIZE = {"width": 1200, "height": 860}
QUALITY = 88
# An image that lies over another one, and is not drawn aside, is loaded only when it is.
_SHOWN = """[...document.querySelectorAll(".card:first-child img, .card > article > .pictures > figure > .pair > img")]
  .every((image) => {
    const place = image.getBoundingClientRect();
    return image.complete || place.top > innerHeight || place.bottom < 0;
  })"""
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z]+\.js)";', re.MULTILINE)


def page_files() -> list[Path]:
    """Return the files that the report's page is made of: templates, style, script and what that imports."""
    scripts = [VIEWER / "report.js"]
    for script in scripts:  # grows while it is read
        found = (VIEWER / name for name in _IMPORT.findall(script.read_text("utf-8")))
        scripts += [path for path in found if path not in scripts]
    styles = [VIEWER / "page.css", VIEWER / "viewer.css"]
    return [TEMPLATES / "page.html.j2", TEMPLATES / "report.html.j2", *styles, *scripts]


def page_digest() -> str:
    """Return the digest of these files: SHA-256, in hexadecimal."""
    whole = hashlib.sha256()
    for path in page_files():
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def recorded_digest(picture: Path = PICTURE) -> str:
    """Return the digest in a picture's comment."""
    from PIL import Image

    with Image.open(picture) as image:
        comment = image.info.get("comment", b"")
    return comment.decode().rpartition(" ")[2]


def photograph(page: Path) -> bytes:
    """Return a picture of a report, PNG: its images in the order of how much their draws differ."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("error: no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"] * (os.geteuid() == 0))
        tab = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        tab.set_default_timeout(120_000)
        tab.goto(f"{page.as_uri()}#sort=diversity&descending=1")
        tab.wait_for_selector(".grid li")
        slider = tab.locator(".card input[type=range]").first
        slider.focus()
        for _ in range(10):
            slider.press("PageUp")  # a tenth each
            if int(slider.input_value()) >= 50:
                break
        tab.evaluate("document.activeElement.blur(); document.getElementById('viewer').scrollIntoView()")
        while not tab.evaluate(_SHOWN):
            tab.wait_for_timeout(100)
        data = tab.screenshot()
        browser.close()
    return data


def main() -> int:
    """Make the picture."""
    parser = argparse.ArgumentParser(description="Make the README's picture of the report.")
    parser.add_argument("--results", default=str(ROOT / "demo-out" / "showcase-results"))
    parser.add_argument("--out", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    if "://" not in arguments.results and not Path(arguments.results, "run.json").exists():
        print(f"error: {arguments.results} has no complete results: make demo makes them", file=sys.stderr)
        return 2
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        subprocess.run([sys.executable, "-m", "jobs", "report", arguments.results, "--out", str(page)], check=True)
        data = photograph(page)
    with Image.open(io.BytesIO(data)) as image:
        comment = f"condgen report, made of {page_digest()}"
        image.convert("RGB").save(arguments.out, "JPEG", quality=QUALITY, subsampling=0, optimize=True, comment=comment)
    print(f"picture       {arguments.out} ({arguments.out.stat().st_size / 1000:.0f} kB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
