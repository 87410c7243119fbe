"""The official client, unchanged, against the whole service."""

from __future__ import annotations

import json

import openai
import pytest

LAW = [{"role": "user", "content": "My landlord kept my deposit and will not say why. What can I do?"}]
CHESS = [{"role": "user", "content": "Which opening answers the king's pawn?"}]
SHORT = {"max_completion_tokens": 8, "temperature": 0}


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (LAW[0]["content"], "legal"),
        ("Write a Python function that reverses a linked list.", "code"),
        ("What is the usual dose of amoxicillin for an adult?", "medical"),
        ("Which opening should White play against the Sicilian?", "chess"),
        ("zxqv blorp 12345 wug", "general"),
    ],
)
def test_a_request_goes_to_its_expert(service, text, node):
    raw = service.openai.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": text}], **SHORT
    )
    assert raw.headers["x-modelyard-node"] == node
    assert 0 <= float(raw.headers["x-modelyard-probability"]) <= 1
    answer = raw.parse()
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0


def test_every_answer_says_how_it_came_about(service):
    raw = service.openai.chat.completions.with_raw_response.create(model="auto", messages=CHESS)
    assert raw.headers["x-request-id"]
    assert len(raw.headers["x-trace-id"]) == 32
    assert "route;dur=" in raw.headers["server-timing"] and "total;dur=" in raw.headers["server-timing"]
    assert raw.headers.get_list("x-request-id") == [raw.headers["x-request-id"]]


def test_a_request_id_is_kept(service):
    raw = service.openai.chat.completions.with_raw_response.create(
        model="chess", messages=CHESS, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("model", ["auto", "chess", "legal", "plan"])
def test_a_stream_brings_the_answer_in_pieces(service, model):
    chunks = list(
        service.openai.chat.completions.create(
            model=model,
            messages=LAW if model == "legal" else CHESS,
            stream=True,
            stream_options={"include_usage": True},
            **SHORT,
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]).strip()
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] in ("stop", "length")
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-2])
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_has_none(service):
    chunks = list(service.openai.chat.completions.create(model="chess", messages=CHESS, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_the_openai_node_answers_with_the_upstreams_words(service):
    answer = service.openai.chat.completions.create(model="chess", messages=CHESS)
    assert answer.choices[0].message.content.split() == ["echo:", *CHESS[0]["content"].split()]
    assert answer.model == "scripted-1"
    assert answer.usage.total_tokens == 12


def test_a_json_schema_shapes_the_answer(service):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "bright": {"type": "boolean"}},
        "required": ["colour", "bright"],
        "additionalProperties": False,
    }
    answer = service.openai.chat.completions.create(
        model="code",
        messages=[{"role": "user", "content": "Describe a tomato as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}},
        max_completion_tokens=40,
        temperature=0,
    )
    found = json.loads(answer.choices[0].message.content)
    assert found["colour"] in ("red", "green") and isinstance(found["bright"], bool)


def test_a_tool_is_called(service):
    function = {
        "name": "run_tests",
        "description": "Run the tests of a project.",
        "parameters": {"type": "object", "properties": {"quick": {"type": "boolean"}}, "required": ["quick"]},
    }
    answer = service.openai.chat.completions.create(
        model="code",
        messages=[{"role": "user", "content": "Run the tests quickly."}],
        tools=[{"type": "function", "function": function}],
        tool_choice="required",
        max_completion_tokens=80,
        temperature=0,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls
    assert call.id and call.function.name == "run_tests"
    assert isinstance(json.loads(call.function.arguments)["quick"], bool)


@pytest.mark.parametrize(
    ("change", "error", "param", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model", "model_not_found"),
        ({"n": 2}, openai.BadRequestError, "n", "unsupported_parameter"),
        ({"messages": []}, openai.BadRequestError, "messages", "invalid_request"),
        ({"messages": [{"role": "user", "content": " "}]}, openai.BadRequestError, "messages", "invalid_request"),
        ({"temperature": 9}, openai.BadRequestError, "temperature", "invalid_request"),
        ({"model": "speech"}, openai.BadRequestError, "messages", "invalid_request"),
        ({"model": "embed"}, openai.BadRequestError, "model", "unsupported_parameter"),
    ],
)
def test_what_is_wrong_is_said(service, change, error, param, code):
    with pytest.raises(error) as caught:
        service.openai.chat.completions.create(**({"model": "auto", "messages": CHESS} | change))
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert caught.value.body["message"]
    assert (caught.value.param, caught.value.code) == (param, code)


def test_models_are_listed(service):
    names = {model.id for model in service.openai.models.list()}
    assert names >= {"auto", "plan", "legal", "code", "medical", "general", "speech", "embed", "chess", "weather"}
    assert service.openai.models.retrieve("legal").owned_by == "modelyard"
    with pytest.raises(openai.NotFoundError):
        service.openai.models.retrieve("nobody")


@pytest.mark.parametrize("model", ["embed", "auto"])
def test_embeddings(service, model):
    texts = ["a cat", "a kitten", "a combustion engine"]
    as_base64 = service.openai.embeddings.create(model=model, input=texts)  # what the client asks for by itself
    as_floats = service.openai.embeddings.create(model=model, input=texts, encoding_format="float")
    cat, kitten, engine = (item.embedding for item in as_base64.data)
    assert len(cat) == 384
    assert as_floats.data[1].embedding == pytest.approx(kitten, abs=1e-6)
    assert _product(cat, kitten) > _product(cat, engine)
    assert as_base64.usage.prompt_tokens > 0


def _product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_embeddings_refuse_an_empty_text(service):
    with pytest.raises(openai.BadRequestError) as caught:
        service.openai.embeddings.create(model="embed", input=["a", ""])
    assert caught.value.param == "input.1"
