"""Texts that are made to take long: each ended no test within its two minutes while a pattern was quadratic."""

from __future__ import annotations

import pytest
from conftest_planners import call_of, keyword_score, spec

from graph.model_graph import ModelGraph
from router.function_calls import FunctionPlanner
from router.planners.arguments import fill
from router.planners.clauses import Splitter
from router.planners.learned import LearnedPlanner
from router.planners.material import LONGEST
from router.planners.toolset import Parameter, Tool
from router.planners.values import MOST, mentions

ARGUMENTS = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "numbers": {"type": "array", "required": False},
    "recipient": {"type": "string", "description": "email", "required": False},
    "detail": {"type": "boolean", "required": False},
    "unit": {"type": "string", "enum": ["celsius", "kelvin"], "required": False},
}
WEATHER = spec("weather", arguments=ARGUMENTS)
HOSTILE = ["0", "1,", "a-", "a@", "a.b-", "“", "\u2018", "'a ", "[1, ", "_", "-1 ", "Ab, ", "/a", "and "]


@pytest.mark.parametrize("unit", HOSTILE)
def test_arguments_of_a_long_clause(unit: str) -> None:
    assert "city" in fill(WEATHER, "weather in Oslo for 3 days " + unit * 500_000).arguments


@pytest.mark.parametrize("unit", HOSTILE)
def test_functions_for_a_long_request(unit: str) -> None:
    parameters = (Parameter("city", "string"), Parameter("recipient", "string", "email", required=False))
    planner = FunctionPlanner([Tool("get_weather", "Get the weather of a city", parameters)], None)
    step = planner.step(("What is the weather in Oslo? " + unit * 16_000)[:16_000], required=True)
    assert step.calls or step.missing
    assert len(mentions(unit * 16_000)) <= MOST


@pytest.mark.parametrize("unit", ["“", " , ", "((a) ", "`a", "1) ", "。"])
async def test_a_plan_for_a_huge_request(unit: str) -> None:
    graph = ModelGraph([WEATHER, spec("legal", default=True)])
    text = "Explain the contract. " + unit * 3_000_000
    plan = await LearnedPlanner(keyword_score(graph.names)).plan(call_of(text), graph)
    assert "legal" in [task.node for task in plan.tasks]


def test_of_a_huge_request_the_ends_are_read_and_nothing_is_lost() -> None:
    middle = "\n\n".join(f"{number} " + "The tenant pays. Write a poem. " * 50 for number in range(100))
    split = Splitter().split(f"Explain the lease below.\n\n{middle}\n\nTranslate it into German.")
    assert [clause.text for clause in split.clauses] == ["Explain the lease below.", "Translate it into German."]
    assert split.material.split() == middle.split()
    single = Splitter().split("Explain torts and write a poem " + "x" * (2 * LONGEST) + " end")
    assert sum(len(clause.text) for clause in single.clauses) > 2 * LONGEST
    assert single.clauses[-1].text.endswith(" end")
