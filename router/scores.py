"""Small helpers over `Scores`."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Join scores of the same nodes into one."""
    quality = [row.quality for row in rows if row.quality is not None]
    return Scores(
        rows[0].labels,
        np.concatenate([row.probabilities for row in rows]),
        np.concatenate([row.in_scope for row in rows]),
        np.concatenate(quality) if len(quality) == len(rows) else None,
    )


def split_rows(scores: Scores) -> list[Scores]:
    """Split scores into one of each text."""
    return [
        Scores(
            scores.labels,
            scores.probabilities[i : i + 1],
            scores.in_scope[i : i + 1],
            None if scores.quality is None else scores.quality[i : i + 1],
        )
        for i in range(len(scores.in_scope))
    ]
