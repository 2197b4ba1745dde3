"""Self-contained pages: one style and one script, named by their digests, and data that can't leave its element."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.viewer.page import bundle, embed, render_page

VIEWER = Path(__file__).resolve().parents[3] / "jobs" / "viewer"


@pytest.mark.parametrize("entry", ["report.js", "gallery.js"])
def test_a_bundle_is_one_script_without_imports(entry: str, tmp_path: Path) -> None:
    script = bundle(entry)
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    assert script.count("// dom.js") == 1
    assert "</" not in script
    assert "<!--" not in script
    if shutil.which("node"):
        (tmp_path / "bundle.js").write_text(script)
        subprocess.run(["node", "--check", str(tmp_path / "bundle.js")], check=True)


def test_modules_name_nothing_twice() -> None:
    """A bundle has one scope for all modules."""
    names = [
        name
        for path in sorted(VIEWER.glob("*.js"))
        for name in re.findall(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", path.read_text(), re.M)
    ]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})


def test_no_script_makes_html_of_text() -> None:
    for path in VIEWER.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text()), path


def test_the_policy_names_the_style_and_the_script_of_the_page() -> None:
    page = render_page("page.html.j2", script="report.js", data={"data": ["</script><script>alert(1)</script>"]})
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0])
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "&amp;", "\u2028", "\u202e", "\ud800"])
def test_embedded_data_is_read_back_and_ends_nothing(text: str) -> None:
    whole = embed({text: [text]})
    assert not set("<>&") & set(whole)
    assert whole.isascii()
    assert json.loads(whole) == {text: [text]}
