"""The strategy for very many nodes: an index finds a shortlist, and only that is scored, exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graph.spec import NodeSpec
from graph.types import NodeName
from router.calibration import Scope, fit_blend, fit_scope, prior_scope, softmax
from router.scorers.catalogue import Catalogue, Shortlist
from router.scorers.evidence import CENTROID, KINDS, NEAREST, NEIGHBOURS, spread
from router.scorers.head import GENERIC, HIDDEN, PRIOR, PRIOR_INSIDE, SCOPE_MIN
from router.scores import empty_scores
from router.types import Array, Encoder, Scores
from router.vectors import AnyArray

CALIBRATION_MAX = 500
"""Examples that calibration looks at."""
KIN_MAX = 16
"""Most of a node's kin that vanish with it where requests of strangers are made up."""
USUAL_NODES = 150
"""Nodes that the prior weights are meant for. Among more, the best stands out less by chance: weights grow with the
logarithm of the number, as the largest of so many similarities does."""
STALE = 0.1
"""Share of the nodes that may change before calibration is learned anew."""


@dataclass(frozen=True, slots=True)
class _Calibration:
    weights: AnyArray
    scope: Scope
    changes: int = 0
    """Nodes that have changed since."""


@dataclass(frozen=True, slots=True, eq=False)
class IndexedScorer:
    """Scores the nodes nearest to a text. Scorers made by `refit` share one catalogue, which is as the latest says."""

    catalogue: Catalogue
    encoder: Encoder
    calibration: _Calibration | None
    strategy: str = "indexed"

    @classmethod
    def fit(cls, specs: Sequence[NodeSpec], encoder: Encoder) -> IndexedScorer:
        """Learn nodes from descriptions and whatever examples there are. Deterministic."""
        return cls(Catalogue(encoder), encoder, None).refit(specs)

    @classmethod
    def load(cls, folder: Path, specs: Sequence[NodeSpec], encoder: Encoder) -> IndexedScorer:
        """Return a scorer of these nodes that takes what it can from a folder that `catalogue.save` wrote."""
        return cls(Catalogue.load(folder, encoder), encoder, None).refit(specs)

    @property
    def labels(self) -> tuple[NodeName, ...]:
        """The nodes it was fitted for."""
        return self.catalogue.names

    def refit(self, specs: Sequence[NodeSpec]) -> IndexedScorer:
        """Return a scorer of these nodes; only what changed is encoded and indexed."""
        changes = self.catalogue.update(specs)
        known = self.calibration
        if not specs:
            return IndexedScorer(self.catalogue, self.encoder, None)
        if known is not None and known.changes + changes <= STALE * len(self.catalogue):
            calibration = _Calibration(known.weights, known.scope, known.changes + changes)
        else:
            calibration = _calibrate(self.catalogue, self.encoder, specs)
        return IndexedScorer(self.catalogue, self.encoder, calibration)

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts in one batch: the labels are the shortlists of all of them together."""
        if self.calibration is None or not texts:
            return empty_scores(self.labels, len(texts))
        found = self.catalogue.shortlists(self.encoder.encode(texts))
        labels = sorted({name for shortlist in found for name in shortlist.names})
        at = {name: column for column, name in enumerate(labels)}
        probabilities = np.zeros((len(texts), len(labels)), dtype=np.float32)
        in_scope = np.zeros(len(texts), dtype=np.float32)
        for row, shortlist in enumerate(found):
            if shortlist.names:
                logits = shortlist.evidence @ self.calibration.weights
                probabilities[row, [at[name] for name in shortlist.names]] = softmax(logits)
                features = _features(shortlist.evidence, logits)
                in_scope[row] = self.calibration.scope.probability(features[None])[0]
        return Scores(tuple(labels), probabilities, in_scope, shortlisted=True)


def _calibrate(catalogue: Catalogue, encoder: Encoder, specs: Sequence[NodeSpec]) -> _Calibration:
    """Learn how much each kind of evidence counts and when nothing fits, from a sample of the examples."""
    growth = max(1.0, math.log(max(len(catalogue), 1)) / math.log(USUAL_NODES))
    prior = PRIOR * growth * np.array([1, 1, 1, 0], dtype=np.float32)
    generic = _top([found.evidence for found in catalogue.shortlists(encoder.encode(GENERIC))], prior)
    texts, owners = _sample(specs)
    seen = catalogue.shortlists(encoder.encode(texts), unseen=True) if len(set(owners)) > 1 else []
    rows = [
        (found, found.names.index(own)) for found, own in zip(seen, owners, strict=bool(seen)) if own in found.names
    ]
    if not rows:
        return _Calibration(prior, prior_scope(generic, 0, 2))
    weights = fit_blend(_stacked([found.evidence for found, _ in rows]), np.array([at for _, at in rows]), prior)
    if len(rows) < SCOPE_MIN:
        return _Calibration(weights, prior_scope(generic, 0, 2))
    near = _top([found.evidence for found, _ in rows], weights)
    strangers = generic[generic[:, 0] < np.quantile(near[:, 0], 0.25)]  # the others may well be meant for a node
    far = np.concatenate([_top([_without_kin(found, at) for found, at in rows], weights), strangers])
    return _Calibration(weights, fit_scope(near, far, prior_inside=PRIOR_INSIDE))


def _sample(specs: Sequence[NodeSpec]) -> tuple[list[str], list[NodeName]]:
    """Return examples, evenly spread over the nodes that have some, and the node of each."""
    rows = [(text, spec.name) for spec in sorted(specs, key=lambda s: s.name) for text in sorted(set(spec.examples))]
    chosen = [rows[i] for i in spread(len(rows), CALIBRATION_MAX)] if rows else []
    return [text for text, _ in chosen], [name for _, name in chosen]


def _without_kin(found: Shortlist, owner: int) -> AnyArray:
    """Return the evidence of a text as if its node and that node's nearest kin did not exist."""
    kin = 1 + min(KIN_MAX, int(NEIGHBOURS * len(found.names)))
    hidden = np.argsort(-(found.centroids @ found.centroids[owner]), kind="stable")[:kin]
    evidence = found.evidence.copy()
    evidence[[owner, *hidden]] = HIDDEN
    return evidence


def _stacked(evidence: Sequence[AnyArray]) -> AnyArray:
    """Return (texts, nodes, kinds); shortlists shorter than the longest are filled with nodes nobody would choose."""
    stacked = np.full((len(evidence), max(map(len, evidence)), KINDS), HIDDEN, dtype=np.float32)
    for row, own in enumerate(evidence):
        stacked[row, : len(own)] = own
    return stacked


def _top(evidence: Sequence[AnyArray], weights: AnyArray) -> Array:
    return np.stack([_features(own, own @ weights) for own in evidence])


def _features(evidence: AnyArray, logits: AnyArray) -> Array:
    """Return what tells texts that fit from strangers: how close the best node comes."""
    return np.asarray(evidence[logits.argmax()][[NEAREST, CENTROID]], dtype=np.float32)
