"""From a task and its references to a call."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import recording, spec

from graph.binding import as_text, bind, plain
from graph.errors import InvalidRequest, PayloadTooLarge
from graph.expressions.effort import LARGEST
from graph.expressions.parser import Expression
from graph.plan import Ref, Task
from graph.scope import Scope
from graph.types import Call, Message, Modality, Payload, Reply, json_payload, text_payload

IMAGE = Payload(Modality.IMAGE, "https://x/y.png")
REQUEST = Call(
    (Message("user", (text_payload("what is asked"), recording(), IMAGE)),),
    {"form": json_payload({"city": "Bonn", "tags": ["a", "b"]})},
    {"temperature": 0.1, "tools": [1]},
)
MODEL = spec("m", accepts=["text", "audio", "image"])
TOOL = spec("tool", arguments={"city": {}, "days": {"type": "integer", "default": 3}, "what": {"type": "object"}})


def reply(payload: Payload) -> Reply:
    return Reply(payload, None, "stop", "n", "m")


REPLIES = {
    "text": reply(text_payload("plain words")),
    "json": reply(json_payload({"city": "Köln", "list": [1, {"deep": 2}]})),
    "jsontext": reply(text_payload('{"city": "Ulm"}')),
}


def call_of(node: Any = MODEL, **arguments: Any) -> Call:
    return bind(Task("t", node.name, arguments), node, Scope(REPLIES, REQUEST))


def test_a_prompt_stands_behind_its_context() -> None:
    call = call_of(prompt="do it", context=[Ref("text"), "more", "  "])
    assert call.messages == (Message("user", "plain words\n\nmore\n\ndo it"),)
    assert call.operation == "chat"


def test_a_node_that_reads_text_gets_the_conversation_before_the_request() -> None:
    asked = Message("user", (text_payload("Whose voice is this?"), recording()))
    used = Message("assistant", None, {"tool_calls": [{"id": "1"}]})
    system = Message("system", "Answer in German.")
    turns = (system, asked, Message("assistant", "Ann's."), used, Message("tool", "9", {"tool_call_id": "1"}))
    request = Call((*turns, Message("user", "And what does she want?"), Message("assistant", "She")))
    call = bind(Task("t", "m", {"prompt": "do it"}), MODEL, Scope({}, request))
    heard = Message("user", "Whose voice is this?\n[audio]")
    assert call.messages == (system, heard, *turns[2:], Message("user", "do it"))
    assert (call.attachments, call.text) == ((), "do it")
    hears = spec("hears", accepts=["audio"])
    assert len(bind(Task("t", "hears", {"audio": Ref("request", ("audio",))}), hears, Scope({}, request)).messages) == 1
    assert bind(Task("t", "tool", {"city": "Ulm"}), TOOL, Scope({}, request)).messages == ()
    assert len(bind(Task("t", "m", {"prompt": "x"}), MODEL, Scope({}, Call())).messages) == 1


def test_sampling_is_inherited_and_the_rest_is_not() -> None:
    assert call_of(prompt="x").params == {"temperature": 0.1}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Ref("request", ("text",)), "what is asked"),
        (Ref("request"), "what is asked"),
        (Ref("text"), "plain words"),
        (Ref("text", ("text",)), "plain words"),
        (Ref("json"), '{"city": "Köln", "list": [1, {"deep": 2}]}'),
        (Ref("json", ("city",)), "Köln"),
        (Ref("json", ("list", "1", "deep")), "2"),
        (Ref("json", ("list", "-2")), "1"),
        (Ref("jsontext", ("city",)), "Ulm"),
        (Ref("request", ("inputs", "form", "tags", "1")), "b"),
    ],
    ids=str,
)
def test_references_become_values(value: Ref, text: str) -> None:
    assert call_of(prompt=value).text == text


def test_attachments_are_parts() -> None:
    call = call_of(prompt="look", audio=Ref("request", ("audio", "0")), image=Ref("request", ("image",)))
    assert call.messages[0].content == (text_payload("look"), recording(), IMAGE)
    assert call_of(audio=Ref("request", ("audio",))).messages[0].content == (recording(),)


def test_a_tool_gets_plain_values_and_its_defaults() -> None:
    call = call_of(TOOL, city=Ref("json", ("city",)), what={"in": [Ref("text")], "n": 1})
    assert call.operation == "tool"
    values = {name: payload.value for name, payload in call.inputs.items()}
    assert values == {"city": "Köln", "days": 3, "what": {"in": ["plain words"], "n": 1}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Ref("json", ("street",)), "no field 'street'; there is city, list"),
        (Ref("json", ("list", "7")), "no field '7'; there is list"),
        (Ref("text", ("city",)), "text and has no fields"),
        (Ref("request", ("audio", "1")), "1 audio attachment"),
        (Ref("request", ("inputs", "nothing")), "the request has"),
        (Ref("request", ("weather",)), "the request has"),
    ],
    ids=str,
)
def test_a_reference_to_nothing_is_named(value: Ref, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        call_of(prompt=value)


@pytest.mark.parametrize("value", ["a string", Ref("text"), Ref("request", ("image",))], ids=str)
def test_what_is_no_recording_is_not_sent_as_one(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="needs audio") as caught:
        call_of(audio=value)
    assert caught.value.param == "audio"


def test_values_as_text_and_as_json() -> None:
    assert (as_text({"a": text_payload("x")}), as_text(recording()), as_text(5)) == ('{"a": "x"}', "[audio]", "5")
    assert plain([recording()])[0]["base64"] is True


def test_references_cannot_make_a_call_without_end() -> None:
    long = {"long": reply(text_payload("x" * (LARGEST // 100)))}
    many = {"prompt": "read", "context": [Ref("long")] * 101}
    with pytest.raises(PayloadTooLarge, match=f"more than {LARGEST} characters"):
        bind(Task("t", "m", many), MODEL, Scope(long, REQUEST))
    written = {"what": {"parts": [Expression.parse("long + ''")] * 101}}
    with pytest.raises(PayloadTooLarge):
        bind(Task("t", "tool", written), TOOL, Scope(long, REQUEST))
    assert (
        len(bind(Task("t", "m", many | {"context": [Ref("long")] * 9}), MODEL, Scope(long, REQUEST)).text)
        > LARGEST / 12
    )


@pytest.mark.parametrize("path", [("list", "²"), ("list", "--1"), ("list", "9" * 5000)])
def test_what_is_no_index_is_a_field_that_is_not_there(path: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="no field"):
        call_of(prompt=Ref("json", path))
    with pytest.raises(InvalidRequest, match="no fields"):
        bind(
            Task("t", "m", {"prompt": Ref("deep", ("a",))}),
            MODEL,
            Scope({"deep": reply(text_payload("[" * 10**5))}, REQUEST),
        )
