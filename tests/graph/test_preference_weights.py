"""Weights of a caller's preferences."""

from __future__ import annotations

import pytest

from graph.preferences import Preferences


def test_weights_sum_to_one_however_large_or_small() -> None:
    assert Preferences.weighed(1e308, 1e308, 1e308).cost == pytest.approx(1 / 3)
    assert Preferences.weighed(cost=5e-324) == Preferences(0.0, 1.0, 0.0)
    assert Preferences.weighed() == Preferences()
