"""How well a choice among models is made: accuracy, cost, and RouteLLM's area under the performance gap recovered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.vectors import AnyArray

POINTS = 11
"""Points of the curve: 0, 10, … 100% of calls to the strong model."""


@dataclass(frozen=True, slots=True)
class ChoiceMetrics:
    """Figures of a choice among models, on rows where it is known who was right."""

    rows: int
    models: int
    apgr: float | None
    """Area under performance gap recovered against the share of calls to `strong`, instead of `weak`; random gives
    0.5. None where the two are equally good, or no row has both."""
    strong: str
    weak: str
    accuracy: float
    """Of the model with the highest expected quality, chosen for each row."""
    best_single: float
    """Accuracy of the best model of the training rows, asked always."""
    best_single_model: str
    oracle: float
    """Share of rows that some model answers right: what no choice can exceed."""
    cost: float
    """Mean cost of the answers of the models chosen."""
    best_single_cost: float


def gap_recovered(gain: AnyArray, strong: AnyArray, weak: AnyArray) -> AnyArray | None:
    """Return performance gap recovered at 0, 10, … 100% of calls to the strong model (RouteLLM, arXiv 2406.18665).

    `gain` (rows,) ranks rows, those that go to the strong model first; `strong` and `weak` (rows,) are their scores.
    Rows of equal gain are taken in proportion, so that no order of the rows matters. None if there is no gap.
    """
    difference = np.asarray(strong, dtype=np.float64) - np.asarray(weak, dtype=np.float64)
    total = difference.sum()
    if not len(difference) or abs(total) < 1e-9:
        return None
    levels, member = np.unique(-np.asarray(gain, dtype=np.float64), return_inverse=True)
    size = np.bincount(member, minlength=len(levels))
    won = np.bincount(member, weights=difference, minlength=len(levels))
    shares = np.concatenate([[0.0], np.cumsum(size)]) / len(difference)
    recovered = np.concatenate([[0.0], np.cumsum(won)]) / total
    return np.interp(np.linspace(0, 1, POINTS), shares, recovered)


def apgr(gain: AnyArray, strong: AnyArray, weak: AnyArray) -> float | None:
    """Return the area under `gap_recovered`, by trapezia; None if there is no gap."""
    curve = gap_recovered(gain, strong, weak)
    return None if curve is None else float(np.trapezoid(curve, dx=1 / (POINTS - 1)))


def mean_of_chosen(values: AnyArray, chosen: AnyArray) -> float:
    """Return the mean of `values` (rows, models) at the model chosen for each row; unknown values are left out."""
    found = values[np.arange(len(values)), chosen]
    return float(np.nanmean(found)) if not np.isnan(found).all() else float("nan")


def best_available(expected: AnyArray, scores: AnyArray) -> AnyArray:
    """Return, for each row, the model of the highest expected value among those that were tried on it."""
    return np.asarray(np.where(np.isnan(scores), -np.inf, expected).argmax(axis=1))


def cost_curve(expected: AnyArray, scores: AnyArray, costs: AnyArray, *, points: int = 40) -> list[tuple[float, float]]:
    """Return (mean cost, accuracy) of choosing by expected quality - weight * cost, for weights from large to 0."""
    spread = float(np.nanmax(costs) - np.nanmin(costs)) or 1.0
    weights: Sequence[float] = [0.0, *(np.geomspace(1e-3, 20, points) / spread).tolist()]
    found = set()
    for weight in weights:
        chosen = best_available(expected - weight * costs, scores)
        found.add((mean_of_chosen(costs, chosen), mean_of_chosen(scores, chosen)))
    return sorted(found)
