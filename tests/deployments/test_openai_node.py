from __future__ import annotations

import asyncio
import base64
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from raw_upstream import Handler, RawUpstream, Seen, Wire, raw_upstream

from deployments.nodes.openai import OpenAINode, OpenAIParams
from deployments.secrets import resolve_secrets
from graph.collect import collect
from graph.errors import (
    ContentRefused,
    ContextTooLong,
    InvalidRequest,
    InvalidSpec,
    ModelyardError,
    NodeRejected,
    NodeUnavailable,
    NodeUnreachable,
    StreamBroken,
)
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, CallContext, Delta, Message, Modality, Payload, Usage, json_payload, text_payload

ENVIRONMENT = NodeEnvironment(resolve_secrets, allow_private=True)
HELLO = Call((Message("user", "Hello"),))
STREAMED = Call((Message("user", "Hello"),), stream=True)
COMPLETION = {
    "model": "law-chat-v2",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Grüß Gott 你好"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEGAL_KEY", "sk-secret-123")


def spec_of(url: str, **changes: Any) -> NodeSpec:
    given = {
        "name": "legal",
        "kind": "openai",
        "description": "Law.",
        "model": "law-chat",
        "endpoint": f"{url}/v1/",
        "api_key": "${LEGAL_KEY}",
    }
    return NodeSpec.model_validate(given | changes)


@asynccontextmanager
async def node_on(handler: Handler, **changes: Any) -> AsyncIterator[tuple[OpenAINode, RawUpstream]]:
    async with raw_upstream(handler) as upstream:
        node = OpenAINode(spec_of(upstream.url, **changes), ENVIRONMENT)
        await node.load()
        try:
            yield node, upstream
        finally:
            await node.aclose()


async def ask(handler: Handler, call: Call = HELLO, **changes: Any) -> tuple[list[Delta], Seen]:
    async with node_on(handler, **changes) as (node, upstream):
        deltas = [delta async for delta in node.run(call)]
        assert len(upstream.seen) == 1
        return deltas, upstream.seen[0]


async def failure(handler: Handler, call: Call = HELLO) -> ModelyardError:
    async with node_on(handler) as (node, upstream):
        with pytest.raises(ModelyardError) as caught:
            await collect(node.run(call), node="legal")
        assert len(upstream.seen) == 1, "exactly one request to a call"
        assert caught.value.node == "legal"
        return caught.value


async def whole(_: Seen, wire: Wire) -> None:
    await wire.reply(COMPLETION)


def answering(status: int, body: Any, **headers: str) -> Handler:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.reply(body, status, **headers)

    return handler


def step(content: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    given = ({"content": content} if content is not None else {}) | delta
    return {"model": "law-chat-v2", "choices": [{"index": 0, "delta": given, "finish_reason": finish}], "usage": None}


USAGE = {"model": "law-chat-v2", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}


def streaming(*events: Any, ending: bool = True) -> Handler:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        for event in events:
            await wire.event(event)
        if ending:
            await wire.end()
        else:
            wire.writer.close()

    return handler


async def test_a_plain_chat_is_one_request_and_one_delta() -> None:
    deltas, seen = await ask(whole)
    usage = Usage(5, 2)
    assert deltas == [Delta("Grüß Gott 你好", finish_reason="stop", usage=usage, model="law-chat-v2")]
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.headers["authorization"] == "Bearer sk-secret-123"
    assert seen.headers["content-type"] == "application/json"
    assert seen.json == {"model": "law-chat", "messages": [{"role": "user", "content": "Hello"}]}


async def test_every_honoured_field_is_passed_on() -> None:
    params = {name: [name] for name in OpenAINode.honours}
    _, seen = await ask(whole, Call(HELLO.messages, params={**params, "model": "other", "stream": True}))
    assert seen.json == {**params, "model": "law-chat", "messages": [{"role": "user", "content": "Hello"}]}


async def test_prompt_template_headers_body_and_trace() -> None:
    call = Call(
        (Message("system", "Be kind."), Message("user", "one"), Message("assistant", "two"), Message("user", "three")),
        params={"top_k": 3},
        context=CallContext(request_id="req-1", trace={"traceparent": "00-a-b-01", "tracestate": "bad\r\nx: y"}),
    )
    _, seen = await ask(
        whole,
        call,
        system_prompt="You are a lawyer.",
        template="<<{input}>>",
        params={
            "headers": {"X-Team": "law ${LEGAL_KEY}"},
            "extra_body": {"top_k": 1, "min_p": 0.1, "proxy": [{"token": "t ${LEGAL_KEY}"}]},
            "organization": "org-1",
        },
    )
    assert [message["content"] for message in seen.json["messages"]] == [
        "You are a lawyer.", "Be kind.", "one", "two", "<<three>>",
    ]  # fmt: skip
    assert (seen.json["top_k"], seen.json["min_p"]) == (3, 0.1)
    assert seen.json["proxy"] == [{"token": "t sk-secret-123"}]
    assert seen.headers["x-team"] == "law sk-secret-123"
    assert seen.headers["openai-organization"] == "org-1"
    assert seen.headers["traceparent"] == "00-a-b-01"
    assert seen.headers["x-request-id"] == "req-1"
    assert "tracestate" not in seen.headers
    assert "x" not in seen.headers


async def test_attachments_become_parts() -> None:
    message = Message(
        "user",
        (
            text_payload("What is this?"),
            Payload(Modality.IMAGE, b"\x89PNG", "image/jpeg"),
            Payload(Modality.IMAGE, "https://example.com/a.png"),
            Payload(Modality.AUDIO, b"ID3", "audio/mpeg"),
        ),
    )
    loose = {"audio": Payload(Modality.AUDIO, "data:audio/ogg;base64,T2dn")}
    call = Call((message,), loose)
    _, seen = await ask(whole, call, template="Q: {input}", accepts=["text", "image", "audio"])
    assert seen.json["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Q: What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,iVBORw=="}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"ID3").decode(), "format": "mp3"}},
                {"type": "input_audio", "input_audio": {"data": "T2dn", "format": "ogg"}},
            ],
        }
    ]


