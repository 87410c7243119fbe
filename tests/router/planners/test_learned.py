from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from conftest_planners import call_of, keyword_score, spec

from graph.errors import NoNodeFits
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref
from graph.preferences import NAMED, Preferences
from graph.types import Call, CallContext, Message
from router.planners.learned import LearnedPlanner
from router.policy import Policy
from router.types import Scores

AUDIO = Ref("request", ("audio", "0"))


async def plan_of(graph: ModelGraph, text: str, audio: int = 0, image: int = 0) -> Plan:
    plan = await LearnedPlanner(keyword_score(graph.names)).plan(call_of(text, audio, image), graph)
    graph.check(plan)
    return plan


def nodes(plan: Plan) -> list[str]:
    return [task.node for task in plan.tasks]


async def test_the_compound_request_of_the_readme(graph: ModelGraph) -> None:
    text = "transcribe this recording, explain the legal risk in it, and write a Python function that checks an email"
    plan = await plan_of(graph, text, audio=1)
    assert nodes(plan) == ["speech", "legal", "code"]
    assert plan.links == (("t1", "t2"),)
    assert plan.task("t1").arguments == {"audio": AUDIO}
    assert plan.task("t2").arguments == {"prompt": "explain the legal risk in it", "context": [Ref("t1")]}
    assert plan.task("t3").arguments == {"prompt": "write a Python function that checks an email"}
    assert plan.output == "t3"
    assert plan.planner == "learned"


async def test_speech_is_inserted_once_and_shared(graph: ModelGraph) -> None:
    plan = await plan_of(graph, "Explain the legal risk in this recording and list the symptoms in it", audio=1)
    assert nodes(plan) == ["speech", "legal", "medical"]
    assert plan.links == (("t1", "t2"), ("t1", "t3"))


async def test_each_recording_is_transcribed(graph: ModelGraph) -> None:
    plan = await plan_of(graph, "Explain the legal risk in these recordings", audio=2)
    assert nodes(plan) == ["speech", "speech", "legal"]
    assert plan.task("t3").arguments["context"] == [Ref("t1"), Ref("t2")]


async def test_a_node_that_sees_gets_the_picture_itself(graph: ModelGraph) -> None:
    plan = await plan_of(graph, "What is in this picture?", image=1)
    assert nodes(plan) == ["vision"]
    assert plan.task("t1").arguments["image"] == Ref("request", ("image", "0"))


async def test_a_text_expert_reads_a_picture_through_a_node_that_sees(graph: ModelGraph) -> None:
    plan = await plan_of(graph, "Explain the legal contract clause and court risk in this", image=1)
    assert nodes(plan) == ["vision", "legal"]
    assert plan.links == (("t1", "t2"),)


async def test_attachments_without_words(graph: ModelGraph) -> None:
    plan = await plan_of(graph, "", audio=2)
    assert [task.arguments for task in plan.tasks] == [{"audio": AUDIO}, {"audio": Ref("request", ("audio", "1"))}]


async def test_no_recording_to_transcribe_is_a_question(graph: ModelGraph) -> None:
    plan = await plan_of(graph, "Transcribe the recording and write a Python script")
    assert nodes(plan) == ["code"]
    assert "no recording is attached" in plan.missing[0]


async def test_a_script_that_transcribes_is_code(graph: ModelGraph) -> None:
    assert nodes(await plan_of(graph, "Write a Python script that can transcribe audio", audio=0)) == ["code"]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("Write a Python function and explain its legal risk", [("t1", "t2")]),
        ("Write a Python script, then list the legal risks", [("t1", "t2")]),
        ("Write a Python script, then explain what a tort is in law", []),
        (
            "Explain contract law, list fever symptoms, and combine all of the above in a legal memo",
            [("t1", "t3"), ("t2", "t3")],
        ),
        ("Explain the legal risk of X. Is it legal to sell drugs?", []),
        ("Write a legal letter. Write Python code. Then check the letter for contract law.", [("t1", "t3")]),
        ("Explain contract law and write Python code that takes a list and sorts it", []),
    ],
)
async def test_dependencies(graph: ModelGraph, text: str, links: list[tuple[str, str]]) -> None:
    assert list((await plan_of(graph, text)).links) == links


