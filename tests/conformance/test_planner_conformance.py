"""What every planner keeps: a plan that the graph accepts, or `NoNodeFits`; for any request on any graph."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.errors import NoNodeFits
from graph.model_graph import ModelGraph
from graph.plan import Plan
from graph.spec import NodeSpec
from graph.types import Call, Delta, Message, Modality, Payload, text_payload
from router.planners.learned import LearnedPlanner
from router.planners.llm import LLMPlanner
from router.planners.media import absent_attachments
from router.planners.single import SinglePlanner
from router.types import Decision, Planner, Scores

PARTS = st.sampled_from(
    [
        "transcribe this recording",
        "explain the legal risk in it",
        "write a Python function that adds 3 numbers",
        "and",
        ", then",
        ";",
        ".",
        "translate it into French",
        "1. list the symptoms",
        "- describe the picture",
        "the result",
        '"quoted; then it"',
        "```x = 1```",
        "in Paris",
        "tomorrow",
        "summarise all of the above",
        "send it to a@b.org",
        "what is this?",
        "über den Vertrag",
        "总结这段录音。",
        "它",
        "5",
        "true",
        "''",
        "—",
        "?",
    ]
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "array", "object"])
MODALITIES = st.sets(st.sampled_from(["text", "audio", "image", "json"]), min_size=1)


@st.composite
def argument(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(TYPES)
    enum = draw(st.sampled_from([[], [], ["Paris", "it"], [3, 5], [True]]))
    return {"type": kind, "required": draw(st.booleans()), "enum": enum, "default": None}


@st.composite
def node(draw: st.DrawFn, name: str) -> NodeSpec:
    names = st.sampled_from(["city", "date", "text", "count", "image", "audio", "to", "email", "items"])
    tool = draw(st.booleans()) and draw(st.booleans())
    return NodeSpec.model_validate(
        {
            "name": name,
            "kind": "any",
            "description": "A node.",
            "accepts": draw(MODALITIES),
            "produces": draw(MODALITIES),
            "arguments": draw(st.dictionaries(names, argument(), max_size=4)) if tool else {},
        }
    )


@st.composite
def graphs(draw: st.DrawFn) -> ModelGraph:
    specs = [draw(node(f"n{index}")) for index in range(draw(st.integers(0, 6)))]
    if specs and draw(st.booleans()):
        specs[0] = specs[0].model_copy(update={"default": True})
    return ModelGraph(specs)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    text = " ".join(draw(st.lists(PARTS, max_size=12)))
    media = draw(st.lists(st.sampled_from([Modality.AUDIO, Modality.IMAGE]), max_size=3))
    history = (Message("assistant", "Before."),) if draw(st.booleans()) else ()
    return Call((*history, Message("user", (text_payload(text), *(Payload(kind, b"x") for kind in media)))))


def scorer(seed: int, graph: ModelGraph) -> Callable[[Sequence[str]], object]:
    async def score(texts: Sequence[str]) -> Scores:
        random = np.random.default_rng(seed)
        labels = (*graph.names[1:], "gone")
        rows = random.random((len(texts), len(labels)), dtype=np.float32)
        return Scores(labels, rows / rows.sum(axis=1, keepdims=True), random.random(len(texts), dtype=np.float32))

    return score


def learned(seed: int, graph: ModelGraph) -> Planner:
    return LearnedPlanner(scorer(seed, graph))  # type: ignore[arg-type]


def single(seed: int, graph: ModelGraph) -> Planner:
    async def decide(call: Call, graph: ModelGraph) -> Decision:
        names = (*graph.names, None)
        via = graph.names[: seed % 2]
        return Decision(names[seed % len(names)], 0.5, False, (), (), call.text, "random", via)

    return SinglePlanner(decide)


def llm(seed: int, graph: ModelGraph) -> Planner:
    random = np.random.default_rng(seed)

    async def invoke(name: str, call: Call) -> AsyncIterator[Delta]:
        values = [{"$ref": "request.audio.0"}, {"$ref": "t1"}, "text", 3, None, [{"$ref": "t2.x"}]]
        tasks = [
            {
                "id": f"t{index + 1}",
                "node": str(random.choice([*graph.names, "oracle"])),
                "arguments": {
                    key: values[random.integers(len(values))]
                    for key in ("prompt", "context", "audio", "city")
                    if random.random() < 0.5
                },
            }
            for index in range(random.integers(0, 3))
        ]
        yield Delta(text=json.dumps({"tasks": tasks})[: random.integers(1, 400)])
        yield Delta(finish_reason="stop")

    return LLMPlanner(invoke, "n0", learned(seed, graph))


@pytest.mark.parametrize("make", [learned, single, llm])
@settings(max_examples=80, deadline=None)
@given(call=calls(), graph=graphs(), seed=st.integers(0, 1000))
def test_a_plan_is_valid_or_nothing_fits(
    make: Callable[[int, ModelGraph], Planner], call: Call, graph: ModelGraph, seed: int
) -> None:
    planner = make(seed, graph)
    try:
        plan = asyncio.run(planner.plan(call, graph))
    except NoNodeFits as error:
        assert error.message
        return
    graph.check(plan)
    assert not absent_attachments(plan, call)
    assert plan.output == plan.sinks[-1]
    assert plan.planner
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))).links == plan.links


@pytest.mark.parametrize("make", [learned, single, llm])
def test_a_planner_is_deterministic(make: Callable[[int, ModelGraph], Planner]) -> None:
    graph = ModelGraph([NodeSpec(name=name, kind="any", description="A node.") for name in ("n0", "n1", "n2")])
    call = Call((Message("user", "Explain torts, then write a poem about it and translate the poem"),))
    first, second = (asyncio.run(make(1, graph).plan(call, graph)).to_json() for _ in range(2))
    assert first == second
