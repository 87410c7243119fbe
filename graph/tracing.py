"""A wrapper of the seam that records a span for each call to a node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from opentelemetry.trace import Span

from graph import telemetry as otel
from graph.draft import DraftSpan
from graph.errors import StreamBroken
from graph.node import Invoke, close_stream, closing_stream
from graph.node_span import Observed, node_span, operation_name, replica_span, set_input, set_output, set_result
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName

Lookup = Callable[[NodeName], NodeSpec]


def traced(invoke: Invoke, lookup: Lookup, *, capture_content: bool = False, leaf: bool = True) -> Invoke:
    """Record a span for each call to a node, below the span that the call carries, and pass the new one on.

    Of a trace that is held, the span is ended by whoever meters the call: no generator is added for it.
    Around the attempt at one node each attempt has its span. Around fallbacks as well, say `leaf=False` for the outer
    one: tokens are counted where the model ran. `capture_content` puts prompts and answers into the span.
    """

    def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        over = otel.above(call.context.trace)
        if type(over) is DraftSpan:
            return invoke(node, call.with_context(trace=over.call((lookup(node), call, node)).carrier()))
        if otel.skipped(over):
            return invoke(node, call)  # nothing below is recorded: not even a generator is added
        return _recorded(invoke, lookup, node, call, capture_content, leaf)

    return run


async def _recorded(
    invoke: Invoke, lookup: Lookup, node: NodeName, call: Call, content: bool, leaf: bool
) -> AsyncIterator[Delta]:
    spec = lookup(node)
    span = node_span(spec, call)
    if node != spec.name:  # a version of its own, `name@v2`
        span.set_attribute(otel.NODE_VERSION, node.rpartition("@v")[2])
    seen, texts = Observed(), list[str]()
    stream = invoke(node, call.with_context(trace=otel.carrier(span)))
    try:
        async for delta in stream:
            seen.add(delta)
            if content:
                if delta.reset:
                    texts.clear()
                texts.append(delta.payload.text if delta.payload else delta.text)
            yield delta
        if seen.finish_reason is None:
            otel.fail(span, StreamBroken("the answer was cut before it finished", node=node))
    except BaseException as error:  # looked at and raised again: the span must know of a cancelled call, too
        # A caller that leaves after the last delta has its whole answer: only an unfinished stream was cancelled.
        if not (isinstance(error, GeneratorExit) and seen.finish_reason):
            otel.fail(span, error)
        raise
    finally:
        set_result(span, seen, leaf=leaf)
        if content:
            _set_content(span, spec, call, "".join(texts), seen.finish_reason)
        span.end()
        await close_stream(stream)


async def in_replica(run: Callable[[Call], AsyncIterator[Delta]], spec: NodeSpec, call: Call) -> AsyncIterator[Delta]:
    """Answer a call in a node's own process, with a span of that process below the caller's."""
    span = replica_span(spec, call)
    stream = run(call.with_context(trace=otel.carrier(span) or call.context.trace))
    with otel.recorded(span):
        async with closing_stream(stream):
            async for delta in stream:
                yield delta


def _set_content(span: Span, spec: NodeSpec, call: Call, text: str, finish_reason: str | None) -> None:
    set_input(span, spec, call)
    set_output(span, operation_name(spec, call) == "execute_tool", text, finish_reason)
