"""Options of commands, made from dataclasses: a field whose metadata has `help` is an option.

    def colorize(archive: Archive, settings: Annotated[BatchSettings, Group()]) -> None: ...

    app.command(cls=Command)(expand(colorize))          # condgen colorize ARCHIVE --steps 20 --quality 90

The metadata of a field: `help`; `metavar`, `min`, `max` and `hidden` as typer has them; `flags` where they are not made
from the field's name; `heading`, under which the help shows it, or the fields of a dataclass; `default`, where the
command line has another one (None leaves it to the dataclass); `read`, which turns what is written into the value, and
`written`, the type of what is written where that is no text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

__all__ = ["Command", "Group", "expand"]

T = TypeVar("T")

_HEADINGS = ("Arguments", "Options", "Sampling", "Output", "Selection", "Resources")
"""The order of a command's headings; others come after these."""


@dataclass(frozen=True)
class Group:
    """Marks a command's parameter as a dataclass of options; `leave_out` names the fields that are not offered."""

    leave_out: tuple[str, ...] = ()


class Command(TyperCommand):
    """A command whose help shows its options under their headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options without a heading, and those of each heading."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in _HEADINGS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                general = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or general, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the options of its groups in place of the groups, which are built from them."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type[Any], Group]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        group = next((mark for mark in getattr(hints[name], "__metadata__", ()) if isinstance(mark, Group)), None)
        if group is None:
            keyword = parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            parameters.append(keyword)
        else:
            groups[name] = get_args(hints[name])[0], group
            parameters += _parameters(*groups[name])

    @wraps(command)
    def call(**values: Any) -> None:
        built = {name: _build(kind, group, values) for name, (kind, group) in groups.items()}
        command(**values, **built)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


def _parameters(kind: type[Any], group: Group, heading: str | None = None) -> Iterator[inspect.Parameter]:
    """Yield the options of a dataclass, those of the dataclasses in it after the fields before them."""
    hints = get_type_hints(kind)
    for one in fields(kind):
        under = one.metadata.get("heading", heading)
        if one.name in group.leave_out:
            continue
        nested: Any = one.default_factory
        if isinstance(nested, type) and is_dataclass(nested):
            yield from _parameters(nested, group, under)
        elif "help" in one.metadata:
            yield _parameter(one, hints[one.name], under)


def _parameter(one: Field[Any], hint: Any, heading: str | None) -> inspect.Parameter:
    facts = one.metadata
    default = facts.get("default", None if "read" in facts else one.default)
    text = "read" in facts or get_origin(hint) is Literal
    kind: Any = facts.get("written", str if text else hint)
    kind = kind | None if default is None else kind
    shown = {name: facts[name] for name in ("help", "metavar", "min", "max", "hidden") if name in facts}
    option = typer.Option(*facts.get("flags", ()), rich_help_panel=heading, **shown)
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def _build(kind: type[T], group: Group, values: dict[str, Any]) -> T:
    """Build a dataclass from what was written for its options, which is taken out of the values."""
    chosen: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name in group.leave_out:
            continue
        nested: Any = one.default_factory
        if isinstance(nested, type) and is_dataclass(nested):
            chosen[one.name] = _build(nested, group, values)
        elif "help" in one.metadata:
            value = values.pop(one.name)
            if value is not None:
                chosen[one.name] = one.metadata.get("read", lambda text: text)(value)
    return kind(**chosen)
