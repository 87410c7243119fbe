from __future__ import annotations

import numpy as np
import pytest

from router.choice.correctness import ChoiceDataError, ChoiceRow, Correctness
from router.evaluation.choice import apgr, choice_charts, cost_curve, cost_table, evaluate_choice, gap_recovered
from router.evaluation.svg import Series, line_chart, page

STRONG = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1, 1], dtype=np.float32)
WEAK = np.array([0, 0, 1, 1, 0, 1, 1, 1, 1, 0], dtype=np.float32)


def test_the_curve_of_a_perfect_a_random_and_a_wrong_order() -> None:
    gain = STRONG - WEAK
    assert gap_recovered(gain, STRONG, WEAK) == pytest.approx([0, 1 / 3, 2 / 3, *[1] * 8])
    assert apgr(gain, STRONG, WEAK) == pytest.approx(0.85)
    assert apgr(-gain, STRONG, WEAK) == pytest.approx(0.15)
    assert apgr(np.zeros(10), STRONG, WEAK) == pytest.approx(0.5)  # ties are no order: not that of the rows either
    assert apgr(gain, STRONG, STRONG) is None


def test_no_order_of_rows_matters() -> None:
    random = np.random.default_rng(0)
    gain, strong, weak = random.integers(0, 4, 200), random.integers(0, 2, 200), random.integers(0, 2, 200)
    order = random.permutation(200)
    assert apgr(gain, strong, weak) == pytest.approx(apgr(gain[order], strong[order], weak[order]))


def truth() -> Correctness:
    return Correctness.of(
        [
            ChoiceRow("1", {"big": 1, "small": 1, "tiny": 0}),
            ChoiceRow("2", {"big": 1, "small": 0, "tiny": 0}),
            ChoiceRow("3", {"big": 0, "small": 0}),
            ChoiceRow("4", {"big": 0, "small": 1, "tiny": 1}),
        ]
    )


def test_figures_of_many_models() -> None:
    data = truth()
    mean = np.array([0.6, 0.5, 0.3])
    expected = np.array([[0.9, 0.8, 0.1], [0.9, 0.2, 0.1], [0.2, 0.3, 0.9], [0.3, 0.9, 0.8]])
    costs = cost_table(data, {"big": 10, "small": 2, "tiny": 1}, 0)
    found = evaluate_choice(expected, data, costs, mean)
    assert (found.strong, found.weak) == ("big", "tiny")
    assert (found.accuracy, found.best_single, found.oracle) == (0.75, 0.5, 0.75)
    assert found.cost == pytest.approx((10 + 10 + 2 + 2) / 4)  # of row 3 nothing is known of tiny
    assert found.best_single_cost == 10
    curve = cost_curve(expected, data.scores, costs)
    assert curve == sorted(curve) and curve[-1][0] <= 10 and (6.0, 0.75) in curve
    charts = choice_charts(found, expected, data, costs)
    assert all(chart.startswith("<svg") and chart.endswith("</svg>") for chart in charts)


def test_costs_by_default_count_calls_to_the_strong_model() -> None:
    assert cost_table(truth(), {}, 1).tolist() == [[0, 1, 0]] * 4
    with pytest.raises(ChoiceDataError, match="no cost is known of small, tiny"):
        cost_table(truth(), {"big": 1}, 0)
    own = Correctness.of([ChoiceRow("1", {"a": 1, "b": 0}, {"a": 3, "b": 1}), ChoiceRow("2", {"a": 1, "b": 0})])
    assert cost_table(own, {"a": 2, "b": 5}, 0).tolist() == [[3, 1], [2, 5]]


def test_pictures_stand_alone_and_hold_no_markup_of_the_data() -> None:
    chart = line_chart("<b>", "x", "y", [Series("one", [(1, 1)]), Series("dots", [(0, 2), (3, 4)], dots=True)])
    html = page("A & B", {"accuracy": 0.123456, "model": "<script>"}, [chart])
    assert "<b>" not in html and "<script>" not in html and "A &amp; B" in html and "0.1235" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
