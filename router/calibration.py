"""Turns raw scores into probabilities that mean what they say.

Two fits, both convex, deterministic and small: `fit_blend` weighs kinds of evidence into class probabilities (a
conditional logit, McFadden 1974, which holds the temperature of Guo et al. 2017 as its scale), and `fit_scope` says how
likely it is that any node fits (Platt's logistic calibration on a few features).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.vectors import AnyArray

NEWTON_STEPS = 50
MAX_LOGIT = 60.0


def softmax(logits: AnyArray) -> AnyArray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)


def sigmoid(values: AnyArray) -> AnyArray:
    """Return the logistic function, safe for any size of input."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -MAX_LOGIT, MAX_LOGIT))), dtype=np.float32)


def fit_blend(
    features: AnyArray, targets: AnyArray, prior: AnyArray, *, strength: float = 8.0, sample: AnyArray | None = None
) -> AnyArray:
    """Return non-negative weights w such that softmax(features @ w) predicts the targets.

    `features` is (samples, classes, kinds of evidence), `targets` (samples,) class indices, `prior` (kinds,) the
    weights believed without data, worth about `strength` samples; `sample` (samples,) weighs samples.
    """
    x = features.astype(np.float64)
    weigh = np.ones(len(x)) if sample is None else sample.astype(np.float64)
    w = prior.astype(np.float64).copy()
    precision = strength / np.maximum(prior.astype(np.float64), 1e-3) ** 2
    chosen = x[np.arange(len(x)), targets]
    for _ in range(NEWTON_STEPS):
        p = softmax((x @ w).astype(np.float32)).astype(np.float64)
        mean = np.einsum("nk,nkm->nm", p, x)
        gradient = weigh @ (mean - chosen) + precision * (w - prior)
        centred = x - mean[:, None, :]
        hessian = np.einsum("n,nk,nkm,nkl->ml", weigh, p, centred, centred, optimize=True) + np.diag(precision)
        step = _free_step(w, gradient, hessian)
        w = np.maximum(w - step, 0.0)
        if np.abs(step).max() < 1e-4 * max(1.0, np.abs(w).max()):
            break
    return np.asarray(w, dtype=np.float32)


def _free_step(w: AnyArray, gradient: AnyArray, hessian: AnyArray) -> AnyArray:
    """Return a Newton step over the weights that are not held at their bound of zero."""
    free = ~((w <= 0) & (gradient > 0))
    step = np.zeros_like(w)
    if free.any():
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
    return np.clip(step, -10.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scope:
    """A calibrated probability, from a few features of a text, that some node fits it."""

    centre: AnyArray
    scale: AnyArray
    weights: AnyArray
    bias: float

    def probability(self, features: AnyArray) -> AnyArray:
        """Return (texts,) probabilities for (texts, features)."""
        return sigmoid((features - self.centre) / self.scale @ self.weights + self.bias)


def fit_scope(inside: AnyArray, outside: AnyArray, *, prior_inside: float = 0.5, strength: float = 1.0) -> Scope:
    """Fit a logistic model to features of texts that some node fits and of texts that none does.

    The two groups are weighed to `prior_inside`, the share of requests expected to be in scope, since their sizes say
    nothing about that. `strength` is the inverse of L2 regularisation.
    """
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([inside, outside]).astype(np.float64)
    y = np.repeat([1, 0], [len(inside), len(outside)])
    weigh = np.where(y == 1, prior_inside / len(inside), (1 - prior_inside) / len(outside)) * len(x)
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    model = LogisticRegression(C=strength, max_iter=500).fit((x - centre) / scale, y, sample_weight=weigh)
    return Scope(
        centre.astype(np.float32),
        scale.astype(np.float32),
        model.coef_[0].astype(np.float32),
        float(model.intercept_[0]),
    )


def prior_scope(generic: AnyArray, feature: int, width: int) -> Scope:
    """Return a scope model where there are no examples to learn one from.

    `generic` (texts, features) comes from everyday sentences that no node is meant for; a text is in scope as far as
    its similarity (column `feature` of `width`) stands out from theirs.
    """
    centre, scale = np.zeros(width, np.float32), np.ones(width, np.float32)
    weights = np.zeros(width, np.float32)
    # The lower quartile: some everyday sentences may well be meant for a node, and would lift the mean.
    centre[feature] = np.quantile(generic[:, feature], 0.25)
    scale[feature] = max(float(generic[:, feature].std()), 0.02)
    weights[feature] = 1.5
    return Scope(centre, scale, weights, -0.75)
