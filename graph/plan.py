"""A plan: a DAG of tasks, each a call to one node, validated when it is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeAlias

from graph.errors import InvalidPlan, Problem
from graph.types import Json, NodeName

REQUEST = "request"
"""The source that stands for the request itself in a reference: `request.text`, `request.audio`."""
MAX_TASKS = 1000
MAX_DEPTH = 50
"""Lists and objects inside each other in the arguments of a task."""
_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


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
"""Any JSON value in which a `Ref` may stand anywhere."""


@dataclass(frozen=True, slots=True)
class Task:
    """One call to one node, its arguments being values or references to other tasks' outputs."""

    id: str
    node: NodeName
    arguments: Mapping[str, Value] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[str]:
        """Ids of the tasks whose output this one takes."""
        return frozenset(ref.task for ref in references(self.arguments) if ref.task != REQUEST)

    def to_json(self) -> dict[str, Json]:
        """Return the native surface's form; a reference is `{"$ref": "t1.field"}`."""
        return {"id": self.id, "node": self.node, "arguments": to_refs(self.arguments)}


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks and the one whose output answers the request. Raises `InvalidPlan` when built wrong."""

    tasks: tuple[Task, ...]
    output: str
    planner: str = "given"
    missing: tuple[str, ...] = ()
    """Questions to the caller: what the request lacks for some task."""
    answer: tuple[str, ...] = ()
    """Ids of the tasks that the answer shows, in order; none means those that no other task needs."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise InvalidPlan(problems)

    def task(self, id: str) -> Task:
        """Return the task with this id."""
        return next(task for task in self.tasks if task.id == id)

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Pairs (from, to) of task ids: the edges of the DAG."""
        return tuple((need, task.id) for task in self.tasks for need in sorted(task.needs))

    @property
    def sinks(self) -> tuple[str, ...]:
        """Ids of the tasks that no other needs, in the order of the plan."""
        needed = {need for task in self.tasks for need in task.needs}
        return tuple(task.id for task in self.tasks if task.id not in needed)

    @property
    def shown(self) -> tuple[str, ...]:
        """Ids of the tasks that the answer is made of, in order."""
        return self.answer or self.sinks

    def to_json(self) -> dict[str, Json]:
        """Return the native surface's form."""
        return {
            "tasks": [task.to_json() for task in self.tasks],
            "links": [list(link) for link in self.links],
            "output": self.output,
            "planner": self.planner,
            "missing": list(self.missing),
            "answer": list(self.answer),
        }

    @classmethod
    def from_json(cls, data: Any, planner: str = "given") -> Plan:
        """Read the native surface's form; raise `InvalidPlan` naming everything wrong with it."""
        if not isinstance(data, Mapping):
            raise InvalidPlan([Problem("plan", "", f"is a {type(data).__name__}; a plan is an object with tasks")])
        items = data.get("tasks")
        if not isinstance(items, Sequence) or isinstance(items, str):
            raise InvalidPlan([Problem("plan", "tasks", "is required: a list of {id, node, arguments}")])
        if len(items) > MAX_TASKS:
            raise InvalidPlan([Problem("plan", "tasks", f"{len(items)} tasks; at most {MAX_TASKS} are allowed")])
        unknown = set(data) - {"tasks", "links", "output", "planner", "missing", "answer", "elapsed_ms"}
        problems = [
            Problem("plan", key, "unknown key; valid keys: tasks, output, planner, answer") for key in sorted(unknown)
        ]
        missing, answer = data.get("missing") or (), data.get("answer") or ()
        if not isinstance(missing, (list, tuple)):
            problems.append(Problem("plan", "missing", "must be a list of questions"))
        if not isinstance(answer, (list, tuple)):
            problems.append(Problem("plan", "answer", "must be a list of task ids"))
        tasks = []
        for index, item in enumerate(items):
            wrong = list(_item_problems(item, f"tasks.{index}"))
            problems += wrong
            if not wrong:
                tasks.append(Task(item["id"], item["node"], from_refs(item.get("arguments") or {})))
        if problems:
            raise InvalidPlan(problems)
        output = data.get("output") or (tasks[-1].id if tasks else "")
        named = str(data.get("planner") or planner)
        return cls(tuple(tasks), str(output), named, tuple(map(str, missing)), tuple(map(str, answer)))


