"""Small helpers over `Scores`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graph.types import NodeName
from router.types import Scores


def empty_scores(labels: Sequence[NodeName], texts: int) -> Scores:
    """Return scores that know nothing: no node is likelier than another and nothing is in scope."""
    share = 1.0 / len(labels) if labels else 0.0
    return Scores(
        tuple(labels), np.full((texts, len(labels)), share, dtype=np.float32), np.zeros(texts, dtype=np.float32)
    )


def join_rows(rows: Sequence[Scores]) -> Scores:
    """Join scores into one; shortlists become one of all their nodes."""
    if any(row.shortlisted for row in rows):
        labels = tuple(sorted({label for row in rows for label in row.labels}))
        rows = [_spread(row, labels) for row in rows]
    quality = [row.quality for row in rows if row.quality is not None]
    return Scores(
        rows[0].labels,
        np.concatenate([row.probabilities for row in rows]),
        np.concatenate([row.in_scope for row in rows]),
        np.concatenate(quality) if len(quality) == len(rows) else None,
        rows[0].shortlisted,
    )


def _spread(scores: Scores, labels: Sequence[NodeName]) -> Scores:
    """Return the same scores over more nodes, to which they give nothing."""
    column = {label: index for index, label in enumerate(labels)}
    places = [column[label] for label in scores.labels]
    probabilities = np.zeros((len(scores.in_scope), len(labels)), dtype=np.float32)
    probabilities[:, places] = scores.probabilities
    quality = None
    if scores.quality is not None:
        quality = np.full_like(probabilities, np.nan)
        quality[:, places] = scores.quality
    return Scores(tuple(labels), probabilities, scores.in_scope, quality, shortlisted=True)


def split_rows(scores: Scores) -> list[Scores]:
    """Split scores into one of each text; each keeps its own shortlist."""
    return [_row(scores, index) for index in range(len(scores.in_scope))]


def _row(scores: Scores, index: int) -> Scores:
    row = Scores(
        scores.labels,
        scores.probabilities[index : index + 1],
        scores.in_scope[index : index + 1],
        None if scores.quality is None else scores.quality[index : index + 1],
        scores.shortlisted,
    )
    if not row.shortlisted:
        return row
    kept = np.flatnonzero(row.probabilities[0]).tolist()
    return replace(
        row,
        labels=tuple(row.labels[column] for column in kept),
        probabilities=row.probabilities[:, kept],
        quality=None if row.quality is None else row.quality[:, kept],
    )
