"""Heads on vectors that are not trained any more, and on words."""

from __future__ import annotations

from collections.abc import Sequence

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
        loss = torch.nn.functional.cross_entropy(logits, y, weight=balance)
        loss = loss + PULL * labels * ((weights - start) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return unit(weights.detach().numpy())


def fit_words(features: Sequence[AnyArray], size: int, targets: AnyArray, labels: int, *, seed: int) -> WordHead:
    """Fit a linear model to TF-IDF of texts given by their features, of which there are `size`."""
    from scipy.sparse import csr_matrix
    from sklearn.svm import LinearSVC

    own = [np.unique(rows) for rows in features]
    counts = np.bincount(np.concatenate(own), minlength=size)
    idf = np.where(counts > 0, np.log((1 + len(own)) / (1 + counts)) + 1, 0.0)
    values = [idf[rows] / max(1e-6, float(np.sqrt((idf[rows] ** 2).sum()))) for rows in own]
    ends = np.cumsum([0, *map(len, own)])
    matrix = csr_matrix((np.concatenate(values), np.concatenate(own), ends), shape=(len(own), size))
    model = LinearSVC(C=1.0, random_state=seed).fit(matrix, targets)
    table = np.zeros((size, labels), dtype=np.float32)
    bias = np.full(labels, -1.0, dtype=np.float32)
    if len(model.classes_) == 2:
        table[:, model.classes_] = np.stack([-model.coef_[0], model.coef_[0]], axis=1)
        bias[model.classes_] = [-model.intercept_[0], model.intercept_[0]]
    else:
        table[:, model.classes_] = model.coef_.T
        bias[model.classes_] = model.intercept_
    return WordHead(table * idf[:, None].astype(np.float32), (idf**2).astype(np.float32), bias)
