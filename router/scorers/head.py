"""A classifier over vectors: blends evidence into probabilities over nodes, and says whether any node fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graph.spec import NodeSpec
from router.calibration import Scope, fit_blend, fit_scope, prior_scope, softmax
from router.scorers.evidence import CENTROID, NEAREST, Evidence, gather, spread
from router.vectors import AnyArray

PRIOR = np.array([5.0, 5.0, 5.0, 5.0], dtype=np.float32)
"""Weight of each kind of evidence before there is data: a temperature of about 0.07 on cosine similarity."""
CALIBRATION_MAX = 1500
"""Examples that calibration looks at."""
SCOPE_MIN = 8
"""Examples, of two nodes at least, below which scope is a prior."""
PRIOR_INSIDE = 0.8
"""Share of requests that are expected to fit some node."""
HIDDEN = -9.0
"""Evidence of a node that must not be looked at."""
GENERIC = (
    "hello there",
    "thanks, that is all for today",
    "tell me a joke",
    "what is the weather like tomorrow",
    "who won the football match last night",
    "recommend a film for tonight",
    "what time is it in tokyo",
    "write a birthday card for my sister",
    "how do i get red wine out of a carpet",
    "book a table for two at seven",
    "give me a recipe for lentil soup",
    "what is the capital of australia",
    "my train is late again",
    "translate good morning into italian",
    "play some relaxing music",
    "how tall is mount everest",
    "lorem ipsum dolor sit amet",
    "jkl uiop bnm hgf",
    "who was the first emperor of rome",
    "how do magnets work",
    "the kitchen tap drips",
    "do penguins have knees",
    "what should i wear to the opera",
    "learn to play the guitar",
)
"""Everyday sentences, for the scope of nodes that have no examples."""


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted classifier."""

    evidence: Evidence
    weights: AnyArray
    scope: Scope

    def score(self, vectors: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Return (texts, nodes) probabilities given that some node fits, and (texts,) probability that one does."""
        found = self.evidence.of(vectors)
        logits = found @ self.weights
        return softmax(logits), self.scope.probability(_scope_features(found, logits))


def node_text(spec: NodeSpec) -> str:
    """Return the text that stands for a node that has said nothing by example."""
    return f"{spec.name.replace('_', ' ').replace('-', ' ')}: {spec.description}"


def node_examples(specs: Sequence[NodeSpec]) -> tuple[list[str], AnyArray]:
    """Return all examples, node by node, each once, and the index of each one's node."""
    texts: list[str] = []
    owners: list[int] = []
    for index, spec in enumerate(specs):
        own = sorted(set(spec.examples))
        texts += own
        owners += [index] * len(own)
    return texts, np.array(owners, dtype=np.int64)


def fit_head(
    descriptions: AnyArray, examples: AnyArray, owners: AnyArray, generic: AnyArray, *, linear: bool = True
) -> Head:
    """Fit on vectors: (nodes, d) descriptions, (n, d) examples sorted by node, (n,) owners, (m, d) generic texts.

    Works from descriptions alone, from a few examples and from thousands; how much each kind of evidence counts is
    learned from leave-one-out predictions, and scope from leave-one-node-out.
    """
    evidence = gather(descriptions, examples, owners, linear=linear and len(examples) > 0)
    rows = spread(len(examples), CALIBRATION_MAX) if len(examples) else np.zeros(0, dtype=np.int64)
    prior = PRIOR * np.array([1, 1, 1, linear], dtype=np.float32)
    if len(descriptions) < 2 or len(np.unique(owners)) < 2:
        return _untrained(evidence, prior, generic)
    inside = evidence.leave_one_out(rows)
    counts = np.bincount(owners[rows], minlength=len(descriptions))
    balance = (counts[counts > 0].mean() / np.maximum(counts, 1))[owners[rows]]
    weights = fit_blend(inside, owners[rows], prior, sample=balance)
    if len(rows) < SCOPE_MIN:
        return _untrained(evidence, weights, generic)
    outside, hidden = evidence.leave_node_out(rows)
    outside[hidden] = HIDDEN
    near = _features(inside, weights)
    strangers = _features(evidence.of(generic), weights)
    strangers = strangers[strangers[:, 0] < np.quantile(near[:, 0], 0.25)]  # the others may well be meant for a node
    far = np.concatenate([_features(outside, weights), strangers])
    return Head(evidence, weights, fit_scope(near, far, prior_inside=PRIOR_INSIDE))


def _untrained(evidence: Evidence, weights: AnyArray, generic: AnyArray) -> Head:
    features = _features(evidence.of(generic), weights)
    return Head(evidence, weights, prior_scope(features, 0, features.shape[1]))


def _features(found: AnyArray, weights: AnyArray) -> AnyArray:
    return _scope_features(found, found @ weights)


def _scope_features(found: AnyArray, logits: AnyArray) -> AnyArray:
    """Return (texts, features) that tell fitting texts from strangers: how close the best node comes."""
    top = found[np.arange(len(found)), logits.argmax(axis=1)]
    return np.asarray(top[:, [NEAREST, CENTROID]])
