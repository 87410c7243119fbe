"""A task of a plan: one call to one node, or one for each item of a list, or again until a condition holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graph.expressions.parser import Expression
from graph.types import Json, NodeName
from graph.values import REQUEST, Ref, Value, leaves, to_refs

MAX_ITEMS = 1000
"""Items that a task with `map` works on."""
MAX_ITERATIONS = 100
"""Times that a task with `repeat` is run."""
MAPPED = frozenset({"item", "index"})
"""Names that stand for the item and its place (from 0) in a task with `map`."""
REPEATED = frozenset({"previous", "index"})
"""Names that stand for the output before, absent at first, and the count (from 0) in a task with `repeat`."""
OUTPUT = "output"
"""The output just made, in `until` and `expect`."""


@dataclass(frozen=True, slots=True)
class Map:
    """Run a task for each item of a list. Its output is the list of outputs, `null` where an item failed."""

    over: Value
    """A list, or a reference or an expression that gives one."""
    parallel: int = 8
    """Items that are worked on at the same time."""

    def to_json(self) -> dict[str, Json]:
        """Return the native surface's form."""
        return {"over": to_refs(self.over), "parallel": self.parallel}


@dataclass(frozen=True, slots=True)
class Repeat:
    """Run a task again until a condition on its output holds, `max` times at most."""

    until: Expression
    max: int

    def to_json(self) -> dict[str, Json]:
        """Return the native surface's form."""
        return {"until": self.until.text, "max": self.max}


@dataclass(frozen=True, slots=True)
class Task:
    """One call to one node, its arguments being values or references to other tasks' outputs."""

    id: str
    node: NodeName
    arguments: Mapping[str, Value] = field(default_factory=dict)
    when: Expression | None = None
    """The task is skipped, and has not failed, when this is false."""
    map: Map | None = None
    repeat: Repeat | None = None
    expect: Expression | None = None
    """What must hold of the output; the task has failed when it does not."""
    composes: tuple[str, ...] = ()
    """Tasks whose outcomes this one writes an answer from, whether they succeeded or not."""
    idempotent: bool = True
    """Whether it may be asked for twice; its node must be idempotent, too."""
    needs: frozenset[str] = field(init=False, compare=False, repr=False)
    """Ids of the tasks that must have ended before this one begins."""
    requires: frozenset[str] = field(init=False, compare=False, repr=False)
    """Ids of the tasks that must have ended well: those that no `has`, `default` or `status` guards."""

    def __post_init__(self) -> None:
        uses = list(self._uses())  # once: runs ask for it again and again
        needs = frozenset(name for names, _ in uses for name in names) | frozenset(self.composes)
        object.__setattr__(self, "needs", needs)
        object.__setattr__(self, "requires", frozenset(name for names, guarded in uses for name in names - guarded))

    @property
    def locals(self) -> frozenset[str]:
        """Names in the arguments that do not stand for tasks."""
        return (MAPPED if self.map else frozenset()) | (REPEATED if self.repeat else frozenset())

    def _uses(self) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
        """Yield the ids that each reference and expression names, and those of them that it guards."""
        after = self.locals | {OUTPUT}
        found: list[tuple[Value, frozenset[str]]] = [
            (self.arguments, self.locals),
            (self.map.over if self.map else None, frozenset()),
            (self.when, frozenset()),
            (self.repeat.until if self.repeat else None, after),
            (self.expect, after),
        ]
        for value, local in found:
            for leaf in leaves(value):
                names = frozenset({leaf.task}) if isinstance(leaf, Ref) else leaf.sources
                yield names - local - {REQUEST}, frozenset() if isinstance(leaf, Ref) else leaf.guarded

    def to_json(self) -> dict[str, Json]:
        """Return the native surface's form; a reference is `{"$ref": "t1.field"}`."""
        more: dict[str, Any] = {
            "when": self.when.text if self.when else None,
            "map": self.map.to_json() if self.map else None,
            "repeat": self.repeat.to_json() if self.repeat else None,
            "expect": self.expect.text if self.expect else None,
            "composes": list(self.composes),
        }
        written = {"id": self.id, "node": self.node, "arguments": to_refs(self.arguments)}
        once = {} if self.idempotent else {"idempotent": False}
        return written | {key: value for key, value in more.items() if value} | once