async def test_no_upstream_is_sent_where_its_machine_hands_out_credentials() -> None:
    for modality in (Modality.IMAGE, Modality.AUDIO):
        for host in ("169.254.169.254", "[fd00:ec2::254]", "0xa9fea9fe"):
            call = Call((Message("user", (Payload(modality, f"http://{host}/latest/meta-data"),)),))
            async with node_on(whole, accepts=["text", "image", "audio"]) as (node, upstream):
                with pytest.raises(InvalidRequest, match=r"169\.254\.169\.254|fd00"):
                    await collect(node.run(call), node="gpt")
                assert upstream.seen == []


async def test_tool_calls_and_refusals_of_a_plain_chat() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    deltas, _ = await ask(answering(200, body))
    assert deltas == [Delta(tool_calls=({"index": 0, **calls[0]},), finish_reason="tool_calls")]


async def test_a_stream_passes_on_as_it_comes() -> None:
    more = asyncio.Event()

    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        await wire.event(step("", role="assistant"))
        await wire.event(step("Grü"))
        await more.wait()  # the rest is only sent once the first delta has arrived
        whole = 'data: {"choices":[{"index":0,"delta":{"content":"ß 你"}}]}\r\n\r\n'.encode()
        cut = whole.index("ß".encode()) + 1
        await wire.chunk(b": keep-alive\r\n\r\n" + whole[:cut])
        await wire.chunk(whole[cut:])
        for event in (step(finish="length"), USAGE, "[DONE]"):
            await wire.event(event)
        await wire.end()

    async with node_on(handler) as (node, upstream):
        found = []
        async for delta in node.run(STREAMED):
            found.append(delta)
            more.set()
        assert [delta.text for delta in found] == ["Grü", "ß 你", ""]
        assert found[-1] == Delta(usage=Usage(5, 3), finish_reason="length", model="law-chat-v2")
        assert upstream.seen[0].json["stream"] is True
        assert upstream.seen[0].json["stream_options"] == {"include_usage": True}


async def test_a_connection_serves_one_stream_after_the_other() -> None:
    async with node_on(streaming(step("a", "stop"), USAGE, "[DONE]")) as (node, upstream):
        for _ in range(3):
            assert (await collect(node.run(STREAMED), node="legal")).text == "a"
        assert upstream.connections == 1


