"""README, CONTRIBUTING and docs: what they name is there, and what is there is named."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PATH = re.compile(r"`((?:condgen|pipelines|jobs|tests|docs|benchmarks|infra)/[\w./-]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def rooms() -> Iterator[tuple[str, str]]:
    """Yield each layer and each package directly in it."""
    for layer in ("jobs", "pipelines", "condgen"):
        for init in sorted((ROOT / layer).glob("*/__init__.py")):
            yield layer, init.parent.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_a_page_names_are_there(page: Path) -> None:
    paths = [path for path in PATH.findall(page.read_text()) if "NAME" not in path]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        there = (page.parent / target) if target else page
        assert there.exists(), target
        assert not anchor or anchor in headings(there), f"{target}#{anchor}"


def test_the_map_has_a_line_for_every_room() -> None:
    _, _, text = (ROOT / "README.md").read_text().partition("## Where is what?")
    lines = dict(re.findall(r"^    (\w+)/ (.*?)(?=^    \w|\Z)", text, re.M | re.S))
    assert [f"{layer}/{room}" for layer, room in rooms() if f" {room}/" not in lines[layer]] == []


def test_every_figure_is_shown() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert [figure.name for figure in sorted((ROOT / "docs" / "figures").iterdir()) if figure.name not in text] == []


def test_the_readme_is_at_most_250_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250
