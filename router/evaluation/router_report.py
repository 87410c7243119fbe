"""Measures a scorer on labelled requests: accuracy, abstention, calibration and the time to decide."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from router.training.data import LabelledRow
from router.types import TrainedAhead
from router.vectors import AnyArray

IN_SCOPE = 0.5
"""Below this probability of being in scope a request is refused, as `Policy` does by default."""
BINS = 10
TIMED = 1000
"""Requests that are timed one by one."""
WARM = 20
"""Requests before the timed ones, whose time is not counted."""
BATCH = 256


@dataclass(frozen=True, slots=True)
class RouterMetrics:
    """Figures between 0 and 1 unless they are milliseconds; None where the rows cannot tell."""

    rows: int
    accuracy: float | None
    """Share of in-scope requests whose likeliest node is right, none being refused."""
    oos_recall: float | None
    """Share of out-of-scope requests that are refused."""
    in_scope_accuracy_with_rejection: float | None
    """Share of in-scope requests that are not refused and go to the right node."""
    auroc: float | None
    """How well the probability of being in scope tells in-scope from out-of-scope requests: area under the ROC."""
    fpr95: float | None
    """Share of out-of-scope requests that are accepted where 95 % of the in-scope ones are."""
    ece: float | None
    """Expected calibration error of the probability (10 bins) over requests that are given a node."""
    share_escalated: float
    """Share of requests that the sentence encoder was asked about."""
    p50_ms: float
    """Time to decide about one request alone."""
    p99_ms: float
    mean_ms: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures, rounded."""
        return {name: round(v, 5) if isinstance(v, float) else v for name, v in asdict(self).items()}


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What a scorer said of each request, beside what was right."""

    labels: tuple[str, ...]
    truth: AnyArray
    """(requests,) index of the right label, -1 where no node fits."""
    predicted: AnyArray
    """(requests,) index of the likeliest label."""
    probability: AnyArray
    """(requests,) that it is right: in scope, and this label."""
    in_scope: AnyArray
    """(requests,) probability that any label fits."""
    escalated: AnyArray

    @property
    def refused(self) -> AnyArray:
        """(requests,) True where a request is called out of scope."""
        return np.asarray(self.in_scope < IN_SCOPE)

    @property
    def right(self) -> AnyArray:
        """(requests,) True where the likeliest label is right."""
        return np.asarray(self.predicted == self.truth)


def judge(scorer: TrainedAhead, rows: Sequence[LabelledRow]) -> Judged:
    """Score requests in batches. Every row's node must be one of the scorer's labels."""
    place = {label: index for index, label in enumerate(scorer.labels)}
    texts = [row.text for row in rows]
    parts = [scorer.explain(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    top = np.concatenate([scores.probabilities.max(axis=1) for scores, _ in parts])
    in_scope = np.concatenate([scores.in_scope for scores, _ in parts])
    return Judged(
        scorer.labels,
        np.array([-1 if row.node is None else place[row.node] for row in rows]),
        np.concatenate([scores.probabilities.argmax(axis=1) for scores, _ in parts]),
        top * in_scope,
        in_scope,
        np.concatenate([escalated for _, escalated in parts]),
    )


def time_decisions(scorer: TrainedAhead, rows: Sequence[LabelledRow]) -> AnyArray:
    """Return the milliseconds that each of at most `TIMED` requests takes, alone, with one thread of linear algebra.

    A gateway has no more; for products this small, more threads wait for each other.
    """
    from threadpoolctl import threadpool_limits

    texts = [row.text for row in rows[:: max(1, len(rows) // TIMED)]][:TIMED]
    taken = []
    with threadpool_limits(limits=1):
        for text in [*texts[:WARM], *texts]:
            began = time.perf_counter()
            scorer.score([text])
            taken.append((time.perf_counter() - began) * 1000)
    return np.array(taken[min(WARM, len(texts)) :])


def measure(judged: Judged, taken_ms: AnyArray) -> RouterMetrics:
    """Return the figures of requests that were judged, and of the times that some took."""
    inside = judged.truth >= 0
    accepted = ~judged.refused
    return RouterMetrics(
        rows=len(judged.truth),
        accuracy=_mean(judged.right[inside]),
        oos_recall=_mean(judged.refused[~inside]),
        in_scope_accuracy_with_rejection=_mean((judged.right & accepted)[inside]),
        auroc=auroc(judged.in_scope[inside], judged.in_scope[~inside]),
        fpr95=_false_positives(judged.in_scope[inside], judged.in_scope[~inside]),
        ece=calibration_error(judged.probability[accepted], judged.right[accepted]),
        share_escalated=float(judged.escalated.mean()),
        p50_ms=float(np.median(taken_ms)),
        p99_ms=float(np.quantile(taken_ms, 0.99)),
        mean_ms=float(taken_ms.mean()),
    )


def auroc(inside: AnyArray, outside: AnyArray) -> float | None:
    """Return the probability that an in-scope score is above an out-of-scope one, ties counting half."""
    if not len(inside) or not len(outside):
        return None
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    return float((ranks.sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside)))


def calibration_error(probability: AnyArray, right: AnyArray) -> float | None:
    """Return the mean gap between probability and share of right answers, over equal bins of probability."""
    if not len(right):
        return None
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [abs(probability[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


def _false_positives(inside: AnyArray, outside: AnyArray) -> float | None:
    if not len(inside) or not len(outside):
        return None
    return float((outside >= np.quantile(inside, 0.05)).mean())


def _mean(values: AnyArray) -> float | None:
    return float(values.mean()) if len(values) else None
