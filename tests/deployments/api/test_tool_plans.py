"""Requests that tools answer, over the whole gateway: each value of a list is a call of its own."""

from __future__ import annotations

from fakes import FakeNode, spec
from gateway_service import Service, Start

CITY = {"city": {"type": "string", "description": "City"}}
WEATHER = spec("weather", description="Get the weather forecast of a city.", produces=["json"], arguments=CITY)
GENERAL = spec("general", description="Poems and small talk.", examples=("Write a poem about rain",))


async def _asked(service: Service, text: str) -> list[tuple[str, list[object]]]:
    answer = await service.chat("plan", text)
    assert answer.status_code == 200, answer.text
    return sorted((name, [payload.value for payload in call.inputs.values()]) for name, call in FakeNode.calls)


async def test_a_list_is_fanned_out_into_calls(start: Start) -> None:
    service = await start(WEATHER, GENERAL)
    found = await _asked(service, "What is the weather forecast in Oslo, Rome and Lima?")
    assert found == [("weather", ["Lima"]), ("weather", ["Oslo"]), ("weather", ["Rome"])]


async def test_a_request_for_a_model_is_planned_as_before(start: Start) -> None:
    service = await start(WEATHER, GENERAL)
    assert await _asked(service, "Write a poem about rain") == [("general", [])]
    plan = await service.http.post("/v1/plan", json={"input": "Write a poem about rain"})
    assert plan.json()["planner"] == "learned"
