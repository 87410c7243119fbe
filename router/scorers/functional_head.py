"""The head of functional tokens: from the hidden state after a prompt to calibrated probabilities over nodes.

A token's logit is its output row times the hidden state, as in the language model itself; looking at functional tokens
only means that the result always names a node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graph.types import NodeName
from router.calibration import Scope, fit_blend, fit_scope, softmax
from router.vectors import AnyArray

STRENGTH = 0.01
"""How firmly a row is held to where it started, against the mean loss of one example."""
STEPS = 200
SCOPE_MIN = 8
"""Held-out texts, on either side, below which scope is not learned."""
PRIOR_INSIDE = 0.8
OUT = -1
"""Owner of a text that no node fits."""


@dataclass(frozen=True, slots=True, eq=False)
class FunctionalHead:
    """Output rows of functional tokens and how their logits become probabilities. Immutable."""

    labels: tuple[NodeName, ...]
    rows: AnyArray
    """(labels, dimensions)."""
    nothing: AnyArray | None
    """(dimensions,) row of the token that says that no node fits; None where it was never trained."""
    sharpness: float
    """The inverse of the temperature."""
    scope: Scope
    anchors: AnyArray
    """(anchors, dimensions): hidden states of a few texts of each node. New rows are held apart from them."""
    owners: AnyArray
    """(anchors,) index of each one's label."""
    retired: tuple[bool, ...]
    """Labels that no node has any longer; requests for them are out of scope."""

    @property
    def active(self) -> tuple[NodeName, ...]:
        """The labels that can be chosen."""
        return tuple(name for name, gone in zip(self.labels, self.retired, strict=True) if not gone)

    def score(self, hidden: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Return (texts, active labels) probabilities given that a node fits, and (texts,) that one does."""
        logits = hidden @ self.rows.T * self.sharpness
        share = softmax(logits)[:, ~np.array(self.retired)]
        kept = share.sum(axis=1)
        inside = self.scope.probability(scope_features(logits, self._nothing(hidden)))
        return share / np.maximum(kept, 1e-9)[:, None], np.asarray(inside * np.minimum(kept, 1.0), dtype=np.float32)

    def keeping(self, names: Sequence[NodeName]) -> FunctionalHead:
        """Return the head for those of its nodes that are named; the others' requests become out of scope."""
        return replace(self, retired=tuple(name not in names for name in self.labels))

    def with_nodes(self, starts: Mapping[NodeName, AnyArray], examples: Mapping[NodeName, AnyArray]) -> FunctionalHead:
        """Return a head that has further nodes, each with a row to start from and (n, dimensions) hidden states.

        Only the new rows are trained, on the new nodes' texts; the anchors keep every other node's requests with it.
        """
        if not starts:
            return self
        names = list(starts)
        own = np.concatenate([examples[name] for name in names])
        whose = np.repeat(np.arange(len(names)) + len(self.labels), [len(examples[name]) for name in names])
        hidden, owners = np.concatenate([self.anchors, own]), np.concatenate([self.owners, whose])
        rows = np.concatenate([self.rows, np.stack([starts[name] for name in names])])
        free = np.arange(len(rows)) >= len(self.labels)
        fitted = fit_rows(hidden, owners, rows, free)
        return replace(
            self,
            labels=(*self.labels, *names),
            rows=fitted,
            anchors=hidden,
            owners=owners,
            retired=(*self.retired, *(False for _ in names)),
        )

    def _nothing(self, hidden: AnyArray) -> AnyArray | None:
        return None if self.nothing is None else hidden @ self.nothing * self.sharpness


def fit_rows(hidden: AnyArray, owners: AnyArray, rows: AnyArray, free: AnyArray) -> AnyArray:
    """Return the rows with those that are `free` (labels,) trained to give (texts, dimensions) to their owners.

    Multinomial logistic regression by L-BFGS, held to where the rows start; every label counts the same however many
    texts it has. Hidden states are taken relative to their own scale, so the strength means the same for any model.
    """
    from scipy.optimize import minimize

    scale = float(np.sqrt((hidden.astype(np.float64) ** 2).sum(axis=1).mean())) or 1.0
    unit = hidden / scale
    base = hidden @ rows.T
    target = np.eye(len(rows), dtype=np.float32)[owners]
    weigh = balance(owners, len(rows)) / len(owners)

    def loss(flat: AnyArray) -> tuple[float, AnyArray]:
        change = flat.reshape(-1, hidden.shape[1]).astype(np.float32)
        logits = base.copy()
        logits[:, free] += unit @ change.T
        share = softmax(logits)
        error = (share - target) * weigh[:, None]
        nll = -(weigh * np.log(np.maximum(share[np.arange(len(owners)), owners], 1e-12))).sum()
        penalty = STRENGTH / len(owners)
        return (
            float(nll + penalty / 2 * (change**2).sum()),
            (error[:, free].T @ unit + penalty * change).ravel().astype(np.float64),
        )

    start = np.zeros(int(free.sum()) * hidden.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    trained = rows.astype(np.float32).copy()
    trained[free] += (found.x.reshape(-1, hidden.shape[1]) / scale).astype(np.float32)
    return trained


def balance(owners: AnyArray, labels: int) -> AnyArray:
    """Return each text's weight, such that every label weighs the same and the mean is 1."""
    counts = np.bincount(owners, minlength=labels)
    weights = 1.0 / counts[owners]
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def calibrate(hidden: AnyArray, owners: AnyArray, rows: AnyArray, nothing: AnyArray | None) -> tuple[float, Scope]:
    """Return sharpness and scope, learned from held-out hidden states; `owners` is `OUT` where no node fits.

    Texts that no node fits are those that the data hold, and besides, each text as if its own node did not exist.
    """
    inside = owners != OUT
    logits = hidden @ rows.T
    sharpness = 1.0
    if inside.any() and len(rows) > 1:
        spread = max(float(logits[inside].std()), 1e-6)
        features = (logits[inside] / spread)[:, :, None]
        sharpness = max(float(fit_blend(features, owners[inside], np.array([spread]))[0]) / spread, 1e-3 / spread)
    logits = logits * sharpness
    none = None if nothing is None else hidden @ nothing * sharpness
    near = scope_features(logits[inside], None if none is None else none[inside])
    far = scope_features(logits[~inside], None if none is None else none[~inside])
    if len(far) < SCOPE_MIN and len(rows) > 1 and inside.any():
        orphaned = logits[inside].copy()
        orphaned[np.arange(len(orphaned)), owners[inside]] = -np.inf
        far = np.concatenate([far, scope_features(orphaned, None if none is None else none[inside])])
    if min(len(near), len(far)) < SCOPE_MIN:
        return sharpness, _unlearned(near.shape[1])
    return sharpness, fit_scope(near, far, prior_inside=PRIOR_INSIDE)


def scope_features(logits: AnyArray, nothing: AnyArray | None) -> AnyArray:
    """Return (texts, features) that tell fitting texts from strangers.

    The best logit, how far it leads, how far all nodes together lead the token that stands for none.
    """
    ordered = np.sort(logits, axis=1)
    best = ordered[:, -1]
    lead = best - ordered[:, -2] if logits.shape[1] > 1 else np.zeros_like(best)
    lead = np.minimum(np.where(np.isfinite(lead), lead, 0.0), 30.0)
    together = best + np.log(np.exp(np.clip(logits - best[:, None], -60, 0)).sum(axis=1))
    over = together - (nothing if nothing is not None else 0.0)
    return np.stack([best, lead, over], axis=1).astype(np.float32)


def _unlearned(width: int) -> Scope:
    """Return a scope that believes the share of requests that is expected to fit."""
    bias = float(np.log(PRIOR_INSIDE / (1 - PRIOR_INSIDE)))
    return Scope(np.zeros(width, np.float32), np.ones(width, np.float32), np.zeros(width, np.float32), bias)
