"""The final answer: written by a node from the outcomes, or put into a text."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeInvoke, answer, chat, spec

from graph.composition import citations
from graph.errors import InvalidPlan, NodeUnavailable
from graph.executor import execute
from graph.language import language_of
from graph.model_graph import ModelGraph
from graph.plan import Plan, Task
from graph.run import RunEvent, RunResult
from graph.run_options import written_by
from graph.types import Call

DOWN = [NodeUnavailable("no power")]
TASKS = [
    {"id": "t1", "node": "a", "arguments": {"prompt": "one"}},
    {"id": "t2", "node": "b", "arguments": {"prompt": "two"}},
]


async def run(plan: Plan, invoke: FakeInvoke, request: Call | None = None) -> tuple[RunResult, str]:
    events: list[RunEvent] = []

    async def note(event: RunEvent) -> None:
        events.append(event)

    graph = ModelGraph([spec("a"), spec("b"), spec("chat")])
    graph.check(plan)
    result = await execute(plan, invoke, graph=graph, request=request or chat("Who is it?"), on_event=note)
    streamed = ""
    for event in events:
        if event.type == "output.delta":
            streamed = event.data["text"] if event.data.get("reset") else streamed + event.data["text"]
    assert streamed == result.output
    return result, streamed


def plan(**more: Any) -> Plan:
    return Plan.from_json({"tasks": TASKS, **more})


async def test_a_node_writes_the_answer_from_what_the_tasks_gave() -> None:
    invoke = FakeInvoke({"a": [answer("Ann")], "b": [answer("Bo")], "chat": [answer("It is Ann [t1] and Bo [t2].")]})
    result, text = await run(written_by(plan(), "chat"), invoke, chat("Wer ist das, und was macht sie?"))
    assert (result.status, text) == ("ok", "It is Ann [t1] and Bo [t2].")
    asked = invoke.calls[-1][1].text
    assert "Write in German." in asked and "[t1] Ann" in asked and "[t2] Bo" in asked
    assert "Request:\nWer ist das" in asked and "like [t1]" in asked


async def test_it_is_told_what_failed_and_the_answer_says_so_too() -> None:
    invoke = FakeInvoke({"a": [answer("Ann")], "b": [DOWN], "chat": [answer("Ann [t1].")]})
    result, text = await run(written_by(plan(), "chat"), invoke, chat("Wer ist das, und was macht sie?"))
    assert result.status == "partial"
    assert "[t2] failed" in invoke.calls[-1][1].text
    assert text == "Ann [t1].\n\nIn dieser Antwort fehlt:\n- b: two: no power"


async def test_without_its_writer_the_answer_is_what_the_tasks_gave() -> None:
    invoke = FakeInvoke({"a": [answer("Ann")], "b": [answer("Bo")], "chat": [DOWN]})
    result, text = await run(written_by(plan(), "chat"), invoke)
    assert result.status == "partial"
    assert "### a: one\n\nAnn\n\n### b: two\n\nBo" in text and "no power" in text


async def test_outputs_are_put_into_a_text_in_the_callers_language() -> None:
    texts = {"en": "It is {t1} [t1], {{so}} {upper(t2)}.", "de": "Es ist {t1} [t1]."}
    invoke = FakeInvoke({"a": [answer("Ann")], "b": [answer("Bo")]})
    assert (await run(plan(template=texts), invoke))[1] == "It is Ann [t1], {so} BO."
    assert (await run(plan(template=texts), invoke, chat("Wer ist das?")))[1] == "Es ist Ann [t1]."
    assert (await run(plan(template="{t1}"), invoke, chat("Wer?")))[1] == "Ann"


async def test_a_place_without_a_value_is_seen() -> None:
    invoke = FakeInvoke({"a": [answer("Ann")], "b": [DOWN]})
    _, text = await run(plan(template="{t1} and {t2} or {default(t2, 'nobody')}"), invoke)
    assert text.startswith("Ann and … or nobody\n\nMissing from this answer:\n- b: two: no power")


def test_a_writer_reads_text() -> None:
    graph = ModelGraph([spec("a"), spec("b"), spec("tool", arguments={"x": {}})])
    with pytest.raises(InvalidPlan, match="reads no text; name a chat node"):
        graph.check(written_by(plan(), "tool"))


def test_only_tasks_are_cited() -> None:
    assert citations("a [t2] b [t1], c [t2] [9] [t3]", ("t1", "t2")) == ("t2", "t1")
    assert Task("w", "n", composes=("t1",)).requires == frozenset()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What is the weather in Ulm?", "en"),
        ("Wie wird das Wetter in Ulm?", "de"),
        ("Quel temps fait-il dans la ville ?", "fr"),
        ("¿Qué tiempo hace en la ciudad?", "es"),
        ("Che tempo fa nella città e come mi vesto?", "it"),
        ("Como está o tempo na cidade?", "pt"),
        ("Wat is het weer in de stad?", "nl"),
        ("今日の天気はどうですか", "ja"),
        ("今天天气怎么样", "zh"),
        ("Какая сегодня погода?", "ru"),
        ("12345", None),
        ("", None),
    ],
)
def test_the_language_of_a_request(text: str, code: str | None) -> None:
    assert language_of(text) == code