async def test_streamed_tool_calls_and_logprobs() -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a"'}}
    second = {"index": 0, "function": {"arguments": ": 1}"}}
    spoken = step("x")
    spoken["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": -0.1}]}
    events = [spoken, step(tool_calls=[first]), step(tool_calls=[second]), step(finish="tool_calls"), USAGE, "[DONE]"]
    async with node_on(streaming(*events)) as (node, _):
        reply = await collect(node.run(STREAMED), node="legal")
    assert reply.tool_calls[0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert reply.finish_reason == "tool_calls"
    assert reply.logprobs == {"content": [{"token": "x", "logprob": -0.1}]}


async def test_usage_is_not_asked_for_where_the_server_refuses_it() -> None:
    _, seen = await ask(streaming(step("a", "stop"), "[DONE]"), STREAMED, params={"stream_usage": False})
    assert "stream_options" not in seen.json


async def test_a_server_that_cannot_stream_answers_whole() -> None:
    deltas, _ = await ask(whole, STREAMED)
    assert [delta.text for delta in deltas] == ["Grüß Gott 你好"]


@pytest.mark.parametrize("tail", [[USAGE], [USAGE, ": nothing"], [{**step(finish="stop"), "usage": USAGE["usage"]}]])
async def test_no_done_but_a_finish_reason_ends_with_the_stream(tail: list[Any]) -> None:
    deltas, _ = await ask(streaming(step("a"), step(finish="stop"), *tail), STREAMED)
    assert [delta.text for delta in deltas] == ["a", ""]
    assert deltas[-1].usage == Usage(5, 3)


async def test_a_server_that_forgets_to_hang_up_does_not_hold_a_finished_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deployments.nodes.openai._TAIL_S", 0.05)
    gone = asyncio.Event()

    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        for event in (step("a", "stop"), USAGE):
            await wire.event(event)
        await wire.hung_up()
        gone.set()

    async with node_on(handler) as (node, _):
        reply = await collect(node.run(STREAMED), node="legal")
        assert (reply.text, reply.usage) == ("a", Usage(5, 3))
        await gone.wait()


async def test_a_complete_answer_waits_for_its_usage_within_the_idle_limit() -> None:
    """The node's limits count every wait between two deltas, and a complete answer must not fail by them."""

    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        await wire.event(step("a", "stop"))
        await asyncio.sleep(0.05)
        await wire.chunk(b"data: " + orjson.dumps(USAGE) + b"\n")  # and no blank line that would end the event
        await wire.hung_up()

    async with node_on(handler, limits={"idle_s": 0.3}) as (node, _):
        deltas = aiter(node.run(STREAMED))
        assert (await anext(deltas)).text == "a"
        async with asyncio.timeout(0.3):
            assert (await anext(deltas)).usage == Usage(5, 3)


@pytest.mark.parametrize("tail", [["{broken"], [{"error": {"message": "late"}}]])
async def test_what_follows_a_finished_answer_cannot_spoil_it(tail: list[Any]) -> None:
    deltas, _ = await ask(streaming(step("a", "stop"), *tail, ending=False), STREAMED)
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("tail", [[], [USAGE], ["[DONE]"], [USAGE, "[DONE]"]])
@pytest.mark.parametrize("ending", [True, False])
async def test_a_stream_cut_midway_is_broken(ending: bool, tail: list[Any]) -> None:
    error = await failure(streaming(step("a"), step("b"), *tail, ending=ending), STREAMED)
    assert type(error) is StreamBroken


async def test_a_stream_reset_midway_is_broken() -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        await wire.event(step("a"))
        await wire.send(b"40\r\ndata: {")
        wire.reset()

    assert type(await failure(handler, STREAMED)) is StreamBroken


@pytest.mark.parametrize(
    "garbage",
    ["{broken", "[]", "5", "null", '"x"', "{}", {"choices": 5}, {"choices": [5]}, step(content={"a": 1}),  # type: ignore[arg-type]
     {"choices": [{"delta": 5}]}, step(tool_calls=["x"]), step(tool_calls=5), step(content=7),  # type: ignore[arg-type]
     step("x", finish=5), step(tool_calls=[{"function": {"arguments": {}}}]), step(tool_calls=[{"index": "x"}])],  # type: ignore[arg-type]
)  # fmt: skip
async def test_a_malformed_chunk_breaks_the_stream_and_is_not_passed_on(garbage: Any) -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        await wire.event(step("good"))
        await asyncio.sleep(0.01)
        for event in (garbage, step("after", "stop"), "[DONE]"):
            await wire.event(event)
        await wire.end()

    async with node_on(handler) as (node, _):
        texts = []
        with pytest.raises(StreamBroken):
            async for delta in node.run(STREAMED):
                texts.append(delta.text)  # noqa: PERF401  # kept when the stream breaks
        assert texts == ["good"]


async def test_invalid_utf8_breaks_the_stream() -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        await wire.chunk(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n')
        await wire.end()

    assert type(await failure(handler, STREAMED)) is StreamBroken


async def test_an_endless_event_breaks_the_stream() -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        while True:
            await wire.chunk(b"data: " + b"x" * 500_000)

    error = await failure(handler, STREAMED)
    assert type(error) is StreamBroken
    assert "larger than" in error.message


async def test_an_error_event_midway_breaks_the_stream_without_the_key() -> None:
    event = {"error": {"message": "out of memory for sk-secret-123", "code": 500}}
    error = await failure(streaming(step("a"), event), STREAMED)
    assert type(error) is StreamBroken
    assert "out of memory for ***" in error.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "overloaded", "code": 429}, NodeUnavailable),
        ({"message": "boom"}, NodeUnavailable),
        ("boom", NodeUnavailable),
        ({"message": "x", "code": "context_length_exceeded"}, ContextTooLong),
        ({"message": "x", "code": "content_filter"}, ContentRefused),
    ],
)
@pytest.mark.parametrize("call", [HELLO, STREAMED], ids=["plain", "stream"])
async def test_an_error_with_a_200_before_any_text(error: Any, kind: type[ModelyardError], call: Call) -> None:
    handler = streaming({"error": error}) if call.stream else answering(200, {"error": error})
    assert type(await failure(handler, call)) is kind


