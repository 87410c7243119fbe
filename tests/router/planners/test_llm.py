from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import jsonschema
import pytest
from conftest_planners import call_of, keyword_score, spec

from graph.errors import NodeUnavailable, NoNodeFits
from graph.model_graph import ModelGraph
from graph.plan import Ref
from graph.types import Call, Delta, Message
from router.planners.learned import LearnedPlanner
from router.planners.llm import LLMPlanner
from router.planners.schema import plan_schema

GOOD = {
    "tasks": [
        {"id": "t1", "node": "speech", "arguments": {"audio": {"$ref": "request.audio.0"}}},
        {"id": "t2", "node": "legal", "arguments": {"prompt": "The risk?", "context": [{"$ref": "t1"}]}},
    ]
}
UNKNOWN_NODE = {"tasks": [{"id": "t1", "node": "oracle", "arguments": {"prompt": "x"}}]}


class Model:
    """A planning model that gives these answers one after the other; an error among them is raised."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.calls: list[Call] = []

    async def invoke(self, node: str, call: Call) -> AsyncIterator[Delta]:
        self.calls.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield Delta(text=answer if isinstance(answer, str) else json.dumps(answer))
        yield Delta(finish_reason="stop")


def planner(model: Model, graph: ModelGraph) -> LLMPlanner:
    return LLMPlanner(model.invoke, "general", LearnedPlanner(keyword_score(graph.names)))


async def test_a_valid_plan_is_taken_at_once(graph: ModelGraph) -> None:
    model = Model(GOOD)
    plan = await planner(model, graph).plan(call_of("What is the risk?", audio=1), graph)
    assert plan.planner == "llm"
    assert plan.links == (("t1", "t2"),)
    assert plan.output == "t2"
    assert model.calls[0].params["temperature"] == 0
    assert model.calls[0].params["response_format"]["type"] == "json_schema"
    assert "request.audio.0" in model.calls[0].messages[-1].text


async def test_one_repair_shows_the_errors(graph: ModelGraph) -> None:
    model = Model(UNKNOWN_NODE, GOOD)
    plan = await planner(model, graph).plan(call_of("What is the risk?", audio=1), graph)
    assert plan.planner == "llm:repaired"
    assert "no node is called 'oracle'" in model.calls[1].messages[-1].text
    assert "oracle" in model.calls[1].messages[-2].text


@pytest.mark.parametrize(
    "answers",
    [
        (UNKNOWN_NODE, UNKNOWN_NODE),
        ("no idea", "still none"),
        ("{" * 5000, "{'tasks': 1}"),
        ('{"tasks": []}', '{"tasks": "t1"}'),
        (NodeUnavailable("down", node="general"),),
        (UNKNOWN_NODE, NodeUnavailable("down", node="general")),
        ({"tasks": [{"id": "t1", "node": "legal", "arguments": {"prompt": {"$ref": "t1"}}}]},) * 2,
        ({"tasks": [{"id": "t1", "node": "legal", "arguments": {"prompt": " "}}]},) * 2,
        ({"tasks": [{"id": "t1", "node": "speech", "arguments": {"audio": "a.wav"}}]},) * 2,
        ({"tasks": [{"id": "t1", "node": "speech", "arguments": {"audio": {"$ref": "request.audio.7"}}}]},) * 2,
    ],
)
async def test_what_cannot_be_repaired_falls_back(graph: ModelGraph, answers: tuple[object, ...]) -> None:
    model = Model(*answers)
    plan = await planner(model, graph).plan(call_of("Explain contract law"), graph)
    assert plan.planner == "learned"
    assert [task.node for task in plan.tasks] == ["legal"]
    assert not model.answers


async def test_an_answer_in_a_code_fence_is_read(graph: ModelGraph) -> None:
    model = Model(f"Here is the plan:\n```json\n{json.dumps(GOOD)}\n```")
    assert (await planner(model, graph).plan(call_of("Risk?", audio=1), graph)).planner == "llm"


async def test_a_bug_is_not_swallowed(graph: ModelGraph) -> None:
    with pytest.raises(ZeroDivisionError):
        await planner(Model(ZeroDivisionError()), graph).plan(call_of("Explain law"), graph)


async def test_a_shortlist_keeps_the_prompt_short(graph: ModelGraph) -> None:
    async def two(call: Call, graph: ModelGraph) -> list[str]:
        return ["legal"]

    model = Model(GOOD)
    shortlisting = LLMPlanner(model.invoke, "general", LearnedPlanner(keyword_score(graph.names)), two)
    await shortlisting.plan(call_of("Risk?", audio=1), graph)
    system = model.calls[0].messages[0].text
    assert "- legal(" in system
    assert "- speech(" in system  # what takes the attachment is always there
    assert "- code(" not in system


async def test_nodes_that_wait_for_an_absent_attachment_are_left_out(graph: ModelGraph) -> None:
    model = Model({"tasks": [{"id": "t1", "node": "legal", "arguments": {"prompt": "Explain"}}]})
    await planner(model, graph).plan(call_of("Explain law"), graph)
    assert "- speech(" not in model.calls[0].messages[0].text


async def test_a_long_request_is_cut_in_the_prompt(graph: ModelGraph) -> None:
    model = Model({"tasks": [{"id": "t1", "node": "legal", "arguments": {"prompt": {"$ref": "request.text"}}}]})
    plan = await planner(model, graph).plan(call_of("law " * 30_000), graph)
    assert plan.tasks[0].arguments["prompt"] == Ref("request", ("text",))
    assert len(model.calls[0].messages[-1].text) < 13_000


async def test_the_model_reads_what_was_said_before(graph: ModelGraph) -> None:
    model = Model({"tasks": [{"id": "t1", "node": "legal", "arguments": {"prompt": "Explain"}}]})
    call = call_of("Explain law")
    before = (Message("user", "word " * 5000), Message("assistant", "[t1] speech gave: a lease"))
    await planner(model, graph).plan(replace(call, messages=(*before, *call.messages)), graph)
    asked = model.calls[0].messages[-1].text
    assert "assistant: [t1] speech gave: a lease\n" in asked and asked.endswith("Request:\nExplain law")
    assert len(asked) < 5000


def test_the_schema_admits_good_plans_only(graph: ModelGraph) -> None:
    schema = plan_schema(list(graph))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(GOOD, schema)
    tool = {"id": "t1", "node": "weather", "arguments": {"city": "Rome", "units": "metric"}}
    jsonschema.validate({"tasks": [tool]}, schema)
    for bad in (
        UNKNOWN_NODE,
        {"tasks": []},
        {"tasks": [{"id": "t1", "node": "legal", "arguments": {}}]},
        {"tasks": [{"id": "t1", "node": "weather", "arguments": {"city": "Rome", "units": "kelvin"}}]},
        {"tasks": [{"id": "t1", "node": "speech", "arguments": {"audio": "a.wav"}}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


async def test_nothing_asked_never_reaches_the_model() -> None:
    graph = ModelGraph([spec("general", default=True)])
    with pytest.raises(NoNodeFits, match="empty"):
        await planner(Model(), graph).plan(call_of(""), graph)
