"""Estimators of quality that `quality` blends: a table by kind of request, nearest neighbours, and linear models.

Each is a function (examples, their scores) -> estimator, and that one features -> (texts, models) expected scores. All
are linear in the scores, so the difference of two models' estimates is the estimate of their difference: predicting how
good each model is and predicting the gain of one over another are the same thing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from router.choice.features import Features
from router.choice.shape import with_products
from router.vectors import AnyArray

Estimator: TypeAlias = Callable[[Features], AnyArray]
Member: TypeAlias = Callable[[Features, AnyArray], Estimator]
NEIGHBOURS = 100
SHARPNESS = 12.0
"""How fast a neighbour's say falls with its distance."""
PRIOR_ROWS = 10.0
"""Rows of everybody's mean that a category of the table is mixed with."""
CATEGORY_ROWS = 60
"""Rows that one category of the table has, about."""
BLOCK = 1024
"""Texts compared with all examples at a time."""
SEED = 0


def table(known: Features, scores: AnyArray) -> Estimator:
    """Mean score by category, the categories being clusters of meaning, mixed with everybody's mean."""
    from sklearn.cluster import KMeans

    clusters = max(1, min(100, len(known) // CATEGORY_ROWS))
    found = KMeans(clusters, n_init=1, random_state=SEED, max_iter=50).fit(known.vectors)
    member = found.labels_
    sums = np.zeros((clusters, scores.shape[1]))
    np.add.at(sums, member, scores)
    sizes = np.bincount(member, minlength=clusters)[:, None]
    means = (sums + PRIOR_ROWS * scores.mean(axis=0)) / (sizes + PRIOR_ROWS)
    return lambda asked: np.asarray(means[found.predict(asked.vectors)])


def neighbours(known: Features, scores: AnyArray) -> Estimator:
    """Mean score of the nearest examples, near ones counting more, mixed with everybody's mean."""
    count = min(NEIGHBOURS, len(known))
    mean = scores.mean(axis=0)

    def some(vectors: AnyArray) -> AnyArray:
        similar = vectors @ known.vectors.T
        near = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        weight = np.exp(SHARPNESS * (np.take_along_axis(similar, near, axis=1) - 1))
        prior = weight.max(axis=1, keepdims=True)
        total = np.einsum("nk,nkm->nm", weight, scores[near]) + prior * mean
        return np.asarray(total / (weight.sum(axis=1, keepdims=True) + prior))

    def estimate(asked: Features) -> AnyArray:
        blocks = [asked.vectors[start : start + BLOCK] for start in range(0, max(len(asked), 1), BLOCK)]
        return np.concatenate([some(block) for block in blocks])

    return estimate


def words(known: Features, scores: AnyArray) -> Estimator:
    """Ridge regression on words and pairs of words."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=20.0, solver="sparse_cg").fit(known.terms, scores)
    return lambda asked: np.asarray(model.predict(asked.terms))


def meaning(known: Features, scores: AnyArray) -> Estimator:
    """Ridge regression on the sentence embedding."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=30.0).fit(known.vectors, scores)
    return lambda asked: np.asarray(model.predict(asked.vectors))


def form(known: Features, scores: AnyArray) -> Estimator:
    """Ridge regression on the outer form of the text."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1000.0).fit(with_products(known.shape), scores)
    return lambda asked: np.asarray(model.predict(with_products(asked.shape)))


MEMBERS: Mapping[str, Member] = {
    "table": table,
    "neighbours": neighbours,
    "words": words,
    "meaning": meaning,
    "form": form,
}
