"""Parsing chat requests: whatever comes in, only `InvalidRequest` comes out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.api.chat_request import ChatRequest
from deployments.api.chat_wire import ChunkWriter, completion
from graph.errors import InvalidRequest
from graph.types import Call, Delta, Message, Reply, Usage, text_payload

HELLO = Call((Message("user", "Hello"),))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio"]) | JSON},
    optional={
        "text": st.text(max_size=5) | JSON,
        "image_url": st.fixed_dictionaries(
            {"url": st.sampled_from(["data:image/png;base64,AA==", "https://x"]) | JSON}
        ),
        "input_audio": st.fixed_dictionaries({"data": st.sampled_from(["UklGRg==", "§"]) | JSON}),
    },
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool"]) | JSON},
    optional={"content": st.text(max_size=9) | st.lists(PARTS, max_size=3) | JSON, "tool_calls": JSON, "name": JSON},
)
REQUESTS = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES, max_size=4) | JSON},
    optional={name: JSON for name in ChatRequest.model_fields if name != "messages"},
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REQUESTS | JSON)
def test_parsing_raises_nothing_but_invalid_request(data: Any) -> None:
    try:
        call = ChatRequest.parse(data, max_messages=3).to_call()
    except InvalidRequest as error:
        assert error.message
    else:
        assert 1 <= len(call.messages) <= 3
        assert not {"model", "messages", "stream", "user", "metadata"} & set(call.params)


def nested(levels: int) -> dict[str, Any]:
    return orjson.loads('{"a":' * (levels - 1) + "{}" + "}" * (levels - 1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": nested(101)}, "response_format"),
        ({"tools": [nested(100)]}, "tools"),
        ({"tools": [{}], "tool_choice": nested(800)}, "tool_choice"),
        ({"guided_json": {"anyOf": [nested(99)]}}, "guided_json"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [nested(100)]}]}, "messages.0.tool_calls"),
    ],
)
def test_what_is_nested_too_deep_to_be_sent_to_a_node(fields: dict[str, Any], param: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]} | fields
    with pytest.raises(InvalidRequest, match="more than 100") as caught:
        ChatRequest.parse(body, max_messages=10).to_call()
    assert caught.value.param == param
    body = {"messages": [{"role": "user", "content": "hi"}], "response_format": nested(100), "tools": [nested(99)]}
    assert ChatRequest.parse(body, max_messages=10).to_call().params["response_format"] == nested(100)


def test_too_many_messages() -> None:
    data = {"messages": [{"role": "user", "content": "x"}] * 4}
    with pytest.raises(InvalidRequest, match="at most 3") as caught:
        ChatRequest.parse(data, max_messages=3)
    assert caught.value.param == "messages"


def test_a_turn_of_tool_calls_needs_no_content() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
    ]
    call = ChatRequest.parse({"messages": messages}, max_messages=9).to_call()
    assert (call.messages[1].extra, call.messages[2].extra) == ({"tool_calls": calls}, {"tool_call_id": "1"})


def chunks(writer: ChunkWriter, delta: Delta) -> list[dict[str, Any]]:
    raw = writer.write(delta).decode()
    return [orjson.loads(line.removeprefix("data: ")) for line in raw.split("\n\n") if line]


def test_the_finish_stands_alone() -> None:
    first, last = chunks(ChunkWriter(HELLO, include_usage=False), Delta(text="all", finish_reason="stop", node="n"))
    assert first["choices"][0] == {
        "index": 0, "delta": {"role": "assistant", "content": "all", "refusal": None}, "finish_reason": None,
        "logprobs": None,
    }  # fmt: skip
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"], last["model"]) == ({}, "stop", "n")


def test_a_delta_that_says_nothing_is_no_chunk_once_the_role_is_out() -> None:
    writer = ChunkWriter(HELLO, include_usage=False)
    assert len(chunks(writer, Delta())) == 1
    assert chunks(writer, Delta()) == []
    fragment = {"index": 0, "function": {"arguments": "{"}}
    assert chunks(writer, Delta(tool_calls=(fragment,)))[0]["choices"][0]["delta"] == {"tool_calls": [fragment]}
    assert chunks(writer, Delta(refusal="no"))[0]["choices"][0]["delta"] == {"refusal": "no"}


def test_tokens_that_no_node_counted_are_told_as_an_estimate() -> None:
    writer = ChunkWriter(HELLO, include_usage=True)
    writer.write(Delta(text="x" * 9))
    told = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "estimated": True}
    assert orjson.loads(writer.usage(None).removeprefix(b"data: "))["usage"] == told
    assert completion(Reply(text_payload("x" * 9), None, "stop", "n", "m"), HELLO)["usage"] == told
    assert "estimated" not in completion(Reply(text_payload("x"), Usage(2, 3), "stop", "n", "m"), HELLO)["usage"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", [1] * 11),
        ("messages", [{"role": "user", "content": [1] * 10_001}]),
        ("messages", [{"role": "user", "content": "x", "tool_calls": [1] * 10_001}]),
        ("stop", [1] * 100_000),
    ],
)
def test_a_list_that_is_too_long_is_one_fault(field: str, value: Any) -> None:
    data = {"messages": [{"role": "user", "content": "x"}]} | {field: value}
    with pytest.raises(InvalidRequest) as caught:
        ChatRequest.parse(data, max_messages=10)
    assert len(caught.value.message) < 1000
