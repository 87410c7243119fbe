"""Values that cross every boundary."""

from __future__ import annotations

import json
import pickle

import pytest

from graph.errors import DeadlineExceeded, InvalidPlan, ModelyardError, NodeUnavailable, Overloaded, Problem
from graph.run import Outcome, output_value
from graph.types import Call, CallContext, Message, Modality, Payload, Reply, Usage, json_payload, text_payload

AUDIO = Payload(Modality.AUDIO, b"RIFF\0\xff", "audio/wav")


@pytest.mark.parametrize(
    "payload", [text_payload("ü"), json_payload({"a": [1, None]}), AUDIO, Payload(Modality.IMAGE, "https://x/y.png")]
)
def test_payloads_survive_json(payload: Payload) -> None:
    assert Payload.from_json(json.loads(json.dumps(payload.to_json()))) == payload


def test_a_payload_as_text_never_dumps_bytes() -> None:
    assert text_payload("a").text == "a"
    assert json_payload({"ü": 1}).text == '{"ü": 1}'
    assert AUDIO.text == "[audio]"


def test_a_message_parts_its_text_from_its_attachments() -> None:
    message = Message("user", (text_payload("a"), AUDIO, text_payload("b")))
    assert message.text == "a\nb"
    assert message.attachments == (AUDIO,)
    assert Message("assistant", None).text == ""
    assert Message("assistant", None).attachments == ()
    for one in (message, Message("assistant", None, {"tool_calls": [{"id": "1"}]}), Message("user", "plain")):
        assert Message.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_the_text_of_a_call_is_its_last_user_message() -> None:
    messages = (Message("user", "first"), Message("user", "second"), Message("assistant", "third"))
    assert Call(messages).text == "second"
    assert Call((Message("system", "only"),)).text == "only"
    assert Call().text == ""


def test_what_a_call_needs_of_a_node() -> None:
    assert Call().modalities == {Modality.TEXT}
    assert Call((Message("user", (AUDIO,)),)).modalities == {Modality.AUDIO}
    assert Call((Message("user", "a"),), {"audio": AUDIO, "n": json_payload(1)}).modalities == {"text", "audio"}
    assert Call((Message("user", (AUDIO,)),), {"image": Payload(Modality.IMAGE, b"")}).attachments == (
        AUDIO,
        Payload(Modality.IMAGE, b""),
    )


def test_a_call_survives_json_without_its_deadline() -> None:
    call = Call((Message("user", (AUDIO,)),), {"a": AUDIO}, {"top_p": 1}, "transcribe")
    call = call.with_context(request_id="r", deadline=5.0)
    assert call.context == CallContext("r", 5.0)
    again = Call.from_json(json.loads(json.dumps(call.to_json())))
    assert again == call.with_context(deadline=None)


def test_usage_adds_up() -> None:
    assert Usage(1, 2) + Usage(3, 4, estimated=True) == Usage(4, 6, estimated=True)
    assert Usage(1, 2).to_json() == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_replies_and_outcomes_survive_json_whole() -> None:
    calls = ({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},)
    reply = Reply(
        AUDIO, Usage(1, 2, estimated=True), "tool_calls", "n", "m", calls, "no", {"content": [{"token": "a"}]}
    )
    assert Reply.from_json(json.loads(json.dumps(reply.to_json()))) == reply
    bare = Reply(text_payload("a"), None, "stop", "n", "m")
    assert Reply.from_json(json.loads(json.dumps(bare.to_json()))) == bare
    for outcome in (
        Outcome("t", "n", "ok", reply, attempts=2, started_at=1.0, ended_at=2.0),
        Outcome("t", "n", "skipped"),
    ):
        assert Outcome.from_record(json.loads(json.dumps(outcome.to_record()))) == outcome


def test_a_reply_as_a_value_is_its_structure_or_its_text() -> None:
    assert output_value(Reply(json_payload({"a": 1}), None, "stop", "n", "m")) == {"a": 1}
    assert output_value(Reply(text_payload("a"), None, "stop", "n", "m")) == "a"
    assert output_value(Reply(AUDIO, None, "stop", "n", "m")) == "[audio]"


@pytest.mark.parametrize(
    "error",
    [
        ModelyardError("m", param="p", node="n"),
        NodeUnavailable("m", status=503, retry_after=2.0, node="n"),
        Overloaded("m", retry_after=3.0),
        DeadlineExceeded("total", 5.0, node="n"),
        InvalidPlan([Problem("plan", "tasks", "m")]),
    ],
)
def test_errors_cross_processes_with_their_fields(error: ModelyardError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made one line above
    assert type(again) is type(error)
    assert (str(again), again.__dict__) == (str(error), error.__dict__)
