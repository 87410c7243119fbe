"""Gathering a stream into a reply."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from graph.collect import Gathered, collect
from graph.errors import ContentRefused, StreamBroken
from graph.types import Delta, Usage, json_payload


async def stream(*deltas: Delta) -> AsyncIterator[Delta]:
    for delta in deltas:
        yield delta


async def test_texts_join_and_the_last_facts_count() -> None:
    reply = await collect(
        stream(
            Delta("Hel", model="m1", node="real"),
            Delta("lo", usage=Usage(1, 1)),
            Delta(usage=Usage(1, 2), finish_reason="length", model="m2"),
        ),
        node="planned",
    )
    assert (reply.text, reply.usage, reply.finish_reason) == ("Hello", Usage(1, 2), "length")
    assert (reply.node, reply.model) == ("real", "m2")


async def test_a_stream_that_names_nothing_is_the_nodes_own() -> None:
    reply = await collect(stream(Delta(finish_reason="stop")), node="n")
    assert (reply.text, reply.node, reply.model, reply.usage, reply.logprobs) == ("", "n", "n", None, None)


async def test_tool_calls_join_by_index_in_any_order() -> None:
    def fragment(index: int, **function: str) -> dict[str, object]:
        return {"index": index, "function": function} | ({"id": f"c{index}"} if "name" in function else {})

    reply = await collect(
        stream(
            Delta(tool_calls=(fragment(1, name="g", arguments=""),)),
            Delta(tool_calls=(fragment(0, name="f", arguments='{"a"'), fragment(1, arguments="{}"))),
            Delta(tool_calls=(fragment(0, arguments=": 1}"),)),
            Delta(finish_reason="tool_calls"),
        ),
        node="n",
    )
    assert [(c["id"], c["function"]) for c in reply.tool_calls] == [
        ("c0", {"name": "f", "arguments": '{"a": 1}'}),
        ("c1", {"name": "g", "arguments": "{}"}),
    ]


async def test_payload_refusal_and_logprobs() -> None:
    reply = await collect(
        stream(
            Delta(refusal="I ", logprobs={"content": [1]}),
            Delta(refusal="won't", logprobs={"content": [2]}),
            Delta(payload=json_payload({"a": 1}), finish_reason="content_filter"),
        ),
        node="n",
    )
    assert (reply.refusal, reply.logprobs, reply.payload.value) == ("I won't", {"content": [1, 2]}, {"a": 1})


def test_what_a_content_filter_ended_is_nothing_to_go_on_with() -> None:
    gathered = Gathered("n")
    for delta in (Delta("half"), Delta(finish_reason="content_filter", attempt=2)):
        gathered.add(delta)
    with pytest.raises(ContentRefused) as caught:
        gathered.unfiltered()
    assert (caught.value.node, caught.value.attempts) == ("n", 2)


async def test_a_cut_stream_is_never_a_success() -> None:
    with pytest.raises(StreamBroken) as caught:
        await collect(stream(Delta("half an ans")), node="n")
    assert caught.value.node == "n"
    with pytest.raises(StreamBroken):
        await collect(stream(), node="n")
