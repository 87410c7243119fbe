"""The tree of an expression, and what can be wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from graph.errors import InvalidRequest
from graph.types import Json

GUARDS = frozenset({"has", "default", "status"})
"""Functions that may look at a task which did not succeed."""


class InvalidExpression(InvalidRequest):
    """An expression that cannot be read, or that cannot be computed from the values at hand."""

    code = "invalid_expression"


class Absent(InvalidExpression):
    """A field that is not there, or a task that did not succeed: what `has` and `default` look out for."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that stands in the expression."""

    value: Json


@dataclass(frozen=True, slots=True)
class Source:
    """What a path begins with: a task, the request, or a name of the task at hand such as `item`."""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """A field or an element of a value."""

    of: Syntax
    key: Syntax


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator with one, two or three operands."""

    sign: str
    operands: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of `ARITIES`."""

    name: str
    arguments: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Syntax, ...]


Syntax: TypeAlias = Constant | Source | Member | Operation | Function | Items


def walk(tree: Syntax) -> Iterator[tuple[Syntax, int]]:
    """Yield every node with its depth, the root being at 1."""
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting += [(part, depth + 1) for part in parts(node)]


def parts(tree: Syntax) -> tuple[Syntax, ...]:
    """Return what a node is made of."""
    match tree:
        case Member(of, key):
            return (of, key)
        case Operation(_, operands):
            return operands
        case Function(_, arguments):
            return arguments
        case Items(items):
            return items
    return ()
