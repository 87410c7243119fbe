"""The caller's own functions, by `tools` on chat completions to `plan` and `auto`, over whole conversations."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeNode, spec
from gateway_service import Service, Start

GENERAL = spec("general", description="Anything else.", default=True)
Run = Callable[..., Any]


def function(name: str, description: str, *required: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TEXT = {"type": "string"}
WEATHER = function("get_weather", "Get the weather of a city.", "city", city=TEXT | {"description": "City"})
TIME = function("get_time", "Get the local time of a city.", "city", city=TEXT)
FIND = function("find_order", "Find the order of a customer by name.", "customer_name", customer_name=TEXT)
CANCEL = function("cancel_order", "Cancel an order.", "order_id", order_id=TEXT)
MAIL = function("send_email", "Send an email.", "recipient", "subject",
                recipient=TEXT | {"description": "Email address"}, subject=TEXT)  # fmt: skip
ALL = [WEATHER, TIME, FIND, CANCEL, MAIL]


class Conversation:
    """Asks, makes the calls that come back by these functions, and asks again."""

    def __init__(self, service: Service, text: str, model: str = "plan", **fields: Any) -> None:
        self.service = service
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": text}]
        self.fields = {"model": model, "tools": ALL} | fields

    async def turn(self, run: Run | None = None) -> tuple[list[tuple[str, Any]], str | None]:
        body = self.fields | {"messages": self.messages}
        answer = await self.service.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        (choice,) = answer.json()["choices"]
        message = choice["message"]
        calls = message.get("tool_calls") or []
        assert choice["finish_reason"] == ("tool_calls" if calls else "stop")
        self.messages.append({"role": "assistant", "content": message["content"], "tool_calls": calls or None})
        made = []
        for call in calls:
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
            made.append((name, arguments))
            assert (call["id"].startswith("call_"), call["type"]) == (True, "function")
            if run is not None:
                result = json.dumps(run(name, arguments))
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        return made, message["content"]


@pytest.fixture
async def service(start: Start) -> Service:
    return await start(GENERAL)


@pytest.mark.parametrize("model", ["plan", "auto"])
async def test_a_function_is_chosen_and_filled(service: Service, model: str) -> None:
    asking = Conversation(service, "What is the weather in Paris?", model)
    assert await asking.turn() == ([("get_weather", {"city": "Paris"})], None)
    assert FakeNode.calls == []


async def test_a_request_that_is_too_long_to_choose_by_is_refused(service: Service) -> None:
    body = {"model": "plan", "tools": ALL, "messages": [{"role": "user", "content": "a-" * 10_001}]}
    answer = await service.http.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "messages") and "20000" in error["message"]
    free = await service.http.post("/v1/chat/completions", json=body | {"tool_choice": "none"})
    assert free.status_code == 200


async def test_parallel_calls(service: Service) -> None:
    asking = Conversation(service, "Get the weather in Paris and get the local time in Tokyo")
    calls, _ = await asking.turn()
    assert calls == [("get_weather", {"city": "Paris"}), ("get_time", {"city": "Tokyo"})]
    single = Conversation(
        service, "Get the weather in Paris and get the local time in Tokyo", parallel_tool_calls=False
    )
    results = {"get_weather": "sun", "get_time": "9:00"}
    assert (await single.turn(lambda name, _: results[name]))[0] == calls[:1]
    assert (await single.turn(lambda name, _: results[name]))[0] == calls[1:]
    assert await single.turn() == ([], "get_weather: sun\nget_time: 9:00")


async def test_a_chain_takes_what_the_call_before_gave(service: Service) -> None:
    asking = Conversation(service, 'Find the order of the customer "Ada Lovelace" and cancel the order')
    made: list[str] = []

    def run(name: str, arguments: Any) -> Any:
        made.append(name)
        return {"order_id": "o-17", "total": 5} if name == "find_order" else {"status": "cancelled"}

    assert (await asking.turn(run))[0] == [("find_order", {"customer_name": "Ada Lovelace"})]
    assert (await asking.turn(run))[0] == [("cancel_order", {"order_id": "o-17"})]
    calls, text = await asking.turn(run)
    assert (calls, made) == ([], ["find_order", "cancel_order"])
    assert text is not None and "status: cancelled" in text


async def test_what_is_missing_is_asked(service: Service) -> None:
    calls, text = await Conversation(service, "Please send an email").turn()
    assert calls == []
    assert text is not None and "'recipient' (Email address)" in text


async def test_results_are_the_answer(service: Service) -> None:
    asking = Conversation(service, "What is the weather in Paris?")
    await asking.turn(lambda *_: {"temperature": 21, "sky": "clear"})
    assert await asking.turn() == ([], "temperature: 21, sky: clear")


@pytest.mark.parametrize("model", ["plan", "auto"])
async def test_no_function_fits(service: Service, model: str) -> None:
    calls, text = await Conversation(service, "Write a poem on autumn leaves", model).turn()
    assert calls == []
    assert text == "general: Write a poem on autumn leaves"
    assert "tools" not in FakeNode.calls[0][1].params


async def test_a_node_that_takes_functions_is_left_to_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeNode, "honours", FakeNode.honours | {"tools"})
    calls, text = await Conversation(service, "What is the weather in Paris?", "auto").turn()
    assert (calls, text) == ([], "general: What is the weather in Paris?")
    assert FakeNode.calls[0][1].params["tools"] == ALL


async def test_no_function_and_no_node(start: Start) -> None:
    service = await start(spec("law", description="Contracts.", examples=["Is this lease enforceable?"]))
    calls, text = await Conversation(service, "Bake bread", "auto").turn()
    assert (calls, text) == ([], "None of the functions fits this request, and neither does anything else here.")


async def test_choices(service: Service) -> None:
    none = await Conversation(service, "What is the weather in Paris?", tool_choice="none").turn()
    assert none == ([], "general: What is the weather in Paris?")
    named = {"type": "function", "function": {"name": "get_time"}}
    assert (await Conversation(service, "And in Paris?", tool_choice=named).turn())[0] == [
        ("get_time", {"city": "Paris"})
    ]
    body = {"model": "plan", "messages": [{"role": "user", "content": "x"}], "tools": ALL, "tool_choice": "often"}
    refused = await service.http.post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tool_choice")
    wrong = await service.http.post("/v1/chat/completions", json=body | {"tools": [{"type": "function"}]})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "tools")


async def test_the_next_request_begins_anew(service: Service) -> None:
    asking = Conversation(service, "What is the weather in Paris?")
    await asking.turn(lambda *_: "sun")
    await asking.turn()
    asking.messages.append({"role": "user", "content": "What is the weather in Oslo?"})
    assert (await asking.turn())[0] == [("get_weather", {"city": "Oslo"})]
    asking.messages[-1:] = [{"role": "user", "content": "Write a poem on autumn leaves"}]
    assert (await asking.turn())[1] == "general: Write a poem on autumn leaves"
    assert [message.role for message in FakeNode.calls[-1][1].messages if message.role == "tool"] == []


async def test_a_stream_of_calls(service: Service) -> None:
    body = {
        "model": "plan",
        "messages": [{"role": "user", "content": "Weather in Paris?"}],
        "tools": ALL,
        "stream": True,
    }
    answer = await service.http.post("/v1/chat/completions", json=body)
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    (call,) = chunks[0]["choices"][0]["delta"]["tool_calls"]
    assert (call["index"], call["function"]["name"]) == (0, "get_weather")
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_schema_that_is_none_is_no_fault_of_the_service(service: Service) -> None:
    odd = {"minutes": {"type": "integer", "enum": 5, "default": {}}}
    named = {"name": "boil", "description": "Boil an egg.", "input-type": 5}
    tools = [{"type": "function", "function": named | {"parameters": {"type": "object", "properties": odd}}}]
    body = {"model": "plan", "messages": [{"role": "user", "content": "Boil an egg."}], "tools": tools}
    answer = await service.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
