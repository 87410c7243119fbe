"""How well a choice among models is made: accuracy, cost, and RouteLLM's area under the performance gap recovered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router.choice.correctness import ChoiceDataError, Correctness
from router.evaluation.svg import Series, line_chart
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
    return np.asarray(np.interp(np.linspace(0, 1, POINTS), shares, recovered))


def apgr(gain: AnyArray, strong: AnyArray, weak: AnyArray) -> float | None:
    """Return the area under `gap_recovered`, by trapezia; None if there is no gap."""
    curve = gap_recovered(gain, strong, weak)
    return None if curve is None else float(np.trapezoid(curve, dx=1 / (POINTS - 1)))


def mean_of_chosen(values: AnyArray, chosen: AnyArray) -> float:
    """Return the mean of `values` (rows, models) at the model chosen for each row; unknown values are left out."""
    found = values[np.arange(len(values)), chosen]
    return float(np.nanmean(found, dtype=np.float64)) if not np.isnan(found).all() else float("nan")


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


def evaluate_choice(expected: AnyArray, truth: Correctness, costs: AnyArray, mean: AnyArray) -> ChoiceMetrics:
    """Measure estimates (rows, models) against the truth. `mean` (models,) are the training rows' accuracies.

    `strong` is the best model of the training rows. `weak` is the cheapest other one; of equally cheap ones, the worst.
    """
    strong = int(np.argmax(mean))
    weak = weak_model(strong, costs, mean)
    chosen = best_available(expected, truth.scores)
    both = ~np.isnan(truth.scores[:, [strong, weak]]).any(axis=1)
    gain = expected[both, strong] - expected[both, weak]
    always = np.full(len(truth), strong)
    return ChoiceMetrics(
        rows=len(truth),
        models=len(truth.models),
        apgr=apgr(gain, truth.scores[both, strong], truth.scores[both, weak]) if strong != weak else None,
        strong=truth.models[strong],
        weak=truth.models[weak],
        accuracy=mean_of_chosen(truth.scores, chosen),
        best_single=mean_of_chosen(truth.scores, always),
        best_single_model=truth.models[strong],
        oracle=float(np.nanmax(truth.scores, axis=1).mean(dtype=np.float64)),
        cost=mean_of_chosen(costs, chosen),
        best_single_cost=mean_of_chosen(costs, always),
    )


def weak_model(strong: int, costs: AnyArray, mean: AnyArray) -> int:
    """Return the index of the cheapest model besides the strong one; of equally cheap ones, the worst."""
    price = np.nanmean(costs, axis=0)
    others = [index for index in range(len(mean)) if index != strong] or [strong]
    return min(others, key=lambda index: (price[index], mean[index]))


def cost_table(truth: Correctness, given: Mapping[str, float], strong: int) -> AnyArray:
    """Return (rows, models) costs: the rows' own, else the `given` ones of each model.

    Where neither says anything of any model, an answer of the strong model costs 1 and any other nothing, so that the
    cost is the share of calls to it. Raises `ChoiceDataError` for models whose cost is missing while others' is known.
    """
    if not given and np.isnan(truth.costs).all():
        return np.tile(np.eye(len(truth.models))[strong], (len(truth), 1))
    table = np.array([given.get(name, np.nan) for name in truth.models])
    costs = np.where(np.isnan(truth.costs), table, truth.costs)
    tried = ~np.isnan(truth.scores)
    unknown = [name for index, name in enumerate(truth.models) if np.isnan(costs[tried[:, index], index]).any()]
    if unknown:
        raise ChoiceDataError(f"no cost is known of {', '.join(unknown)}; give one for every model, or none at all")
    return np.where(np.isnan(costs), np.nan_to_num(np.nanmean(costs, axis=0), nan=0.0), costs)


def choice_charts(metrics: ChoiceMetrics, expected: AnyArray, truth: Correctness, costs: AnyArray) -> list[str]:
    """Return charts: accuracy against cost with every single model, and performance gap recovered."""
    everyone = np.arange(len(truth.models))
    single = [
        (float(np.nanmean(costs[:, index])), float(np.nanmean(truth.scores[:, index])))
        for index in everyone
        if not np.isnan(truth.scores[:, index]).all()
    ]
    lines = [
        Series("chosen by quality and cost", cost_curve(expected, truth.scores, costs)),
        Series("one model always", single, dots=True),
    ]
    charts = [line_chart("Accuracy against cost", "mean cost of an answer", "accuracy", lines)]
    strong, weak = truth.models.index(metrics.strong), truth.models.index(metrics.weak)
    both = ~np.isnan(truth.scores[:, [strong, weak]]).any(axis=1)
    gain = expected[both, strong] - expected[both, weak]
    curve = gap_recovered(gain, truth.scores[both, strong], truth.scores[both, weak])
    if curve is not None:
        shares = np.linspace(0, 1, POINTS).tolist()
        recovered = Series(metrics.strong + " when it gains most", list(zip(shares, curve.tolist(), strict=True)))
        random = Series("random", [(0.0, 0.0), (1.0, 1.0)], dashed=True)
        title = f"Gap recovered between {metrics.weak} and {metrics.strong}"
        charts.append(line_chart(title, "share of calls to the strong model", "gap recovered", [recovered, random]))
    return charts