def references(value: Value) -> Iterator[Ref]:
    """Find every reference inside a value."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)


def to_refs(value: Value) -> Json:
    """Write references as `{"$ref": …}`."""
    if isinstance(value, Ref):
        return {"$ref": str(value)}
    if isinstance(value, Mapping):
        return {key: to_refs(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_refs(item) for item in value]
    return value


def from_refs(value: Json) -> Value:
    """Read `{"$ref": …}` as references."""
    if isinstance(value, Mapping):
        if set(value) == {"$ref"} and isinstance(value["$ref"], str):
            return Ref.parse(value["$ref"])
        return {key: from_refs(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_refs(item) for item in value]
    return value


def _deeper_than(depth: int, value: Any) -> bool:
    """Say so without recursing past the limit: what a caller sends may be nested as deep as a parser allows."""
    if not isinstance(value, (Mapping, list)):
        return False
    items = value.values() if isinstance(value, Mapping) else value
    return depth == 0 or any(_deeper_than(depth - 1, item) for item in items)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _item_problems(item: Any, key: str) -> Iterator[Problem]:
    if not isinstance(item, Mapping):
        yield Problem("plan", key, f"is a {type(item).__name__}; a task is {{id, node, arguments}}")
        return
    for name in ("id", "node"):
        if not isinstance(item.get(name), str):
            yield Problem("plan", f"{key}.{name}", f"must be a string; got {_short(item.get(name))}")
    if not isinstance(item.get("arguments") or {}, Mapping):
        yield Problem("plan", f"{key}.arguments", "must be an object")
    if _deeper_than(MAX_DEPTH, item.get("arguments")):
        yield Problem("plan", f"{key}.arguments", f"nested deeper than {MAX_DEPTH}")
    for name in sorted(set(item) - {"id", "node", "arguments"}):
        yield Problem("plan", f"{key}.{name}", "unknown key; a task has id, node and arguments")


def _problems(plan: Plan) -> Iterator[Problem]:
    if not plan.tasks:
        yield Problem("plan", "tasks", "a plan needs at least one task")
        return
    if len(plan.tasks) > MAX_TASKS:
        yield Problem("plan", "tasks", f"{len(plan.tasks)} tasks; at most {MAX_TASKS} are allowed")
        return
    ids = [task.id for task in plan.tasks]
    for id in sorted({id for id in ids if ids.count(id) > 1}) if len(set(ids)) < len(ids) else ():
        yield Problem("plan", "tasks", f"id {id!r} is used more than once")
    for task in plan.tasks:
        if not _ID.fullmatch(task.id) or task.id == REQUEST:
            yield Problem(
                "plan", "tasks", f"id {_short(task.id)} must be 1 to 64 letters, digits, '_' or '-', not 'request'"
            )
        for need in sorted(task.needs - set(ids)):
            yield Problem(
                "plan",
                f"tasks.{task.id}.arguments",
                f"refers to task {_short(need)}, which the plan lacks; it has {', '.join(ids[:20])}",
            )
    for key, named in [("output", plan.output), *(("answer", id) for id in plan.answer)]:
        if named not in ids:
            yield Problem("plan", key, f"task {_short(named)} is not in the plan; it has {', '.join(ids[:20])}")
    try:
        TopologicalSorter({task.id: task.needs for task in plan.tasks}).prepare()
    except CycleError as error:
        yield Problem("plan", "tasks", f"references form a cycle: {' -> '.join(error.args[1])}")
