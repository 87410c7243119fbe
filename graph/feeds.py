"""`Feeds`: ways along `feeds` edges, found without writing down an edge between every two nodes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TypeAlias

from graph.spec import NodeSpec
from graph.types import Modality, NodeName

DECLARED, IMPLIED = 1, 2
"""Weights of an edge that somebody wrote down and of one that modalities alone make."""

_Way: TypeAlias = tuple[int, int, tuple[NodeName, ...]]
"""Weight, nodes, and the nodes themselves: ways sort by weight, then length, then names."""
_Kind: TypeAlias = tuple[bool, frozenset[Modality], frozenset[Modality]]


def _nothing(name: NodeName) -> bool:
    return False


class Feeds:
    """The `feeds` edges of a graph: those declared, and from every node to all that accept what it produces.

    Nodes alike in what they accept and produce, and that declare nothing, are interchangeable on the way: the first by
    name stands for all. So a search looks at a few nodes, however many there are.
    """

    def __init__(self, specs: Mapping[NodeName, NodeSpec]) -> None:
        self._specs = specs

    def path(self, source: NodeName, target: NodeName) -> tuple[NodeName, ...] | None:
        """Return the lightest way from one node to another, both included; None if there is none."""
        if source not in self._specs or target not in self._specs:
            return None
        if source == target:
            return (source,)
        return self._search([(0, 1, (source,))], target, _nothing, tools=True)

    def takers(self, modalities: frozenset[Modality]) -> Iterator[NodeName]:
        """Yield the models that accept all of these modalities, by name among those alike."""
        for (is_tool, taken, _), names in self._alike.items():
            if not is_tool and taken >= modalities:
                yield from names

    def carry(
        self, modality: Modality, target: NodeName, barred: Callable[[NodeName], bool] = _nothing
    ) -> tuple[NodeName, ...] | None:
        """Return the models that an attachment passes before `target`, fewest first; None if there is no way.

        `barred` says of a node that it must not stand on the way.
        """
        if target not in self._specs:
            return None
        accepts = self._specs[target].accepts
        declared = {name for name in self._declaring_to.get(target, ()) if not self._specs[name].is_tool}
        direct = [name for name in declared if modality in self._specs[name].accepts]
        for (is_tool, taken, produced), names in self._alike.items():
            if modality in taken and produced & accepts and not is_tool:
                direct += self._first(names, target, barred)
        direct = [name for name in direct if name != target and not barred(name)]
        if direct:
            return (min(direct),)
        starts = [(0, 1, (name,)) for name in self._taking(modality, target, barred, tools=False)]
        way = self._search(starts, target, barred, tools=False)
        return way[:-1] if way else None

    def _search(
        self, starts: Iterable[_Way], target: NodeName, barred: Callable[[NodeName], bool], *, tools: bool
    ) -> tuple[NodeName, ...] | None:
        """Dijkstra's algorithm; what a node produces is a stop on the way that is opened once."""
        heap = sorted(starts)
        seen: set[NodeName] = set()
        opened: set[Modality] = set()
        while heap:
            weight, length, way = heapq.heappop(heap)
            here = self._specs[way[-1]]
            if here.name == target:
                return way
            if here.name in seen:
                continue
            seen.add(here.name)
            for name in here.edges.feeds:
                if name == target or (name in self._specs and self._open(name, barred, tools)):
                    heapq.heappush(heap, (weight + DECLARED, length + 1, (*way, name)))
            for modality in sorted(here.produces - opened):
                opened.add(modality)
                fits = modality in self._specs[target].accepts
                for name in (target,) if fits else self._taking(modality, target, barred, tools=tools):
                    heapq.heappush(heap, (weight + IMPLIED, length + 1, (*way, name)))
        return None

    def _open(self, name: NodeName, barred: Callable[[NodeName], bool], tools: bool) -> bool:
        return not barred(name) and (tools or not self._specs[name].is_tool)

    def _taking(
        self, modality: Modality, target: NodeName, barred: Callable[[NodeName], bool], *, tools: bool
    ) -> Iterator[NodeName]:
        """Yield nodes that stand for all those that accept a modality."""
        for (is_tool, taken, _), names in self._alike.items():
            if modality in taken and (tools or not is_tool):
                yield from self._first(names, target, barred)
        for name in self._declaring:
            if modality in self._specs[name].accepts and name != target and self._open(name, barred, tools):
                yield name

    def _first(
        self, names: tuple[NodeName, ...], target: NodeName, barred: Callable[[NodeName], bool]
    ) -> tuple[NodeName, ...]:
        found = next((name for name in names if name != target and not barred(name)), None)
        return () if found is None else (found,)

    @cached_property
    def implied(self) -> int:
        """How many edges modalities alone make, from every node to all others that accept what it produces."""
        kinds = {kind: len(names) for kind, names in self._alike.items()}
        pairs = sum(
            many * (others - (giver == taker))
            for giver, many in kinds.items()
            for taker, others in kinds.items()
            if giver[2] & taker[1]
        )
        return pairs - sum(
            self._specs[name].produces & self._specs[target].accepts != frozenset()
            for target, names in self._declaring_to.items()
            for name in set(names) - {target}
            if target in self._specs
        )

    @cached_property
    def _alike(self) -> dict[_Kind, tuple[NodeName, ...]]:
        groups: dict[_Kind, list[NodeName]] = {}
        for spec in self._specs.values():
            groups.setdefault((spec.is_tool, spec.accepts, spec.produces), []).append(spec.name)
        return {kind: tuple(sorted(names)) for kind, names in groups.items()}

    @cached_property
    def _declaring(self) -> tuple[NodeName, ...]:
        return tuple(spec.name for spec in self._specs.values() if spec.edges.feeds)

    @cached_property
    def _declaring_to(self) -> dict[NodeName, list[NodeName]]:
        found: dict[NodeName, list[NodeName]] = {}
        for name in self._declaring:
            for target in self._specs[name].edges.feeds:
                found.setdefault(target, []).append(name)
        return found
