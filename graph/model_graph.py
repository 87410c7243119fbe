"""The graph: which nodes exist, which edges join them, and whether a plan fits them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from heapq import nsmallest
from typing import Any, Literal, TypeAlias

import networkx as nx

from graph.errors import InvalidPlan, NodeNotFound, Problem
from graph.expressions.parser import Expression
from graph.feeds import Feeds
from graph.plan import REQUEST, Plan, Ref, Task
from graph.spec import Argument, NodeSpec
from graph.types import Modality, NodeName

EdgeKind: TypeAlias = Literal["feeds", "fallback", "escalates"]
EDGE_KINDS: tuple[EdgeKind, ...] = ("feeds", "fallback", "escalates")
LISTED_MAX = 10_000
"""Edges that modalities alone make, up to which each is written down: they grow with the square of the nodes."""
MANY_PARTS = 256
"""Parts of a graph that are remembered."""


class ModelGraph:
    """An immutable view of all nodes. `with_nodes` and `without` make changed copies."""

    def __init__(self, specs: Iterable[NodeSpec] = ()) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._parts: dict[frozenset[NodeName], ModelGraph] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[NodeSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def __getitem__(self, name: NodeName) -> NodeSpec:
        try:
            return self._specs[name]
        except KeyError:
            known = ", ".join(nsmallest(20, self._specs)) or "none"
            raise NodeNotFound(f"no node is called {name!r}; there is {known}", param="model", node=name) from None

    @property
    def names(self) -> tuple[NodeName, ...]:
        """Names of all nodes, in the order they were given."""
        return tuple(self._specs)

    @cached_property
    def default(self) -> NodeName | None:
        """The node that takes what no expert fits."""
        return next((spec.name for spec in self if spec.default), None)

    def with_nodes(self, *specs: NodeSpec) -> ModelGraph:
        """Return a graph in which these nodes are added or replaced."""
        return ModelGraph((self._specs | {spec.name: spec for spec in specs}).values())

    def without(self, *names: NodeName) -> ModelGraph:
        """Return a graph that lacks these nodes; this one if it never had them."""
        gone = self._specs.keys() & set(names)
        return ModelGraph(spec for spec in self if spec.name not in gone) if gone else self

    def seen_by(self, names: frozenset[NodeName] | None) -> ModelGraph:
        """Return the graph as it is for whom only these nodes exist: no edge leads out of it. None: all of it.

        The same names give the same object, so that what is remembered of a graph holds for it too.
        """
        if names is None:
            return self
        part = self._parts.get(names)
        if part is None:
            if len(self._parts) >= MANY_PARTS:
                self._parts.clear()
            part = self._parts[names] = ModelGraph(_within(spec, names) for spec in self if spec.name in names)
        return part

    def accepting(self, *modalities: Modality) -> tuple[NodeSpec, ...]:
        """Return the nodes that take all of these modalities together."""
        return tuple(spec for spec in self if spec.accepts.issuperset(modalities))

    @cached_property
    def network(self) -> nx.MultiDiGraph:
        """The same graph for networkx: node attribute `spec`, edge key `kind`, edge attribute `declared`.

        It holds every declared edge, and the `feeds` edges that modalities alone make as long as there are at most
        `LISTED_MAX` (`lists_implied`). Paths and checks know them all, listed or not.
        """
        network = nx.MultiDiGraph()
        for spec in self:
            network.add_node(spec.name, spec=spec)
        for spec in self:
            for kind in EDGE_KINDS:
                for target in getattr(spec.edges, kind):
                    if target in self._specs:
                        network.add_edge(spec.name, target, key=kind, declared=True)
            for other in self if self.lists_implied else ():
                if other.name != spec.name and spec.produces & other.accepts:
                    if not network.has_edge(spec.name, other.name, key="feeds"):
                        network.add_edge(spec.name, other.name, key="feeds", declared=False)
        return network

    @property
    def lists_implied(self) -> bool:
        """Whether `network` holds the edges that modalities alone make; `feeds.implied` says how many there are."""
        return self.feeds.implied <= LISTED_MAX

    def path(self, source: NodeName, target: NodeName) -> tuple[NodeName, ...] | None:
        """Return the shortest way along `feeds` edges, declared ones first; None if there is none."""
        return self.feeds.path(source, target)

    @cached_property
    def feeds(self) -> Feeds:
        """Searches along `feeds` edges."""
        return Feeds(self._specs)

    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong between nodes: edges to nodes that do not exist, more than one default."""
        found = []
        for spec in self:
            for kind in EDGE_KINDS:
                for target in getattr(spec.edges, kind):
                    if target not in self._specs:
                        known = ", ".join(nsmallest(20, self._specs))
                        message = f"no node is called {target!r}; there is {known}"
                        found.append(Problem(spec.name, f"edges.{kind}", message))
        defaults = [spec.name for spec in self if spec.default]
        if len(defaults) > 1:
            found.append(Problem(defaults[1], "default", f"more than one node is the default: {', '.join(defaults)}"))
        return tuple(found)

    def check(self, plan: Plan) -> None:
        """Raise `InvalidPlan` with every problem if some task cannot run on this graph."""
        found = [problem for task in plan.tasks for problem in self._task_problems(task, plan)]
        if found:
            raise InvalidPlan(found)

    def _task_problems(self, task: Task, plan: Plan) -> Iterator[Problem]:
        where = f"tasks.{task.id}"
        spec = self._specs.get(task.node)
        if spec is None:
            known = ", ".join(nsmallest(20, self._specs))
            yield Problem("plan", f"{where}.node", f"no node is called {task.node!r}; there is {known}")
            return
        signature = spec.signature()
        if task.composes:
            if spec.is_tool or Modality.TEXT not in spec.accepts:
                yield Problem("plan", f"{where}.composes", f"node {spec.name!r} reads no text; name a chat node")
            signature = {name: argument for name, argument in signature.items() if name != "prompt"}
        for name in sorted(set(task.arguments) - set(signature)):
            yield Problem(
                "plan",
                f"{where}.arguments.{name}",
                f"node {spec.name!r} takes no such argument; it takes {', '.join(signature)}",
            )
        for name, argument in signature.items():
            if name not in task.arguments:
                if argument.required and argument.default is None:
                    yield Problem("plan", f"{where}.arguments.{name}", f"is required by node {spec.name!r}")
            else:
                yield from self._value_problems(task.arguments[name], name, argument, spec, where, plan)

    def _value_problems(
        self, value: Any, name: str, argument: Argument, spec: NodeSpec, where: str, plan: Plan
    ) -> Iterator[Problem]:
        key = f"{where}.arguments.{name}"
        if isinstance(value, Expression):
            if not spec.is_tool and name in (Modality.AUDIO, Modality.IMAGE):
                yield Problem("plan", key, f"an expression gives no {name}; pass it by a $ref")
            return
        if isinstance(value, Ref):
            yield from self._ref_problems(value, name, spec, key, plan)
            return
        if not spec.is_tool:
            return  # a model's arguments are free text and attachments
        if not argument.admits(value):
            yield Problem("plan", key, f"must be of type {argument.type}; got {value!r}")
        elif argument.enum and value not in argument.enum:
            yield Problem("plan", key, f"must be one of {list(argument.enum)}; got {value!r}")

    def _ref_problems(self, ref: Ref, name: str, spec: NodeSpec, key: str, plan: Plan) -> Iterator[Problem]:
        if spec.is_tool or name not in (Modality.AUDIO, Modality.IMAGE) or ref.task == REQUEST:
            return
        if ref.task not in {task.id for task in plan.tasks}:  # an item of a list, whose kind shows when it is there
            return
        source = self._specs.get(plan.task(ref.task).node)
        if source is not None and Modality(name) not in source.produces:
            made = ", ".join(sorted(source.produces))
            yield Problem("plan", key, f"needs {name}, but task {ref.task!r} (node {source.name!r}) produces {made}")


def _within(spec: NodeSpec, names: frozenset[NodeName]) -> NodeSpec:
    """Return a node without the edges that lead to other nodes than these."""
    kept: dict[str, Any] = {
        kind: tuple(name for name in getattr(spec.edges, kind) if name in names) for kind in EDGE_KINDS
    }
    if all(kept[kind] == getattr(spec.edges, kind) for kind in EDGE_KINDS):
        return spec
    return spec.model_copy(update={"edges": spec.edges.model_copy(update=kept)})
