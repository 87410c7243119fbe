"""Conditions, lists, loops, expectations and budgets of a run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fakes import HANG, chat, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.budget import Budget
from graph.errors import InvalidPlan, NodeUnavailable
from graph.executor import execute
from graph.model_graph import ModelGraph
from graph.plan import Plan
from graph.run import Outcome, RunEvent, RunResult
from graph.types import Call, Delta, Usage, json_payload

Reacts = Callable[[Call], Any]
"""What a node answers: a text, a JSON value, or an error to raise."""


class Nodes:
    """An `Invoke` whose nodes are functions of the call."""

    def __init__(self, **nodes: Reacts) -> None:
        self._nodes = nodes
        self.calls: list[tuple[str, Call]] = []
        self.running = self.most = 0
        self.events: list[RunEvent] = []

    async def __call__(self, node: str, call: Call) -> AsyncIterator[Delta]:
        self.calls.append((node, call))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.001)
            found = self._nodes[node](call)
            if found is HANG:
                await asyncio.Event().wait()
            if isinstance(found, Exception):
                raise found
            text = {"text": found} if isinstance(found, str) else {"payload": json_payload(found)}
            yield Delta(**text, usage=Usage(10, 5), finish_reason="stop")
        finally:
            self.running -= 1

    @property
    def texts(self) -> list[str]:
        return [call.text for _, call in self.calls]

    async def _note(self, event: RunEvent) -> None:
        self.events.append(event)

    async def run(self, plan: dict[str, Any] | Plan, request: Call | None = None, **more: Any) -> RunResult:
        made = plan if isinstance(plan, Plan) else Plan.from_json(plan)
        price = {"input_per_million": 1e5, "output_per_million": 0}
        graph = ModelGraph(
            spec(name, cost=price, **({"arguments": {"x": {"type": "object"}}} if name.startswith("tool") else {}))
            for name in self._nodes
        )
        graph.check(made)
        call = request or chat("the request")
        return await execute(made, self, graph=graph, request=call, on_event=self._note, **more)


def task(id: str, prompt: Any = "go", node: str = "a", **more: Any) -> dict[str, Any]:
    return {"id": id, "node": node, "arguments": {"prompt": prompt}} | more


def plan(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tasks": list(tasks)} | more


def of(result: RunResult, id: str) -> Outcome:
    return next(outcome for outcome in result.outcomes if outcome.task == id)


def code(outcome: Outcome) -> str | None:
    return (outcome.error or {}).get("code")


SCORED: Reacts = lambda call: {"score": 0.2, "names": ["Ann", "Bo"]}  # noqa: E731
ECHO: Reacts = lambda call: call.text  # noqa: E731


async def test_a_task_whose_condition_is_false_is_skipped_and_the_run_is_whole() -> None:
    nodes = Nodes(a=SCORED, b=ECHO)
    result = await nodes.run(
        plan(
            task("t1"),
            task("high", "high", "b", when="t1.score > 0.5"),
            task("low", "low", "b", when="t1.score <= 0.5"),
            task("after", {"$ref": "high"}, "b"),
            task("join", {"$expr": "default(high.text, low.text) + '!'"}, "b"),
        )
    )
    assert [outcome.status for outcome in result.outcomes] == ["ok", "skipped", "ok", "skipped", "ok"]
    assert (code(of(result, "high")), code(of(result, "after"))) == ("condition_false", "dependency_skipped")
    assert (of(result, "high").error or {})["message"] == "when: t1.score > 0.5 is false"
    assert (result.status, result.output) == ("ok", "### b\n\nlow!")
    assert nodes.texts[-1] == "low!"


async def test_a_condition_may_look_at_a_failure() -> None:
    nodes = Nodes(a=lambda call: NodeUnavailable("down"), b=ECHO)
    result = await nodes.run(plan(task("t1"), task("else", "instead", "b", when="status(t1) == 'failed'")))
    assert (result.status, of(result, "else").status) == ("partial", "ok")


async def test_a_condition_that_cannot_be_computed_fails_its_task_by_name() -> None:
    nodes = Nodes(a=SCORED)
    result = await nodes.run(plan(task("t1"), task("t2", when="t1.scroe > 1"), task("t3", when="t1.score")))
    error = of(result, "t2").error or {}
    assert (error["code"], error["param"]) == ("invalid_expression", "tasks.t2.when")
    assert "no field text 'scroe'; there is score, names" in error["message"]
    assert "compare it" in (of(result, "t3").error or {})["message"]
    assert len(nodes.calls) == 1


async def test_a_list_is_worked_on_in_parallel_and_keeps_its_order() -> None:
    nodes = Nodes(a=ECHO)
    over = [f"n{index}" for index in range(7)]
    result = await nodes.run(
        plan(task("t1", {"$expr": "text(index) + item"}, map={"over": over, "parallel": 3}), answer=["t1"])
    )
    reply = of(result, "t1").reply
    assert reply is not None
    assert reply.payload.value == [f"{index}n{index}" for index in range(7)]
    assert (nodes.most, of(result, "t1").attempts, reply.usage) == (3, 7, Usage(70, 35))
    assert [part.index for part in of(result, "t1").parts] == list(range(7))
    assert result.output == "\n\n".join(reply.payload.value)
    assert sorted(e.data["index"] for e in nodes.events if e.type == "task.item") == list(range(7))


async def test_a_list_may_be_an_earlier_output_or_a_text_that_is_json() -> None:
    for found in ({"names": ["Ann", "Bo"]}, '{"names": ["Ann", "Bo"]}'):
        nodes = Nodes(a=lambda call, found=found: found, b=ECHO)
        result = await nodes.run(
            plan(
                task("t1"),
                task("t2", {"$ref": "item"}, "b", map={"$ref": "t1.names"}),
                task("t3", {"$ref": "t2.1"}, "b"),
            )
        )
        assert (result.status, nodes.texts[-1]) == ("ok", "Bo")


async def test_items_that_fail_are_seen_and_the_others_kept() -> None:
    nodes = Nodes(a=lambda call: NodeUnavailable("down") if call.text == "y" else call.text, b=ECHO)
    result = await nodes.run(
        plan(task("t1", {"$ref": "item"}, map=["x", "y", "z"]), task("t2", {"$expr": "text(t1)"}, "b"))
    )
    made = of(result, "t1")
    assert (made.status, code(made), result.status) == ("ok", "items_failed", "partial")
    assert (made.error or {})["message"] == "1 of 3 items failed; item 1: down"
    assert [part.status for part in made.parts] == ["ok", "failed", "ok"]
    assert nodes.texts[-1] == '["x", null, "z"]'
    assert "1 of 3 items failed" in result.output


@pytest.mark.parametrize(("over", "status"), [([], "ok"), (["x"], "failed")])
async def test_an_empty_list_is_a_result_and_one_of_failures_is_none(over: list[str], status: str) -> None:
    nodes = Nodes(a=lambda call: NodeUnavailable("down"))
    assert of(await nodes.run(plan(task("t1", {"$ref": "item"}, map=over))), "t1").status == status


async def test_what_is_no_list_is_named() -> None:
    nodes = Nodes(a=lambda call: "words", b=ECHO)
    result = await nodes.run(plan(task("t1"), task("t2", {"$ref": "item"}, "b", map={"$ref": "t1"})))
    assert (of(result, "t2").error or {})["message"] == "map: 'words' is no list"
    assert (of(result, "t2").error or {})["param"] == "tasks.t2.map"


async def test_a_loop_ends_with_its_condition() -> None:
    nodes = Nodes(a=lambda call: {"text": call.text + "x"})
    again = {"until": "size(output.text) >= 3", "max": 9}
    result = await nodes.run(plan(task("t1", {"$expr": "default(previous.text, '')"}, repeat=again)))
    made = of(result, "t1")
    assert made.reply and made.reply.payload.value == {"text": "xxx"}
    assert ([part.index for part in made.parts], made.attempts, result.status) == ([0, 1, 2], 3, "ok")


async def test_a_loop_ends_with_its_bound_and_says_so() -> None:
    nodes = Nodes(a=ECHO)
    result = await nodes.run(plan(task("t1", "x", repeat={"until": "output == 'y' || index > 5", "max": 2})))
    made = of(result, "t1")
    assert (made.status, code(made), len(nodes.calls), result.status) == ("ok", "repeat_exhausted", 2, "partial")


async def test_a_first_iteration_goes_without_what_is_previous() -> None:
    nodes = Nodes(a=lambda call: call.text + "+")
    first = {"id": "t1", "node": "a", "arguments": {"prompt": "p", "context": {"$ref": "previous"}}}
    await nodes.run(plan(first | {"repeat": {"until": "index == 1", "max": 3}}))
    assert nodes.texts == ["p", "p+\n\np"]


async def test_an_output_that_was_not_expected_is_a_failure() -> None:
    nodes = Nodes(a=SCORED)
    result = await nodes.run(plan(task("t1", expect="output.score > 0.5")))
    assert (of(result, "t1").status, code(of(result, "t1")), result.status) == ("failed", "unexpected_output", "failed")


@pytest.mark.parametrize(
    ("budget", "made", "said"),
    [
        ({"calls": 2}, 2, "calls: 2 of 2 are made"),
        ({"tokens": 31}, 3, "tokens: 45 of 31 are spent"),
        ({"cost": 1.5}, 2, "cost: 2 of 1.5 is spent"),
    ],
)
async def test_nothing_is_asked_beyond_the_budget(budget: dict[str, Any], made: int, said: str) -> None:
    nodes = Nodes(a=ECHO)
    chain = [task("t0"), *(task(f"t{i}", {"$ref": f"t{i - 1}"}) for i in range(1, 5))]
    result = await nodes.run(plan(*chain, budget=budget))
    assert (len(nodes.calls), result.status) == (made, "partial")
    assert [outcome.status for outcome in result.outcomes] == ["ok"] * made + ["skipped"] * (5 - made)
    assert code(result.outcomes[made]) == "budget_exceeded"
    assert said in (result.outcomes[made].error or {})["message"]


async def test_a_budget_holds_for_tasks_that_run_at_the_same_time_and_for_items() -> None:
    nodes = Nodes(a=ECHO)
    result = await nodes.run(plan(*(task(f"t{i}") for i in range(6)), budget={"calls": 4}))
    assert (len(nodes.calls), sum(outcome.status == "ok" for outcome in result.outcomes)) == (4, 4)
    nodes = Nodes(a=ECHO)
    result = await nodes.run(plan(task("t1", {"$ref": "item"}, map=["a", "b", "c"]), budget={"calls": 2}))
    assert (len(nodes.calls), code(of(result, "t1"))) == (2, "items_failed")


async def test_a_deadline_skips_what_has_not_begun() -> None:
    nodes = Nodes(a=lambda call: HANG, b=ECHO)
    result = await nodes.run(
        plan(task("t0", "x", "b"), task("t1"), task("t2", when="status(t1) != 'ok'"), budget={"deadline_s": 0.1})
    )
    assert [(outcome.status, code(outcome)) for outcome in result.outcomes] == [
        ("ok", None), ("failed", "deadline_exceeded"), ("skipped", "deadline_exceeded"),
    ]  # fmt: skip
    assert result.status == "partial"


async def test_a_call_knows_what_is_left_for_it() -> None:
    nodes = Nodes(a=ECHO)
    request = chat("x").with_context(budget=Budget(calls=5, tokens=100), deadline=time.time() + 50)
    await nodes.run(plan(task("t0"), task("t1", {"$ref": "t0"}), budget={"calls": 3}), request)
    assert [call.context.budget for _, call in nodes.calls] == [Budget(3, 100), Budget(2, 85)]
    assert [call.context.attempts for _, call in nodes.calls] == [3, 2]


async def test_a_resumed_run_goes_on_within_a_list_and_a_loop() -> None:
    made = plan(
        task("t1", {"$ref": "item"}, map=["x", "y", "z"]),
        task("t2", {"$expr": "default(previous, 'b')"}, "b", repeat={"until": "index == 2", "max": 9}),
        budget={"calls": 6},
    )
    first = Nodes(a=ECHO, b=lambda call: call.text + "b")
    whole = await first.run(made)
    parts = [event.outcome for event in first.events if event.type == "task.item" and event.outcome]
    known = [Outcome.from_record(part.to_record()) for part in parts if part.index in (0, 1)]
    again = Nodes(a=ECHO, b=lambda call: call.text + "b")
    resumed = await again.run(made, done=known)
    assert (resumed.output, resumed.status) == (whole.output, "ok")
    assert sorted(again.texts) == ["bbb", "z"]


@pytest.mark.parametrize(
    ("item", "key", "said"),
    [
        ({"when": 5}, "tasks.0.when", "must be an expression"),
        ({"when": "1 +"}, "tasks.0.when", "found the end"),
        ({"when": "gone.x"}, "tasks.t.arguments", "refers to task 'gone'"),
        ({"when": "item"}, "tasks.t.arguments", "refers to task 'item'"),
        ({"when": "t.x"}, "tasks", "references form a cycle"),
        ({"arguments": {"prompt": {"$expr": "("}}}, "tasks.0.arguments", "found the end"),
        ({"map": 5}, "tasks.0.map.over", "must be a list"),
        ({"map": {"over": [1], "extra": 1}}, "tasks.0.map", "must be a list, a reference or {over, parallel}"),
        ({"map": {"over": [1], "parallel": 0}}, "tasks.0.map.parallel", "a whole number from 1 to 1000; got 0"),
        ({"map": list(range(1001))}, "tasks.0.map.over", "1001 items; at most 1000"),
        ({"repeat": {"until": "true"}}, "tasks.0.repeat", "must be {until: an expression, max: a number}"),
        ({"repeat": {"until": "true", "max": 101}}, "tasks.0.repeat.max", "from 1 to 100; got 101"),
        ({"repeat": {"until": None, "max": 1}}, "tasks.0.repeat.until", "must be an expression"),
        ({"repeat": {"until": "true", "max": 1}, "map": [1]}, "tasks.0.repeat", "a task has one of them"),
        ({"composes": "t"}, "tasks.0.composes", "must be a list of task ids"),
        ({"composes": ["gone"]}, "tasks.t.arguments", "refers to task 'gone'"),
        ({"id": "item", "map": [1]}, "tasks.item.map", "'item' stands for the item"),
    ],
)
def test_what_is_wrong_with_a_task_is_named(item: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(InvalidPlan) as caught:
        Plan.from_json({"tasks": [{"id": "t", "node": "n"} | item]})
    assert any(problem.key == key and said in problem.message for problem in caught.value.problems), caught.value


@pytest.mark.parametrize(
    ("data", "key", "said"),
    [
        ({"budget": 5}, "budget", "must be an object with some of calls, tokens, cost, deadline_s"),
        ({"budget": {"calls": 0, "x": 1}}, "budget.calls", "a whole number above 0; got 0"),
        ({"budget": {"x": 1}}, "budget.x", "unknown key"),
        ({"budget": {"cost": "1"}}, "budget.cost", "a number above 0; got '1'"),
        ({"replan": 6}, "replan", "from 0 to 5; got 6"),
        ({"template": ""}, "template", "must be a text"),
        ({"template": "{t.x"}, "template", "'{' at character 1 has no counterpart"),
        ({"template": {"de": "{t.}"}}, "template.de", "expected a field's name"),
        ({"template": "{gone}"}, "template", "refers to task 'gone'"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(data: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(InvalidPlan) as caught:
        Plan.from_json({"tasks": [{"id": "t", "node": "n"}]} | data)
    assert any(problem.key == key and said in problem.message for problem in caught.value.problems), caught.value


@pytest.mark.parametrize("whole", [{"$ref": "t0"}, {"$expr": "t0.x"}])
def test_a_value_in_place_of_all_arguments_is_refused(whole: dict[str, str]) -> None:
    with pytest.raises(InvalidPlan, match=r"tasks\.0\.arguments: must be an object, with such a value for each"):
        Plan.from_json({"tasks": [{"id": "t", "node": "n", "arguments": whole}]})


def test_every_form_survives_json() -> None:
    data = plan(
        task("t1", {"$expr": "item.x + 'y'"}, map={"over": {"$ref": "request.inputs.list"}, "parallel": 2}),
        task("t2", repeat={"until": "output.done", "max": 3}, when="size(t1) > 0", expect="has(output.done)"),
        {"id": "t3", "node": "a", "arguments": {}, "composes": ["t1", "t2"]},
        budget={"calls": 5, "deadline_s": 2.5},
        replan=2,
        template={"en": "It is {t1[0]} {{so}}.", "de": "Es ist {t1[0]}."},
    )
    made = Plan.from_json(data)
    assert Plan.from_json(made.to_json()) == made
    assert {key: made.to_json()[key] for key in data} == data
    assert made.links == (("t1", "t2"), ("t1", "t3"), ("t2", "t3"))


ODD = st.one_of(
    st.sampled_from([None, 0, 1, -1, 2.5, True, "", "x", "1 +", "t0", "t0.x == 1", "item", "output", "a b", 10**30]),
    st.sampled_from([[], ["t0"], [1, None], {}, {"$ref": "t0"}, {"$ref": "item.x"}, {"$ref": ""}, {"": ""}]),
    st.sampled_from([{"$expr": "has(t0)"}, {"$expr": "("}, {"$expr": 5}, {"over": ["a"], "parallel": 2}, {"over": 1}]),
    st.sampled_from(
        [{"over": {"$ref": "t0"}}, {"until": "output", "max": 2}, {"calls": 1}, {"tokens": 1, "cost": 0.5}]
    ),
    st.sampled_from([{"en": "{t0}", "de": "x"}, {"en": 5}, "{t0} {{", float("nan")]),
)
FIELDS = ("arguments", "when", "map", "repeat", "expect", "composes")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=2), min_size=1, max_size=3),
    st.dictionaries(
        st.sampled_from(["output", "answer", "budget", "replan", "template", "missing", "x"]), ODD, max_size=2
    ),
)
def test_whatever_a_plan_holds_it_is_refused_by_name_or_run_to_its_end(
    tasks: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    data = {"tasks": [{"id": f"t{i}", "node": "a", **item} for i, item in enumerate(tasks)]} | more
    nodes = Nodes(a=lambda call: {"x": 1})
    try:
        made = Plan.from_json(data)
        result = asyncio.run(nodes.run(made))
    except InvalidPlan as error:
        assert error.problems
    else:
        assert len(result.outcomes) == len(tasks)
        assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made