@pytest.mark.parametrize("call", [HELLO, STREAMED], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, {"error": {"message": "boom"}}, NodeUnavailable),
        (503, b"<html>", NodeUnavailable),
        (400, {"error": {"message": "m", "code": "context_length_exceeded"}}, ContextTooLong),
        (400, {"error": {"message": "m", "code": "content_policy_violation"}}, ContentRefused),
        (404, {"error": {"message": "no such model"}}, NodeRejected),
        (401, {"error": {"message": "Incorrect API key provided: sk-secret-123"}}, NodeRejected),
        (403, {"error": {"message": "sk-secret-123 may not"}}, NodeRejected),
        (422, {"error": {"message": "sk-secret-123 may not"}}, NodeRejected),
    ],
)
async def test_statuses(status: int, body: Any, kind: type[ModelyardError], call: Call) -> None:
    error = await failure(answering(status, body), call)
    assert type(error) is kind
    assert "sk-secret" not in f"{error.message} {error!r} {error.__dict__}"


async def test_429_says_when_to_come_back() -> None:
    error = await failure(answering(429, {"error": {"message": "slow"}}, retry_after="2"))
    assert isinstance(error, NodeUnavailable)
    assert (error.status, error.retry_after, error.retryable) == (429, 2.0, True)


async def test_a_redirect_is_not_followed() -> None:
    error = await failure(answering(307, b"", location="/v1/elsewhere"))
    assert isinstance(error, NodeRejected)
    assert "redirect" in error.message


async def test_connection_reset_before_the_headers() -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        wire.reset()

    assert type(await failure(handler)) is NodeUnreachable


async def test_connection_refused() -> None:
    async with raw_upstream(whole) as upstream:
        node = OpenAINode(spec_of(upstream.url), ENVIRONMENT)
        await node.load()
    with pytest.raises(NodeUnreachable):
        await collect(node.run(HELLO), node="legal")
    with pytest.raises(NodeUnreachable):
        await node.check()
    await node.aclose()
    with pytest.raises(NodeUnreachable, match="not open"):
        await collect(node.run(HELLO), node="legal")


async def test_an_answer_that_is_not_http() -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.send(b"SSH-2.0-OpenSSH_9\r\n\r\n")

    assert type(await failure(handler)) is NodeUnavailable


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"[1]",
        b"5",
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": 5}]},
        {"choices": [{"message": {"role": "assistant"}}]},
        {"choices": [{"message": {"content": None, "tool_calls": [{"id": "a"}]}}]},
    ],
)
async def test_a_plain_answer_that_is_no_completion(body: Any) -> None:
    assert type(await failure(answering(200, body))) is StreamBroken


async def test_a_plain_answer_cut_midway() -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.head(200, {"content-type": "application/json", "content-length": "100"})
        await wire.send(b'{"choices": [')
        wire.writer.close()

    assert type(await failure(handler)) is StreamBroken


