"""Keeps extra calls to a node, retries and hedges, to a share of the calls that it gets anyway.

Without it a node that fails gets more calls than one that works, just when it can take fewer (Dean and Barroso, The
Tail at Scale, 2013; the retry throttling of gRPC, proposal A6).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from graph.types import NodeName


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """How many extra calls a node may get."""

    share: float
    """Extra calls that each call pays for."""
    reserve: float
    """Most extra calls that are saved up; a node begins with as many."""
    per_s: float
    """Extra calls that a second pays for, so that a node with few calls gets some too."""


RETRIES = BudgetSettings(share=0.2, reserve=10, per_s=0.5)
HEDGES = BudgetSettings(share=0.1, reserve=3, per_s=0.1)


class Budget:
    """One purse for each node."""

    def __init__(self, settings: BudgetSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._purses: dict[NodeName, _Purse] = {}

    def called(self, node: NodeName) -> None:
        """Note a call that is made anyway."""
        purse = self._purse(node)
        purse.saved = min(purse.saved + self._settings.share, self._settings.reserve)

    def spend(self, node: NodeName) -> bool:
        """Say whether one more extra call may be made, and count it."""
        purse, now = self._purse(node), self._clock()
        saved = min(purse.saved + (now - purse.seen) * self._settings.per_s, self._settings.reserve)
        granted = saved >= 1
        purse.saved, purse.seen = saved - granted, now
        return granted

    def forget(self, node: NodeName) -> None:
        """Drop the purse of a node that was removed."""
        self._purses.pop(node, None)

    def _purse(self, node: NodeName) -> _Purse:
        purse = self._purses.get(node)
        if purse is None:
            purse = self._purses[node] = _Purse(self._settings.reserve, self._clock())
        return purse


@dataclass(slots=True)
class _Purse:
    saved: float
    seen: float
    """When what the time pays for was last added."""
