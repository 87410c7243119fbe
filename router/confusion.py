"""`Confusion`: how far two nodes are taken for each other, on held-out requests of both.

With `taken` the share of one node's requests that are nearest to the other, and `given` the reverse, their `overlap` is
taken + given: 0 for nodes that are never confused, 1 for a toss of a coin, whatever their numbers of examples.

Of few examples, which of two is nearest says little: a node with five examples is outweighed by one with fifty. `mixed`
asks instead whether the lead of one over the other is larger on its own requests than on the other's, whatever the size
of the lead: 2 * (1 - A), where A is the share of pairs of requests, one of each node, that are in the right order (the
area under the ROC curve). It is 0 for nodes whose requests are told apart and 1 where they cannot be.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graph.types import NodeName
from router.evaluation.routing import Row
from router.vectors import AnyArray

Shares: TypeAlias = Mapping[NodeName, float]
CONFIDENCE = 1.28
"""Standard errors that are taken off a share before it is held against a node: a one-sided bound of nine in ten."""
MIXED_CONFIDENCE = 1.0
"""The same for `mixed`, which varies less from one set of few examples to another: five in six."""
LEAST = 1e-6
"""Added to each probability before its logarithm is taken."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """An existing node and the changed one; shares of held-out requests."""

    node: NodeName
    rows: int
    """Held-out requests of this node."""
    taken: float
    """Share of them that is nearest to the changed node."""
    given: float
    """Share of the changed node's requests that is nearest to this node."""
    error: float
    """Standard error of the overlap."""
    mixed: float
    """How far the requests of both cannot be told apart; on the scale of the overlap."""
    mixed_error: float
    flips: int = 0
    """Of its requests, how many the live router gets right and the candidate does not."""
    shared: int = 0
    """Requests that both nodes claim, word for word."""

    @property
    def overlap(self) -> float:
        """0: never confused; 1: the two cannot be told apart."""
        return self.taken + self.given

    @property
    def certain(self) -> float:
        """The overlap that there is in nine cases out of ten, given so many requests: a lower bound."""
        return self.overlap - CONFIDENCE * self.error

    @property
    def mixed_certain(self) -> float:
        """The same of `mixed`, in five cases out of six."""
        return self.mixed - MIXED_CONFIDENCE * self.mixed_error


def standard_error(count: int, of: int) -> float:
    """Return that of a share; half a case is added either way, so that few rows never look certain."""
    if not of:
        return 0.0
    share = (count + 0.5) / (of + 1)
    return math.sqrt(share * (1 - share) / of)


def mixture(own: AnyArray, others: AnyArray) -> tuple[float, float]:
    """Return 2 * (1 - A) and its standard error, A being the area under the ROC curve of two samples of leads.

    The error is that of Hanley and McNeil (1982), with half a pair added either way.
    """
    m, n = len(own), len(others)
    if not m or not n:
        return 0.0, 0.0
    above = (own[:, None] > others).sum() + 0.5 * (own[:, None] == others).sum()
    area = float(above) / (m * n)
    a = (float(above) + 0.5) / (m * n + 1)
    first, second = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (m - 1) * (first - a * a) + (n - 1) * (second - a * a)) / (m * n)
    return 2 * (1 - area), 2 * math.sqrt(max(variance, 0.0))


@dataclass(frozen=True, slots=True)
class Table:
    """Held-out requests by their node, with what a router makes of them."""

    shares: Mapping[NodeName, Sequence[Shares]]
    nearest: Counter[tuple[NodeName, NodeName]]
    """Counts by a request's node and the node that is likeliest."""

    @classmethod
    def of(cls, rows: Sequence[Row], shares: Sequence[Shares]) -> Table:
        """Arrange requests; those that no node can take are left out."""
        found: defaultdict[NodeName, list[Shares]] = defaultdict(list)
        nearest: Counter[tuple[NodeName, NodeName]] = Counter()
        for row, own in zip(rows, shares, strict=True):
            if row.node and own:
                found[row.node].append(own)
                nearest[row.node, max(own, key=lambda name: own[name])] += 1
        return cls(found, nearest)

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """The nodes that have requests here."""
        return tuple(self.shares)

    @property
    def mistaken(self) -> tuple[tuple[NodeName, NodeName], ...]:
        """Pairs of nodes of which one was taken for the other, sorted."""
        pairs = {(min(pair), max(pair)) for pair in self.nearest if pair[0] != pair[1]}
        return tuple(sorted(pairs))

    def pair(self, node: NodeName, changed: NodeName) -> Confusion:
        """Compare two nodes."""
        taken, its = self.nearest[node, changed], len(self.shares.get(node, ()))
        given, own = self.nearest[changed, node], len(self.shares.get(changed, ()))
        error = math.hypot(standard_error(taken, its), standard_error(given, own))
        mixed, mixed_error = mixture(self._leads(changed, node, changed), self._leads(changed, node, node))
        return Confusion(node, its, taken / its if its else 0.0, given / own if own else 0.0, error, mixed, mixed_error)

    def _leads(self, first: NodeName, second: NodeName, of: NodeName) -> AnyArray:
        """Return by how much (in logits) the first node leads the second, on the requests of one of them."""
        pairs = [(shares.get(first, 0.0), shares.get(second, 0.0)) for shares in self.shares.get(of, ())]
        logs = np.log(np.array(pairs, dtype=np.float64).reshape(-1, 2) + LEAST)
        return np.asarray(logs[:, 0] - logs[:, 1])