async def test_an_answer_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.head(200, {"content-type": "application/json", "transfer-encoding": "chunked"})
        while True:
            await wire.chunk(b" " * 2**20)

    error = await failure(handler)
    assert isinstance(error, NodeRejected)
    assert "larger than" in error.message


async def test_a_compressed_answer_is_read() -> None:
    packed = gzip.compress(orjson.dumps(COMPLETION))
    deltas, _ = await ask(answering(200, packed, content_encoding="gzip"))
    assert deltas[0].text == "Grüß Gott 你好"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"not gzip at all", "gzip"), (gzip.compress(orjson.dumps(COMPLETION), mtime=0)[:-9], "gzip"), (b"x", "br")],
)
async def test_an_answer_that_cannot_be_decompressed(body: bytes, encoding: str) -> None:
    assert type(await failure(answering(200, body, content_encoding=encoding))) is StreamBroken


async def test_a_bomb_is_noticed_before_it_has_grown() -> None:
    bomb = gzip.compress(b" " * 2**26)

    async def handler(_: Seen, wire: Wire) -> None:
        await wire.reply(bomb, content_encoding="gzip")

    tracemalloc.start()
    try:
        error = await failure(handler)
        assert isinstance(error, NodeRejected)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


async def test_a_large_request_arrives_whole() -> None:
    text = "ü" * 2**20
    _, seen = await ask(whole, Call((Message("user", text),)))
    assert seen.json["messages"][0]["content"] == text


@pytest.mark.parametrize("received", [0, 1])
async def test_closing_the_iterator_closes_the_connection(received: int) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def handler(_: Seen, wire: Wire) -> None:
        asked.set()
        if received:
            await wire.stream()
            await wire.event(step("a"))
        await wire.hung_up()
        gone.set()

    async with node_on(handler) as (node, _):
        deltas = node.run(STREAMED)
        if received:
            await anext(deltas)
            await deltas.aclose()  # type: ignore[attr-defined]
        else:
            waiting = asyncio.ensure_future(anext(deltas))
            await asked.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(5):
            await gone.wait()


async def test_closing_the_node_ends_what_is_running() -> None:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.stream()
        await wire.event(step("a"))
        await wire.hung_up()

    async with node_on(handler) as (node, _):
        deltas = node.run(STREAMED)
        await anext(deltas)
        async with asyncio.timeout(5):
            await node.aclose()
            with pytest.raises(StreamBroken):
                await anext(deltas)


async def test_embeddings() -> None:
    rows = [{"index": 1, "embedding": [0.3, 0.4]}, {"index": 0, "embedding": [0.1, 0.2]}]
    body = {"model": "e5", "data": rows, "usage": {"prompt_tokens": 4, "total_tokens": 4}}
    call = Call(
        inputs={"input": json_payload(["a", "b"])},
        params={"dimensions": 2, "encoding_format": "base64"},
        operation="embeddings",
    )
    deltas, seen = await ask(answering(200, body), call)
    assert deltas == [
        Delta(payload=json_payload([[0.1, 0.2], [0.3, 0.4]]), usage=Usage(4, 0), finish_reason="stop", model="e5")
    ]
    assert seen.path == "/v1/embeddings"
    assert seen.json == {"model": "law-chat", "input": ["a", "b"], "dimensions": 2}
    assert type(await failure(answering(200, {"data": [{}]}), call)) is StreamBroken


@pytest.mark.parametrize("verbose", [False, True])
async def test_transcribe(verbose: bool) -> None:
    body = {"text": "Grüß Gott", "segments": [], "language": "de"}
    call = Call(
        inputs={"audio": Payload(Modality.AUDIO, b"RIFF....", "audio/wav")},
        params={
            "language": "de",
            "temperature": 0.5,
            "timestamp_granularities": ["word", "segment"],
            "response_format": "verbose_json" if verbose else "text",
        },
        operation="transcribe",
    )
    deltas, seen = await ask(answering(200, body), call)
    assert deltas == [Delta("Grüß Gott", payload=json_payload(body) if verbose else None, finish_reason="stop")]
    assert seen.path == "/v1/audio/transcriptions"
    assert seen.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="file"; filename="audio.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF....\r\n' in seen.body
    for field in (b'"model"\r\n\r\nlaw-chat', b'"language"\r\n\r\nde', b'"temperature"\r\n\r\n0.5', b"\r\n\r\nsegment"):
        assert field in seen.body
    assert seen.body.count(b'"timestamp_granularities[]"') == 2


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (Call(), "messages"),
        (Call((Message("wizard", "x"),)), "messages"),
        (Call((Message("user", (Payload(Modality.IMAGE, b"x"),)),)), "messages"),
        (Call(operation="embeddings"), "input"),
        (Call(operation="transcribe"), "file"),
        (Call(operation="tool"), "model"),
    ],
)
async def test_bad_calls_reach_no_upstream(call: Call, param: str) -> None:
    async with node_on(whole) as (node, upstream):
        with pytest.raises(InvalidRequest) as caught:
            await collect(node.run(call), node="legal")
        assert caught.value.param == param
        assert upstream.seen == []


