"""The span of one call to one node: its name, its attributes, and what is recorded when it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind
from opentelemetry.util.types import AttributeValue

from graph import telemetry as otel
from graph.draft import HELD
from graph.spec import NodeSpec
from graph.types import Call, Delta, FinishReason, Message, Modality, Payload, Usage

_REQUEST_ATTRIBUTES: Final[Mapping[str, str]] = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
_OUTPUT_TYPES: Final[Mapping[str, str]] = {"json_object": "json", "json_schema": "json", "text": "text"}


def operation_name(spec: NodeSpec, call: Call) -> str:
    """Return `gen_ai.operation.name` of a call: `chat`, `embeddings`, `transcribe`, or `execute_tool`."""
    return "execute_tool" if spec.is_tool or call.operation == "tool" else call.operation


def model_name(spec: NodeSpec) -> str:
    """Return what the call asks for: the upstream's model of a remote node, the node's own name of a hosted one."""
    return spec.model or spec.name if spec.endpoint else spec.name


def node_span(spec: NodeSpec, call: Call, *, parent: otel.Parent = None) -> Span:
    """Start the span of a call to a node, below `parent` or the span that the call carries."""
    over = otel.above(parent if parent is not None else call.context.trace)
    if otel.skipped(over):
        return NonRecordingSpan(over.get_span_context())
    name, kind, attributes = described(spec, call)
    return otel.start(name, parent=over, kind=kind, attributes=attributes)


def described(spec: NodeSpec, call: Call) -> tuple[str, SpanKind, dict[str, AttributeValue]]:
    """Return name, kind and attributes of the span of a call to a node."""
    operation = operation_name(spec, call)
    tool = operation == "execute_tool"
    return (
        f"{operation} {spec.name if tool else model_name(spec)}",
        SpanKind.CLIENT if spec.endpoint and not tool else SpanKind.INTERNAL,
        _attributes(spec, call, operation),
    )


class Holder(Protocol):
    """Holds spans until it is known whether their trace is kept. An attribute of the tracer provider: `held`."""

    def begin(
        self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue], over: SpanContext | None = None
    ) -> Span:
        """Start the first span of a trace in this process."""


def holder() -> Holder | None:
    """Return what holds spans in this process, if something does."""
    found: Holder | None = getattr(trace.get_tracer_provider(), "held", None)
    return found


def replica_span(spec: NodeSpec, call: Call) -> Span:
    """Start the span of a node's own process, below the caller's: the time the model worked, without the hop."""
    over = otel.span_from(call.context.trace, remote=True)
    attributes: dict[str, AttributeValue] = {otel.NODE: spec.name}
    if otel.skipped(over):
        held = holder() if call.context.trace.get("tracestate") == HELD else None
        return held.begin(f"serve {spec.name}", SpanKind.SERVER, attributes, over.get_span_context()) if held else over
    return otel.start(f"serve {spec.name}", parent=over, kind=SpanKind.SERVER, attributes=attributes)


def _attributes(spec: NodeSpec, call: Call, operation: str) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {otel.OPERATION: operation, otel.NODE: spec.name}
    if operation == "execute_tool":
        found[otel.TOOL_NAME] = spec.name
    else:
        found[otel.PROVIDER] = spec.kind
        found[otel.REQUEST_MODEL] = model_name(spec)
        found.update(_request_attributes(call.params))
    if call.context.request_id:
        found[otel.REQUEST_ID] = call.context.request_id
    if spec.endpoint:
        found.update(_server(spec.endpoint))
    return found


def _request_attributes(params: Mapping[str, Any]) -> Iterable[tuple[str, AttributeValue]]:
    for name, attribute in _REQUEST_ATTRIBUTES.items():
        value = params.get(name)
        if isinstance(value, (int, float)):
            yield attribute, value
    stop = params.get("stop")
    if stop:
        yield "gen_ai.request.stop_sequences", (stop,) if isinstance(stop, str) else tuple(map(str, stop))
    if isinstance(n := params.get("n"), int) and n != 1:
        yield "gen_ai.request.choice.count", n
    form = params.get("response_format")
    if isinstance(form, Mapping) and form.get("type") in _OUTPUT_TYPES:
        yield otel.OUTPUT_TYPE, _OUTPUT_TYPES[form["type"]]


def _server(endpoint: str) -> Iterable[tuple[str, AttributeValue]]:
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:  # a port that is no number: the node will say so, a trace need not
        return
    if parts.hostname:
        yield otel.SERVER_ADDRESS, parts.hostname
        yield otel.SERVER_PORT, port or (443 if parts.scheme == "https" else 80)


class Observed:
    """What passed by in a stream of deltas, for spans and metrics."""

    __slots__ = ("cached", "finish_reason", "first_at", "model", "node", "started_at", "usage")

    def __init__(self) -> None:
        self.started_at = time.perf_counter()
        self.first_at: float | None = None
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.model: str | None = None
        self.node: str | None = None
        self.cached = False

    def add(self, delta: Delta) -> None:
        """Take one step of the stream."""
        if self.first_at is None and (delta.text or delta.payload or delta.tool_calls or delta.refusal):
            self.first_at = time.perf_counter()
        self.cached = self.cached or delta.cached
        if delta.usage is not None:
            self.usage = delta.usage
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
        if delta.model is not None:
            self.model = delta.model
        if delta.node is not None:
            self.node = delta.node

    @property
    def time_to_first_chunk(self) -> float | None:
        """Seconds until the first content; None if there was none."""
        return None if self.first_at is None else self.first_at - self.started_at

    @property
    def elapsed(self) -> float:
        """Seconds since the stream was asked for."""
        return time.perf_counter() - self.started_at


def set_result(span: Span, seen: Observed, *, leaf: bool = True) -> None:
    """Record what a stream brought. Tokens only on a leaf, so that a sum over a trace counts each once."""
    if span.is_recording():
        span.set_attributes(result(seen, leaf=leaf))


def result(seen: Observed, *, leaf: bool = True) -> dict[str, AttributeValue]:
    """Return what a stream brought, as attributes."""
    found: dict[str, AttributeValue] = {}
    if seen.model is not None:
        found[otel.RESPONSE_MODEL] = seen.model
    if seen.node is not None:
        found[otel.ANSWERED_BY] = seen.node
    if seen.finish_reason is not None:
        found[otel.FINISH_REASONS] = (seen.finish_reason,)
    if (first := seen.time_to_first_chunk) is not None:
        found[otel.TIME_TO_FIRST_CHUNK] = first
    if seen.cached:
        found[otel.CACHED] = True
    elif leaf and seen.usage is not None:
        found[otel.INPUT_TOKENS] = seen.usage.prompt_tokens
        found[otel.OUTPUT_TOKENS] = seen.usage.completion_tokens
    return found


def set_input(span: Span, spec: NodeSpec, call: Call) -> None:
    """Record the content of a call. Only where the operator asked for content in traces."""
    if not span.is_recording():
        return
    if call.inputs and operation_name(spec, call) == "execute_tool":
        arguments = {name: _part(payload) for name, payload in call.inputs.items()}
        span.set_attribute("gen_ai.tool.call.arguments", json.dumps(arguments, ensure_ascii=False))
    if call.messages:
        messages = [{"role": message.role, "parts": _parts(message)} for message in call.messages]
        span.set_attribute("gen_ai.input.messages", json.dumps(messages, ensure_ascii=False))


def set_output(span: Span, tool: bool, text: str, finish_reason: str | None) -> None:
    """Record the content of an answer. Only where the operator asked for content in traces."""
    if not span.is_recording():
        return
    if tool:
        span.set_attribute("gen_ai.tool.call.result", text)
        return
    message = {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": finish_reason}
    span.set_attribute("gen_ai.output.messages", json.dumps([message], ensure_ascii=False))


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.content is None or isinstance(message.content, str):
        return [{"type": "text", "content": message.content or ""}]
    return [_part(payload) for payload in message.content]


def _part(payload: Payload) -> dict[str, Any]:
    if payload.modality in (Modality.TEXT, Modality.JSON):
        return {"type": "text", "content": payload.text}
    return {"type": "blob", "modality": payload.modality.value, "mime_type": payload.media_type}
