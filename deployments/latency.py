"""How long nodes take lately: what `Policy.latency_ms` is fed with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graph.types import Call, NodeName

NEWEST_SHARE = 0.1
"""How much the newest call counts: about the last twenty make the estimate."""
KEPT_S = 600.0
"""A node that was not asked for so long is unknown again: a slow moment must not keep it from ever being asked."""


@dataclass(slots=True)
class _Estimate:
    first_ms: float
    total_ms: float
    at: float


class Latencies:
    """A running estimate for each node of this process, of the first piece and of the whole answer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._estimates: dict[NodeName, _Estimate] = {}

    def add(self, node: NodeName, first_s: float | None, total_s: float) -> None:
        """Take the seconds of one call that succeeded.

        An answer that was not streamed has no first piece (None); until one was, the whole stands for it.
        """
        now = self._clock()
        known = self._estimates.get(node)
        if known is None or now - known.at > KEPT_S:
            known = _Estimate(1000 * (total_s if first_s is None else first_s), 1000 * total_s, now)
            self._estimates[node] = known
        if first_s is not None:
            known.first_ms += NEWEST_SHARE * (1000 * first_s - known.first_ms)
        known.total_ms += NEWEST_SHARE * (1000 * total_s - known.total_ms)
        known.at = now

    def of(self, call: Call) -> Mapping[NodeName, float]:
        """Return milliseconds by node: to the first piece for a caller who streams, else to the end."""
        now = self._clock()
        return {
            name: known.first_ms if call.stream else known.total_ms
            for name, known in self._estimates.items()
            if now - known.at <= KEPT_S
        }

    def forget(self, node: NodeName) -> None:
        """Drop a node that was removed."""
        self._estimates.pop(node, None)
