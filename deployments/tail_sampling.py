"""Keeps the traces of failed and slow requests that the share of recorded traces left out.

The gateway's process decides when a request, or the run that it started, has ended, for it holds the root span. It
writes what it kept into a log of the store; the processes of nodes hold their own spans for a while and write those of
the traces that they find there. So a kept trace is whole.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from random import getrandbits

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from deployments.sampling import TokenBucket
from graph import telemetry as otel
from graph.draft import Draft, DraftSpan
from graph.node_span import described, result

KEPT_PER_S = 100.0
"""Most failed and slow traces that a gateway keeps in a second: a storm of errors must not make itself worse."""
HOLD_S = 900.0
"""How long a node's process holds its spans: longer than a run may take."""
HOLD_MOST = 20_000
LOOK_S = 1.0
KNOWN = 10_000
_NO_ERROR = (otel.CANCELLED,)
_ENTRIES = ("invoke_workflow ",)
_log = logging.getLogger(__name__)
KeptAfter = Callable[[int], Sequence[tuple[int, str]]]
"""From the id of an entry of the log to the entries that follow: id and trace id."""


class Held:
    """Begins drafts; what is kept of them goes to the span processors."""

    def __init__(self, resource: Resource, processors: Sequence[SpanProcessor]) -> None:
        self._resource = resource
        self._processors = processors
        self._scope = InstrumentationScope(otel.SCOPE)

    def begin(
        self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue], over: SpanContext | None = None
    ) -> DraftSpan:
        """Start the first span of a trace in this process, below `over`, which is another process's, if there is."""
        trace_id, parent_id = (over.trace_id, over.span_id) if over else (getrandbits(128) or 1, 0)
        return DraftSpan(Draft(self.quiet), trace_id, parent_id, name, kind, attributes)

    def quiet(self, draft: Draft) -> None:
        """Take a draft none of whose spans is open."""
        raise NotImplementedError

    def export(self, draft: Draft) -> None:
        """Send what a draft holds on its way."""
        for span in draft.take():
            done = _finished(span, self._resource, self._scope)
            for processor in self._processors:
                processor.on_end(done)

    def shutdown(self) -> None:
        """Stop."""


class GatewayHeld(Held):
    """Decides: it holds the root spans."""

    def __init__(self, resource: Resource, processors: Sequence[SpanProcessor], *, slow_s: float, errors: bool) -> None:
        super().__init__(resource, processors)
        self._slow_ns = slow_s * 1e9
        self._errors = errors
        self._bucket = TokenBucket(KEPT_PER_S)

    def quiet(self, draft: Draft) -> None:
        """Keep the draft if the request, or the run that it started, failed or was slow; what follows is kept, too."""
        if not draft.kept:
            why = next(filter(None, map(self._why, draft.spans)), None)
            if why is None or not self._bucket.take():
                draft.drop()
                return
            draft.kept = True
            draft.spans[0].set_attribute(otel.KEPT, why)
        self.export(draft)

    def _why(self, span: DraftSpan) -> str | None:
        if span.kind is not SpanKind.SERVER and not span.name.startswith(_ENTRIES):
            return None
        failed = span.status is not None and span.status.status_code is StatusCode.ERROR
        late = span.attributes.get(otel.HTTP_STATUS) == 408  # no fault of the service's, and worth a look
        if self._errors and (late or (failed and span.attributes.get(otel.ERROR_TYPE) not in _NO_ERROR)):
            return "error"
        return "slow" if self._slow_ns and span.end_ns - span.start_ns > self._slow_ns else None


class NodeHeld(Held):
    """Waits for a gateway's decision, in a thread that looks at the store while it holds something."""

    def __init__(self, resource: Resource, processors: Sequence[SpanProcessor], kept_after: KeptAfter) -> None:
        super().__init__(resource, processors)
        self._kept_after = kept_after
        self._held: deque[tuple[float, Draft]] = deque(maxlen=HOLD_MOST)
        self._known: OrderedDict[str, None] = OrderedDict()
        self._seen = 0
        self._some = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="held-spans", daemon=True)
        self._thread.start()

    def quiet(self, draft: Draft) -> None:
        """Hold the draft."""
        self._held.append((time.monotonic(), draft))
        self._some.set()

    def look(self) -> None:
        """Write what a gateway has kept, forget what is too old."""
        for number, trace_id in self._kept_after(self._seen):
            self._seen = number
            self._known[trace_id] = None
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        oldest = time.monotonic() - HOLD_S
        for _ in range(len(self._held)):
            at, draft = self._held.popleft()
            if otel.trace_id(draft.spans[0]) in self._known:
                self.export(draft)
            elif at > oldest:
                self._held.append((at, draft))
            else:
                draft.drop()

    def _run(self) -> None:
        while not self._stopped:
            self._some.wait()
            if self._held:
                try:
                    self.look()
                except Exception as error:  # a boundary: the store may be away for a while
                    _log.debug("kept traces could not be read: %s", error)
            if not self._held:
                self._some.clear()
            time.sleep(0 if self._stopped else LOOK_S)

    def shutdown(self) -> None:
        """Look once more, and stop."""
        self._stopped = True
        if self._held:
            try:
                self.look()
            except Exception as error:  # a boundary: the process is ending and nobody can act on it
                _log.debug("kept traces could not be read: %s", error)
        self._some.set()


def _finished(span: DraftSpan, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """Return a draft's span as the SDK has spans. What has not ended, an answer from a cache for one, ends now."""
    name, kind, attributes = span.name, span.kind, span.attributes
    if span.asked is not None:
        spec, call, place = span.asked
        name, kind, attributes = described(spec, call)
        if place != spec.name:
            attributes[otel.NODE_VERSION] = place.rpartition("@v")[2]
        attributes |= span.attributes | (result(span.seen) if span.seen is not None else {otel.CACHED: True})
    flags = TraceFlags(TraceFlags.SAMPLED)
    parent = SpanContext(span.trace_id, span.parent_id, False, flags) if span.parent_id else None
    return ReadableSpan(
        name,
        SpanContext(span.trace_id, span.span_id, False, flags),
        parent,
        resource,
        attributes,
        kind=kind,
        status=span.status or Status(StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns or time.time_ns(),
        instrumentation_scope=scope,
    )
