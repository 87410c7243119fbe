"""Which requests are worth a label: vote-k (Su et al. 2023, "Selective annotation makes language models better few-shot
learners", https://arxiv.org/abs/2209.01975), on embeddings; and which belong together.

Vote-k looks for requests that stand for many others and not for what is chosen already. Each request votes for its k
nearest; a vote counts less by every one that its voter has in the chosen set already: the score of u is the sum, over
the v that vote for it, of rho to the power of minus the number of chosen requests that v votes for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router.vectors import AnyArray

RHO = 10.0
"""The paper's base of the discount: one chosen neighbour makes a vote worth a tenth."""


def vote_k(vectors: AnyArray, budget: int, *, k: int = 10, weights: AnyArray | None = None) -> list[int]:
    """Return the indices of at most `budget` rows of unit vectors, best first.

    `weights` (rows,) says how much each row's vote counts, 1 by default; a row of weight 0 is never chosen. Ties go to
    the first row, so equal input gives equal output. Memory is quadratic in rows: pass a few thousand at most.
    """
    count = len(vectors)
    weigh = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    votes = _votes(vectors, min(k, count - 1))
    chosen: list[int] = []
    covered = np.zeros(count)
    free = weigh > 0
    while free.any() and len(chosen) < budget:
        worth = votes.T @ (weigh * RHO**-covered)
        # Its own weight decides among rows that nobody votes for, and ends the rule at the most doubtful of a group.
        worth = np.where(free, worth + 1e-3 * weigh, -1.0)
        best = int(worth.argmax())
        chosen.append(best)
        free[best] = False
        covered += votes[:, best]
    return chosen


def _votes(vectors: AnyArray, k: int) -> AnyArray:
    """Return (rows, rows), 1 where a row votes for another: one of its k nearest by cosine."""
    count = len(vectors)
    votes = np.zeros((count, count))
    if k < 1:
        return votes
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    np.put_along_axis(votes, nearest, 1.0, axis=1)
    return votes


def cluster(vectors: AnyArray, *, similarity: float, least: int) -> list[list[int]]:
    """Return groups of rows of unit vectors whose mean cosine is at least `similarity`, the largest first.

    Average linkage; a group has at least `least` rows, and each is sorted by closeness to the group's middle.
    """
    if len(vectors) < max(least, 2):
        return []
    from sklearn.cluster import AgglomerativeClustering

    labels = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=1.0 - similarity
    ).fit_predict(vectors)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    central = [group[np.argsort(-(vectors[group] @ vectors[group].mean(axis=0)), kind="stable")] for group in groups]
    found = [group.tolist() for group in central if len(group) >= least]
    return sorted(found, key=lambda group: (-len(group), group[0]))


def naming_words(groups: Sequence[Sequence[str]], background: Sequence[str], *, count: int = 3) -> list[list[str]]:
    """Return the words that tell each group of texts from the others and from the background (TF-IDF over groups)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    documents = [" ".join(group) for group in groups]
    if not documents:
        return []
    pattern = r"(?u)\b[^\W\d_]{3,}\b"
    vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True, token_pattern=pattern)
    try:
        matrix = vectorizer.fit_transform([*documents, *background])[: len(documents)].toarray()
    except ValueError:  # scikit-learn's word for texts that hold nothing but stop words
        return [[] for _ in documents]
    words = vectorizer.get_feature_names_out()
    best = np.argsort(-matrix, axis=1, kind="stable")[:, :count]
    return [[str(words[i]) for i in row if matrix[index, i] > 0] for index, row in enumerate(best)]
