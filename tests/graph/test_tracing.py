from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from graph import telemetry as otel
from graph.collect import collect
from graph.errors import ContentRefused, NodeUnavailable, StreamBroken
from graph.node import Invoke
from graph.node_span import replica_span
from graph.spec import Argument, NodeSpec
from graph.tracing import traced
from graph.types import Call, CallContext, Delta, Message, Usage, text_payload

On = Callable[..., InMemorySpanExporter]

REMOTE = NodeSpec(
    name="legal", kind="openai", description="law", model="law-chat", endpoint="https://llm.example:8443/v1"
)
HOSTED = NodeSpec(name="code", kind="llama_cpp", description="code", model="hf://org/code.gguf")
TOOL = NodeSpec(name="weather", kind="http", description="weather", arguments={"city": Argument()})
SPECS = {spec.name: spec for spec in (REMOTE, HOSTED, TOOL)}


def answer(*deltas: Delta | BaseException) -> Invoke:
    async def invoke(node: str, call: Call) -> AsyncIterator[Delta]:
        for delta in deltas:
            if isinstance(delta, BaseException):
                raise delta
            yield delta

    return invoke


HELLO = answer(Delta("Hel"), Delta("lo", finish_reason="stop", usage=Usage(7, 2), model="law-chat-2", node="legal"))


def ask(text: str = "May I?", **params: object) -> Call:
    return Call((Message("user", text),), params=params, context=CallContext("req-1"))


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


async def test_a_remote_model_is_a_client_span_with_the_conventions_attributes(record_spans: On) -> None:
    spans = record_spans()
    call = ask(temperature=0.5, max_tokens=9, stop="END", response_format={"type": "json_object"})
    reply = await collect(traced(HELLO, SPECS.__getitem__)("legal", call), node="legal")
    span = only(spans)
    assert reply.text == "Hello"
    assert (span.name, span.kind) == ("chat law-chat", SpanKind.CLIENT)
    assert span.attributes is not None
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0  # type: ignore[operator]
    assert {k: v for k, v in span.attributes.items() if k != "gen_ai.response.time_to_first_chunk"} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "law-chat",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.output.type": "json",
        "gen_ai.response.model": "law-chat-2",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "server.address": "llm.example",
        "server.port": 8443,
        "modelyard.node": "legal",
        "modelyard.node.answered": "legal",
        "modelyard.request.id": "req-1",
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_hosted_models_and_tools_are_internal_spans(record_spans: On) -> None:
    spans = record_spans()
    run = traced(HELLO, SPECS.__getitem__)
    await collect(run("code", ask()), node="code")
    await collect(run("weather", Call(operation="tool", inputs={"city": text_payload("Rome")})), node="weather")
    code, weather = spans.get_finished_spans()
    assert (code.name, code.kind) == ("chat code", SpanKind.INTERNAL)
    assert (weather.name, weather.kind) == ("execute_tool weather", SpanKind.INTERNAL)
    assert weather.attributes is not None
    assert weather.attributes["gen_ai.tool.name"] == "weather"


async def test_the_carrier_hangs_one_process_below_another(record_spans: On) -> None:
    spans = record_spans()

    async def replica(node: str, call: Call) -> AsyncIterator[Delta]:
        crossed = Call(call.messages, context=CallContext(trace=dict(call.context.trace)))
        with otel.recorded(replica_span(HOSTED, crossed)):
            yield Delta("x", finish_reason="stop")

    with otel.recorded(otel.workflow_span("plan", run="r1")) as workflow:
        call = ask().with_context(trace=otel.carrier(workflow))
        await collect(traced(replica, SPECS.__getitem__)("code", call), node="code")
    serve, chat, top = spans.get_finished_spans()
    assert [span.name for span in (top, chat, serve)] == ["invoke_workflow plan", "chat code", "serve code"]
    assert chat.parent is not None
    assert serve.parent is not None
    assert chat.parent.span_id == top.context.span_id
    assert serve.parent.span_id == chat.context.span_id
    assert serve.parent.is_remote
    assert {span.context.trace_id for span in (top, chat, serve)} == {top.context.trace_id}


async def test_usage_stays_out_of_a_span_that_is_no_leaf(record_spans: On) -> None:
    spans = record_spans()
    outer = traced(traced(HELLO, SPECS.__getitem__), SPECS.__getitem__, leaf=False)
    await collect(outer("legal", ask()), node="legal")
    inner, outer_span = spans.get_finished_spans()
    assert inner.attributes is not None
    assert outer_span.attributes is not None
    assert "gen_ai.usage.input_tokens" in inner.attributes
    assert "gen_ai.usage.input_tokens" not in outer_span.attributes


async def test_a_failure_is_named_by_its_code(record_spans: On) -> None:
    spans = record_spans()
    run = traced(answer(Delta("a"), NodeUnavailable("upstream said 503", node="legal")), SPECS.__getitem__)
    with pytest.raises(NodeUnavailable):
        await collect(run("legal", ask()), node="legal")
    span = only(spans)
    assert span.attributes is not None
    assert span.attributes["error.type"] == "node_unavailable"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "upstream said 503")


