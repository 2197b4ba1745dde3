"""`--where`: a condition on a listing's columns, in the notation of Python's comparisons.

    where = parse("year >= 1900 and album in ('sea', 'land') and not startswith(path, 'draft/')")
    where.columns                     # {"year", "album", "path"}
    table.filter(where.expression)

Comparisons, `and`, `or`, `not`, `in`, `is None`, arithmetic, and the functions of `FUNCTIONS`; nothing is ever run.

pyarrow parses no expressions, and DuckDB's SQL was tried and left: it is a dependency of 65 MB with another notation
(no `is None`), and its parse tree must be walked all the same for columns, and to refuse subqueries and functions.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from condgen.errors import ConfigError, nearest

__all__ = ["FUNCTIONS", "Where", "parse"]

FUNCTIONS: Mapping[str, Callable[[pc.Expression, str], pc.Expression]] = {
    "startswith": lambda column, text: pc.starts_with(column, text),
    "endswith": lambda column, text: pc.ends_with(column, text),
    "contains": lambda column, text: pc.match_substring(column, text),
    "matches": lambda column, pattern: pc.match_substring_regex(column, pattern),
}
"""Functions of a text column and a text; `matches` takes a regular expression (RE2)."""

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ALLOWED = "comparisons joined by and, or, not: \"year >= 1900 and album in ('sea', 'land')\""


@dataclass(frozen=True, slots=True)
class Where:
    """A condition: its text, the columns that it needs, and what Arrow evaluates.

    `numbers` are the columns that are compared with numbers and with no text. Where a table has texts in one of them,
    as a CSV has, they are read as numbers; a text that is none meets no such condition.
    """

    text: str
    columns: frozenset[str]
    expression: pc.Expression = field(compare=False)
    numbers: frozenset[str] = frozenset()

    def check(self, columns: Collection[str]) -> None:
        """Refuse a listing that lacks a column.

        Raises:
            ConfigError: a column is missing; it lists those that there are.
        """
        for name in sorted(self.columns - set(columns)):
            near = nearest(name, columns)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ConfigError("where", name, f"columns of this archive's listing{hint}: {', '.join(columns) or 'none'}")

    def filter(self, table: pa.Table) -> pa.Array:
        """Tell of each row of a table whether it meets the condition; null counts as no.

        Returns:
            Booleans, one a row.

        Raises:
            ConfigError: the columns' types don't fit the condition.
        """
        for place, column in enumerate(table.schema):
            if column.name in self.numbers and (pt.is_string(column.type) or pt.is_large_string(column.type)):
                table = table.set_column(place, column.name, _as_numbers(table.column(place)))
        numbered = table.append_column("", pa.array(range(table.num_rows), pa.int64()))
        try:
            kept = numbered.filter(self.expression).column("")
        except pa.ArrowException as error:
            raise ConfigError("where", self.text, f"types that go together: {' '.join(str(error).split())}") from error
        return pc.is_in(numbered.column(""), value_set=kept.combine_chunks()).combine_chunks()


def parse(text: str) -> Where:
    """Parse a condition.

    Raises:
        ConfigError: the text is no condition.
    """
    columns: set[str] = set()
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        expression = _expression(tree, columns)
    except (SyntaxError, _NotAllowedError, ValueError, RecursionError, pa.ArrowException) as error:
        raise ConfigError("where", text, _ALLOWED) from error
    if not isinstance(expression, pc.Expression):
        raise ConfigError("where", text, _ALLOWED)
    return Where(text, frozenset(columns), expression, _compared(tree, (int, float)) - _compared(tree, (str,)))


def _compared(tree: ast.expr, kinds: tuple[type, ...]) -> frozenset[str]:
    """Return the columns in a comparison, or in a function, with a constant of some types."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.Call):
            inside = list(ast.walk(node))
            if any(isinstance(one, ast.Constant) and type(one.value) in kinds for one in inside):
                names |= {one.id for one in inside if isinstance(one, ast.Name)}
    return frozenset(names)


def _as_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    is_number = pc.match_substring_regex(texts, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    return pc.if_else(is_number, pc.replace_substring_regex(texts, r"^\+", ""), None).cast(pa.float64())


class _NotAllowedError(Exception):
    pass


def _expression(node: ast.expr, columns: set[str]) -> Any:
    match node:
        case ast.Name(id=name):
            columns.add(name)
            return pc.field(name)
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_condition(operand, columns)
        case ast.BoolOp(op=op, values=values):
            parts = [_condition(value, columns) for value in values]
            whole = parts[0]
            for part in parts[1:]:
                whole = whole & part if isinstance(op, ast.And) else whole | part
            return whole
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](_expression(left, columns), _expression(right, columns))
        case ast.Compare():
            return _comparison(node, columns)
        case ast.Call(func=ast.Name(id=name), args=[column, ast.Constant(value=str() as value)], keywords=[]):
            if name in FUNCTIONS:
                return FUNCTIONS[name](_condition(column, columns), value)
    raise _NotAllowedError


def _condition(node: ast.expr, columns: set[str]) -> pc.Expression:
    found = _expression(node, columns)
    if not isinstance(found, pc.Expression):
        raise _NotAllowedError
    return found


def _comparison(node: ast.Compare, columns: set[str]) -> pc.Expression:
    """Return `a < b`, `a < b < c`, `a in (..)` or `a is None` as an expression."""
    left: Any = _expression(node.left, columns)
    whole: pc.Expression | None = None
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        match op, right_node:
            case ((ast.In() | ast.NotIn()), (ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items))):
                part = left.isin([ast.literal_eval(item) for item in items])
                right: Any = None
            case ((ast.Is() | ast.IsNot()), ast.Constant(value=None)):
                part, right = left.is_null(), None
            case _:
                if type(op) not in _COMPARISONS:
                    raise _NotAllowedError
                right = _expression(right_node, columns)
                part = _COMPARISONS[type(op)](left, right)
        if isinstance(op, ast.NotIn | ast.IsNot):
            part = ~part
        if not isinstance(part, pc.Expression):
            raise _NotAllowedError
        whole = part if whole is None else whole & part
        left = right
    if whole is None:
        raise _NotAllowedError
    return whole
