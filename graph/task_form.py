"""Reads a task as the native surface has it, and says everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from graph.errors import Problem
from graph.expressions.parser import Expression
from graph.expressions.syntax import InvalidExpression
from graph.task import MAX_ITEMS, MAX_ITERATIONS, Map, Repeat, Task
from graph.values import Ref, Value, brief, deeper_than, from_refs

MAX_DEPTH = 50
"""Lists and objects inside each other in the arguments of a task."""
KEYS = ("id", "node", "arguments", "when", "map", "repeat", "expect", "composes", "idempotent")
_T = TypeVar("_T")


class TaskForm:
    """One item of `tasks`; `read` gives the task, or None with `problems` saying why."""

    def __init__(self, item: Any, key: str) -> None:
        self._item = item
        self._key = key
        self.problems: list[Problem] = []

    def read(self) -> Task | None:
        """Return the task."""
        self.problems = list(_shape_problems(self._item, self._key))
        if self.problems:
            return None
        item = self._item
        task = Task(
            item["id"],
            item["node"],
            self._arguments(item.get("arguments") or {}),
            when=self._expression("when", item.get("when")),
            map=self._map(item.get("map")),
            repeat=self._repeat(item.get("repeat")),
            expect=self._expression("expect", item.get("expect")),
            composes=self._composes(item.get("composes")),
            idempotent=self._flag("idempotent", item.get("idempotent")),
        )
        if task.map and task.repeat:
            self._wrong("repeat", "stands beside map; a task has one of them: repeat a node of kind plan for each item")
        return None if self.problems else task

    def _wrong(self, name: str, message: str) -> None:
        self.problems.append(Problem("plan", f"{self._key}.{name}", message))

    def _tried(self, name: str, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except InvalidExpression as error:
            self._wrong(name, error.message)
            return None

    def _arguments(self, data: Any) -> dict[str, Value]:
        found = self._valued("arguments", data)
        if isinstance(found, (Ref, Expression)):
            self._wrong("arguments", f"must be an object, with such a value for each argument; got {brief(data)}")
        return found if isinstance(found, dict) else {}

    def _valued(self, name: str, value: Any) -> Value:
        if deeper_than(MAX_DEPTH, value):
            self._wrong(name, f"nested deeper than {MAX_DEPTH}")
            return None
        return self._tried(name, lambda: from_refs(value))

    def _expression(self, name: str, text: Any) -> Expression | None:
        if text is None:
            return None
        if not isinstance(text, str):
            self._wrong(name, f'must be an expression, such as "t1.score > 0.5"; got {brief(text)}')
            return None
        return self._tried(name, lambda: Expression.parse(text))

    def _count(self, name: str, value: Any, most: int) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        self._wrong(name, f"must be a whole number from 1 to {most}; got {brief(value)}")
        return 1

    def _flag(self, name: str, value: Any) -> bool:
        if value is not None and not isinstance(value, bool):
            self._wrong(name, f"must be true or false; got {brief(value)}")
        return value is not False

    def _map(self, data: Any) -> Map | None:
        if data is None:
            return None
        full = isinstance(data, Mapping) and set(data) - {"$ref", "$expr"}
        if full and ("over" not in data or set(data) - {"over", "parallel"}):
            self._wrong("map", f"must be a list, a reference or {{over, parallel}}; got {brief(data)}")
            return None
        over = self._valued("map", data["over"] if full else data)
        if isinstance(over, list) and len(over) > MAX_ITEMS:
            self._wrong("map.over", f"has {len(over)} items; at most {MAX_ITEMS} are allowed")
        elif over is not None and not isinstance(over, (list, Ref, Expression)):
            self._wrong("map.over", f'must be a list, {{"$ref": …}} or {{"$expr": …}}; got {brief(over)}')
        parallel = self._count("map.parallel", data["parallel"], MAX_ITEMS) if full and "parallel" in data else 8
        return Map(over, parallel)

    def _repeat(self, data: Any) -> Repeat | None:
        if data is None:
            return None
        if not isinstance(data, Mapping) or set(data) != {"until", "max"}:
            self._wrong("repeat", f"must be {{until: an expression, max: a number}}; got {brief(data)}")
            return None
        most = self._count("repeat.max", data["max"], MAX_ITERATIONS)
        until = self._expression("repeat.until", data["until"])
        if until is None and data["until"] is None:
            self._wrong("repeat.until", 'must be an expression, such as "output.done"')
        return Repeat(until, most) if until else None

    def _composes(self, data: Any) -> tuple[str, ...]:
        if data is None:
            return ()
        if isinstance(data, list) and all(isinstance(id, str) for id in data):
            return tuple(dict.fromkeys(data))
        self._wrong("composes", f"must be a list of task ids; got {brief(data)}")
        return ()


def _shape_problems(item: Any, key: str) -> Iterator[Problem]:
    if not isinstance(item, Mapping):
        yield Problem("plan", key, f"is a {type(item).__name__}; a task is {{id, node, arguments}}")
        return
    for name in ("id", "node"):
        if not isinstance(item.get(name), str):
            yield Problem("plan", f"{key}.{name}", f"must be a string; got {brief(item.get(name))}")
    if not isinstance(item.get("arguments") or {}, Mapping):
        yield Problem("plan", f"{key}.arguments", "must be an object")
    for name in sorted(set(item) - set(KEYS)):
        yield Problem("plan", f"{key}.{name}", f"unknown key; a task has {', '.join(KEYS)}")
