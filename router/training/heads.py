"""Heads on vectors that are not trained any more, and on words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from router.scorers.two_stage import WordHead
from router.types import Array
from router.vectors import AnyArray, unit

SCALE = 20.0
STEPS = 120
RATE = 0.02
PULL = 2e-3
"""How strongly a label's weights are held to its centroid, for each label's share of the loss."""


def centroids(vectors: Array, targets: AnyArray, labels: int) -> Array:
    """Return (labels, dimensions) unit means of labelled vectors."""
    sums = np.zeros((labels, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, targets, vectors)
    return unit(sums)


def fit_cosine_head(vectors: Array, targets: AnyArray, labels: int) -> Array:
    """Return (labels, dimensions) unit weights of a cosine-softmax head, begun at the centroids and held to them."""
    import torch

    x, y = torch.from_numpy(vectors), torch.from_numpy(targets)
    start = torch.from_numpy(centroids(vectors, targets, labels))
    counts = np.maximum(np.bincount(targets, minlength=labels), 1)
    balance = torch.from_numpy(np.sqrt(counts.mean() / counts).astype(np.float32))
    weights = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([weights], lr=RATE)
    for _ in range(STEPS):
        logits = SCALE * x @ torch.nn.functional.normalize(weights, dim=-1).T
        loss: Any = torch.nn.functional.cross_entropy(logits, y, weight=balance)
        loss = loss + PULL * labels * ((weights - start) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return unit(weights.detach().numpy())


def fit_words(
    features: Sequence[AnyArray],
    size: int,
    targets: AnyArray,
    labels: int,
    finer: tuple[AnyArray, AnyArray] | None,
    *,
    seed: int,
) -> WordHead:
    """Fit linear models to TF-IDF of texts given by their features, of which there are `size`.

    `finer` gives each text's finer class and each finer class's label, rising.
    """
    from scipy.sparse import csr_matrix

    own = [np.unique(rows) for rows in features]
    counts = np.bincount(np.concatenate(own), minlength=size)
    idf = np.where(counts > 0, np.log((1 + len(own)) / (1 + counts)) + 1, 0.0)
    values = [idf[rows] / max(1e-6, float(np.sqrt((idf[rows] ** 2).sum()))) for rows in own]
    ends = np.cumsum([0, *map(len, own)])
    matrix = csr_matrix((np.concatenate(values), np.concatenate(own), ends), shape=(len(own), size))
    parts = [_separate(matrix, targets, labels, seed)]
    if finer is not None:
        parts.append(_separate(matrix, finer[0], len(finer[1]), seed))
    table = np.concatenate([part[0] for part in parts], axis=1)
    return WordHead(
        table * idf[:, None].astype(np.float32),
        (idf**2).astype(np.float32),
        np.concatenate([part[1] for part in parts]),
        finer[1] if finer is not None else np.zeros(0, dtype=np.int64),
    )


def _separate(matrix: Any, targets: AnyArray, classes: int, seed: int) -> tuple[Array, Array]:
    """Return (features, classes) weights and (classes,) bias of one-against-rest support vector machines."""
    from sklearn.svm import LinearSVC

    model = LinearSVC(C=1.0, random_state=seed).fit(matrix, targets)
    weights, bias = model.coef_.T, model.intercept_
    if len(model.classes_) == 2:
        weights, bias = np.concatenate([-weights, weights], axis=1), np.array([-bias[0], bias[0]])
    table = np.zeros((matrix.shape[1], classes), dtype=np.float32)
    level = np.full(classes, -1.0, dtype=np.float32)
    table[:, model.classes_], level[model.classes_] = weights, bias
    return table, level