@pytest.mark.parametrize("error", [ContentRefused("you wrote: my secret"), ValueError("my secret")])
async def test_a_message_that_may_quote_the_caller_stays_out(record_spans: On, error: Exception) -> None:
    spans = record_spans()
    with pytest.raises(type(error)):
        await collect(traced(answer(error), SPECS.__getitem__)("legal", ask()), node="legal")
    assert "secret" not in only(spans).to_json()


async def test_a_cut_stream_is_a_failure(record_spans: On) -> None:
    spans = record_spans()
    with pytest.raises(StreamBroken):
        await collect(traced(answer(Delta("a")), SPECS.__getitem__)("legal", ask()), node="legal")
    assert only(spans).attributes["error.type"] == "stream_broken"  # type: ignore[index]


async def test_a_caller_that_leaves_cancels_the_span_and_the_work(record_spans: On) -> None:
    spans = record_spans()
    closed = []

    async def endless(node: str, call: Call) -> AsyncIterator[Delta]:
        try:
            while True:
                yield Delta("more ")
        finally:
            closed.append(node)

    stream = traced(endless, SPECS.__getitem__)("legal", ask())
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert closed == ["legal"]
    assert only(spans).attributes["error.type"] == "cancelled"  # type: ignore[index]


async def test_a_cancelled_task_ends_the_span(record_spans: On) -> None:
    spans = record_spans()
    begun = asyncio.Event()

    async def silent(node: str, call: Call) -> AsyncIterator[Delta]:
        begun.set()
        await asyncio.Event().wait()
        yield Delta()

    task = asyncio.create_task(collect(traced(silent, SPECS.__getitem__)("legal", ask()), node="legal"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert only(spans).attributes["error.type"] == "cancelled"  # type: ignore[index]


async def test_leaving_after_the_last_delta_is_no_error(record_spans: On) -> None:
    spans = record_spans()
    stream = traced(answer(Delta("a", finish_reason="stop")), SPECS.__getitem__)("legal", ask())
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert only(spans).status.status_code is StatusCode.UNSET


async def test_a_stream_resumed_in_other_tasks_is_one_span(record_spans: On) -> None:
    spans = record_spans()
    stream = traced(HELLO, SPECS.__getitem__)("legal", ask())
    first = await asyncio.create_task(anext(stream))  # type: ignore[arg-type]
    rest = await asyncio.create_task(collect(stream, node="legal"))
    assert first.text + rest.text == "Hello"
    assert only(spans).status.status_code is StatusCode.UNSET


async def test_content_is_recorded_only_when_asked_for(record_spans: On) -> None:
    spans = record_spans()
    await collect(traced(HELLO, SPECS.__getitem__)("legal", ask("my question")), node="legal")
    await collect(traced(HELLO, SPECS.__getitem__, capture_content=True)("legal", ask("my question")), node="legal")
    without, with_content = spans.get_finished_spans()
    assert "my question" not in without.to_json()
    assert "Hello" not in without.to_json()
    assert with_content.attributes is not None
    assert json.loads(str(with_content.attributes["gen_ai.input.messages"])) == [
        {"role": "user", "parts": [{"type": "text", "content": "my question"}]}
    ]
    assert json.loads(str(with_content.attributes["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Hello"}], "finish_reason": "stop"}
    ]


async def test_captured_content_forgets_what_was_void(record_spans: On) -> None:
    spans = record_spans()
    retried = answer(Delta("wrong"), Delta(reset=True), Delta("right", finish_reason="stop"))
    await collect(traced(retried, SPECS.__getitem__, capture_content=True)("legal", ask()), node="legal")
    assert "wrong" not in only(spans).to_json()


async def test_below_an_unsampled_span_nothing_is_made_but_the_trace_goes_on(record_spans: On) -> None:
    spans = record_spans(ALWAYS_OFF)
    root = otel.request_span("POST", "/v1/chat/completions", {})
    seen: list[Call] = []

    async def invoke(node: str, call: Call) -> AsyncIterator[Delta]:
        seen.append(call)
        yield Delta("a", finish_reason="stop")

    call = ask().with_context(trace=otel.carrier(root))
    await collect(traced(invoke, SPECS.__getitem__)("legal", call), node="legal")
    assert seen == [call]
    assert otel.trace_id(root) in seen[0].context.trace["traceparent"]
    assert otel.start("child", parent=root).get_span_context() == root.get_span_context()
    assert not spans.get_finished_spans()


async def test_without_an_sdk_everything_works_and_nothing_is_recorded(no_provider: None) -> None:
    reply = await collect(traced(HELLO, SPECS.__getitem__)("legal", ask()), node="legal")
    assert reply.text == "Hello"
    assert otel.carrier() == {}


async def test_an_answer_that_was_kept_is_marked_and_took_no_tokens(record_spans: On) -> None:
    spans = record_spans()
    kept = answer(Delta("Hello", cached=True), Delta(finish_reason="stop", usage=Usage(7, 2), cached=True))
    await collect(traced(kept, SPECS.__getitem__)("legal", ask()), node="legal")
    attributes = only(spans).attributes or {}
    assert attributes["modelyard.node.cached"] is True
    assert "gen_ai.usage.input_tokens" not in attributes
