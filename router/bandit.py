"""A contextual bandit over the router's decisions: learns from rewards which node does better than the router thinks.

Linear Thompson sampling (Agrawal and Goyal 2013, "Thompson sampling for contextual bandits with linear payoffs") with
one small model for each node. A model predicts the *residual*, reward less the router's probability, from a projection
of the request's embedding; without rewards it predicts nothing and the router decides alone. Guard rails come first:

- a decision of which the router is sure is never touched (`confidence`);
- a node that the router finds unlikely is never chosen (`floor`);
- what is learned moves a node's value by `MAX_SHIFT` at most;
- no more than a `share` of all decisions is ever spent on trying, whatever the dice say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graph.types import NodeName
from router.types import Candidate
from router.vectors import AnyArray, unit

DIMENSIONS = 32
"""Of the projection. More tells finer subjects apart and takes more rewards to learn."""
PRIOR_PRECISION = 1.0
NOISE = 0.3
"""Standard deviation of the weights that are tried: how widely it looks around."""
MAX_SHIFT = 0.5
_PROJECTION_SEED = 20130

TRIED, LEARNED = "tried", "learned"


@dataclass(frozen=True, slots=True)
class Rails:
    """What the bandit may do."""

    share: float = 0.05
    """Most of all decisions that may be spent on trying."""
    floor: float = 0.15
    """Least probability of a node that may be chosen."""
    confidence: float = 0.9
    """Probability of the best node from which nothing is touched."""

    def __post_init__(self) -> None:
        for name in ("share", "floor", "confidence"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie between 0 and 1; got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which candidate to take, and why: None leaves the router's own."""

    index: int
    why: str | None = None


class Bandit:
    """Models of what nodes earn. Used from one thread; equal seeds and equal calls give equal choices."""

    def __init__(self, rails: Rails | None = None, *, seed: int = 0, dimensions: int = DIMENSIONS) -> None:
        self.rails = rails or Rails()
        self._dimensions = dimensions
        self._random = np.random.default_rng(seed)
        self._arms: dict[NodeName, _Arm] = {}
        self._projections: dict[int, AnyArray] = {}
        self._decisions = 0
        self._tried = 0
        self._changed = 0

    def concerns(self, candidates: Sequence[Candidate]) -> bool:
        """Count a decision, and say whether there is anything to choose: then `choose` wants a context."""
        self._decisions += 1
        if len(candidates) < 2 or max(item.probability for item in candidates) >= self.rails.confidence:
            return False
        if candidates[0].probability < self.rails.floor:
            return False  # it leads for another reason: its price, say
        return sum(item.probability >= self.rails.floor for item in candidates) >= 2

    def context(self, vector: AnyArray) -> AnyArray:
        """Return the features of one embedding: a fixed random projection of unit length, and a constant."""
        width = vector.shape[-1]
        if width not in self._projections:
            drawn = np.random.default_rng(_PROJECTION_SEED).normal(size=(width, self._dimensions))
            self._projections[width] = drawn.astype(np.float32)
        return np.asarray(np.append(unit(vector @ self._projections[width]), 1.0) / math.sqrt(2.0))

    def choose(self, candidates: Sequence[Candidate], context: AnyArray) -> Choice:
        """Choose among candidates, best first, of which `concerns` said yes."""
        allowed = [index for index, item in enumerate(candidates) if item.probability >= self.rails.floor]
        if self._tried + 1 <= self.rails.share * self._decisions:
            sampled = self._best(candidates, allowed, context, self._random)
            self._tried += 1
            return Choice(sampled, TRIED if sampled else None)
        learned = self._best(candidates, allowed, context, None)
        self._changed += learned != 0
        return Choice(learned, LEARNED if learned else None)

    def reward(self, node: NodeName, context: AnyArray, probability: float, reward: float) -> None:
        """Learn what a node earned, 0 to 1, where the router gave it this probability."""
        self._arms.setdefault(node, _Arm(len(context))).learn(context, reward - probability)

    def forget(self, known: Sequence[NodeName]) -> None:
        """Drop what was learned of nodes that are gone: another of that name may come."""
        self._arms = {name: arm for name, arm in self._arms.items() if name in known}

    def describe(self) -> Mapping[str, Any]:
        """Return what it has done and learned."""
        return {
            "decisions": self._decisions,
            "tried": self._tried,
            "changed": self._changed,
            "rewards": {name: arm.count for name, arm in sorted(self._arms.items())},
        }

    def _best(
        self, candidates: Sequence[Candidate], allowed: Sequence[int], context: AnyArray, random: Any | None
    ) -> int:
        def value(index: int) -> float:
            arm = self._arms.get(candidates[index].node)
            if arm is None and random is not None:
                arm = _Arm(len(context))
            shift = 0.0 if arm is None else arm.shift(context, random)
            return candidates[index].utility.total + float(np.clip(shift, -MAX_SHIFT, MAX_SHIFT))

        return max(allowed, key=value)  # of equals the first: the router's order


class _Arm:
    """Bayesian linear regression of one node's residuals."""

    __slots__ = ("_covariance", "_moments", "count")

    def __init__(self, width: int) -> None:
        self._covariance = np.eye(width) / PRIOR_PRECISION
        self._moments = np.zeros(width)
        self.count = 0

    def learn(self, x: AnyArray, residual: float) -> None:
        gain = self._covariance @ x
        self._covariance -= np.outer(gain, gain) / (1.0 + x @ gain)  # Sherman and Morrison
        self._moments += residual * x
        self.count += 1

    def shift(self, x: AnyArray, random: Any | None) -> float:
        mean = float(x @ self._covariance @ self._moments)
        if random is None:
            return mean
        deviation = math.sqrt(max(float(x @ self._covariance @ x), 0.0))
        return mean + NOISE * deviation * float(random.normal())
