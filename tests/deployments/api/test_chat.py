"""`POST /v1/chat/completions` on a gateway whose nodes are fakes."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from fakes import FakeNode, spec
from fakes import chat as a_call
from gateway_service import Start
from opentelemetry.trace import INVALID_SPAN
from sse_client import LeavingClient, events_of
from waiting import until

from graph.collect import collect
from graph.errors import DeadlineExceeded

LAW = spec(
    "law",
    description="Contracts, leases, statutes and case law.",
    examples=["Is this indemnity clause enforceable?", "May the tenant end the lease early?"],
)
CODE = spec(
    "code",
    description="Programs in Python, bugs and tests.",
    examples=["Write a Python function that sorts a list", "Why does this Python code raise a TypeError?"],
)
GENERAL = spec("general", description="Anything else.", default=True)
QUESTION = "Is the indemnity clause of this lease enforceable?"
AUDIO = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}}


def spoken(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": text}, AUDIO]}]


async def test_a_whole_answer(start: Start) -> None:
    service = await start(LAW)
    answer = await service.chat("law", "hello there")
    assert answer.status_code == 200
    body = answer.json()
    assert body["id"].startswith("chatcmpl-") and body["object"] == "chat.completion"
    assert (body["model"], body["created"] > 0) == ("law", True)
    message = {"role": "assistant", "content": "law: hello there", "refusal": None}
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_headers_of_a_routed_answer(start: Start) -> None:
    service = await start(LAW, CODE)
    answer = await service.chat("auto", QUESTION)
    headers = answer.headers
    assert headers["x-modelyard-node"] == "law"
    assert 0 < float(headers["x-modelyard-probability"]) <= 1
    assert len(headers["x-request-id"]) == 32 and len(headers["x-trace-id"]) == 32
    assert [part.split(";")[0] for part in headers["server-timing"].split(", ")] == ["auth", "route", "total"]


async def test_a_request_id_is_kept_and_a_wrong_one_replaced(start: Start) -> None:
    service = await start(LAW)
    body = {"model": "law", "messages": [{"role": "user", "content": "x"}]}
    for sent, kept in (("mine-1", True), ("has space", False), ("x" * 200, False)):
        answer = await service.http.post("/v1/chat/completions", json=body, headers={"x-request-id": sent})
        assert (answer.headers["x-request-id"] == sent) is kept
    assert FakeNode.calls[0][1].context.request_id == "mine-1"


async def test_a_stream(start: Start) -> None:
    service = await start(LAW)
    answer = await service.chat("law", "hello there", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-modelyard-node"] == "law"
    assert "content-length" not in answer.headers
    *chunks, done = [event["data"] for event in events_of(answer.text)]
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1 and {chunk["model"] for chunk in chunks} == {"law"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert not any("role" in chunk["choices"][0]["delta"] for chunk in chunks[1:])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "law: hello there"
    assert not any("usage" in chunk for chunk in chunks)


async def test_a_stream_with_usage(start: Start) -> None:
    service = await start(LAW)
    answer = await service.chat("law", stream=True, stream_options={"include_usage": True})
    *chunks, last, done = [event["data"] for event in events_of(answer.text)]
    assert done == "[DONE]"
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize("model", ["die", "die_raising", "cut", "stall"])
async def test_after_the_first_byte_an_error_is_an_event_and_nothing_is_done(start: Start, model: str) -> None:
    service = await start(spec("sick", model=model, limits={"idle_s": 0.05}))
    answer = await service.chat("sick", stream=True)
    events = [event["data"] for event in events_of(answer.text)]
    assert answer.status_code == 200
    assert events[0]["choices"][0]["delta"]["content"] == "half "
    assert set(events[-1]) == {"error"} and set(events[-1]["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in answer.text
    assert FakeNode.closed == ["sick"]


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("raise", 503, "node_unavailable"),
        ("fail", 503, "node_unavailable"),
        ("die", 502, "stream_broken"),
        ("cut", 502, "stream_broken"),
        ("hang", 504, "deadline_exceeded"),
        ("stall", 504, "deadline_exceeded"),
        ("unloadable", 404, "model_not_found"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_byte_has_its_own_status(
    start: Start, model: str, status: int, code: str, stream: bool
) -> None:
    if stream and model in ("die", "cut", "stall"):
        return  # these have begun to answer
    service = await start(spec("sick", model=model, limits={"first_token_s": 0.05, "idle_s": 0.05, "attempts": 1}))
    answer = await service.chat("sick", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_fallback_is_named_in_header_and_body(start: Start) -> None:
    limits = {"attempts": 1}
    service = await start(spec("sick", model="raise", edges={"fallback": ["law"]}, limits=limits), LAW)
    for stream in (False, True):
        answer = await service.chat("sick", "hi", stream=stream)
        assert answer.headers["x-modelyard-node"] == "law"
        assert (
            "law: hi"
            in "".join(c["data"]["choices"][0]["delta"].get("content", "") for c in events_of(answer.text)[:-1])
            if stream
            else answer.json()["choices"][0]["message"]["content"] == "law: hi"
        )


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({}, "messages", "required"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages", "no message holds any text"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "is required"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role", "user"),
        ({"messages": "hello"}, "messages", "list"),
        ({"n": 2}, "n", "n must be 1"),
        ({"temperature": 3}, "temperature", "less than or equal"),
        ({"temperature": "warm"}, "temperature", "number"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "does not support tools"),
        ({"best_of": 3}, "best_of", "does not support best_of"),
        ({"response_format": {"type": "json_object"}}, "response_format", "does not support"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content", ""),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
         "messages.0.content.0.image_url.url", "must be"),
        ({"messages": [{"role": "user", "content": [AUDIO | {"input_audio": {"data": "§"}}]}]},
         "messages.0.content.0.input_audio.data", "base64"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(start: Start, body: dict[str, Any], param: str, words: str) -> None:
    service = await start(LAW)
    whole = {"model": "law", "messages": [{"role": "user", "content": "x"}]} | body
    if not body:
        del whole["messages"]
    answer = await service.http.post("/v1/chat/completions", json=whole)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"].startswith(param)
    assert words in error["message"]
    assert FakeNode.calls == []


async def test_a_field_that_no_node_takes_is_named_where_the_node_is_to_be_found(start: Start) -> None:
    service = await start(LAW, spec("tax"))
    answer = await service.chat("auto", temprature=0.5, best_of=3)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "no_node_fits", "best_of")
    assert error["message"] == "no node takes the field 'best_of', 'temprature' (did you mean 'temperature'?)"
    assert FakeNode.calls == []


async def test_what_asks_for_nothing_is_taken(start: Start) -> None:
    service = await start(LAW)
    neutral = {"n": 1, "tools": [], "user": "u", "metadata": {"a": "b"}, "stop": None, "logprobs": False,
               "store": False, "response_format": {"type": "text"}, "tool_choice": "auto",
               "temperature": 0.5}  # fmt: skip
    assert (await service.chat("law", **neutral)).status_code == 200
    assert FakeNode.calls[0][1].params == {"temperature": 0.5}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"model": "law"', b"\xff\xfe", b'{"model": "l\xffw", "messages": []}', b"[]", b"null", b"1" * 99,
     b"[" * 5000, b'{"model": "\\ud800"}'],
)  # fmt: skip
async def test_a_body_that_is_no_request(start: Start, body: bytes) -> None:
    service = await start(LAW)
    answer = await service.http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_body_over_the_limit_is_refused_unread_or_where_it_passes_it(start: Start) -> None:
    service = await start(LAW, max_body_bytes=2000)

    async def pieces() -> Any:
        for _ in range(100):
            yield b" " * 500

    for path in ("/v1/chat/completions", "/v1/route", "/v1/runs", "/v1/embeddings", "/v1/feedback"):
        declared = await service.http.post(path, content=b" " * 3000, headers={"content-type": "application/json"})
        assert (declared.status_code, declared.json()["error"]["code"]) == (413, "payload_too_large")
        chunked = await service.http.post(path, content=pieces(), headers={"content-type": "application/json"})
        assert (chunked.status_code, chunked.json()["error"]["code"]) == (413, "payload_too_large")
    audio = await service.http.post("/v1/audio/transcriptions", files={"file": b"x" * 3000})
    assert audio.status_code == 413


async def test_an_unknown_model(start: Start) -> None:
    service = await start(LAW)
    answer = await service.chat("nobody")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (404, "model", "model_not_found")
    assert "there is law" in error["message"]


async def test_audio_for_a_node_that_takes_text(start: Start) -> None:
    service = await start(LAW)
    answer = await service.http.post("/v1/chat/completions", json={"model": "law", "messages": spoken("and this?")})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
    assert "law" in answer.json()["error"]["message"] and "audio" in answer.json()["error"]["message"]


async def test_out_of_scope_without_a_default_says_so(start: Start) -> None:
    service = await start(LAW, CODE, min_probability=1.0)
    answer = await service.chat("auto", "How high is Mount Everest?")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_node_fits")
    assert "no node is the default" in answer.json()["error"]["message"]


async def test_out_of_scope_goes_to_the_default(start: Start) -> None:
    service = await start(LAW, CODE, GENERAL, min_probability=1.0)
    assert (await service.chat("auto", "How high is Mount Everest?")).headers["x-modelyard-node"] == "general"


async def test_no_nodes_at_all(start: Start) -> None:
    service = await start()
    answer = await service.chat("auto")
    assert (answer.status_code, "No nodes are registered" in answer.json()["error"]["message"]) == (422, True)


async def test_a_recording_passes_speech_on_its_way_to_a_text_expert(start: Start) -> None:
    ears = spec("ears", kind="speech", accepts=["audio"], description="Transcribes recordings.",
                edges={"feeds": ["law"]})  # fmt: skip
    service = await start(LAW, ears)
    messages = spoken("May the tenant end the lease early?")
    answer = await service.http.post("/v1/chat/completions", json={"messages": messages})
    assert answer.status_code == 200, answer.text
    assert "x-modelyard-run" in answer.headers
    assert [name for name, _ in FakeNode.calls] == ["ears", "law"]
    assert "the tenant may end the lease" in FakeNode.calls[1][1].text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["hang", "stall"])
async def test_a_client_that_leaves_stops_the_node(start: Start, stream: bool, model: str) -> None:
    service = await start(spec("slow", model=model))
    body = {"model": "slow", "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    client = LeavingClient(service.app, "/v1/chat/completions", body)
    await until(lambda: bool(FakeNode.calls) and (b"half" in client.received or not stream or model == "hang"))
    assert FakeNode.closed == []
    await client.leave()
    assert FakeNode.closed == ["slow"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_the_run_of_its_plan(start: Start, stream: bool) -> None:
    ears = spec("ears", kind="speech", accepts=["audio"], description="Transcribes.", edges={"feeds": ["law"]})
    service = await start(LAW.model_copy(update={"model": "stall"}), ears)
    body = {"stream": stream, "messages": spoken("May the tenant end the lease early?")}
    client = LeavingClient(service.app, "/v1/chat/completions", body)
    await until(lambda: len(FakeNode.calls) == 2)
    await client.leave()
    assert FakeNode.closed == ["ears", "law"]
    await until(lambda: not service.gateway.runs._works)
    run = await anext(service.gateway.runs.newest(1))
    assert (run.status, (run.error or {})["message"]) == ("failed", "cancelled by the caller")


async def test_plans_refuse_what_they_would_drop(start: Start) -> None:
    service = await start(LAW)
    answer = await service.chat("plan", stop=["x"])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_plan_answers_like_a_node(start: Start, stream: bool) -> None:
    service = await start(LAW, CODE, GENERAL)
    answer = await service.chat("plan", QUESTION + " Then write a Python function that sorts a list.", stream=stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-modelyard-run"].startswith("run_") and answer.headers["x-modelyard-node"] == "plan"
    if stream:
        *chunks, done = [event["data"] for event in events_of(answer.text)]
        assert done == "[DONE]" and {chunk["model"] for chunk in chunks} == {"plan"}
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    else:
        text = answer.json()["choices"][0]["message"]["content"]
    assert (await service.gateway.runs.get(answer.headers["x-modelyard-run"])).output == text


async def test_a_key_is_asked_for(start: Start) -> None:
    service = await start(LAW, api_key="s3cret")
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}):
        answer = await service.http.get("/v1/models", headers=header)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await service.http.get("/v1/models", headers={"authorization": "bearer s3cret"})).status_code == 200
    assert (await service.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("model", ["law", "plan"])
async def test_a_deadline_already_past(start: Start, model: str) -> None:
    service = await start(spec("law", default=True))
    call = a_call("Is this enforceable?").with_context(deadline=time.time() - 1)
    answer = await service.gateway.orchestrator.answer(call, model, INVALID_SPAN)
    with pytest.raises(DeadlineExceeded):
        await collect(answer.deltas, node=model)
    assert FakeNode.calls == []
