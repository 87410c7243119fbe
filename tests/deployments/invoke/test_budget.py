"""Budgets, with a clock that the test turns."""

from __future__ import annotations

from deployments.invoke.budget import Budget, BudgetSettings


class Watched:
    """A budget, and the time that it sees."""

    def __init__(self, **settings: float) -> None:
        self.now = 100.0
        self.budget = Budget(
            BudgetSettings(**({"share": 0.25, "reserve": 2, "per_s": 0.0} | settings)), clock=lambda: self.now
        )

    def spent(self, tries: int, node: str = "a") -> int:
        """How many of so many tries are granted."""
        return sum(self.budget.spend(node) for _ in range(tries))


def test_a_node_begins_with_the_reserve() -> None:
    watched = Watched()
    assert (watched.spent(9), watched.spent(9)) == (2, 0)


def test_calls_pay_for_their_share() -> None:
    watched = Watched()
    watched.spent(2)
    for _ in range(4):
        assert watched.spent(1) == 0
        watched.budget.called("a")
    assert watched.spent(9) == 1


def test_no_more_than_the_reserve_is_saved_up() -> None:
    watched = Watched(per_s=1.0)
    for _ in range(100):
        watched.budget.called("a")
    watched.now += 1000
    assert watched.spent(9) == 2


def test_time_pays_too() -> None:
    watched = Watched(per_s=0.5)
    watched.spent(2)
    watched.now += 1.9
    assert watched.spent(1) == 0
    watched.now += 0.2
    assert watched.spent(9) == 1


def test_nodes_have_purses_of_their_own() -> None:
    watched = Watched()
    watched.spent(9)
    assert watched.spent(9, "b") == 2
    watched.budget.forget("a")
    assert watched.spent(9) == 2
