"""Turns the evidence of rows that were not trained on into calibrated stages and the thresholds between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.calibration import fit_blend, fit_scope, prior_scope, softmax
from router.scorers.two_stage import Stage, scope_features
from router.training.data import OUTSIDE
from router.types import Array
from router.vectors import AnyArray

FIRST_PRIOR = np.array([15.0, 3.0, 3.0], dtype=np.float32)
SECOND_PRIOR = np.array([10.0, 2.0, 1.0, 2.0, 4.0, 5.0, 3.0, 3.0], dtype=np.float32)
"""Weights of the kinds of evidence before there is data."""
STRENGTH = 2.0
"""How many rows that belief is worth."""
PRIOR_INSIDE = 0.8
"""Share of requests that are expected to fit some node."""
TOLERANCE = 0.002
"""Accuracy that may be given up for asking stage one alone."""
TOLERANCE_FEW = 0.001
"""The same after few rows, which flatter stage one: the wording of what comes later differs more than theirs."""
SCOPE_STRENGTH = 0.1
"""Inverse of the regularisation of scope: its features say much the same, and should share the weight."""
OUTSIDE_MIN = 8
IN_SCOPE = 0.5
"""The probability of being in scope at which a policy accepts by default; thresholds are moved to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What one stage sees of rows that it was not trained on."""

    evidence: Array
    """(rows, labels, kinds)."""
    features: Array
    """(rows, features) of scope."""

    def take(self, rows: AnyArray) -> Held:
        """Return some of the rows."""
        return Held(self.evidence[rows], self.features[rows])


def join(parts: Sequence[Held]) -> Held:
    """Return the rows of all parts."""
    return Held(np.concatenate([part.evidence for part in parts]), np.concatenate([part.features for part in parts]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where requests are to be refused: by default where it costs the fewest errors."""

    coverage: float | None = None
    """Share of in-scope requests that are to be accepted."""
    oos_recall: float | None = None
    """Share of out-of-scope requests that are to be refused."""
    escalated: float | None = None
    """Share of in-scope requests that may go to stage two; by default as many as its accuracy needs."""


def fit_stage(held: Held, targets: AnyArray, strangers: Held, prior: AnyArray, wanted: Wanted) -> Stage:
    """Fit a stage's blend to the rows of a label, and its scope to those and the strangers."""
    inside = targets != OUTSIDE
    within = held.take(inside)
    weights = fit_blend(within.evidence, targets[inside], prior, strength=STRENGTH)
    near = scope_features(within.evidence @ weights, within.features)
    far = scope_features(strangers.evidence @ weights, strangers.features)
    if len(far) < OUTSIDE_MIN:
        return Stage(weights, prior_scope(near, 0, near.shape[1]), np.zeros(2, np.float32))
    scope = fit_scope(near, far, prior_inside=PRIOR_INSIDE, strength=SCOPE_STRENGTH)
    level = _level(scope.probability(near), scope.probability(far), wanted)
    shift = float(np.log(level / (1 - level)))
    return Stage(weights, replace(scope, bias=scope.bias - shift), np.zeros(2, np.float32))


def choose_escalation(
    first: tuple[Array, Array],
    second: tuple[Array, Array],
    targets: AnyArray,
    share: float | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Return the confidence of stage one below which stage two is asked.

    With a `share`, that many of the in-scope rows are below it. Without, it is the lowest at which no more than
    `tolerance` of the accuracy of stage two alone is lost; out-of-scope rows count as a share of 1 - `PRIOR_INSIDE`,
    whatever their number.
    """
    confidence = first[0].max(axis=1) * first[1]
    inside = targets != OUTSIDE
    if share is not None:
        return float(np.quantile(confidence[inside], share))
    weight = np.where(inside, PRIOR_INSIDE / max(1, inside.sum()), (1 - PRIOR_INSIDE) / max(1, (~inside).sum()))
    weight /= weight.sum()
    loss = (_right(second, targets).astype(float) - _right(first, targets)) * weight
    order = np.argsort(-confidence, kind="stable")
    lost = np.cumsum(loss[order])
    over = np.flatnonzero(lost > tolerance)
    last = int(over[0]) - 1 if len(over) else len(order) - 1
    return float(confidence[order[last]]) if last >= 0 else 1.01


def _right(scored: tuple[Array, Array], targets: AnyArray) -> AnyArray:
    probabilities, in_scope = scored
    found = np.where(in_scope >= IN_SCOPE, probabilities.argmax(axis=1), OUTSIDE)
    # In scope, an answer counts whether or not it would be refused: which of the two goes first is the policy's say.
    named = (found == targets) | (probabilities.argmax(axis=1) == targets)
    return np.asarray(np.where(targets == OUTSIDE, found == OUTSIDE, named))


def kin(weights: Array, targets: AnyArray, share: float) -> AnyArray:
    """Return (rows, labels), True for each row's label and the labels nearest to it."""
    near = np.argsort(-(weights @ weights.T), axis=1, kind="stable")[:, : 1 + int(share * len(weights))]
    hidden = np.zeros((len(targets), len(weights)), dtype=bool)
    np.put_along_axis(hidden, near[targets], True, axis=1)
    return hidden


def probabilities(stage: Stage, held: Held) -> tuple[Array, Array]:
    """Return (rows, labels) and (rows,) in scope."""
    logits = held.evidence @ stage.weights
    return softmax(logits), stage.scope.probability(scope_features(logits, held.features))


def _level(inside: AnyArray, outside: AnyArray, wanted: Wanted) -> float:
    """Return the probability of being in scope below which requests are to be refused."""
    if wanted.coverage is not None:
        level = float(np.quantile(inside, 1 - wanted.coverage))
    elif wanted.oos_recall is not None:
        level = float(np.quantile(outside, wanted.oos_recall))
    else:
        level = IN_SCOPE
    return min(max(level, 1e-4), 1 - 1e-4)
