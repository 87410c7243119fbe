"""Spans that are held in memory until it is known whether their trace is kept.

A trace that is not sampled costs a request little this way, and is whole all the same if it turns out to matter: its
spans are plain objects that refer to each other, and whatever belongs to a call is worked out when it is kept. What is
not kept is let go at once: a draft refers to what was asked, attachments too, in a circle that the garbage collector
might break only a hundred thousand requests later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from random import getrandbits
from typing import Any, Final

from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import Attributes, AttributeValue

HELD: Final = "modelyard=held"
"""`tracestate` by which a node's own process knows that its spans may be wanted."""
MAX_SPANS: Final = 1000
"""Spans of one draft; what comes after them is not recorded."""


class Draft:
    """The spans of one trace in this process."""

    __slots__ = ("kept", "on_quiet", "open", "room", "spans")

    def __init__(self, on_quiet: Callable[[Draft], None]) -> None:
        """`on_quiet` is called when no span is open any more."""
        self.on_quiet = on_quiet
        self.spans: list[DraftSpan] = []
        self.room = MAX_SPANS
        self.open = 0
        self.kept = False
        """Whether what is in `spans` is on its way, and what ends from now on is to follow."""

    def add(self, span: DraftSpan) -> None:
        """Hold a span that begins, unless there are too many or the trace is let go."""
        self.open += 1
        if self.room:
            self.room -= 1
            self.spans.append(span)

    def take(self) -> list[DraftSpan]:
        """Return the spans that it holds, and hold those that follow."""
        spans, self.spans, self.room = self.spans, [], MAX_SPANS
        return spans

    def drop(self) -> None:
        """Let go of the trace."""
        self.spans = []
        self.room = 0


class DraftSpan(Span):
    """One span of a draft."""

    def __init__(
        self,
        draft: Draft,
        trace_id: int,
        parent_id: int,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue] | None,
        span_id: int = 0,
    ) -> None:
        self.draft = draft
        self.trace_id = trace_id
        self.span_id = span_id or getrandbits(64) or 1
        self.parent_id = parent_id
        self.name = name
        self.kind = kind
        self.attributes = dict(attributes) if attributes else {}
        self.status: Status | None = None
        self.asked: Any = None
        """What a call to a node asked, from which name and attributes are made if they are wanted."""
        self.seen: Any = None
        self.start_ns = time.time_ns()
        self.end_ns = 0
        draft.add(self)

    def child(self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue] | None) -> DraftSpan:
        """Start a span below this one."""
        return DraftSpan(self.draft, self.trace_id, self.span_id, name, kind, attributes)

    def call(self, asked: Any) -> DraftSpan:
        """Start the span of a call to a node; `called` ends it."""
        span = DraftSpan(self.draft, self.trace_id, self.span_id, "", SpanKind.INTERNAL, None)
        self.draft.open -= 1  # an answer from a cache never ends it
        span.asked = asked
        return span

    def called(self, seen: Any, error: str) -> None:
        """End the span of a call to a node with what was seen of the answer, and the `error.type` of a failure."""
        self.seen = seen
        self.end_ns = time.time_ns()
        if error:
            self.attributes["error.type"] = error
            self.status = Status(StatusCode.ERROR)

    def carrier(self) -> HeldCarrier:
        """Return what hands the trace on."""
        found = HeldCarrier(traceparent=f"00-{self.trace_id:032x}-{self.span_id:016x}-00", tracestate=HELD)
        found.span = self
        return found

    def get_span_context(self) -> SpanContext:
        """Return ids; a draft is not sampled."""
        return SpanContext(self.trace_id, self.span_id, False, TraceFlags(0), TraceState([("modelyard", "held")]))

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return not self.end_ns

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one attribute."""
        self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes."""
        self.attributes.update(attributes)

    def update_name(self, name: str) -> None:
        """Set the name."""
        self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status."""
        self.status = status if isinstance(status, Status) else Status(status, description)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Do nothing: the service's spans have no events."""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Do nothing: see `add_event`."""

    def end(self, end_time: int | None = None) -> None:
        """End the span, once."""
        if self.end_ns:
            return
        self.end_ns = end_time or time.time_ns()
        draft = self.draft
        draft.open -= 1
        if not draft.open:
            draft.on_quiet(draft)


class HeldCarrier(dict[str, str]):
    """The carrier of a draft's span. Within the process it leads to the span itself, and nothing need be parsed."""

    span: DraftSpan

    def __reduce__(self) -> Any:
        return dict, (dict(self),)
