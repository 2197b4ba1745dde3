"""The README's picture is one of the page as it is."""

from pathlib import Path

import pytest
from scripts import ROOT, load_script


def test_the_picture_is_of_the_page_as_it_is_now() -> None:
    pictures = load_script("pictures")
    assert pictures.recorded_digest() == pictures.page_digest(), "make demo, make pictures, and look at the picture"
    assert pictures.PICTURE.stat().st_size < 400_000
    assert str(pictures.PICTURE.relative_to(ROOT)) in (ROOT / "README.md").read_text()


def test_every_file_of_the_page_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    pictures = load_script("pictures")
    names = {path.name for path in pictures.page_files()}
    assert {"report.html.j2", "page.css", "viewer.css", "report.js", "viewer.js", "grid.js", "dom.js"} <= names
    assert "gallery.js" not in names
    before = pictures.page_digest()
    shutil.copytree(ROOT / "jobs" / "viewer", tmp_path / "viewer")
    monkeypatch.setattr(pictures, "VIEWER", tmp_path / "viewer")
    assert pictures.page_digest() == before
    (tmp_path / "viewer" / "dom.js").write_text("// other")
    assert pictures.page_digest() != before
