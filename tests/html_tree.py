"""A page's elements as a tree, for tests that ask what stands where."""

from html.parser import HTMLParser
from xml.etree import ElementTree as ET

_EMPTY = {"meta", "img", "input", "br", "link", "hr"}


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tree = ET.TreeBuilder()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        self.open.append(tag)
        if tag in _EMPTY:
            self.handle_endtag(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        self.tree.end(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> ends another element"
        self.tree.end(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.tree.data(data)


def parse_html(html: str) -> ET.Element:
    """The root of a page, whose elements must all be closed."""
    builder = _Builder()
    builder.feed(html)
    assert not builder.open
    return builder.tree.close()


def with_class(root: ET.Element, name: str) -> list[ET.Element]:
    """The elements of a class, in their order."""
    return [one for one in root.iter() if name in one.get("class", "").split()]


def text_of(element: ET.Element) -> str:
    """An element's text, on one line."""
    return " ".join("".join(element.itertext()).split())
