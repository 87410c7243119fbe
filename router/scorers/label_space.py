"""What is known of labelled vectors in one embedding space: evidence for each label, and how far a text is from all.

Kinds of evidence: the trained head (cosine), the nearest remembered example, a vote of the ten nearest, the centroid,
and a label's finer classes together. Scope: mean cosine of the ten nearest, relative Mahalanobis distance
(Ren et al. 2021: the distance to the closest label less the distance to all texts together), and likeness to requests
that are known to fit no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from router.scorers.evidence import spread
from router.types import Array
from router.vectors import AnyArray, unit

KINDS = ("linear", "nearest", "vote", "centroid", "finer")
REMEMBERED, REMEMBERED_ALL = 16, 3000
"""Examples of a label that are kept at least, if it has them, and of all labels together where they are few."""
NEIGHBOURS = 10
SHARPNESS = 20.0
"""How fast a neighbour's vote falls with its cosine; also the scale at which finer classes add up."""
SHRINKAGE = 0.1
FAR = -1.0
OUTSIDERS = 3
"""Nearest requests that fit no label whose mean cosine counts."""
OUTSIDE_MAX = 1000
"""Requests that fit no label that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelSpace:
    """Immutable; labels are known by their index."""

    weights: Array
    """(labels, dimensions) unit rows of the trained head."""
    memory: Array
    """(examples, dimensions), sorted by label, at least one each."""
    owners: AnyArray
    """(examples,) label of each."""
    centroids: Array
    """(labels, dimensions), length 1."""
    finer: Array
    """(finer classes, dimensions) unit rows, sorted by label, at least one each."""
    finer_owners: AnyArray
    means: Array
    """(labels, dimensions) whitened means."""
    whiten: Array
    """(dimensions, dimensions), so that the distance within labels is Euclidean."""
    background: Array
    """(dimensions + 1, dimensions): the same for all texts together, its last row the mean after whitening."""
    outside: Array
    """(requests, dimensions) that are known to fit no label; may be empty."""

    @property
    def size(self) -> int:
        """How many labels there are."""
        return len(self.weights)

    def evidence(self, vectors: Array, hidden: AnyArray | None = None) -> tuple[Array, Array]:
        """Return (texts, labels, kinds) of evidence and (texts, 3) of scope.

        `hidden` (texts, labels) is True where a label must not be looked at, as if it did not exist.
        """
        similar = vectors @ self.memory.T
        starts, finer_starts = _starts(self.owners, self.size), _starts(self.finer_owners, self.size)
        if hidden is not None:
            similar = np.where(hidden[:, self.owners], FAR, similar)
        found = np.empty((len(vectors), self.size, len(KINDS)), dtype=np.float32)
        found[:, :, 0] = vectors @ self.weights.T
        found[:, :, 1] = np.maximum.reduceat(similar, starts, axis=1)
        top = np.argpartition(-similar, min(NEIGHBOURS, similar.shape[1]) - 1, axis=1)[:, :NEIGHBOURS]
        near = np.take_along_axis(similar, top, axis=1)
        found[:, :, 2] = self._votes(near, top)
        found[:, :, 3] = vectors @ self.centroids.T
        found[:, :, 4] = np.logaddexp.reduceat(SHARPNESS * (vectors @ self.finer.T), finer_starts, axis=1) / SHARPNESS
        if hidden is not None:
            found[hidden] = FAR
        scope = [near.mean(axis=1), -self._distance(vectors, hidden), likeness(vectors, self.outside)]
        return found, np.stack(scope, axis=1).astype(np.float32)

    def select(self, kept: Sequence[int]) -> LabelSpace:
        """Return the space of some of the labels."""
        new = np.full(self.size, -1)
        new[list(kept)] = np.arange(len(kept))
        rows, finer = new[self.owners] >= 0, new[self.finer_owners] >= 0
        by_label = np.argsort(new[self.owners][rows], kind="stable")
        by_finer = np.argsort(new[self.finer_owners][finer], kind="stable")
        return LabelSpace(
            self.weights[list(kept)],
            self.memory[rows][by_label],
            new[self.owners][rows][by_label],
            self.centroids[list(kept)],
            self.finer[finer][by_finer],
            new[self.finer_owners][finer][by_finer],
            self.means[list(kept)],
            self.whiten,
            self.background,
            self.outside,
        )

    def extend(self, groups: Sequence[Array]) -> LabelSpace:
        """Return the space with new labels, each given by the vectors of its texts."""
        if not groups:
            return self
        centroids = unit(np.stack([group.mean(axis=0) for group in groups]))
        added = np.arange(self.size, self.size + len(groups))
        near = [group[spread(len(group), remembered(self.size))] for group in groups]
        return LabelSpace(
            np.concatenate([self.weights, centroids]),
            np.concatenate([self.memory, *near]),
            np.concatenate([self.owners, np.repeat(added, [len(group) for group in near])]),
            np.concatenate([self.centroids, centroids]),
            np.concatenate([self.finer, centroids]),
            np.concatenate([self.finer_owners, added]),
            np.concatenate([self.means, np.stack([group.mean(axis=0) for group in groups]) @ self.whiten]),
            self.whiten,
            self.background,
            self.outside,
        )

    def claimed(self, groups: Sequence[Array]) -> AnyArray:
        """Return (requests,) True for each one known to fit no label that a new label's texts are nearest to."""
        if not groups or not len(self.outside):
            return np.zeros(len(self.outside), dtype=bool)
        new = (self.outside @ np.concatenate(groups).T).max(axis=1)
        return np.asarray(new > (self.outside @ self.memory.T).max(axis=1))

    def arrays(self) -> dict[str, AnyArray]:
        """Return what `from_arrays` takes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _votes(self, near: Array, top: AnyArray) -> Array:
        votes = np.zeros((len(near), self.size), dtype=np.float32)
        np.add.at(votes, (np.arange(len(near))[:, None], self.owners[top]), np.exp(SHARPNESS * (near - 1.0)))
        share = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-9)
        return np.asarray(np.log(share + 1e-2) / -np.log(1e-2) + 1.0, dtype=np.float32)

    def _distance(self, vectors: Array, hidden: AnyArray | None) -> Array:
        own = vectors @ self.whiten
        squares = (own**2).sum(axis=1)[:, None] - 2 * own @ self.means.T + (self.means**2).sum(axis=1)
        if hidden is not None:
            squares = np.where(hidden, np.inf, squares)
        all_together = vectors @ self.background[:-1] - self.background[-1]
        return np.asarray(squares.min(axis=1) - (all_together**2).sum(axis=1), dtype=np.float32)


def fit_space(
    vectors: Array, targets: AnyArray, weights: Array, finer: tuple[Array, AnyArray] | None = None
) -> LabelSpace:
    """Return the space of labelled unit vectors, every label having one at least.

    `weights` (labels, dimensions) is a trained head, `finer` one of finer classes with each one's label.
    """
    order = np.argsort(targets, kind="stable")
    vectors, targets = vectors[order], targets[order]
    labels = len(weights)
    counts = np.bincount(targets, minlength=labels)
    means = np.zeros((labels, vectors.shape[1]), dtype=np.float64)
    np.add.at(means, targets, vectors)
    means /= counts[:, None]
    ends, most = np.cumsum(counts), remembered(labels)
    kept = np.concatenate([ends[i] - counts[i] + spread(int(counts[i]), most) for i in range(labels)])
    whiten = _whitening(vectors - means[targets])
    spread_out = _whitening(vectors - vectors.mean(axis=0))
    background = np.concatenate([spread_out, (vectors.mean(axis=0) @ spread_out)[None, :]])
    rows, owners = finer if finer is not None else (weights, np.arange(labels))
    by_label = np.argsort(owners, kind="stable")
    return LabelSpace(
        weights,
        vectors[kept],
        targets[kept],
        unit(means),
        rows[by_label],
        owners[by_label],
        (means @ whiten).astype(np.float32),
        whiten.astype(np.float32),
        background.astype(np.float32),
        np.zeros((0, vectors.shape[1]), dtype=np.float32),
    )


def remembered(labels: int) -> int:
    """Return how many examples of each of so many labels are kept."""
    return max(REMEMBERED, REMEMBERED_ALL // labels)


def likeness(vectors: Array, outside: Array) -> Array:
    """Return (texts,) mean cosine with the nearest requests that fit no label; 0 where none is known."""
    if not len(outside):
        return np.zeros(len(vectors), dtype=np.float32)
    similar = vectors @ outside.T
    count = min(OUTSIDERS, len(outside))
    return np.asarray(np.partition(similar, -count, axis=1)[:, -count:].mean(axis=1), dtype=np.float32)


def _whitening(centred: AnyArray) -> AnyArray:
    """Return W with W W' the inverse of the covariance, shrunk towards a ball."""
    covariance = centred.T.astype(np.float64) @ centred / max(1, len(centred))
    size = len(covariance)
    ball = np.trace(covariance) / size * np.eye(size)
    values, directions = np.linalg.eigh((1 - SHRINKAGE) * covariance + SHRINKAGE * ball + 1e-6 * np.eye(size))
    return np.asarray(directions / np.sqrt(values))


def _starts(owners: AnyArray, labels: int) -> AnyArray:
    return np.searchsorted(owners, np.arange(labels))
