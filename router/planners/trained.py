"""Plans by a trained encoder and decoder: candidates by beam search, ranked again, arguments bound from the request."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from graph.errors import NoNodeFits
from router.planners.decoder import Candidate, Decoder
from router.planners.rerank import Memory, features
from router.planners.toolset import Draft, Toolset
from router.planners.zero_shot import ZeroShotPlanner
from router.types import Array


class TokenEncoder(Protocol):
    """Gives a vector for each token of a text."""

    def tokens(self, text: str) -> Array:
        """Return (tokens, width)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Ranker:
    """A linear score of a candidate's features."""

    centre: Array
    scale: Array
    weights: Array

    def best(self, candidates: Sequence[Candidate], table: Array) -> Candidate:
        """Return the candidate that scores highest."""
        return candidates[int(((table - self.centre) / self.scale @ self.weights).argmax())]


class TrainedPlanner:
    """Plans over the tools that it was trained for."""

    name = "trained"

    def __init__(self, tools: Toolset, encoder: TokenEncoder, decoder: Decoder, memory: Memory, ranker: Ranker) -> None:
        self.tools = tools
        self.memory = memory
        self._encoder = encoder
        self._decoder = decoder
        self._ranker = ranker
        self._words = ZeroShotPlanner(tools, None)
        self._binder = self._words if any(tool.parameters for tool in tools.tools.values()) else None

    def sequence(self, request: str) -> tuple[int, ...]:
        """Return the nodes of the plan for a request, by index; raises `NoNodeFits` if the links allow none."""
        tokens = self._encoder.tokens(request)
        candidates = self._decoder.search(tokens)
        if not candidates:
            raise NoNodeFits("no plan over these tools fits the request")
        pooled = tokens.mean(axis=0)
        vector = pooled / max(float(np.linalg.norm(pooled)), 1e-9)
        table = features(candidates, self._decoder.classify(tokens), vector, self.memory)
        return self._ranker.best(candidates, table).nodes

    def parts(self, request: str) -> list[tuple[str, str]]:
        """Return the nodes of the plan for a request, each with the part of the request that speaks of it."""
        names = [self.tools.names[index] for index in self.sequence(request)]
        return list(zip(names, self._words.texts(request, names), strict=True))

    def draft(self, request: str) -> Draft:
        """Return the tasks for a request, each linked to the one before as the plans of training are."""
        names = [self.tools.names[index] for index in self.sequence(request)]
        return drafted(self.tools, request, names, self._binder)


def drafted(tools: Toolset, request: str, names: Sequence[str], binder: ZeroShotPlanner | None) -> Draft:
    """Return a draft of these tools one after the other, arguments bound where tools have parameters."""
    from graph.plan import Task

    if binder is not None:
        return binder.over(request, names)
    tasks = tuple(Task(f"t{index}", name) for index, name in enumerate(names, 1))
    order = tuple((one.id, two.id) for one, two in itertools.pairwise(tasks) if tools.linked(one.node, two.node))
    return Draft(tasks, order)


def worth(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Say how good a plan is beside the right one: 1 if the same, else by shared nodes and links."""
    if tuple(found) == tuple(wanted):
        return 1.0
    links = [set(itertools.pairwise(own)) for own in (found, wanted)]
    nodes = [set(found), set(wanted)]
    shared = 2 * len(nodes[0] & nodes[1]) / max(len(nodes[0]) + len(nodes[1]), 1)
    linked = 2 * len(links[0] & links[1]) / max(len(links[0]) + len(links[1]), 1)
    return 0.35 * shared + 0.35 * linked
