"""Tools as planning sees them: names, described parameters, output fields, and which tool may follow which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from graph.plan import Plan, Ref, Task, references
from graph.spec import NodeSpec

ANY = "any"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument that a tool takes."""

    name: str
    type: str = ANY
    """A JSON type, or `any`."""
    description: str = ""
    required: bool = True
    default: Any = None
    choices: tuple[Any, ...] = ()
    fields: tuple[Parameter, ...] = ()
    """Of an object."""


@dataclass(frozen=True, slots=True)
class Output:
    """One field of what a tool gives."""

    path: tuple[str, ...]
    type: str = ANY
    description: str = ""

    @property
    def of_several(self) -> bool:
        """Whether it is a field of one of the things in a list."""
        return any(step.isdecimal() for step in self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """The path without places in lists."""
        return tuple(step for step in self.path if not step.isdecimal()) or self.path


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool, or one node as far as planning is concerned."""

    name: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    outputs: tuple[Output, ...] = ()
    takes: frozenset[str] = frozenset()
    """Kinds of input (text, image, …), where the tools declare them."""
    makes: frozenset[str] = frozenset()
    acts: bool = False
    """Whether a call changes something: nobody guesses which of several things is meant."""

    @classmethod
    def of(cls, spec: NodeSpec) -> Tool:
        """Return what planning needs of a node."""
        parameters = tuple(
            Parameter(name, item.type, item.description, item.required, item.default, item.enum)
            for name, item in spec.signature().items()
        )
        return cls(
            spec.name,
            spec.description,
            parameters,
            tuple(Output(tuple(path.split(".")), item.type, item.description) for path, item in spec.outputs.items()),
            takes=frozenset(map(str, spec.accepts)),
            makes=frozenset(map(str, spec.produces)),
            acts=spec.changes_something,
        )

    @property
    def required(self) -> tuple[Parameter, ...]:
        """Parameters that a call cannot do without."""
        return tuple(item for item in self.parameters if item.required and item.default is None)


@dataclass(frozen=True)
class Toolset:
    """Tools by name, and the links between them."""

    tools: Mapping[str, Tool]
    links: frozenset[tuple[str, str]] | None = None
    """Pairs (from, to) that may follow each other; None where any may."""

    @classmethod
    def of(cls, tools: Iterable[Tool], links: Iterable[tuple[str, str]] | None = None) -> Toolset:
        """Return a set of tools; of two with one name the latter counts."""
        return cls({tool.name: tool for tool in tools}, None if links is None else frozenset(links))

    def __len__(self) -> int:
        return len(self.tools)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, in the order given."""
        return tuple(self.tools)

    @cached_property
    def typed(self) -> bool:
        """Whether tools say what kinds of input they take or which fields they give."""
        return any(tool.takes or tool.outputs for tool in self.tools.values())

    def linked(self, source: str, target: str) -> bool:
        """Whether the target may use what the source gives, or follow it."""
        return self.links is None or (source, target) in self.links


@dataclass(frozen=True, slots=True)
class Draft:
    """Tasks in an order that they can run in, the links between them, and what the request lacks."""

    tasks: tuple[Task, ...] = ()
    order: tuple[tuple[str, str], ...] = ()
    """Links that no argument carries: the latter task waits for the former."""
    missing: tuple[str, ...] = field(default=())
    must_ask: bool = False
    """Whether another planner would guess what is missing: which of several things is meant, or which of many calls."""

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Pairs (from, to) of task ids, each once."""
        carried = [(need, task.id) for task in self.tasks for need in sorted(task.needs)]
        return tuple(dict.fromkeys([*carried, *self.order]))

    def problems(self, tools: Toolset) -> list[str]:
        """Say what is wrong with it on these tools: nothing, if a planner keeps its promise."""
        found = []
        position = {task.id: index for index, task in enumerate(self.tasks)}
        if not self.tasks:
            found.append("it has no tasks")
        if len(position) < len(self.tasks):
            found.append("an id is used twice")
        for task in self.tasks:
            if task.node not in tools.tools:
                found.append(f"{task.id}: no tool is called {task.node!r}")
                continue
            declared = {item.name for item in tools.tools[task.node].parameters}
            found += [f"{task.id}: {task.node} takes no {name!r}" for name in task.arguments if name not in declared]
        for source, target in self.links:
            if source not in position or target not in position or position[source] >= position[target]:
                found.append(f"the link {source} -> {target} does not go from an earlier task to a later one")
            elif not tools.linked(self.tasks[position[source]].node, self.tasks[position[target]].node):
                found.append(f"the tools of {source} -> {target} are not linked")
        return found

    def to_plan(self, planner: str) -> Plan:
        """Return the plan; what only waits for another task does so by order in the list."""
        return Plan(self.tasks, self.tasks[-1].id, planner, self.missing)


def used(task: Task) -> tuple[Ref, ...]:
    """Return the references of a task's arguments."""
    return tuple(references(task.arguments))
