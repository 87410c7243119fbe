"""A plan as a node: slots, streaming, budget, failures, recursion."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes import DONE, HANG, FakeInvoke, answer, chat, spec

from deployments.nodes.plan import PlanNode
from graph.budget import Budget
from graph.collect import collect
from graph.errors import InvalidPlan, InvalidRequest, NodeFailed, NodeUnavailable
from graph.model_graph import ModelGraph
from graph.node import NodeEnvironment, closing_stream
from graph.spec import NodeSpec
from graph.types import Call, Delta, Usage, json_payload

PRICE = {"input_per_million": 1e6, "output_per_million": 0}


def plan_of(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"plan": {"tasks": list(tasks)} | more}


ASK = {"id": "t1", "node": "a", "arguments": {"prompt": {"$ref": "request.text"}}}
CITY = {"id": "t1", "node": "a", "arguments": {"prompt": {"$expr": "'Weather in ' + request.inputs.city"}}}


async def loaded(invoke: Any, params: dict[str, Any], **fields: Any) -> PlanNode:
    made = spec("p", kind="plan", params=params, **fields)
    graph = ModelGraph([spec("a", cost=PRICE), spec("b"), made])
    node = PlanNode(made, NodeEnvironment(lambda text: text, invoke=invoke, graph=lambda: graph))
    await node.load()
    return node


async def test_a_chat_streams_the_plans_answer() -> None:
    invoke = FakeInvoke({"a": [["one ", 0.01, "two", DONE]], "b": [answer("b")]})
    node = await loaded(invoke, plan_of(ASK, {"id": "t2", "node": "b", "arguments": {"prompt": "x"}}, answer=["t1"]))
    deltas = [delta async for delta in node.run(chat("hello"))]
    assert [delta.text for delta in deltas] == ["one ", "two", ""]
    assert (deltas[-1].usage, deltas[-1].attempt) == (Usage(6, 4, cost=3.0), 2)
    assert invoke.calls[0][1].text == "hello"
    assert invoke.calls[0][1].context.within == ("p",)


async def test_a_tools_arguments_are_the_slots_and_its_output_a_value() -> None:
    invoke = FakeInvoke({"a": [[Delta(payload=json_payload({"sun": True})), DONE]]})
    node = await loaded(invoke, plan_of(CITY), arguments={"city": {}})
    reply = await collect(node.run(Call(inputs={"city": json_payload("Ulm")}, operation="tool")), node="p")
    assert (reply.payload, invoke.calls[0][1].text) == (json_payload({"sun": True}), "Weather in Ulm")
    with pytest.raises(InvalidRequest) as caught:
        await collect(node.run(Call(inputs={"town": json_payload("Ulm")}, operation="tool")), node="p")
    assert caught.value.param == "town"


async def test_the_callers_budget_holds_within() -> None:
    invoke = FakeInvoke({"a": [answer("a")]})
    node = await loaded(invoke, plan_of(*({**ASK, "id": f"t{i}"} for i in range(4))))
    reply = await collect(node.run(chat("x").with_context(budget=Budget(calls=3))), node="p")
    assert len(invoke.calls) == 3
    assert "calls: 3 of 3 are made" in reply.text


async def test_a_plan_in_which_nothing_succeeds_is_a_failed_node() -> None:
    node = await loaded(FakeInvoke({"a": [[NodeUnavailable("no power")]]}), plan_of(ASK))
    with pytest.raises(NodeFailed, match="the plan of node 'p' failed: t1: no power"):
        await collect(node.run(chat("x")), node="p")


async def test_leaving_cancels_every_task() -> None:
    invoke = FakeInvoke({"a": [["begun", HANG]]})
    node = await loaded(invoke, plan_of(ASK))
    async with closing_stream(node.run(chat("x"))) as deltas:
        assert (await anext(deltas)).text == "begun"
    assert (invoke.running, invoke.closed) == (0, ["a"])


async def test_a_plan_within_itself_is_refused() -> None:
    nodes: dict[str, PlanNode] = {}
    graph = ModelGraph(
        spec(name, kind="plan", params=plan_of({"id": "t", "node": other, "arguments": {"prompt": "x"}}))
        for name, other in (("p", "q"), ("q", "p"))
    )

    def invoke(node: str, call: Call) -> Any:
        return nodes[node].run(call)

    for found in graph:
        nodes[found.name] = PlanNode(found, NodeEnvironment(lambda text: text, invoke=invoke, graph=lambda: graph))
        await nodes[found.name].load()
    async with asyncio.timeout(5):
        with pytest.raises(NodeFailed, match="node 'p' of kind plan runs within itself: p -> q -> p; take it out"):
            await collect(nodes["p"].run(chat("x")), node="p")


async def test_a_plan_that_the_graph_lost_a_node_of_is_refused() -> None:
    node = await loaded(FakeInvoke({}), plan_of({**ASK, "node": "gone"}))
    with pytest.raises(InvalidPlan, match="no node is called 'gone'"):
        await collect(node.run(chat("x")), node="p")


@pytest.mark.parametrize(
    ("params", "fields", "key", "said"),
    [
        ({"plan": {}}, {}, "params.plan.tasks", "is required"),
        (plan_of({**ASK, "when": "1 +"}), {}, "params.plan.tasks.0.when", "found the end"),
        (plan_of({**ASK, "node": "p"}), {}, "params.plan.tasks.t1.node", "must not run within itself"),
        (
            plan_of({**ASK, "arguments": {"prompt": {"$ref": "request.inputs.citty"}}}),
            {"arguments": {"city": {}}},
            "params.plan.tasks.t1",
            "request.inputs.citty names no argument of the node; arguments: city",
        ),
    ],
)
def test_what_is_wrong_is_said_when_it_is_declared(params: Any, fields: Any, key: str, said: str) -> None:
    found = PlanNode.problems(NodeSpec(name="p", kind="plan", description="A plan.", params=params, **fields))
    assert any(where == key and said in message for where, message in found), found


async def test_it_needs_somebody_to_ask() -> None:
    node = PlanNode(spec("p", kind="plan", params=plan_of(ASK)), NodeEnvironment(lambda text: text))
    with pytest.raises(NodeFailed, match="can ask other nodes"):
        await node.load()
