"""Which traces are recorded: a share of them, and never more than so many per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

BURST_S = 5.0


class TokenBucket:
    """Lets `per_s` through each second, and those of five seconds at once. Thread-safe."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._size = max(BURST_S * per_s, 1.0)
        self._clock = clock
        self._left = self._size
        self._at = clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one token; say whether there was one."""
        with self._lock:
            now = self._clock()
            self._left = min(self._size, self._left + (now - self._at) * self._per_s)
            self._at = now
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True

    def empty(self) -> bool:
        """Say whether `take` would fail now."""
        return self._left + (self._clock() - self._at) * self._per_s < 1.0


class CappedSampler(Sampler):
    """Samples what another sampler would, as far as a token bucket allows."""

    def __init__(self, inner: Sampler, bucket: TokenBucket) -> None:
        self._inner = inner
        self._bucket = bucket

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on one span; one that is not recorded still has a valid trace id."""
        result = self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is Decision.RECORD_AND_SAMPLE and not self._bucket.take():
            return SamplingResult(Decision.DROP, trace_state=result.trace_state)
        return result

    def get_description(self) -> str:
        """Say what is sampled."""
        return f"Capped{{{self._inner.get_description()}}}"


def make_sampler(
    ratio: float, max_per_s: float | None, *, edge: bool = False, bucket: TokenBucket | None = None
) -> Sampler:
    """Return a parent-based sampler: `ratio` of the roots, at most `max_per_s` traces per second, or from `bucket`.

    At the edge a sampled parent comes from a client, so the cap holds for it too; behind the edge it is always
    followed, or traces would have holes.
    """
    root: Sampler = TraceIdRatioBased(ratio)
    if bucket is None:
        if max_per_s is None:
            return ParentBased(root)
        bucket = TokenBucket(max_per_s)
    root = CappedSampler(root, bucket)
    if not edge:
        return ParentBased(root)
    return ParentBased(root, remote_parent_sampled=CappedSampler(TraceIdRatioBased(1.0), bucket))
