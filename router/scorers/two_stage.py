"""The two stages of the trained router: static vectors first, the sentence encoder for what they are unsure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.calibration import Scope, softmax
from router.scorers.label_space import KINDS, LabelSpace, likeness
from router.scorers.static_stage import NgramEncoder
from router.types import Array, Encoder
from router.vectors import AnyArray, unit

FIRST_KINDS = ("static", "words", "finer words")
SECOND_KINDS = (*KINDS, *FIRST_KINDS)
FIRST_FEATURES = ("logit", "energy", "margin", "cosine", "known", "outside")
SECOND_FEATURES = (*FIRST_FEATURES[:5], "neighbours", "mahalanobis", "outside")


@dataclass(frozen=True, slots=True, eq=False)
class WordHead:
    """Linear models over TF-IDF of tokens and token pairs, as a table to look rows up in.

    Its columns are the labels, and after them the finer classes that labels may have.
    """

    table: Array
    """(features, columns)."""
    squares: Array
    """(features,) squared inverse document frequency, for a text's length."""
    bias: Array
    """(columns,)."""
    owners: AnyArray
    """(finer classes,) label of each, rising; empty where there are none."""

    @property
    def size(self) -> int:
        """How many labels there are."""
        return len(self.bias) - len(self.owners)

    def score(self, features: Sequence[AnyArray]) -> Array:
        """Return (texts, labels, 2) of texts given by their features: of each label, and of its best finer class."""
        found = np.tile(self.bias, (len(features), 1))
        for row, own in enumerate(features):
            rows = np.unique(own)
            found[row] += self.table[rows].sum(axis=0) / max(1e-6, float(np.sqrt(self.squares[rows].sum())))
        labels = found[:, : self.size]
        if not len(self.owners):
            return np.stack([labels, labels], axis=2)
        starts = np.searchsorted(self.owners, np.arange(self.size))
        return np.stack([labels, np.maximum.reduceat(found[:, self.size :], starts, axis=1)], axis=2)

    def select(self, kept: Sequence[int]) -> WordHead:
        """Return the same for some of the labels."""
        new = np.full(self.size, -1)
        new[list(kept)] = np.arange(len(kept))
        finer = np.flatnonzero(new[self.owners] >= 0)
        finer = finer[np.argsort(new[self.owners][finer], kind="stable")]
        columns = [*kept, *(self.size + finer)]
        return WordHead(self.table[:, columns], self.squares, self.bias[columns], new[self.owners][finer])

    def extend(self, count: int) -> WordHead:
        """Return the same with new labels, which no word speaks for or against: they get what others get on average."""
        size = self.size
        mean, bias = self.table[:, :size].mean(axis=1, keepdims=True), self.bias[:size].mean()
        new = np.repeat(mean, count, axis=1)
        again = count if len(self.owners) else 0
        return WordHead(
            np.concatenate([self.table[:, :size], new, self.table[:, size:], new[:, :again]], axis=1),
            self.squares,
            np.concatenate([self.bias[:size], [bias] * count, self.bias[size:], [bias] * again]).astype(np.float32),
            np.concatenate([self.owners, np.arange(size, size + again)]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """How the evidence of a stage becomes probabilities."""

    weights: Array
    """(kinds,)."""
    scope: Scope
    lift: Array
    """(2,) a, b: labels that were added by n texts get a + b / n more than their evidence says, never less."""

    def score(self, evidence: Array, features: Array, added: AnyArray) -> tuple[Array, Array]:
        """Return (texts, labels) probabilities given that a label fits, and (texts,) that one does.

        `added` (labels,) is how many texts a label was added by, 0 where it was trained.
        """
        logits = evidence @ self.weights
        lift = np.maximum(self.lift[0] + self.lift[1] / np.maximum(added, 1), 0.0)
        chosen = softmax(logits + np.where(added > 0, lift, 0.0).astype(np.float32))
        return chosen, self.scope.probability(scope_features(logits, features))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What stage one sees of some texts."""

    kinds: Array
    """(texts, labels, kinds)."""
    scope: Array
    """(texts, 3): the best cosine, the share of known tokens, and likeness to requests that fit no label."""


@dataclass(frozen=True, slots=True, eq=False)
class TwoStage:
    """Everything that scoring needs. Immutable and thread-safe."""

    static: NgramEncoder
    head: Array
    """(labels, static dimensions) unit rows."""
    outside: Array
    """(requests, static dimensions) unit rows of requests that fit no label: those of `space.outside`."""
    words: WordHead
    encoder: Encoder
    space: LabelSpace
    first: Stage
    second: Stage
    escalate_below: float
    added: AnyArray
    """(labels,) how many texts each was added by; 0 where it was trained."""

    def score(self, texts: Sequence[str]) -> tuple[Array, Array, AnyArray]:
        """Return (texts, labels) probabilities, (texts,) in scope, and which texts went to stage two."""
        seen = self.look(texts)
        probabilities, in_scope = self.first.score(seen.kinds, seen.scope, self.added)
        unsure = probabilities.max(axis=1) * in_scope < self.escalate_below
        if unsure.any():
            rows = np.flatnonzero(unsure)
            own = [text for text, asked in zip(texts, unsure, strict=True) if asked]
            evidence, features = self.look_closely(own, Evidence(seen.kinds[rows], seen.scope[rows]))
            probabilities[rows], in_scope[rows] = self.second.score(evidence, features, self.added)
        return probabilities, in_scope, unsure

    def look(self, texts: Sequence[str]) -> Evidence:
        """Return what stage one sees."""
        return first_evidence(self.static, self.head, self.outside, self.words, texts)

    def look_closely(self, texts: Sequence[str], seen: Evidence) -> tuple[Array, Array]:
        """Return the evidence of stage two, which holds that of stage one."""
        return second_evidence(self.space, self.encoder.encode(texts), seen)

    def select(self, kept: Sequence[int]) -> TwoStage:
        """Return the same for some of the labels."""
        rows = list(kept)
        return replace(
            self,
            head=self.head[rows],
            words=self.words.select(rows),
            space=self.space.select(rows),
            added=self.added[rows],
        )

    def extend(self, groups: Sequence[Sequence[str]]) -> TwoStage:
        """Return the same with new labels, each given by texts; none is trained, and the old ones stay as they are."""
        if not groups:
            return self
        vectors = [self.encoder.encode(group) for group in groups]
        strange = ~self.space.claimed(vectors)
        space = self.space.extend(vectors)
        return replace(
            self,
            head=extend_head(self.static, self.head, groups),
            outside=self.outside[strange],
            words=self.words.extend(len(groups)),
            space=replace(space, outside=space.outside[strange]),
            added=np.concatenate([self.added, [len(group) for group in groups]]),
        )


def extend_head(static: NgramEncoder, head: Array, groups: Sequence[Sequence[str]]) -> Array:
    """Return the head of stage one with new labels, each given by texts."""
    return np.concatenate([head, *(unit(static.encode(group).mean(axis=0))[None] for group in groups)])


def first_evidence(
    static: NgramEncoder, head: Array, outside: Array, words: WordHead, texts: Sequence[str]
) -> Evidence:
    """Return what stage one sees of texts."""
    features = []
    sums = np.zeros((len(texts), static.vectors.shape[1]), dtype=np.float32)
    scope = np.zeros((len(texts), 3), dtype=np.float32)
    for row, (own, known) in enumerate(static.features(texts)):
        features.append(own)
        sums[row] = static.vectors[own].sum(axis=0)
        scope[row, 1] = known
    vectors = unit(sums)
    kinds = np.empty((len(texts), len(head), len(FIRST_KINDS)), dtype=np.float32)
    kinds[:, :, 0] = vectors @ head.T
    kinds[:, :, 1:] = words.score(features)
    scope[:, 0] = kinds[:, :, 0].max(axis=1, initial=-1.0)
    scope[:, 2] = likeness(vectors, outside)
    return Evidence(kinds, scope)


def second_evidence(
    space: LabelSpace, vectors: Array, seen: Evidence, hidden: AnyArray | None = None
) -> tuple[Array, Array]:
    """Return (texts, labels, kinds) of evidence and (texts, 5) of scope."""
    evidence, features = space.evidence(vectors, hidden)
    return np.concatenate([evidence, seen.kinds], axis=2), np.concatenate([seen.scope[:, :2], features], axis=1)


def scope_features(logits: Array, features: Array) -> Array:
    """Return (texts, features) of scope: of the blended logits first, then what the stage has beside them."""
    if not logits.shape[1]:
        return np.zeros((len(logits), 3 + features.shape[1]), dtype=np.float32)
    top = logits.max(axis=1)
    energy = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    second = np.partition(logits, -2, axis=1)[:, -2] if logits.shape[1] > 1 else top - 10.0
    return np.concatenate([np.stack([top, energy, top - second], axis=1), features], axis=1).astype(np.float32)
