"""Spans of the service, named and attributed as OpenTelemetry's GenAI conventions say.

Only the OpenTelemetry API is used: without an SDK every span here is a no-op. Spans are started and ended by hand and
their parent is given, never taken from a context that was attached: an async generator may be resumed in another task,
where detaching a context fails. What carries a trace onward is `Call.context.trace`, written by `carrier`.

A span below one that is not sampled is not made at all: its parent stands in for it. That is what a parent-based
sampler would decide, in a tenth of the time.

Source: open-telemetry/semantic-conventions-genai (status: development), https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import getrandbits
from typing import Final, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace import TraceState as W3CTraceState
from opentelemetry.util.types import AttributeValue

from graph.draft import DraftSpan, HeldCarrier
from graph.errors import ContentRefused, InvalidRequest, ModelyardError, NodeRejected

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
OUTPUT_TYPE: Final = "gen_ai.output.type"
TOOL_NAME: Final = "gen_ai.tool.name"
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
NODE: Final = "modelyard.node"
KEPT: Final = "modelyard.trace.kept"
CALLER: Final = "modelyard.caller"
"""On the first span of a trace that was kept for a reason: `error` or `slow`."""
NODE_VERSION: Final = "modelyard.node.version"
ANSWERED_BY: Final = "modelyard.node.answered"
CACHED: Final = "modelyard.node.cached"
REQUEST_ID: Final = "modelyard.request.id"
RUN_ID: Final = "modelyard.run.id"
ROUTE_STRATEGY: Final = "modelyard.route.strategy"
ROUTE_NODE: Final = "modelyard.route.node"
ROUTE_PROBABILITY: Final = "modelyard.route.probability"
ROUTE_CANDIDATES: Final = "modelyard.route.candidates"
ROUTE_OUT_OF_SCOPE: Final = "modelyard.route.out_of_scope"
CASCADE_NODE: Final = "modelyard.cascade.node"
CASCADE_DROPPED: Final = "modelyard.cascade.dropped"
PLAN_TASKS: Final = "modelyard.plan.tasks"
PLAN_NODES: Final = "modelyard.plan.nodes"
PLAN_MISSING: Final = "modelyard.plan.missing"

SCOPE: Final = "modelyard"
"""Instrumentation scope of every span."""
CANCELLED: Final = "cancelled"
"""`error.type` of work whose caller went away."""

Parent: TypeAlias = Span | Mapping[str, str] | None
"""What a span hangs from: a span, a carrier, or (None) the current context's span."""

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = frozenset({"01", "03"})
_QUOTES_THE_CALLER = (InvalidRequest, ContentRefused, NodeRejected)


@lru_cache(maxsize=4)
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer(SCOPE)


def tracer() -> trace.Tracer:
    """Return the service's tracer from whatever provider is installed."""
    return _tracer_of(trace.get_tracer_provider())


def carrier(span: Span | None = None) -> dict[str, str]:
    """Return the W3C trace context (`traceparent`, `tracestate`) of a span, by default of the current one."""
    if type(span) is DraftSpan:
        return span.carrier()
    context = (span or trace.get_current_span()).get_span_context()
    if not context.is_valid:
        return {}
    found = {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}
    if context.trace_state:
        found["tracestate"] = context.trace_state.to_header()
    return found


def span_from(headers: Mapping[str, str], *, remote: bool = False) -> Span:
    """Return a stand-in for the span that a carrier names; an invalid one if it names none.

    Keys are lower-case, as in starlette's headers. `remote` marks a parent of another service: a sampler may trust it
    less. A malformed `traceparent` is ignored, as the specification says.
    """
    match = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    if match is None or (match[1] == "00" and match[5]):
        return trace.INVALID_SPAN
    state = headers.get("tracestate")
    return NonRecordingSpan(
        SpanContext(
            int(match[2], 16),
            int(match[3], 16),
            is_remote=remote,
            trace_flags=TraceFlags(int(match[4], 16)),
            trace_state=W3CTraceState.from_header([state]) if state else None,
        )
    )


def above(parent: Parent) -> Span:
    """Return the span that a new one would hang from; invalid if it would be a root."""
    if isinstance(parent, Span):
        return parent
    if type(parent) is HeldCarrier:
        return parent.span
    return span_from(parent) if parent else trace.get_current_span()


def skipped(span: Span) -> bool:
    """Say whether spans below this one are not recorded, nor held."""
    if type(span) is DraftSpan:
        return False
    context = span.get_span_context()
    return context.is_valid and not context.trace_flags & TraceFlags.SAMPLED


def trace_id(span: Span) -> str:
    """Return the trace id in hex; empty when tracing is off."""
    if type(span) is DraftSpan:
        return f"{span.trace_id:032x}"
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def is_kept(span: Span) -> bool:
    """Say whether a span's trace is recorded, as far as that is known now."""
    if type(span) is DraftSpan:
        return span.draft.kept
    return bool(span.get_span_context().trace_flags & TraceFlags.SAMPLED)


def kept_id(span: Span) -> str:
    """Return the id of a span's trace if that is recorded; empty otherwise."""
    return trace_id(span) if is_kept(span) else ""