async def test_tool_arguments_are_filled_or_asked(graph: ModelGraph) -> None:
    plan = await plan_of(graph, "Show the weather forecast in Paris for 3 days in imperial units and write Python code")
    assert plan.task("t1").arguments == {"city": "Paris", "days": 3, "units": "imperial"}
    plan = await plan_of(graph, "Show the weather forecast, and write Python code")
    assert nodes(plan) == ["code"]
    assert "'city'" in plan.missing[0]


async def test_a_tool_takes_the_output_of_an_earlier_task() -> None:
    graph = ModelGraph([spec("legal"), spec("weather", arguments={"city": {"type": "string"}})])
    plan = await plan_of(graph, "Tell me where the contract court is and get the weather forecast for it")
    assert plan.task("t2").arguments == {"city": Ref("t1")}


async def test_out_of_scope_goes_to_the_default_or_is_reported(graph: ModelGraph) -> None:
    assert nodes(await plan_of(graph, "Sing a song")) == ["general"]
    bare = graph.without("general", "vision")
    plan = await plan_of(bare, "Sing a song. Write Python code.")
    assert nodes(plan) == ["code"]
    assert "Sing a song" in plan.missing[0]
    with pytest.raises(NoNodeFits, match="Sing a song"):
        await plan_of(bare, "Sing a song")


async def test_nothing_asked() -> None:
    with pytest.raises(NoNodeFits, match="empty"):
        await plan_of(ModelGraph([spec("legal")]), "")
    with pytest.raises(NoNodeFits):
        await plan_of(ModelGraph([]), "Explain contract law")


async def test_a_pasted_passage_reaches_every_clause_that_means_it(graph: ModelGraph) -> None:
    passage = "The tenant pays. " * 10
    plan = await plan_of(graph, f"List the legal risks in the text below and explain the symptoms in it:\n\n{passage}")
    assert [task.arguments["context"] for task in plan.tasks] == [[passage.strip()]] * 2


async def test_a_pronoun_in_a_chat_means_the_last_answer(graph: ModelGraph) -> None:
    call = Call(
        (Message("user", "Hi"), Message("assistant", "A tort is a wrong."), Message("user", "Explain it in law"))
    )
    plan = await LearnedPlanner(keyword_score(graph.names)).plan(call, graph)
    assert plan.tasks[0].arguments["context"] == ["A tort is a wrong."]


async def test_a_very_long_request_is_passed_by_reference(graph: ModelGraph) -> None:
    plan = await plan_of(graph, "law " * 25_000)
    assert plan.tasks[0].arguments["prompt"] == Ref("request", ("text",))


async def test_soft_halves_at_one_node_are_one_task(graph: ModelGraph) -> None:
    assert nodes(await plan_of(graph, "Write Python code to load a file and print the keys of the class")) == ["code"]


@pytest.mark.parametrize(
    ("prefer", "slow", "chosen"),
    [
        (None, {}, "dear"),
        (NAMED["quality"], {}, "dear"),
        (NAMED["cost"], {}, "cheap"),
        (NAMED["latency"], {"dear": 900.0}, "cheap"),
        (NAMED["latency"], {"cheap": 900.0}, "dear"),
        (Preferences(budget=5), {}, "cheap"),
        (Preferences(budget=0), {}, "free"),
    ],
)
async def test_every_task_heeds_what_the_caller_prefers(
    prefer: Preferences | None, slow: dict[str, float], chosen: str
) -> None:
    names = ("cheap", "dear", "free")
    graph = ModelGraph(
        [spec("dear", cost={"output_per_million": 10}), spec("cheap", cost={"output_per_million": 1}), spec("free")]
    )

    async def score(texts: Sequence[str]) -> Scores:
        rows = np.tile(np.array([0.4, 0.59, 0.01], np.float32), (len(texts), 1))
        return Scores(names, rows, np.ones(len(texts), np.float32))

    def policy_of(call: Call) -> Policy:
        return replace(Policy().preferring(call.context.prefer), latency_ms=slow)

    call = replace(call_of("Explain the contract. Then write a poem about it."), context=CallContext(prefer=prefer))
    plan = await LearnedPlanner(score, policy_of=policy_of).plan(call, graph)
    assert nodes(plan) == [chosen, chosen]
