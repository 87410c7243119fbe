"""Requests that tools answer, over the whole gateway: each value of a list is a call of its own."""

from __future__ import annotations

from fakes import FakeNode, spec
from gateway_service import Service, Start

from graph.spec import NodeSpec

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


async def test_an_identifier_is_looked_up_and_passed_on(start: Start) -> None:
    customer, orders = '{"customer_id": "c7"}', '{"orders": [{"order_id": "A-17"}]}'
    service = await start(
        _tool("find-customer", "Find a customer by name.", customer, "name", "customer_id"),
        _tool("list-orders", "List the orders of a customer.", orders, "customer_id", "orders.0.order_id"),
        _tool("order-status", "Get the shipping status of an order.", '{"status": "shipped"}', "order_id", "status"),
        GENERAL,
    )
    found = await _asked(service, "What is the shipping status of the order of customer 'Ana Ruiz'?")
    assert found == [("find-customer", ["Ana Ruiz"]), ("list-orders", ["c7"]), ("order-status", ["A-17"])]


async def test_which_of_several_things_to_change_is_asked(start: Start) -> None:
    service = await start(
        _tool("find-customer", "Find a customer by name.", "{}", "name", "customer_id"),
        _tool("list-orders", "List the orders of a customer.", "{}", "customer_id", "orders.0.order_id"),
        _tool("cancel-order", "Cancel an order.", "{}", "order_id", "cancelled", idempotent=False),
    )
    answer = await service.chat("plan", "Cancel the order of the customer 'Ana Ruiz'")
    assert (answer.status_code, FakeNode.calls) == (422, [])
    assert "cancel-order needs 'order_id'" in answer.json()["error"]["message"]


def _tool(name: str, description: str, reply: str, argument: str, output: str, **fields: object) -> NodeSpec:
    arguments, outputs = {argument: {"type": "string"}}, {output: {"type": "string"}}
    fields |= {"arguments": arguments, "outputs": outputs, "params": {"reply": reply}}
    return spec(name, description=description, produces=["json"], **fields)
