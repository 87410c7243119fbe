"""Requests that only tools answer are planned from the tools' descriptions; all others as before."""

from __future__ import annotations

import pytest
from conftest_planners import call_of, keyword_score, spec

from graph.errors import NoNodeFits
from graph.model_graph import ModelGraph
from graph.plan import Plan
from graph.types import Call, Message
from router.planners.tools_alone import MAX_TOOLS, ToolsPlanner

WEATHER = spec(
    "weather",
    description="Get the weather forecast of a city",
    arguments={
        "city": {"type": "string", "description": "City"},
        "units": {"type": "string", "enum": ["metric", "imperial"], "default": "metric"},
        "fields": {"type": "array", "default": ["wind"]},
    },
)
TIP = spec(
    "tip",
    description="Calculate the tip on a bill",
    arguments={"bill_total": {"type": "number"}, "percentage": {"type": "number"}},
)
LEGAL = spec("legal", description="Law and contracts")


class Asked:
    """Notes what it was asked to plan, and plans nothing."""

    name = "asked"

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def plan(self, call: Call, graph: ModelGraph) -> Plan:
        self.texts.append(call.text)
        raise NoNodeFits("not mine")


async def planned(text: str | Call, *specs: object) -> Plan | None:
    """Return the plan, or None where it was left to the other planner."""
    graph, other = ModelGraph(specs), Asked()
    planner = ToolsPlanner(keyword_score(graph.names), None, other)
    call = call_of(text) if isinstance(text, str) else text
    try:
        plan = await planner.plan(call, graph)
    except NoNodeFits:
        assert other.texts == [call.text]
        return None
    graph.check(plan)
    assert plan.planner == "zero_shot"
    return plan


def calls(plan: Plan | None) -> list[tuple[str, dict[str, object]]]:
    assert plan is not None
    return [(task.node, dict(task.arguments)) for task in plan.tasks]


async def test_a_list_becomes_calls_of_their_own_that_run_at_once() -> None:
    plan = await planned("What is the weather in Oslo, Rome and Lima?", WEATHER, TIP, LEGAL)
    assert calls(plan) == [("weather", {"city": city}) for city in ("Oslo", "Rome", "Lima")]
    assert plan is not None
    assert plan.shown == ("t1", "t2", "t3")
    assert not plan.links


async def test_two_tools_each_with_its_own_values() -> None:
    text = "Get the weather forecast for Oslo and calculate a 15% tip on a bill of $80."
    assert calls(await planned(text, WEATHER, TIP)) == [
        ("weather", {"city": "Oslo"}),
        ("tip", {"bill_total": 80, "percentage": 15}),
    ]


async def test_a_part_for_a_model_leaves_the_whole_to_the_other_planner() -> None:
    text = "Get the weather forecast for Oslo and explain the liability clause of this contract."
    assert await planned(text, WEATHER, TIP, LEGAL) is None


async def test_what_a_tool_lacks_is_asked_by_the_other_planner() -> None:
    assert await planned("What is the weather forecast?", WEATHER, TIP) is None


async def test_what_the_router_calls_out_of_scope_goes_to_the_default_node_if_there_is_one() -> None:
    text = "Calculate the tip on a bill of 80 dollars at 15 percent."
    assert calls(await planned(text, WEATHER, TIP)) == [("tip", {"bill_total": 80, "percentage": 15})]
    assert await planned(text, WEATHER, TIP, spec("general", default=True)) is None
    assert await planned("Who painted the Mona Lisa?", WEATHER, TIP) is None


async def test_attachments_and_what_points_at_an_answer_are_the_other_planners() -> None:
    assert await planned(call_of("What is the weather in Oslo?", audio=1), WEATHER, TIP) is None
    chat = Call(
        (Message("user", "Hi"), Message("assistant", "Oslo is nice."), Message("user", "Explain that weather."))
    )
    assert await planned(chat, WEATHER, TIP) is None


async def test_a_value_that_the_tool_does_not_admit_is_not_sent() -> None:
    strict = spec(
        "weather",
        description="Get the weather forecast of a city",
        arguments={"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
    )
    assert calls(await planned("What is the weather in Oslo?", strict)) == [("weather", {"city": "Oslo"})]
    assert await planned("What is the weather in Lima?", strict) is None


async def test_with_no_tools_or_very_many_nothing_is_held_against_them() -> None:
    assert await planned("What is the weather in Oslo?", LEGAL) is None
    many = [
        spec(f"weather-{index}", description="Weather", arguments={"city": {"type": "string"}})
        for index in range(MAX_TOOLS + 1)
    ]
    assert await planned("What is the weather in Oslo?", *many) is None


async def test_a_caller_who_sees_fewer_tools_gets_no_plan_of_the_others() -> None:
    graph, other = ModelGraph([WEATHER, TIP]), Asked()
    planner = ToolsPlanner(keyword_score(graph.names), None, other)
    call = call_of("What is the weather in Oslo?")
    assert [task.node for task in (await planner.plan(call, graph)).tasks] == ["weather"]
    with pytest.raises(NoNodeFits):
        await planner.plan(call, graph.without("weather"))
    assert other.texts == [call.text]
