"""What vectors say of how well each node fits a text: nearest example, centroid, description and a linear head.

Every kind of evidence can also be had for the examples themselves as if each had not been seen (leave one out), and
as if its whole node did not exist (leave one node out). Calibration is learned from those, so it needs no data of its
own and a node with five examples is calibrated as honestly as one with five hundred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.vectors import AnyArray, unit

NEAREST, CENTROID, DESCRIPTION, LINEAR = range(4)
KINDS = 4
NEAREST_MAX = 100
"""Examples of one node that take part in nearest-neighbour search; the linear head learns from all."""
NODE_FOLDS = 48
"""Most refits of the linear head for leave-one-node-out; beyond that nodes are left out in groups."""
NEIGHBOURS = 0.1
"""Share of the nodes, those most like it, that vanish together with a node that is left out. A stranger's request
is commonly further from everything than one whose next of kin is there."""
RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Vectors of every node's description and examples, arranged for scoring."""

    prototypes: AnyArray
    """(prototypes, dimensions): per node its description, then its examples."""
    starts: AnyArray
    """(nodes,) row at which each node's prototypes start."""
    descriptions: AnyArray
    """(nodes, dimensions)."""
    sums: AnyArray
    """(nodes, dimensions): sum of a node's examples and description."""
    linear: AnyArray | None
    """(dimensions + 1, nodes) of the ridge classifier; None leaves that evidence zero."""
    examples: AnyArray
    """(examples, dimensions), sorted by node."""
    owners: AnyArray
    """(examples,) index of each example's node."""

    def of(self, vectors: AnyArray) -> AnyArray:
        """Return (texts, nodes, kinds of evidence)."""
        found = np.zeros((len(vectors), len(self.descriptions), KINDS), dtype=np.float32)
        found[:, :, NEAREST] = np.maximum.reduceat(vectors @ self.prototypes.T, self.starts, axis=1)
        found[:, :, CENTROID] = vectors @ unit(self.sums).T
        found[:, :, DESCRIPTION] = vectors @ self.descriptions.T
        if self.linear is not None:
            found[:, :, LINEAR] = _with_one(vectors) @ self.linear
        return found

    def leave_one_out(self, rows: AnyArray) -> AnyArray:
        """Return the evidence of some examples as if each had never been an example."""
        vectors, owners = self.examples[rows], self.owners[rows]
        found = self.of(vectors)
        each = np.arange(len(rows))
        found[each, owners, CENTROID] = (unit(self.sums[owners] - vectors) * vectors).sum(axis=1)
        found[each, owners, NEAREST] = self._nearest_other(vectors, owners)
        if self.linear is not None:
            found[:, :, LINEAR] = self._linear_left_out(found[:, :, LINEAR], vectors, owners)
        return found

    def _nearest_other(self, vectors: AnyArray, owners: AnyArray) -> AnyArray:
        ends = np.append(self.starts[1:], len(self.prototypes))
        best = np.empty(len(vectors), dtype=np.float32)
        for row, (vector, owner) in enumerate(zip(vectors, owners, strict=True)):
            similar = self.prototypes[self.starts[owner] : ends[owner]] @ vector
            same = similar[1:] > 0.9999  # the example itself, and copies of it: they would tell nothing
            best[row] = max(float(similar[0]), float(similar[1:][~same].max(initial=-1.0)))
        return best

    def _linear_left_out(self, predicted: AnyArray, vectors: AnyArray, owners: AnyArray) -> AnyArray:
        """Exact leave-one-out of ridge regression: (prediction - leverage * target) / (1 - leverage)."""
        gram, _ = _normal_equations(self.examples, self.owners, self.descriptions)
        extended = _with_one(vectors)
        weights = _weights(self.owners, len(self.descriptions))[owners]
        leverage = np.einsum("nd,nd->n", extended, np.linalg.solve(gram, extended.T).T) * weights
        leverage = np.clip(leverage, 0.0, 0.99)[:, None]
        target = np.eye(len(self.descriptions), dtype=np.float32)[owners]
        return np.asarray((predicted - leverage * target) / (1 - leverage), dtype=np.float32)

    def leave_node_out(self, rows: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Return the evidence of some examples as if their node did not exist, and which nodes were left out.

        The second result is (examples, nodes), True where a node must not be looked at.
        """
        vectors, owners = self.examples[rows], self.owners[rows]
        found = self.of(vectors)
        nodes = len(self.descriptions)
        fold = np.arange(nodes) % min(nodes, NODE_FOLDS)
        hidden = (fold[None, :] == fold[owners][:, None]) | self._kin()[owners]
        if self.linear is not None:
            for group in np.unique(fold[owners]):
                chosen = fold[owners] == group
                found[chosen, :, LINEAR] = _with_one(vectors[chosen]) @ self._linear_without(fold == group)
        return found, hidden

    def _kin(self) -> AnyArray:
        """Return (nodes, nodes), True where the second is the first or among its nearest kin."""
        nodes = len(self.descriptions)
        centroids = unit(self.sums)
        nearest = np.argsort(-(centroids @ centroids.T), axis=1, kind="stable")[:, : 1 + int(NEIGHBOURS * nodes)]
        kin = np.eye(nodes, dtype=bool)
        np.put_along_axis(kin, nearest, True, axis=1)
        return kin

    def _linear_without(self, gone: AnyArray) -> AnyArray:
        keep = ~gone[self.owners]
        gram, moments = _normal_equations(self.examples[keep], self.owners[keep], self.descriptions, gone)
        return np.asarray(np.linalg.solve(gram, moments), dtype=np.float32)


def gather(descriptions: AnyArray, examples: AnyArray, owners: AnyArray, *, linear: bool) -> Evidence:
    """Arrange description vectors (nodes, dimensions) and example vectors (sorted by node) for scoring."""
    nodes = len(descriptions)
    rows: list[AnyArray] = []
    starts = np.zeros(nodes, dtype=np.int64)
    sums = descriptions.copy()
    total = 0
    for node in range(nodes):
        own = examples[owners == node]
        sums[node] += own.sum(axis=0)
        near = own[spread(len(own), NEAREST_MAX)]
        starts[node] = total
        total += 1 + len(near)
        rows += [descriptions[node : node + 1], near]
    head = None
    if linear and nodes > 1:
        gram, moments = _normal_equations(examples, owners, descriptions)
        head = np.linalg.solve(gram, moments).astype(np.float32)
    return Evidence(np.concatenate(rows), starts, descriptions, sums, head, examples, owners)


def spread(count: int, at_most: int) -> AnyArray:
    """Return indices of at most so many of `count` items, evenly spaced: a sample that needs no dice."""
    return np.unique(np.linspace(0, count - 1, min(count, at_most)).round().astype(np.int64))


def _with_one(vectors: AnyArray) -> AnyArray:
    return np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1)


def _weights(owners: AnyArray, nodes: int) -> AnyArray:
    """Return each example's weight: every node counts the same however many examples it has."""
    counts = np.bincount(owners, minlength=nodes) + 1
    return np.asarray(counts.mean() / counts, dtype=np.float32)


def _normal_equations(
    examples: AnyArray, owners: AnyArray, descriptions: AnyArray, gone: AnyArray | None = None
) -> tuple[AnyArray, AnyArray]:
    """Return X'WX + ridge and X'WY of one-against-rest regression on examples and descriptions."""
    nodes = len(descriptions)
    keep = np.ones(nodes, dtype=bool) if gone is None else ~gone
    x = _with_one(np.concatenate([examples, descriptions[keep]])).astype(np.float64)
    y = np.concatenate([owners, np.arange(nodes)[keep]])
    weighted = x * _weights(owners, nodes)[y][:, None]
    gram = x.T @ weighted + RIDGE * np.eye(x.shape[1])
    return gram, weighted.T @ np.eye(nodes)[y]