@pytest.mark.parametrize(("status", "fault"), [(200, None), (404, None), (401, NodeRejected), (503, NodeUnavailable)])
async def test_check(status: int, fault: type[ModelyardError] | None) -> None:
    async with node_on(answering(status, {})) as (node, upstream):
        if fault:
            with pytest.raises(fault):
                await node.check()
        else:
            await node.check()
        assert (upstream.seen[0].method, upstream.seen[0].path) == ("GET", "/v1/models")


async def test_private_addresses_are_refused_at_loading() -> None:
    node = OpenAINode(spec_of("http://127.0.0.1:9"), NodeEnvironment(resolve_secrets))
    with pytest.raises(NodeRejected, match="loopback"):
        await node.load()
    await node.aclose()


async def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEGAL_KEY")
    with pytest.raises(InvalidSpec, match="LEGAL_KEY"):
        await OpenAINode(spec_of("http://127.0.0.1:9"), ENVIRONMENT).load()


async def test_a_key_that_is_no_header_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEGAL_KEY", "geheim\u00fc")
    with pytest.raises(InvalidSpec, match="authorization") as caught:
        await OpenAINode(spec_of("http://127.0.0.1:9"), ENVIRONMENT).load()
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": None}, "model"),
        ({"endpoint": None}, "endpoint"),
        ({"endpoint": "https://host/v1?key=1"}, "endpoint"),
        ({"endpoint": "https://host:99999999/v1"}, "endpoint"),
        ({"params": {"extra_body": {"stream": True}}}, "params.extra_body.stream"),
        ({"params": {"extra_body": {"api_key": "sk-1"}}}, "params.extra_body.api_key"),
        ({"params": {"extra_body": {"a": [{"X-Authorization": "Bearer x"}]}}}, "params.extra_body.a.X-Authorization"),
        ({"params": {"extra_body": {"auth": {"accessToken": "x"}}}}, "params.extra_body.auth.accessToken"),
        ({"params": {"extra_body": {"db_password": 1234}}}, "params.extra_body.db_password"),
        ({"params": {"extra_body": {"client_secret": ["x"]}}}, "params.extra_body.client_secret"),
    ],
)
def test_problems(changes: dict[str, Any], key: str) -> None:
    spec = spec_of("https://host")
    assert OpenAINode.problems(spec) == []
    assert [found for found, _ in OpenAINode.problems(spec_of("https://host", **changes))] == [key]


def test_what_only_sounds_like_a_secret_is_taken() -> None:
    fields = {"max_tokens": 5, "stop_token": "</s>", "min_tokens": 1, "secret": "${NAME}", "token": None, "keyed": "x"}
    schema = {"guided_json": {"properties": {"password": {"type": "string"}}, "use_token": True}}
    assert OpenAINode.problems(spec_of("https://host", params={"extra_body": fields | schema})) == []


async def test_a_secret_of_the_body_that_is_not_set_is_found_when_the_node_loads() -> None:
    node = OpenAINode(spec_of("http://127.0.0.1:9", params={"extra_body": {"a": ["${ABSENT_KEY}"]}}), ENVIRONMENT)
    with pytest.raises(InvalidSpec, match="ABSENT_KEY"):
        await node.load()


@pytest.mark.parametrize(
    "headers",
    [
        {"a b": "x"},
        {"Host": "x"},
        {"x": "a\r\nb: c"},
        {"x": "ü"},
        {"Authorization": "Bearer literal"},
        {"X-Api-Key": "1"},
    ],
)
def test_bad_headers_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        OpenAIParams(headers=headers)
