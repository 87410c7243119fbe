"""Values in a plan: JSON in which references and expressions may stand anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from graph.expressions.parser import Expression
from graph.types import Json

REQUEST = "request"
"""The source that stands for the request itself in a reference: `request.text`, `request.audio`."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A value that another task will have produced: `t1`, or one field of it: `t1.address.city`, `t1.items.0`."""

    task: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.task, *self.path))

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read `task.field.field`."""
        task, *path = text.split(".")
        return cls(task, tuple(path))


Value: TypeAlias = Json
"""Any JSON value in which a `Ref` or an `Expression` may stand anywhere."""


def leaves(value: Value) -> Iterator[Ref | Expression]:
    """Find every reference and every expression inside a value."""
    if isinstance(value, (Ref, Expression)):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)


def references(value: Value) -> Iterator[Ref]:
    """Find every reference inside a value; of an expression, what it begins its paths with."""
    for leaf in leaves(value):
        if isinstance(leaf, Ref):
            yield leaf
        else:
            yield from (Ref(source) for source in sorted(leaf.sources))


def to_refs(value: Value) -> Json:
    """Write references as `{"$ref": …}` and expressions as `{"$expr": …}`."""
    if isinstance(value, Ref):
        return {"$ref": str(value)}
    if isinstance(value, Expression):
        return {"$expr": value.text}
    if isinstance(value, Mapping):
        return {key: to_refs(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_refs(item) for item in value]
    return value


def from_refs(value: Json) -> Value:
    """Read `{"$ref": …}` as references and `{"$expr": …}` as expressions; raise `InvalidExpression`."""
    if isinstance(value, Mapping):
        if set(value) == {"$ref"} and isinstance(value["$ref"], str):
            return Ref.parse(value["$ref"])
        if set(value) == {"$expr"} and isinstance(value["$expr"], str):
            return Expression.parse(value["$expr"])
        return {key: from_refs(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_refs(item) for item in value]
    return value


def deeper_than(depth: int, value: Any) -> bool:
    """Say so without recursing past the limit: what a caller sends may be nested as deep as a parser allows."""
    if not isinstance(value, (Mapping, list)):
        return False
    items = value.values() if isinstance(value, Mapping) else value
    return depth == 0 or any(deeper_than(depth - 1, item) for item in items)


def brief(value: Any) -> str:
    """Return a value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
