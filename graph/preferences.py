"""`Preferences`: what one caller wants of the choice of a node, beside an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preferences:
    """Weights of what an answer is worth and what it takes; they sum to 1. Hashable: decisions are remembered by it.

    A node's utility is quality * (how likely it is right) - cost * (its price, of the dearest's) - latency * (its time,
    of the slowest's).
    """

    quality: float = 1.0
    cost: float = 0.0
    latency: float = 0.0
    budget: float | None = None
    """Most that a node may cost: its prices per million tokens in and out together, as `NodeSpec.cost` has them."""

    @classmethod
    def weighed(
        cls, quality: float = 0.0, cost: float = 0.0, latency: float = 0.0, budget: float | None = None
    ) -> Preferences:
        """Scale weights to a sum of 1; with none above 0, only quality counts.

        Raises `ValueError` for a weight or a budget that is negative or no finite number.
        """
        given = {"quality": quality, "cost": cost, "latency": latency, "budget": 0.0 if budget is None else budget}
        for name, value in given.items():
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a number that is not negative; got {value}")
        most = max(quality, cost, latency)
        if most == 0:
            return cls(budget=budget)
        quality, cost, latency = quality / most, cost / most, latency / most  # their sum may be no finite number
        total = quality + cost + latency
        return cls(quality / total, cost / total, latency / total, budget)


NAMED = {
    "quality": Preferences(),
    "cost": Preferences.weighed(quality=2, cost=1),
    "latency": Preferences.weighed(quality=2, latency=1),
}
"""What the plain words mean: `cost` and `latency` give up at most half of the probability of being right for the
cheapest or fastest node; a node that does not fit the request stays where it was."""