def recorded_id(carrier: Mapping[str, str]) -> str:
    """Return the trace id that a carrier names, if that trace is recorded; empty otherwise."""
    parent = carrier.get("traceparent", "")
    return parent[3:35] if parent[53:] in _SAMPLED else ""


def start(
    name: str,
    *,
    parent: Parent = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Span:
    """Start a span. Whoever starts it ends it, or hands it to `recorded`."""
    over = above(parent)
    if type(over) is DraftSpan:
        return over.child(name, kind, attributes)
    if skipped(over):
        return over if not over.is_recording() else NonRecordingSpan(over.get_span_context())
    return tracer().start_span(name, trace.set_span_in_context(over, Context()), kind, attributes)


def request_span(method: str, route: str, headers: Mapping[str, str]) -> Span:
    """Start the span of an HTTP request: the root, or a child of the caller's `traceparent`."""
    return start(
        f"{method} {route}",
        parent=span_from(headers, remote=True),
        kind=SpanKind.SERVER,
        attributes={HTTP_METHOD: method, HTTP_ROUTE: route},
    )


def unrecorded_root() -> Span:
    """Return a root that is not sampled, and nothing below it: an id for the answer, without the SDK's work."""
    return NonRecordingSpan(SpanContext(getrandbits(128) or 1, getrandbits(64) or 1, is_remote=False))


def workflow_span(name: str, *, parent: Parent = None, run: str = "") -> Span:
    """Start the span of a run. `name` takes few values: it is an attribute of metrics too."""
    attributes = {OPERATION: "invoke_workflow", WORKFLOW_NAME: name}
    return start(f"invoke_workflow {name}", parent=parent, attributes=attributes | {RUN_ID: run} if run else attributes)


def plan_span(planner: str, *, parent: Parent = None) -> Span:
    """Start the span of planning; the planner's own model calls are its children."""
    return start(f"plan {planner}", parent=parent, attributes={OPERATION: "plan", AGENT_NAME: planner})


def route_span(strategy: str, *, parent: Parent = None) -> Span:
    """Start the span of choosing a node."""
    return start(f"route {strategy}", parent=parent, attributes={ROUTE_STRATEGY: strategy})


def set_decision(
    span: Span, *, node: str | None, probability: float, candidates: Sequence[str], out_of_scope: bool
) -> None:
    """Record which node was chosen, and from which candidates, best first."""
    if not span.is_recording():
        return
    span.set_attributes(
        {
            ROUTE_PROBABILITY: float(probability),
            ROUTE_CANDIDATES: tuple(candidates),
            ROUTE_OUT_OF_SCOPE: bool(out_of_scope),
        }
    )
    if node is not None:
        span.set_attribute(ROUTE_NODE, node)


def cascade_span(node: str, *, parent: Parent = None) -> Span:
    """Start the span of a call whose answer is judged before it is given; the calls to nodes are its children."""
    return start(f"cascade {node}", parent=parent, attributes={CASCADE_NODE: node})


def set_cascade(span: Span, dropped: Sequence[str]) -> None:
    """Record the nodes whose answers were not good enough."""
    if span.is_recording():
        span.set_attribute(CASCADE_DROPPED, tuple(dropped))


def set_plan(span: Span, planner: str, *, nodes: Sequence[str], missing: int = 0) -> None:
    """Record what was planned, and by whom: the node of each task, and how many questions are open."""
    span.update_name(f"plan {planner}")  # one planner may have left it to another
    span.set_attributes({AGENT_NAME: planner, PLAN_TASKS: len(nodes), PLAN_MISSING: missing, PLAN_NODES: tuple(nodes)})


def set_http_status(span: Span, status: int) -> None:
    """Record the status of the answer; 5xx makes the span an error."""
    if not span.is_recording():
        return
    span.set_attribute(HTTP_STATUS, status)
    if status >= 500:
        span.set_attribute(ERROR_TYPE, str(status))
        span.set_status(Status(StatusCode.ERROR))


def ended(span: Span, status: str) -> str:
    """Mark the span of a run that failed; return the trace's id if it is recorded."""
    if status == "failed" and span.is_recording():
        span.set_status(Status(StatusCode.ERROR))
    return kept_id(span)


def error_type(error: BaseException) -> str:
    """Return the `error.type` of a failure: its stable code, `cancelled`, or the name of its class."""
    if isinstance(error, ModelyardError):
        return error.code
    if isinstance(error, (GeneratorExit, asyncio.CancelledError)):
        return CANCELLED
    return type(error).__qualname__


def fail(span: Span, error: BaseException) -> None:
    """Mark a span as failed. Messages that may quote the caller's words stay out of the trace."""
    if not span.is_recording():
        return
    told = isinstance(error, ModelyardError) and not isinstance(error, _QUOTES_THE_CALLER)
    span.set_attribute(ERROR_TYPE, error_type(error))
    span.set_status(Status(StatusCode.ERROR, str(error)[:200] if told else None))


class recorded:  # lower case, for it reads as a verb
    """End the span when the block ends, failed if it raised. Attaches nothing, so it is safe around a `yield`."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        return self._span

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            fail(self._span, error)
        self._span.end()
