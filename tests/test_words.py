"""One word a concept: the words that `docs/glossary.md` retires stand in no page, docstring or help text."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
PACKAGES = ("condgen", "pipelines", "jobs")

RETIRED: Mapping[str, str] = {
    "picture": r"pictur(?:e|es|ed)",
    "cook": r"cook(?:s|ed|ing)?",
    "nursery": r"nurser(?:y|ies)",
    "colour": r"(?:re|dis)?colour(?:s|ed|ing|ful|fully|fulness|less)?",
    "neighbour": r"neighbour(?:s|ing|hoods?)?",
    "favour": r"favour(?:s|ed|ing|ite|able)?",
    "behaviour": r"behaviours?",
    "centre": r"centre(?:s|d)?",
    "licence": r"licences?",
    "normalise": r"(?:re|un)?(?:normal|initial|optim|maxim|minim|parametr|serial|synchron)is(?:e|es|ed|ing|ations?)",
    "quantise": r"(?:de)?quantis(?:e|es|ed|ing|ations?)",
    "gray": r"gray(?:s|ish|scale)?",
}
"""The forms of each retired word, as a regular expression for a whole word."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "CONTRIBUTING.md": ("`make pictures`",),  # a command
    "docs/reports.md": ("`make pictures`",),
    "condgen/preset_parts.py": ("``pictures``",),  # a value of data.task
    "docs/batch.md": ("`picture`",),  # a value of the metrics' label `stage`
    "pipelines/training/feed.py": ("pictures",),  # a value of `data.task`
}
"""Names that can't change (metrics, columns, flags, files), by the page or module that speaks of them."""


class Hit(NamedTuple):
    """A retired word, and where it stands."""

    place: str
    line: int
    word: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}:{self.line}: {self.word!r} is retired (docs/glossary.md): {self.text.strip()}"


def retired_words(text: str) -> Iterator[str]:
    """Yield the retired words in a text, one for each place where one stands."""
    for word, forms in RETIRED.items():
        yield from (word for _ in re.finditer(rf"\b(?:{forms})\b", text, re.IGNORECASE))


def hits(place: str, first_line: int, lines: list[str]) -> Iterator[Hit]:
    """Yield the retired words in some lines of a place, without the names that can't change."""
    for number, line in enumerate(lines, first_line):
        text = line
        for name in NAMES.get(place, ()):
            text = text.replace(name, "")
        yield from (Hit(place, number, word, line) for word in retired_words(text))


def page_hits() -> Iterator[Hit]:
    """Yield the retired words in the Markdown pages; the glossary has to name them."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("condgen/pretrained/*/*.md")]
    for page in sorted(set(pages) - {GLOSSARY}):
        yield from hits(page.relative_to(ROOT).as_posix(), 1, page.read_text().splitlines())


def docstring_hits() -> Iterator[Hit]:
    """Yield the retired words in docstrings, those below a constant or an attribute too."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        source = path.read_text()
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                assert node.end_lineno is not None
                yield from hits(
                    path.relative_to(ROOT).as_posix(), node.lineno, lines[node.lineno - 1 : node.end_lineno]
                )


def help_hits() -> Iterator[Hit]:
    """Yield the retired words in the help of every command, at the line where its function begins."""
    from jobs.cli.app import app

    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for command in commands.values():
        code = inspect.unwrap(command.callback).__code__
        place = Path(code.co_filename).relative_to(ROOT).as_posix()
        options = [f"{option.name}: {getattr(option, 'help', None)}" for option in command.params]
        for text in (command.help, command.short_help, command.epilog, *options):
            for line in (text or "").splitlines():
                yield from (hit._replace(line=code.co_firstlineno) for hit in hits(place, 0, [line]))


def check(all_hits: Iterator[Hit]) -> None:
    """Fail on every hit."""
    texts = [str(hit) for hit in all_hits]
    assert not texts, "\n".join(texts)


def test_pages_have_no_retired_word() -> None:
    check(page_hits())


@pytest.mark.slow
def test_docstrings_have_no_retired_word() -> None:
    check(docstring_hits())


def test_the_help_has_no_retired_word() -> None:
    check(help_hits())


def test_the_glossary_names_what_is_retired() -> None:
    assert set(re.findall(r"\*\*(\w+)\*\*", GLOSSARY.read_text())) == set(RETIRED)


@pytest.mark.parametrize("word", RETIRED)
def test_a_retired_word_is_found_as_a_whole_word(word: str) -> None:
    assert [hit.line for hit in hits("a.md", 7, ["", f"The {word.title()}, and more."])] == [8]
    assert not list(hits("a.md", 1, [f"is_{word} x{word} {word}_task"]))
